//! Cancelling: a request until the stop is confirmed.
//!
//! What nobody works on ends at once. What an executor may have seen keeps its job, which stays claimable, so that a
//! worker (this one's successor, if need be) finishes stopping it and keeps its log.

use super::{
    advance::{self, Tx},
    create_run::plan_key,
};
use crate::{
    ids::{JobId, OrganizationId, RunId},
    queue::enqueue,
};

/// What became of the request.
#[derive(Debug)]
pub enum Cancelled {
    /// It stands. These jobs' workers are to be told after the commit.
    Requested(Vec<JobId>),
    /// Everything in the run has ended already.
    AlreadyEnded,
    /// No such run in this organization.
    NotFound,
}

/// Asks for the end of a run. The caller commits, then sends `Cancel` for each job and tells queues `steps` and
/// `artifacts`.
pub async fn cancel_run(
    tx: &mut Tx<'_>,
    organization: OrganizationId,
    id: RunId,
    by: &str,
) -> Result<Cancelled, sqlx::Error> {
    let Some(run) = advance::lock(tx, id).await?.filter(|run| run.organization_id == organization) else {
        return Ok(Cancelled::NotFound);
    };
    if run.status.is_ended() {
        return Ok(Cancelled::AlreadyEnded);
    }
    request(tx, id, &format!("cancelled by {by}")).await.map(Cancelled::Requested)
}

/// The request itself; returns the jobs whose workers are to be told.
pub(super) async fn request(tx: &mut Tx<'_>, id: RunId, reason: &str) -> Result<Vec<JobId>, sqlx::Error> {
    let Some(run) = advance::lock(tx, id).await?.filter(|run| !run.status.is_ended()) else {
        return Ok(Vec::new());
    };
    sqlx::query!(
        "update pipeline_runs set cancel_requested_at = coalesce(cancel_requested_at, now()), reason = $2 where id = $1",
        id.uuid(),
        reason
    )
    .execute(&mut **tx)
    .await?;
    // Its jobs that may have to be stopped. None can come while the run is locked.
    let jobs = sqlx::query_scalar!(
        r#"
        select j.id as "id!" from jobs j where j.unique_key = $2
        union all
        select j.id from step_attempts a join jobs j on j.id = a.job_id where a.run_id = $1 and a.finished_at is null
        "#,
        id.uuid(),
        plan_key(id, run.generation)
    )
    .fetch_all(&mut **tx)
    .await?;
    // Those that no worker holds, of work that never began: they leave the queue with the run.
    let dropped = sqlx::query_scalar!(
        r#"
        with gone as (
            delete from jobs j
            where j.id = any($1) and j.state in ('ready', 'scheduled')
              and not exists (select from step_attempts a where a.job_id = j.id and a.started_at is not null)
            returning j.*
        ),
        archived as (
            insert into job_history (id, kind, queue, ended_as, priority, args, attempt, max_attempts, deaths, unique_key,
                   organization_id, project_id, run_id, step_id, enqueued_at)
            select id, kind, queue, 'cancelled', priority, args, attempt, max_attempts, deaths, unique_key,
                   organization_id, project_id, run_id, step_id, enqueued_at from gone
        )
        select id as "id: JobId" from gone
        "#,
        &jobs
    )
    .fetch_all(&mut **tx)
    .await?;
    let dropped: Vec<_> = dropped.into_iter().map(JobId::uuid).collect();
    sqlx::query!(
        "update step_attempts set status = 'cancelled', reason = $2, finished_at = now() where job_id = any($1)",
        &dropped,
        reason
    )
    .execute(&mut **tx)
    .await?;
    // The others are told, and what waits for its back-off is due now.
    let told = sqlx::query_scalar!(
        r#"
        update jobs set cancel_requested = true, state = case when state = 'scheduled' then 'ready' else state end
        where id = any($1)
        returning id as "id: JobId"
        "#,
        &jobs
    )
    .fetch_all(&mut **tx)
    .await?;
    let closed = sqlx::query!(
        r#"
        update pipeline_steps s set status = 'cancelled', reason = $2, finished_at = now()
        where run_id = $1 and status in ('pending', 'running')
          and not exists (select from step_attempts a where a.step_id = s.id and a.finished_at is null)
        "#,
        id.uuid(),
        reason
    )
    .execute(&mut **tx)
    .await?
    .rows_affected();
    let planned =
        sqlx::query_scalar!(r#"select exists (select from pipeline_steps where run_id = $1) as "planned!""#, id.uuid())
            .fetch_one(&mut **tx)
            .await?;
    let follow_up = if planned {
        advance::close_steps(tx, &run, i32::try_from(closed).unwrap_or(i32::MAX)).await?
    } else if told.is_empty() {
        advance::finish(tx, &run, crate::domain::RunStatus::Cancelled, Some(reason)).await?
    } else {
        Vec::new()
    };
    enqueue(&mut **tx, &follow_up).await?;
    Ok(told)
}
