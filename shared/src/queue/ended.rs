//! The ends of a claim other than success, and the proof that a claim was ended.

use std::time::Duration;

use sqlx::{Postgres, Transaction};

use super::{Claim, Error, NewJob, enqueue};

/// Proof that a claim was ended: only ending one makes it, so only that can be returned from a handler.
#[derive(Debug)]
#[must_use = "it may carry the next claim, which waits to be worked on"]
pub struct Ended {
    next: Option<Claim>,
}

impl Ended {
    pub(super) fn new(next: Option<Claim>) -> Self {
        Self { next }
    }

    /// The job that was claimed in the same transaction, if any.
    pub fn into_next(self) -> Option<Claim> {
        self.next
    }
}

/// Why a handler did not end its claim.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// Something outside did not work; the job is tried again later.
    #[error("{message}")]
    Retry {
        /// For people: what did not work.
        message: String,
        /// When to try again, where the handler knows better than the back-off.
        after: Option<Duration>,
    },
    /// Something that all jobs need is away and comes back by itself: the job waits for it, and that is nobody's failure.
    #[error("{0}")]
    Unavailable(String),
    /// Trying again is of no use: the job is dead.
    #[error("{0}")]
    Fail(String),
    /// Its arguments were written by a newer program; it waits for a newer worker.
    #[error("the arguments of this {kind} job are of version {version}, newer than this worker knows")]
    TooNew {
        /// The kind.
        kind: &'static str,
        /// The version of the arguments.
        version: u64,
    },
    /// The worker stops or is drained; whoever comes next goes on with the job.
    #[error("the worker is stopping, or drained")]
    HandOver,
    /// The queue refused.
    #[error(transparent)]
    Queue(#[from] Error),
}

impl JobError {
    /// To be tried again with back-off.
    pub fn retry(message: impl Into<String>) -> Self {
        Self::Retry { message: message.into(), after: None }
    }

    /// Not to be tried again.
    pub fn fail(message: impl Into<String>) -> Self {
        Self::Fail(message.into())
    }
}

impl From<sqlx::Error> for JobError {
    fn from(error: sqlx::Error) -> Self {
        Self::Queue(error.into())
    }
}

pub(super) async fn retry(claim: &Claim, error: &str, delay: Duration) -> Result<Ended, Error> {
    let updated = sqlx::query!(
        r#"
        with mine as (
            select id, attempt, worker_id, claimed_at from jobs
            where id = $1 and lease = $2 and state = 'running' for update
        ),
        kept as (
            insert into job_errors (job_id, attempt, kind, worker_id, claimed_at, error)
            select id, attempt, 'failed', worker_id, claimed_at, $3 from mine
        )
        update jobs j
        set state = 'scheduled', run_at = now() + $4::bigint * interval '1 millisecond',
            lease = null, worker_id = null, claimed_at = null, deaths = 0
        from mine where j.id = mine.id
        "#,
        claim.job.id.uuid(),
        claim.lease,
        error,
        i64::try_from(delay.as_millis()).unwrap_or(i64::MAX),
    )
    .execute(&claim.member.pool)
    .await?
    .rows_affected();
    one(updated)
}

pub(super) async fn snooze(claim: &Claim, delay: Duration) -> Result<Ended, Error> {
    let delay_ms = i64::try_from(delay.as_millis()).unwrap_or(i64::MAX);
    let updated = sqlx::query!(
        r#"
        update jobs
        set state = case when $3::bigint > 0 then 'scheduled'::job_state else 'ready' end,
            run_at = case when $3::bigint > 0 then now() + $3::bigint * interval '1 millisecond' else run_at end,
            lease = null, worker_id = null, claimed_at = null, attempt = greatest(attempt - 1, 0)
        where id = $1 and lease = $2 and state = 'running'
        "#,
        claim.job.id.uuid(),
        claim.lease,
        delay_ms,
    )
    .execute(&claim.member.pool)
    .await?
    .rows_affected();
    if updated > 0 && delay_ms == 0 {
        claim.member.notifier.jobs(&claim.job.queue);
    }
    one(updated)
}

pub(super) async fn bury(
    claim: &Claim,
    mut tx: Transaction<'_, Postgres>,
    error: &str,
    follow_up: &[NewJob],
) -> Result<Ended, Error> {
    let buried = sqlx::query!(
        r#"
        with ended as (
            delete from jobs where id = $1 and lease = $2 and state = 'running' returning *
        ),
        kept as (
            insert into job_errors (job_id, attempt, kind, worker_id, claimed_at, error)
            select id, attempt, 'failed', worker_id, claimed_at, $3 from ended
        )
        insert into job_history (id, kind, queue, ended_as, priority, args, attempt, max_attempts, deaths, worker_id,
               unique_key, organization_id, project_id, run_id, step_id, enqueued_at, claimed_at, error)
        select id, kind, queue, 'dead', priority, args, attempt, max_attempts, deaths, worker_id,
               unique_key, organization_id, project_id, run_id, step_id, enqueued_at, claimed_at, $3
        from ended
        "#,
        claim.job.id.uuid(),
        claim.lease,
        error,
    )
    .execute(&mut *tx)
    .await?
    .rows_affected();
    let ended = one(buried)?;
    enqueue(&mut *tx, follow_up).await?;
    tx.commit().await?;
    for job in follow_up {
        claim.member.notifier.jobs(job.queue());
    }
    Ok(ended)
}

fn one(rows: u64) -> Result<Ended, Error> {
    if rows == 1 { Ok(Ended::new(None)) } else { Err(Error::LeaseLost) }
}
