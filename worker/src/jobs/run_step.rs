//! `RunStep`: drive one attempt to its end, whoever began it, and advance the run in the transaction that ends the job.
//!
//! Whatever happens to this worker, the attempt goes on. Its successor finds it by its id, follows the log from the last
//! stored byte, and ends it once.

use std::{sync::Arc, time::Duration};

use buildit_shared::{
    db::{
        attempts::{self, Attempt},
        logs,
    },
    domain::AttemptStatus,
    jobs::RunStep,
    pipeline::PlannedStep,
    queue::{Claim, Ended, Error, JobError, Signal},
};
use futures::StreamExt;

use super::{Context, ahead, step_end, step_spec};
use crate::{
    crash_point,
    executor::{self, End, Handle, Launch, Notice, State},
};

/// Between TERM and KILL when a run is cancelled.
const CANCEL_GRACE: Duration = Duration::from_secs(10);
/// How long the log of an attempt that ended without a report may take to end.
const LAST_BYTES: Duration = Duration::from_secs(5);
/// Between two tries to start an attempt that there is no room for.
const BUSY: Duration = Duration::from_secs(5);
/// How often an attempt without room has removed what others have started ahead.
const CROWDED_AGAIN: Duration = Duration::from_secs(10);

pub(super) async fn run(cx: Arc<Context>, claim: Arc<Claim>, args: RunStep) -> Result<Ended, JobError> {
    let attempt = attempts::read(&cx.pool, args.attempt_id).await?;
    let unfinished = |attempt: &Attempt| matches!(attempt.status, AttemptStatus::Pending | AttemptStatus::Running);
    let Some(attempt) = attempt.filter(unfinished) else { return Ok(claim.complete_alone(&[]).await?) };
    let step: PlannedStep = serde_json::from_value(attempt.plan.clone())
        .map_err(|error| JobError::fail(format!("the stored plan of the step cannot be read: {error}")))?;
    if attempt.cancelling {
        claim.cancelled().cancel();
    }
    crash_point!("step: claimed");
    let driven = drive(&cx, &claim, &attempt, &step).await;
    if let Err(JobError::Unavailable(what)) = &driven {
        attempts::explain(&claim, &cx.pool, attempt.id, Some(&format!("waits: {what}"))).await?;
    }
    driven
}

async fn drive(
    cx: &Arc<Context>,
    claim: &Arc<Claim>,
    attempt: &Attempt,
    step: &PlannedStep,
) -> Result<Ended, JobError> {
    let handle = Handle::new(attempt.id.to_string());
    let end = match begin(cx, claim, attempt, step, &handle).await? {
        Begun::Alive => {
            crash_point!("step: started");
            ahead::start_next(cx, attempt.run_id);
            watch(cx, claim, attempt, &handle).await?
        }
        Begun::Over(end) => end,
    };
    crash_point!("step: ended, nothing stored");
    step_end::finish(cx, claim, attempt, step, &handle, end).await
}

enum Begun {
    /// There is something to follow.
    Alive,
    /// There never will be.
    Over(step_end::StepEnd),
}

/// Starts the attempt, or finds what became of it.
async fn begin(
    cx: &Context,
    claim: &Claim,
    attempt: &Attempt,
    step: &PlannedStep,
    handle: &Handle,
) -> Result<Begun, JobError> {
    match cx.executor.state(handle).await.map_err(outside)? {
        State::Starting | State::Running | State::Ended(_) | State::Lost { .. } => {
            if attempt.started {
                tracing::info!(attempt = %attempt.id, from = attempt.log_len, "adopted");
            } else {
                // It waits for this.
                mark_started(cx, claim, attempt).await?;
            }
            Ok(Begun::Alive)
        }
        State::Absent { begun: true } => Ok(Begun::Over(step_end::StepEnd::Lost {
            reason: "its runner began on this machine and left nothing behind".into(),
        })),
        State::Absent { begun: false } if claim.cancelled().is_cancelled() => {
            // A stale worker's late start must not run it after all.
            claim.may_act().await?;
            cx.executor.stop(handle, Duration::ZERO).await.map_err(outside)?;
            Ok(Begun::Over(step_end::StepEnd::NeverBegan))
        }
        State::Absent { begun: false } => {
            let launch = match step_spec::launch(cx, attempt, step).await? {
                Ok(launch) => launch,
                Err(reason) => return Ok(Begun::Over(step_end::StepEnd::Refused { reason })),
            };
            mark_started(cx, claim, attempt).await?;
            start(cx, claim, attempt, &launch, handle).await
        }
    }
}

/// From here on the attempt may run.
async fn mark_started(cx: &Context, claim: &Claim, attempt: &Attempt) -> Result<(), JobError> {
    attempts::mark_started(claim, &cx.pool, attempt.id).await?;
    crash_point!("step: marked started");
    claim.member().notifier().send(Signal::Run(attempt.run_id));
    Ok(())
}

/// Starts the attempt as soon as there is room for it.
async fn start(
    cx: &Context,
    claim: &Claim,
    attempt: &Attempt,
    launch: &Launch,
    handle: &Handle,
) -> Result<Begun, JobError> {
    loop {
        claim.may_act().await?;
        let reason = match cx.executor.start(launch).await {
            Ok(_) => return Ok(Begun::Alive),
            Err(executor::Error::Denied { reason }) => return Ok(Begun::Over(step_end::StepEnd::Refused { reason })),
            Err(executor::Error::Busy { reason }) => reason,
            Err(error) => return Err(outside(error)),
        };
        explain(cx, claim, attempt, &reason).await?;
        ahead::make_room(cx).await?;
        tokio::select! {
            biased;
            () = cx.stopping.cancelled() => return Err(JobError::HandOver),
            () = claim.hand_over().cancelled() => return Err(JobError::HandOver),
            () = claim.cancelled().cancelled() => {
                cx.executor.stop(handle, Duration::ZERO).await.map_err(outside)?;
                return Ok(Begun::Over(step_end::StepEnd::NeverBegan));
            }
            () = tokio::time::sleep(BUSY) => {}
        }
    }
}

/// Tells the run's readers why the step does not get on; nothing when it does.
async fn explain(cx: &Context, claim: &Claim, attempt: &Attempt, reason: &str) -> Result<(), JobError> {
    attempts::explain(claim, &cx.pool, attempt.id, (!reason.is_empty()).then_some(reason)).await?;
    claim.member().notifier().send(Signal::Run(attempt.run_id));
    Ok(())
}

/// Follows the log and waits for the end; asks for it when the run is cancelled.
async fn watch(cx: &Context, claim: &Claim, attempt: &Attempt, handle: &Handle) -> Result<step_end::StepEnd, JobError> {
    let work = async {
        let end = log_and_end(cx, claim, attempt, handle).await?;
        crash_point!("step: log followed to its end");
        Ok(match end {
            End::Reported(report) => step_end::StepEnd::Reported(report),
            End::Failed { reason, exit_code } => step_end::StepEnd::Failed { reason, exit_code },
            End::Lost { reason } => step_end::StepEnd::Lost { reason },
        })
    };
    let tell = async {
        let mut notices = cx.executor.notices(handle);
        let mut now = Notice::default();
        loop {
            tokio::select! {
                notice = notices.next() => {
                    let Some(notice) = notice else { break };
                    explain(cx, claim, attempt, &notice.text).await?;
                    now = notice;
                }
                () = tokio::time::sleep(CROWDED_AGAIN), if now.wants_room => {}
            }
            if now.wants_room {
                ahead::make_room(cx).await?;
            }
        }
        std::future::pending::<Result<step_end::StepEnd, JobError>>().await
    };
    let stop = async {
        claim.cancelled().cancelled().await;
        claim.may_act().await?;
        crash_point!("step: before the stop");
        cx.executor.stop(handle, CANCEL_GRACE).await.map_err(outside)?;
        crash_point!("step: stop asked for");
        // The end comes by `work`.
        std::future::pending::<Result<step_end::StepEnd, JobError>>().await
    };
    tokio::select! {
        biased;
        () = cx.stopping.cancelled() => Err(JobError::HandOver),
        () = claim.hand_over().cancelled() => Err(JobError::HandOver),
        end = work => end,
        error = stop => error,
        error = tell => error,
    }
}

/// Stores the log and waits for the end. What never began may end without its log doing so.
async fn log_and_end(cx: &Context, claim: &Claim, attempt: &Attempt, handle: &Handle) -> Result<End, JobError> {
    let mut log = std::pin::pin!(pump(cx, claim, attempt, handle));
    let mut end = cx.executor.wait(handle);
    let mut logged = false;
    let end = loop {
        tokio::select! {
            done = &mut log, if !logged => {
                done?;
                logged = true;
            }
            end = &mut end => break end.map_err(outside)?,
        }
    };
    match (logged, &end) {
        (true, _) => {}
        (false, End::Reported(_)) => log.await?,
        (false, End::Failed { .. } | End::Lost { .. }) => {
            tokio::time::timeout(LAST_BYTES, log).await.unwrap_or(Ok(()))?;
        }
    }
    Ok(end)
}

/// Stores the log's bytes from where the last worker stored them.
async fn pump(cx: &Context, claim: &Claim, attempt: &Attempt, handle: &Handle) -> Result<(), JobError> {
    let mut stored =
        logs::stored_len(&cx.logs, claim.job.id, claim.lease(), attempt.id).await?.ok_or(Error::LeaseLost)?;
    'from_stored: loop {
        let mut log = cx.executor.follow(handle, stored);
        while let Some(chunk) = log.next().await {
            let chunk = chunk.map_err(outside)?;
            if !logs::append(&cx.logs, claim, attempt.id, stored, chunk.start, &chunk.bytes).await? {
                // The lease is lost, or a crash of the database took back what it had not flushed.
                stored = logs::stored_len(&cx.logs, claim.job.id, claim.lease(), attempt.id)
                    .await?
                    .ok_or(Error::LeaseLost)?;
                continue 'from_stored;
            }
            let length = chunk.bytes.len() as u64;
            stored = chunk.start + length;
            metrics::counter!("buildit_log_bytes_total").increment(length);
            claim.member().notifier().send(Signal::Log(attempt.id));
            crash_point!("step: log chunk stored");
        }
        return Ok(());
    }
}

pub(super) fn outside(error: executor::Error) -> JobError {
    match error {
        executor::Error::Away { .. } => JobError::Unavailable(error.to_string()),
        executor::Error::Database(error) => error.into(),
        error => JobError::retry(format!("the executor did not do what it was asked: {error}")),
    }
}
