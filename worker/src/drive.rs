//! Runs a handler on its claim and settles what it returns: the one place that decides between retry, death, hand-over
//! and letting go.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use buildit_shared::{
    db::advance,
    queue::{Claim, Ended, Error, JobError},
};
use futures::FutureExt;
use sqlx::PgPool;
use tracing::Instrument;

use crate::registry::Registry;

/// Longest wait between two attempts.
const LONGEST_BACKOFF: Duration = Duration::from_secs(300);
/// How long a job waits whose arguments only a newer worker can read.
const FOR_NEWER_WORKERS: Duration = Duration::from_secs(30);
/// How long a job waits for something that is away, and up to as much again by chance.
const FOR_WHAT_IS_AWAY: Duration = Duration::from_secs(2);
/// Another worker has the job now.
const LOST: &str = "lost";

/// Works on `claim` until it is ended or lost; returns the claim made in the same transaction, if any.
pub(crate) async fn drive(pool: &PgPool, registry: &Registry, claim: Claim) -> Option<Claim> {
    let claim = Arc::new(claim);
    let span = tracing::info_span!("job", kind = %claim.job.kind, id = %claim.job.id, attempt = claim.job.attempt);
    let started = std::time::Instant::now();
    let result = work(registry, &claim).instrument(span.clone()).await;
    let seconds = started.elapsed().as_secs_f64();
    metrics::histogram!("buildit_job_seconds", "kind" => claim.job.kind.clone()).record(seconds);
    let (end, next) = settle(pool, &claim, result).instrument(span).await;
    metrics::counter!("buildit_jobs_ended_total", "kind" => claim.job.kind.clone(), "end" => end).increment(1);
    next
}

async fn work(registry: &Registry, claim: &Arc<Claim>) -> Result<Ended, JobError> {
    let Some(handler) = registry.handler(&claim.job.kind) else {
        return Err(JobError::Retry {
            message: "this worker has no handler for it".into(),
            after: Some(FOR_NEWER_WORKERS),
        });
    };
    let work = AssertUnwindSafe(handler(Arc::clone(claim))).catch_unwind();
    tokio::select! {
        biased;
        () = claim.lost().cancelled() => Err(Error::LeaseLost.into()),
        result = work => result.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
            Err(JobError::retry(format!("the handler panicked: {text}")))
        }),
    }
}

/// Brings the claim to its end and says to which, with the claim that came along. While the database is away it tries
/// again: until then nobody else has the job.
async fn settle(pool: &PgPool, claim: &Claim, result: Result<Ended, JobError>) -> (&'static str, Option<Claim>) {
    let mut result = result;
    let mut pause = Duration::from_millis(100);
    loop {
        let error = match result {
            Ok(ended) => return ("succeeded", ended.into_next()),
            Err(JobError::Queue(Error::LeaseLost)) => {
                tracing::info!("let go: another worker has this job now");
                return (LOST, None);
            }
            Err(error) => error,
        };
        match settle_once(pool, claim, &error).await {
            Ok((end, ended)) => return (end, ended.into_next()),
            Err(Error::LeaseLost) => return (LOST, None),
            Err(Error::Database(database)) => {
                tracing::warn!(%error, %database, "the database is away; the job waits for it");
                tokio::select! {
                    () = claim.lost().cancelled() => return (LOST, None),
                    () = tokio::time::sleep(pause) => pause = (pause * 2).min(Duration::from_secs(2)),
                }
                result = Err(error);
            }
        }
    }
}

async fn settle_once(pool: &PgPool, claim: &Claim, error: &JobError) -> Result<(&'static str, Ended), Error> {
    let (end, ended) = match error {
        JobError::HandOver => ("handed_over", claim.snooze(Duration::ZERO).await),
        JobError::TooNew { .. } => {
            tracing::warn!(%error, "left for newer workers");
            ("left_for_newer", claim.snooze(FOR_NEWER_WORKERS).await)
        }
        // The database was away: that is nobody's failed attempt.
        JobError::Queue(Error::Database(database)) if is_outage(database) => {
            tracing::warn!(error = %database, "interrupted by the database; going on shortly");
            ("interrupted", claim.snooze(Duration::ZERO).await)
        }
        JobError::Unavailable(message) => {
            tracing::warn!(error = %message, "waiting for it; going on shortly");
            ("interrupted", claim.snooze(FOR_WHAT_IS_AWAY.mul_f64(1.0 + rand::random::<f64>())).await)
        }
        JobError::Retry { message, after } if claim.job.attempt < claim.job.max_attempts => {
            let delay = after.unwrap_or_else(|| backoff(claim.job.attempt));
            tracing::warn!(error = %message, ?delay, "failed; will be tried again");
            ("retried", claim.retry(message, delay).await)
        }
        JobError::Queue(Error::Database(database)) if claim.job.attempt < claim.job.max_attempts => {
            tracing::error!(error = %database, "a statement failed; will be tried again");
            let message = format!("a database statement failed: {database}");
            ("retried", claim.retry(&message, backoff(claim.job.attempt)).await)
        }
        error => ("dead", bury(pool, claim, &error.to_string()).await),
    };
    Ok((end, ended?))
}

async fn bury(pool: &PgPool, claim: &Claim, error: &str) -> Result<Ended, Error> {
    tracing::error!(error, "the job is dead; see the fleet's jobs for its attempts");
    let mut tx = pool.begin().await?;
    let follow_up = advance::job_died(&mut tx, &claim.job, error).await?;
    claim.bury(tx, error, &follow_up).await
}

/// Doubles from one second, with up to a quarter of chance so that jobs that failed together do not return together.
fn backoff(attempt: i32) -> Duration {
    let doubled = Duration::from_secs(1 << (attempt - 1).clamp(0, 9)).min(LONGEST_BACKOFF);
    doubled.mul_f64(1.0 + rand::random::<f64>() / 4.0)
}

/// Whether the error says that the database could not be reached, was restarting, or gave this transaction up for
/// another's sake, rather than that it refused a statement.
fn is_outage(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) => error.code().is_some_and(|code| {
            // Connection exceptions, operator intervention, insufficient resources, read-only after a failover,
            // serialization failures and deadlocks.
            ["08", "57", "53"].iter().any(|class| code.starts_with(class))
                || ["25006", "40001", "40P01"].contains(&code.as_ref())
        }),
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        _ => false,
    }
}
