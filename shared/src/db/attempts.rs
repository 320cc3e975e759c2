//! One attempt of a step, as the worker that drives it reads and writes it. Every write is fenced by the lease.

use serde_json::Value;
use sqlx::PgPool;

use crate::{
    domain::{AttemptStatus, StepStatus},
    ids::{AttemptId, OrganizationId, ProjectId, RunId, StepId},
    queue::{Claim, Error},
    storage::keys,
};

/// All that is needed to drive an attempt.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// Its id, also its pod's name.
    pub id: AttemptId,
    /// Its number within the step, from 1.
    pub number: i32,
    /// Where it stands.
    pub status: AttemptStatus,
    /// Whether an executor may have seen it already.
    pub started: bool,
    /// Bytes of its log that are stored.
    pub log_len: i64,
    /// The step.
    pub step_id: StepId,
    /// The step's name.
    pub step: String,
    /// Where the step stands.
    pub step_status: StepStatus,
    /// The planned step.
    pub plan: Value,
    /// The run.
    pub run_id: RunId,
    /// The project.
    pub project_id: ProjectId,
    /// The tenant.
    pub organization_id: OrganizationId,
    /// Object: the packed commit.
    pub checkout_key: Option<String>,
    /// The run's artifact declarations.
    pub artifacts: Value,
    /// Somebody asked for the end of the run.
    pub cancelling: bool,
    /// The run is of another repository's commit, and gets no secret.
    pub fork: bool,
    /// It was started before its turn.
    pub ahead: bool,
}

/// Reads an attempt; `None` when its run was deleted.
pub async fn read(pool: &PgPool, id: AttemptId) -> Result<Option<Attempt>, sqlx::Error> {
    sqlx::query_as!(
        Attempt,
        r#"
        select a.id as "id: AttemptId", a.number, a.status as "status: AttemptStatus",
               a.started_at is not null as "started!", a.log_len, s.id as "step_id: StepId", s.name as step,
               s.status as "step_status: StepStatus", s.plan, r.id as "run_id: RunId",
               r.project_id as "project_id: ProjectId", r.organization_id as "organization_id: OrganizationId",
               r.checkout_key, r.artifacts, r.cancel_requested_at is not null as "cancelling!", r.fork, a.ahead
        from step_attempts a join pipeline_steps s on s.id = a.step_id join pipeline_runs r on r.id = s.run_id
        where a.id = $1
        "#,
        id.uuid()
    )
    .fetch_optional(pool)
    .await
}

/// Notes that the executor is about to see the attempt: from here on it may have run.
///
/// # Errors
/// [`Error::LeaseLost`] when the claim is not ours any more.
pub async fn mark_started(claim: &Claim, pool: &PgPool, id: AttemptId) -> Result<(), Error> {
    let marked = sqlx::query!(
        r#"
        with mine as (
            select from jobs where id = $1 and lease = $2 and state = 'running' for share
        ),
        attempt as (
            update step_attempts set status = 'running', started_at = coalesce(started_at, now())
            where id = $3 and status in ('pending', 'running') and exists (select from mine)
            returning step_id
        )
        update pipeline_steps s set status = 'running', started_at = coalesce(started_at, now())
        from attempt a where s.id = a.step_id
        "#,
        claim.job.id.uuid(),
        claim.lease(),
        id.uuid()
    )
    .execute(pool)
    .await?
    .rows_affected();
    if marked == 1 { Ok(()) } else { Err(Error::LeaseLost) }
}

/// Who wants to begin an attempt.
#[derive(Clone, Copy, Debug)]
pub enum Beginner<'a> {
    /// A runner, by the nonce that it chose for its whole life. It begins nothing in a run that is being cancelled.
    Runner(&'a str),
    /// Whoever stops an attempt that never began: no runner may begin it any more.
    Stopped,
}

/// What became of the wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// It is his, now or since an earlier call whose answer was lost.
    Won,
    /// Another began it, or it was stopped before it began; that is so for ever.
    Taken,
    /// Its turn has not come: no worker has started it, or it waits for the steps before its own. A change of this run may
    /// bring it.
    NotYet(RunId),
    /// It has ended, or its run is being cancelled: there is nothing to begin.
    Over,
    /// There is no such attempt.
    Unknown,
}

impl Beginner<'_> {
    fn mark(&self) -> &str {
        match self {
            // No nonce is as short as this.
            Self::Stopped => "stopped",
            Self::Runner(nonce) => nonce,
        }
    }
}

/// Begins an attempt: of all who ever ask, one wins.
pub async fn begin(pool: &PgPool, id: AttemptId, who: Beginner<'_>) -> Result<Begin, sqlx::Error> {
    let (mark, also_cancelled) = (who.mark(), matches!(who, Beginner::Stopped));
    let won = sqlx::query!(
        r#"
        update step_attempts a set begun_by = $2
        from pipeline_runs r
        where a.id = $1 and r.id = a.run_id and a.begun_by is null and a.finished_at is null
          and ($3 or r.cancel_requested_at is null and a.started_at is not null)
        "#,
        id.uuid(),
        mark,
        also_cancelled
    )
    .execute(pool)
    .await?
    .rows_affected();
    if won == 1 {
        return Ok(Begin::Won);
    }
    // In a statement of its own: the one above may have waited for another's, and its snapshot is older than that. In one
    // for both tables: an attempt that waits goes from one to the other in one commit.
    let state = sqlx::query!(
        r#"
        select coalesce(a.begun_by = $2, false) as "ours!", a.begun_by is not null as "taken!",
               a.finished_at is not null or (not $3 and r.cancel_requested_at is not null) as "over!",
               r.id as "run!: RunId"
        from step_attempts a join pipeline_runs r on r.id = a.run_id
        where a.id = $1
        union all
        select false, false, s.status <> 'pending' or r.cancel_requested_at is not null or r.finished_at is not null, r.id
        from attempts_ahead h join pipeline_steps s on s.id = h.step_id join pipeline_runs r on r.id = h.run_id
        where h.attempt_id = $1
        "#,
        id.uuid(),
        mark,
        also_cancelled
    )
    .fetch_optional(pool)
    .await?;
    Ok(match state {
        None => Begin::Unknown,
        Some(state) if state.over => Begin::Over,
        Some(state) if state.ours => Begin::Won,
        Some(state) if state.taken => Begin::Taken,
        Some(state) => Begin::NotYet(state.run),
    })
}

/// Says why the step waits, for every reader; `None` when it does no more.
pub async fn explain(claim: &Claim, pool: &PgPool, id: AttemptId, reason: Option<&str>) -> Result<(), sqlx::Error> {
    sqlx::query!(
        r#"
        with mine as (
            select from jobs where id = $1 and lease = $2 and state = 'running' for share
        )
        update step_attempts set reason = $4 where id = $3 and finished_at is null and exists (select from mine)
        "#,
        claim.job.id.uuid(),
        claim.lease(),
        id.uuid(),
        reason
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Objects that an attempt's workspace is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// The packed commit.
    pub checkout: Option<String>,
    /// Outputs of the steps that this one depends on, directly or by others, in step order.
    pub inputs: Vec<String>,
}

/// What this attempt's workspace is made of.
pub async fn sources(pool: &PgPool, id: AttemptId) -> Result<Sources, sqlx::Error> {
    let checkout = sqlx::query_scalar!(
        "select r.checkout_key from pipeline_runs r join step_attempts a on a.run_id = r.id where a.id = $1",
        id.uuid()
    )
    .fetch_optional(pool)
    .await?
    .flatten();
    let inputs = sqlx::query!(
        r#"
        with recursive before (id) as (
            select d.depends_on_id from step_dependencies d join step_attempts a on a.step_id = d.step_id where a.id = $1
            union
            select d.depends_on_id from step_dependencies d join before b on d.step_id = b.id
        ),
        -- Of each step the attempt that succeeded.
        succeeded as (
            select distinct on (s.step_order) s.step_order, a.id, a.run_id, a.report
            from before b
                 join pipeline_steps s on s.id = b.id
                 join step_attempts a on a.step_id = s.id
            where a.status = 'success'
            order by s.step_order, a.number desc
        )
        select id as "id: AttemptId", run_id as "run: RunId" from succeeded
        where jsonb_typeof(report -> 'outputs') = 'object'
        order by step_order
        "#,
        id.uuid()
    )
    .fetch_all(pool)
    .await?;
    let inputs = inputs.into_iter().map(|step| keys::outputs(step.run, step.id)).collect();
    Ok(Sources { checkout, inputs })
}

/// What the last attempt of each of a run's steps staged, in step order: `(step, status, attempt, report)`.
pub async fn reports_of_run(
    pool: &PgPool,
    run: RunId,
) -> Result<Vec<(String, StepStatus, AttemptId, Option<Value>)>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"
        select distinct on (s.step_order) s.name, s.status as "status: StepStatus", a.id as "id: AttemptId", a.report
        from pipeline_steps s join step_attempts a on a.step_id = s.id
        where s.run_id = $1
        order by s.step_order, a.number desc
        "#,
        run.uuid()
    )
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(|row| (row.name, row.status, row.id, row.report)).collect())
}

/// Attempts that an executor may have: the leftovers of all others may be swept.
pub async fn at_work(pool: &PgPool) -> Result<Vec<AttemptId>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"
        select id as "id!: AttemptId" from step_attempts where (started_at is not null or ahead) and finished_at is null
        union all
        select attempt_id from attempts_ahead
        "#
    )
    .fetch_all(pool)
    .await
}
