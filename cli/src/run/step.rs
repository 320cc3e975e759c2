//! One step: its attempts, one after another.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use buildit_runner::{ArtifactSpec, AttemptSpec, Outcome, Report, Staged};
use buildit_shared::domain::StepStatus;
use buildit_shared::pipeline::{OnLost, PlannedStep, Rendered};
use buildit_worker::executor::{self, End, Handle, Launch};
use futures::StreamExt;
use uuid::Uuid;

use super::signals::Cancel;
use super::steps::Run;
use crate::output::Piece;

/// New attempts for one that was lost, apart from the file's `retry`.
const LOST_RETRIES: u32 = 1;

/// What came of a step.
#[derive(Debug, Clone)]
pub(super) struct Ended {
    pub(super) status: StepStatus,
    pub(super) exit_code: Option<i32>,
    /// Why it was no success, in one sentence.
    pub(super) reason: Option<String>,
    pub(super) duration: Duration,
    /// What it hands on.
    pub(super) outputs: Option<PathBuf>,
    /// What it staged, by the artifact's name.
    pub(super) artifacts: Vec<(String, PathBuf)>,
}

impl Ended {
    /// It has not run.
    pub(super) fn without_running(status: StepStatus, reason: String) -> Ended {
        Ended {
            status,
            exit_code: None,
            reason: Some(reason),
            duration: Duration::ZERO,
            outputs: None,
            artifacts: Vec::new(),
        }
    }
}

/// Carries out the step `index`; `inputs` are the outputs of the steps before it.
pub(super) async fn carry_out(run: &Run, index: usize, inputs: Vec<PathBuf>) -> Ended {
    let begun = Instant::now();
    let step = &run.plan.steps[index];
    let rendered = match step.render(|name| run.secrets.get(name).cloned()) {
        Ok(rendered) => rendered,
        Err(missing) => {
            let reason = format!("{missing} Set BUILDIT_SECRET_ and the name for each.");
            return Ended::without_running(StepStatus::Error, reason);
        }
    };
    let (mut failures, mut losses) = (0, 0);
    loop {
        let mut ended = match attempt(run, index, &rendered, &inputs).await {
            Ok(ended) => ended,
            Err(error) => Ended::without_running(StepStatus::Error, error.to_string()),
        };
        let again = match ended.status {
            StepStatus::Failure if failures < step.retry => {
                failures += 1;
                format!("attempt {failures} of {} failed", step.retry + 1)
            }
            // An end without a report.
            StepStatus::Running if losses < LOST_RETRIES && step.on_lost == OnLost::Retry => {
                losses += 1;
                "the attempt was lost".to_owned()
            }
            StepStatus::Running => {
                ended.status = StepStatus::Error;
                ended.duration = begun.elapsed();
                return ended;
            }
            _ => {
                ended.duration = begun.elapsed();
                return ended;
            }
        };
        if *run.cancel.borrow() != Cancel::No {
            ended.duration = begun.elapsed();
            return ended;
        }
        run.say(index, format!("{again}, trying again: {}", ended.reason.unwrap_or_default())).await;
    }
}

/// One attempt, with its log. A lost one comes back with the status `Running`.
async fn attempt(run: &Run, index: usize, rendered: &Rendered, inputs: &[PathBuf]) -> Result<Ended, executor::Error> {
    let step = &run.plan.steps[index];
    let launch = Launch {
        image: step.image.clone(),
        resources: step.resources,
        ..Launch::from(spec(run, step, rendered, inputs))
    };
    let handle = run.executor.start(&launch).await?;
    run.remember(&handle);
    let log = async {
        let mut log = run.executor.follow(&handle, 0);
        while let Some(chunk) = log.next().await {
            if run.output.send(Piece::Log(index, chunk?.bytes)).await.is_err() {
                break;
            }
        }
        run.output.send(Piece::End(index)).await.ok();
        Ok::<_, executor::Error>(())
    };
    let tell = async {
        let mut notices = run.executor.notices(&handle);
        while let Some(notice) = notices.next().await {
            if !notice.text.is_empty() {
                run.say(index, notice.text).await;
            }
        }
        std::future::pending().await
    };
    let both = async { tokio::join!(log, end(run, &handle, Duration::from_millis(launch.spec.grace_ms))) };
    let (log, end) = tokio::select! {
        both = both => both,
        never = tell => never,
    };
    log?;
    match end? {
        End::Reported(report) => Ok(ended(run, &handle, index, &report)),
        End::Failed { reason, exit_code } => {
            Ok(Ended { exit_code, ..Ended::without_running(StepStatus::Failure, reason) })
        }
        End::Lost { reason } => {
            run.executor.confirm_ended(&handle).await?;
            Ok(Ended::without_running(StepStatus::Running, reason))
        }
    }
}

/// Waits for the end, and brings it about when the run is cancelled.
async fn end(run: &Run, handle: &Handle, grace: Duration) -> Result<End, executor::Error> {
    let mut cancel = run.cancel.clone();
    cancel.mark_changed();
    loop {
        tokio::select! {
            end = run.executor.wait(handle) => return end,
            Ok(()) = cancel.changed() => {}
        }
        let urgency = *cancel.borrow_and_update();
        let grace = match urgency {
            Cancel::No => continue,
            Cancel::Asked => grace,
            Cancel::Demanded => Duration::ZERO,
        };
        run.executor.stop(handle, grace).await?;
    }
}

fn spec(run: &Run, step: &PlannedStep, rendered: &Rendered, inputs: &[PathBuf]) -> AttemptSpec {
    let artifacts = run.plan.artifacts.iter();
    AttemptSpec {
        commands: rendered.commands.clone(),
        shown: step.commands.iter().map(|command| command.source.clone()).collect(),
        environment: rendered.environment.clone(),
        secrets: rendered.secrets.clone(),
        checkout: Some(run.checkout.clone()),
        inputs: inputs.to_vec(),
        outputs: step.outputs.clone(),
        artifacts: artifacts
            .map(|artifact| ArtifactSpec { name: artifact.name.clone(), path: artifact.path.clone() })
            .collect(),
        timeout_ms: u64::try_from(step.timeout.as_millis()).unwrap_or(u64::MAX),
        ..AttemptSpec::new(Uuid::now_v7().to_string(), &step.name)
    }
}

fn ended(run: &Run, handle: &Handle, index: usize, report: &Report) -> Ended {
    let step = &run.plan.steps[index];
    let command = report.failed_command.and_then(|command| step.commands.get(command));
    let at = command.map(|command| format!(" in `{}`", shortened(&command.source))).unwrap_or_default();
    let (status, exit_code, reason) = match &report.outcome {
        Outcome::Exited { code: 0 } => (StepStatus::Success, Some(0), None),
        Outcome::Exited { code } => (StepStatus::Failure, Some(*code), Some(format!("exit code {code}{at}"))),
        Outcome::Signalled { signal } => {
            (StepStatus::Failure, Some(128 + signal), Some(format!("signal {signal}{at}")))
        }
        Outcome::TimedOut => (StepStatus::Failure, None, Some(format!("longer than {} s{at}", step.timeout.as_secs()))),
        Outcome::Stopped => (StepStatus::Cancelled, None, Some("cancelled".to_owned())),
        Outcome::SetupFailed { message } => (StepStatus::Error, None, Some(message.clone())),
        Outcome::StagingFailed { message } => (StepStatus::Failure, Some(0), Some(message.clone())),
    };
    let folder = run.executor.files(handle).unwrap_or_default();
    let path = |staged: &Staged| folder.join(&staged.file);
    Ended {
        status,
        exit_code,
        reason,
        duration: Duration::ZERO,
        outputs: report.outputs.as_ref().map(path),
        artifacts: report
            .artifacts
            .iter()
            .filter_map(|artifact| Some((artifact.name.clone(), path(artifact.staged.as_ref()?))))
            .collect(),
    }
}

/// A command's first line, as much of it as fits into a table.
fn shortened(command: &str) -> String {
    let line = command.lines().next().unwrap_or_default();
    match line.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}
