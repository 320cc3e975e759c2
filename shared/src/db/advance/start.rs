//! A planned run starts, and its steps get their attempts.

use super::{Run, Tx, lock_group};
use crate::{
    db::{commit_statuses, create_run::plan_job},
    ids::{AttemptId, StepId},
    jobs::{RunStep, UploadArtifacts},
    queue::NewJob,
};

/// Starts a pending run if no other run of its group is active, and returns the jobs of its first steps.
pub(in crate::db) async fn activate(tx: &mut Tx<'_>, run: &Run) -> Result<Vec<NewJob>, sqlx::Error> {
    if let Some(group) = &run.group {
        // Without this lock two could each find the other waiting.
        lock_group(tx, run.pipeline_id, group).await?;
        let ahead = sqlx::query_scalar!(
            "select number from pipeline_runs
             where pipeline_id = $1 and concurrency_group = $2 and status = 'running' and id <> $3",
            run.pipeline_id.uuid(),
            group,
            run.id.uuid()
        )
        .fetch_optional(&mut **tx)
        .await?;
        if let Some(number) = ahead {
            sqlx::query!(
                "update pipeline_runs set reason = $2 where id = $1",
                run.id.uuid(),
                format!("waits for run #{number} of its concurrency group")
            )
            .execute(&mut **tx)
            .await?;
            return Ok(commit_statuses::announce(tx, run.id).await?.into_iter().collect());
        }
    }
    let open = sqlx::query_scalar!(
        "update pipeline_runs set status = 'running', reason = null, started_at = coalesce(started_at, now())
         where id = $1 and status = 'pending' returning open_steps",
        run.id.uuid()
    )
    .fetch_optional(&mut **tx)
    .await?;
    if open.is_none() {
        return Ok(Vec::new());
    }
    // After what the worker that asks can go on with at once.
    let told = commit_statuses::announce(tx, run.id).await?;
    // A retry in which every step stands: only the publishing failed.
    if open == Some(0) {
        return Ok([publish_job(run)].into_iter().chain(told).collect());
    }
    let ready = sqlx::query_scalar!(
        r#"select id as "id: StepId" from pipeline_steps
           where run_id = $1 and status = 'pending' and unmet = 0 order by step_order"#,
        run.id.uuid()
    )
    .fetch_all(&mut **tx)
    .await?;
    let ready: Vec<_> = ready.into_iter().map(Ready::anew).collect();
    let mut jobs = start_steps(tx, run, &ready).await?;
    jobs.extend(told);
    Ok(jobs)
}

/// A step whose turn has come.
pub(super) struct Ready {
    step: StepId,
    /// Its attempt, where one waits.
    waiting: Option<AttemptId>,
}

impl Ready {
    /// A step of which nothing waits.
    pub(super) fn anew(step: StepId) -> Self {
        Self { step, waiting: None }
    }

    /// A step with the attempt that waits, if one does.
    pub(super) fn with(step: StepId, waiting: Option<AttemptId>) -> Self {
        Self { step, waiting }
    }
}

/// Gives each of these steps its next attempt, and returns the attempts' jobs.
pub(super) async fn start_steps(tx: &mut Tx<'_>, run: &Run, steps: &[Ready]) -> Result<Vec<NewJob>, sqlx::Error> {
    let mut jobs = Vec::with_capacity(steps.len());
    for &Ready { step: step_id, waiting } in steps {
        let attempt_id = waiting.unwrap_or_else(AttemptId::new);
        let job = NewJob::new(&RunStep { run_id: run.id, step_id, attempt_id })
            .of(run.organization_id, run.project_id, run.id, Some(step_id))
            .unique(format!("RunStep/{attempt_id}"));
        sqlx::query!(
            r#"
            insert into step_attempts (id, organization_id, run_id, step_id, job_id, ahead, number)
            select $1, $2, $3, $4, $5, $6, coalesce(max(number), 0) + 1 from step_attempts where step_id = $4
            "#,
            attempt_id.uuid(),
            run.organization_id.uuid(),
            run.id.uuid(),
            step_id.uuid(),
            job.id().uuid(),
            waiting.is_some(),
        )
        .execute(&mut **tx)
        .await?;
        jobs.push(job);
    }
    Ok(jobs)
}

pub(super) fn publish_job(run: &Run) -> NewJob {
    NewJob::new(&UploadArtifacts { run_id: run.id })
        .of(run.organization_id, run.project_id, run.id, None)
        .unique(format!("UploadArtifacts/{}/{}", run.id, run.generation))
}

/// Plans the run anew: for one that ended before it had steps.
pub(in crate::db) fn plan_again(run: &Run, generation: i32) -> NewJob {
    plan_job(run.organization_id, run.project_id, run.id, generation)
}
