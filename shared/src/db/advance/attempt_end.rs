//! An attempt ends, and with it maybe its step: another attempt, the steps that waited for it, or the run's publishing.

use serde_json::Value;

use super::{
    Run, Tx, finish, lock,
    start::{Ready, publish_job, start_steps},
};
use crate::{
    domain::{AttemptStatus, RunStatus, StepStatus},
    ids::{AttemptId, RunId, StepId},
    queue::NewJob,
};

/// How an attempt ended.
#[derive(Clone, Debug)]
pub struct AttemptEnd {
    /// Not `pending` or `running`.
    pub status: AttemptStatus,
    /// Of the failed command, or 0.
    pub exit_code: Option<i32>,
    /// One sentence that says why and what to do.
    pub reason: Option<String>,
    /// Object: the whole log, under a key of this attempt alone.
    pub log_ref: Option<String>,
    /// Object: the same log, under the key of the step's last attempt.
    pub step_log_ref: Option<String>,
    /// The runner's last word.
    pub report: Option<Value>,
    /// When its first command began, milliseconds since the epoch.
    pub first_command_at_ms: Option<i64>,
    /// A lost attempt may be followed by another (`on_lost: retry`).
    pub retry_if_lost: bool,
}

/// Ends an attempt and moves its run on: another attempt, the steps that waited for this one, or the run's end.
pub async fn end_attempt(
    tx: &mut Tx<'_>,
    run_id: RunId,
    step_id: StepId,
    attempt_id: AttemptId,
    end: &AttemptEnd,
) -> Result<Vec<NewJob>, sqlx::Error> {
    let Some(run) = lock(tx, run_id).await? else { return Ok(Vec::new()) };
    let ended = sqlx::query!(
        r#"
        update step_attempts
        set status = $2, exit_code = $3, reason = $4, log_ref = $5, report = $6, finished_at = now(),
            first_command_at = to_timestamp($7::bigint / 1000.0)
        where id = $1 and status in ('pending', 'running')
        "#,
        attempt_id.uuid(),
        end.status as AttemptStatus,
        end.exit_code,
        end.reason,
        end.log_ref,
        end.report,
        end.first_command_at_ms,
    )
    .execute(&mut **tx)
    .await?
    .rows_affected();
    if ended == 0 {
        return Ok(Vec::new());
    }
    if !run.cancelling && uses_another_try(tx, step_id, end).await? {
        return start_steps(tx, &run, &[Ready::anew(step_id)]).await;
    }
    let status = match end.status {
        AttemptStatus::Success => StepStatus::Success,
        AttemptStatus::Failure => StepStatus::Failure,
        AttemptStatus::Cancelled => StepStatus::Cancelled,
        // A lost attempt without another try left.
        _ if run.cancelling => StepStatus::Cancelled,
        _ => StepStatus::Error,
    };
    end_step(tx, &run, step_id, status, end).await
}

async fn uses_another_try(tx: &mut Tx<'_>, step_id: StepId, end: &AttemptEnd) -> Result<bool, sqlx::Error> {
    let failed = end.status == AttemptStatus::Failure;
    let lost = end.status == AttemptStatus::Lost && end.retry_if_lost;
    if !failed && !lost {
        return Ok(false);
    }
    let used = sqlx::query!(
        r#"
        update pipeline_steps
        set retries_left = retries_left - $2::int, losses_left = losses_left - $3::int
        where id = $1 and retries_left >= $2::int and losses_left >= $3::int
        "#,
        step_id.uuid(),
        i32::from(failed),
        i32::from(lost),
    )
    .execute(&mut **tx)
    .await?;
    Ok(used.rows_affected() == 1)
}

async fn end_step(
    tx: &mut Tx<'_>,
    run: &Run,
    step_id: StepId,
    status: StepStatus,
    end: &AttemptEnd,
) -> Result<Vec<NewJob>, sqlx::Error> {
    let step = sqlx::query!(
        r#"
        update pipeline_steps
        set status = $2, exit_code = $3, reason = $4, log_ref = $5, finished_at = now(),
            started_at = coalesce(started_at, now())
        where id = $1 and status in ('pending', 'running')
        returning name, allow_failure
        "#,
        step_id.uuid(),
        status as StepStatus,
        end.exit_code,
        end.reason,
        end.step_log_ref,
    )
    .fetch_optional(&mut **tx)
    .await?;
    let Some(step) = step else { return Ok(Vec::new()) };
    let mut closed = 1;
    let mut ready = Vec::new();
    if status.lets_dependents_start(step.allow_failure) {
        ready = release_dependents(tx, step_id).await?;
    } else {
        closed += skip_dependents(tx, step_id, &step.name, status).await?;
    }
    let mut jobs = start_steps(tx, run, &ready).await?;
    jobs.extend(close_steps(tx, run, closed).await?);
    Ok(jobs)
}

async fn release_dependents(tx: &mut Tx<'_>, step_id: StepId) -> Result<Vec<Ready>, sqlx::Error> {
    let ready = sqlx::query!(
        r#"
        with released as (
            update pipeline_steps s set unmet = unmet - 1
            from step_dependencies d
            where d.depends_on_id = $1 and s.id = d.step_id and s.status = 'pending'
            returning s.id, s.unmet, s.step_order
        ),
        -- What waited for this moment is an attempt from here on.
        waited as (
            delete from attempts_ahead h using released s where h.step_id = s.id and s.unmet = 0
            returning h.step_id, h.attempt_id
        )
        select s.id as "id: StepId", w.attempt_id as "waiting?: AttemptId"
        from released s left join waited w on w.step_id = s.id
        where s.unmet = 0
        order by s.step_order
        "#,
        step_id.uuid()
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(ready.into_iter().map(|step| Ready::with(step.id, step.waiting)).collect())
}

async fn skip_dependents(tx: &mut Tx<'_>, step_id: StepId, name: &str, status: StepStatus) -> Result<i32, sqlx::Error> {
    let why = match status {
        StepStatus::Cancelled => "was cancelled",
        StepStatus::Error => "ended in an error",
        _ => "failed",
    };
    let skipped = sqlx::query!(
        r#"
        with recursive after (id) as (
            select step_id from step_dependencies where depends_on_id = $1
            union
            select d.step_id from step_dependencies d join after a on d.depends_on_id = a.id
        )
        update pipeline_steps set status = 'skipped', reason = $2, finished_at = now()
        where id in (select id from after) and status = 'pending'
        "#,
        step_id.uuid(),
        format!("not run because step `{name}` {why}")
    )
    .execute(&mut **tx)
    .await?;
    Ok(i32::try_from(skipped.rows_affected()).unwrap_or(i32::MAX))
}

/// Counts ended steps off; the last one leads to the publishing of what the run left.
pub(in crate::db) async fn close_steps(tx: &mut Tx<'_>, run: &Run, closed: i32) -> Result<Vec<NewJob>, sqlx::Error> {
    let open = sqlx::query_scalar!(
        "update pipeline_runs set open_steps = open_steps - $2 where id = $1 returning open_steps",
        run.id.uuid(),
        closed
    )
    .fetch_one(&mut **tx)
    .await?;
    if open > 0 {
        return Ok(Vec::new());
    }
    if run.status == RunStatus::Pending {
        // It never started: cancelled while it waited for its group. Nothing was staged.
        return finish(tx, run, RunStatus::Cancelled, None).await;
    }
    Ok(vec![publish_job(run)])
}
