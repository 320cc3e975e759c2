//! The end of an attempt: store what it left, say in one sentence what happened and whose doing it was, and commit.

use std::{sync::Arc, time::Duration};

use buildit_runner::{Outcome, Report};
use buildit_shared::{
    db::{
        advance::{self, AttemptEnd},
        attempts::Attempt,
        logs, uploads,
    },
    domain::AttemptStatus,
    pipeline::{OnLost, PlannedStep},
    queue::{Claim, Ended, JobError, Signal},
    storage::{
        self,
        keys::{self, Staged},
        uploads::Content,
    },
};
use futures::TryStreamExt;
use tokio_util::io::StreamReader;

use super::{Context, ahead, phases, run_step::outside, stored};
use crate::{
    crash_point,
    executor::{self, Handle},
};

/// What there is to say about an attempt.
pub(super) enum StepEnd {
    /// The runner's last word.
    Reported(Box<Report>),
    /// The runner is gone.
    Lost {
        /// What is known.
        reason: String,
    },
    /// It ended by its own doing, and its runner could not say so.
    Failed {
        /// What happened and what to do.
        reason: String,
        /// Where there is one.
        exit_code: Option<i32>,
    },
    /// Cancelled before it began.
    NeverBegan,
    /// It cannot be run as it is written.
    Refused {
        /// What is wrong, and what to do.
        reason: String,
    },
}

/// Stores, decides, commits, cleans up.
pub(super) async fn finish(
    cx: &Arc<Context>,
    claim: &Claim,
    attempt: &Attempt,
    step: &PlannedStep,
    handle: &Handle,
    end: StepEnd,
) -> Result<Ended, JobError> {
    if matches!(end, StepEnd::Lost { .. }) {
        // No new attempt before nothing of the old one is left.
        claim.may_act().await?;
        cx.executor.confirm_ended(handle).await.map_err(not_ended)?;
    }
    let log_ref = match &end {
        StepEnd::Reported(report) => Some(store_log(cx, attempt, handle, Some(report)).await?),
        StepEnd::Lost { .. } | StepEnd::Failed { .. } => Some(store_log(cx, attempt, handle, None).await?),
        StepEnd::NeverBegan | StepEnd::Refused { .. } => None,
    };
    crash_point!("step: log stored");
    if let StepEnd::Reported(report) = &end {
        store_staged(cx, attempt, handle, report).await?;
    }
    crash_point!("step: outputs stored");
    let report = match &end {
        StepEnd::Reported(report) => Some(report.clone()),
        _ => None,
    };
    let mut end = decide(end, step, log_ref, claim.cancelled().is_cancelled());
    end.step_log_ref = end.log_ref.as_ref().map(|_| keys::log(attempt.run_id, &attempt.step));
    let mut tx = cx.pool.begin().await?;
    let jobs = advance::end_attempt(&mut tx, attempt.run_id, attempt.step_id, attempt.id, &end).await?;
    crash_point!("step: end written, not committed");
    let ended = claim.complete(tx, &jobs).await?;
    crash_point!("step: end committed");
    if let Some(report) = report {
        phases::record(attempt, &report);
    }
    claim.member().notifier().send(Signal::Log(attempt.id));
    claim.member().notifier().send(Signal::Run(attempt.run_id));
    clean_later(cx, handle);
    ahead::remove_unwanted(cx, attempt.run_id);
    Ok(ended)
}

/// What is left of a lost attempt may take long to end, and that is nobody's failure.
fn not_ended(error: executor::Error) -> JobError {
    match error {
        executor::Error::StillRunning => JobError::Unavailable("the lost attempt may still be running".into()),
        error => outside(error),
    }
}

/// Cleaning must not hold up the next step; what a crash leaves is swept.
fn clean_later(cx: &Arc<Context>, handle: &Handle) {
    let (cx, handle) = (Arc::clone(cx), handle.clone());
    tokio::spawn(async move {
        if let Err(error) = cx.executor.clean(&handle).await {
            tracing::warn!(%error, attempt = handle.attempt_id(), "left for the sweep");
        }
    });
}

/// The whole log wins where its length and SHA-256 match the runner's last word: the file, or what the API has noted that
/// the runner stored. Otherwise the object is built from the stored chunks, with gaps marked.
async fn store_log(
    cx: &Context,
    attempt: &Attempt,
    handle: &Handle,
    report: Option<&Report>,
) -> Result<String, JobError> {
    let key = keys::attempt_log(attempt.run_id, &attempt.step, attempt.number);
    let last = keys::log(attempt.run_id, &attempt.step);
    if let Some(report) = report
        && store_whole_log(cx, attempt, handle, report, &key).await?
    {
        match cx.storage.copy(&key, &last, report.log_len).await {
            Ok(()) => return Ok(key),
            Err(storage::Error::NotFound(_)) => {
                tracing::warn!(attempt = %attempt.id, key, "the log was stored and is not there any more");
            }
            Err(error) => return Err(stored("the log")(error)),
        }
    }
    let log = from_chunks(cx, attempt, report).await?;
    let length = log.len() as u64;
    cx.storage.put(&key, log).await.map_err(stored("the log"))?;
    cx.storage.copy(&key, &last, length).await.map_err(stored("the log"))?;
    Ok(key)
}

/// Whether just the log that the runner tells of is stored as `key`.
async fn store_whole_log(
    cx: &Context,
    attempt: &Attempt,
    handle: &Handle,
    report: &Report,
    key: &str,
) -> Result<bool, JobError> {
    let Ok(checksum) = report.log_sha256.parse() else { return Ok(false) };
    let whole = if cx.executor.files(handle).is_some() {
        let chunks = cx.executor.follow(handle, 0).map_ok(|chunk| chunk.bytes);
        let log = StreamReader::new(chunks.map_err(std::io::Error::other));
        match cx.storage.put_reader(key, log, report.log_len, checksum).await {
            Ok(()) => true,
            Err(storage::Error::Corrupt { .. }) => false,
            Err(error) => return Err(stored("the log")(error)),
        }
    } else {
        let said = Content { size: report.log_len, checksum };
        let noted = uploads::find(&cx.pool, attempt.id, &Staged::Log).await?;
        noted.is_some_and(|noted| noted.complete && noted.content == said)
    };
    if !whole {
        tracing::warn!(attempt = %attempt.id, said = report.log_len, "the whole log is not what the runner said");
    }
    Ok(whole)
}

async fn from_chunks(cx: &Context, attempt: &Attempt, report: Option<&Report>) -> Result<Vec<u8>, JobError> {
    const BATCH: i64 = 8 << 20;
    let mut log: Vec<u8> = Vec::new();
    let mut offset = 0;
    loop {
        let chunks = logs::chunks(&cx.logs, attempt.id, offset, BATCH).await?;
        let before = offset;
        for (start, bytes) in chunks.into_iter().filter(|(start, _)| *start >= before) {
            if start > offset {
                log.extend(format!("\n[buildit: {} bytes of this log are missing here]\n", start - offset).bytes());
            }
            offset = start + bytes.len() as u64;
            log.extend(bytes);
        }
        if offset == before {
            break;
        }
    }
    let rest = report.map_or(0, |report| report.log_len.saturating_sub(offset));
    if rest > 0 {
        log.extend(format!("\n[buildit: {rest} bytes of this log are missing here]\n").bytes());
    } else if report.is_none() {
        log.extend(b"\n[buildit: the log ends here because its runner was lost]\n");
    }
    Ok(log)
}

async fn store_staged(cx: &Context, attempt: &Attempt, handle: &Handle, report: &Report) -> Result<(), JobError> {
    // A runner without a folder here has stored them itself.
    let Some(folder) = cx.executor.files(handle) else { return Ok(()) };
    let staged = stored("what the step staged");
    if let Some(outputs) = &report.outputs {
        let key = keys::outputs(attempt.run_id, attempt.id);
        cx.storage.put_file(&key, &folder.join(&outputs.file)).await.map_err(&staged)?;
    }
    for artifact in &report.artifacts {
        if let Some(file) = &artifact.staged {
            let key = keys::artifact(attempt.run_id, attempt.id, &artifact.name);
            cx.storage.put_file(&key, &folder.join(&file.file)).await.map_err(&staged)?;
        }
    }
    Ok(())
}

fn decide(end: StepEnd, step: &PlannedStep, log_ref: Option<String>, cancelled: bool) -> AttemptEnd {
    use AttemptStatus::{Cancelled, Error, Failure, Lost, Success};
    let stopped = || (Cancelled, None, Some("stopped because its run was cancelled".to_owned()));
    let (status, exit_code, reason) = match &end {
        StepEnd::NeverBegan => (Cancelled, None, Some("cancelled before it began".to_owned())),
        StepEnd::Refused { reason } => (Error, None, Some(reason.clone())),
        StepEnd::Lost { .. } if cancelled => stopped(),
        StepEnd::Failed { .. } if cancelled => stopped(),
        StepEnd::Failed { reason, exit_code } => (Failure, *exit_code, Some(reason.clone())),
        StepEnd::Lost { reason } => (Lost, None, Some(format!("its runner was lost: {reason}"))),
        StepEnd::Reported(report) => match &report.outcome {
            Outcome::Exited { code: 0 } => (Success, Some(0), None),
            Outcome::Stopped if cancelled => stopped(),
            Outcome::Stopped => {
                let by = report.stopped_by.as_deref().unwrap_or("its runner was told to stop from outside BuildIt");
                (Lost, None, Some(by.to_owned()))
            }
            Outcome::Exited { code } => (Failure, Some(*code), Some(exited(*code, report, step))),
            Outcome::Signalled { signal } => (Failure, Some(128 + signal), Some(signalled(*signal, report.oom_killed))),
            Outcome::TimedOut => (
                Failure,
                None,
                Some(format!(
                    "took longer than its time-out of {}; raise `timeout` if it needs more",
                    length(step.timeout)
                )),
            ),
            Outcome::SetupFailed { message } => {
                (Error, None, Some(format!("its workspace could not be made: {message}")))
            }
            Outcome::StagingFailed { message } => {
                (Failure, Some(0), Some(format!("its commands succeeded but its outputs could not be kept: {message}")))
            }
        },
    };
    let report = match end {
        StepEnd::Reported(report) => Some(report),
        _ => None,
    };
    AttemptEnd {
        status,
        exit_code,
        reason,
        log_ref,
        step_log_ref: None,
        first_command_at_ms: report
            .as_ref()
            .and_then(|report| report.first_command_at_ms)
            .and_then(|ms| i64::try_from(ms).ok()),
        report: report.and_then(|report| serde_json::to_value(report).ok()),
        retry_if_lost: step.on_lost == OnLost::Retry,
    }
}

fn exited(code: i32, report: &Report, step: &PlannedStep) -> String {
    let command = report.failed_command.and_then(|index| step.commands.get(index)).map(|command| {
        let line = command.source.lines().next().unwrap_or_default();
        line.chars().take(120).collect::<String>()
    });
    match (code, command) {
        (137, Some(command)) if report.oom_killed => {
            format!("`{command}` was killed since memory ran out; raise `resources: memory` if it needs more")
        }
        (127, Some(command)) => format!("`{command}` was not found (exit code 127); is it installed in the image?"),
        (_, Some(command)) => format!("`{command}` ended with exit code {code}"),
        (_, None) => format!("ended with exit code {code}"),
    }
}

fn signalled(signal: i32, oom_killed: bool) -> String {
    match signal {
        9 if oom_killed => "killed since memory ran out; raise `resources: memory` if it needs more".to_owned(),
        9 => "killed by signal 9 (KILL); most often that means that memory ran out".to_owned(),
        signal => format!("killed by signal {signal}"),
    }
}

fn length(time: Duration) -> String {
    let seconds = time.as_secs();
    match (seconds / 3600, seconds % 3600 / 60, seconds % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, 0) => format!("{m} min"),
        (h, 0, 0) => format!("{h} h"),
        (0, m, s) => format!("{m} min {s} s"),
        (h, m, _) => format!("{h} h {m} min"),
    }
}
