//! A run ends: what it published, what it deploys, and the next run of its group.

use super::{Run, Tx, activate, lock, lock_group};
use crate::{
    db::{commit_statuses, webhooks},
    domain::{RunStatus, StepStatus, outcome},
    ids::{ArtifactId, RunId},
    queue::NewJob,
};

/// A published file.
#[derive(Clone, Debug)]
pub struct NewArtifact {
    /// The artifact's name.
    pub name: String,
    /// The file's path within it.
    pub path: String,
    /// By its extension.
    pub content_type: String,
    /// Bytes.
    pub size: i64,
    /// Of its content, in hex.
    pub sha256: String,
    /// The object.
    pub storage_key: String,
    /// Milliseconds from now until it goes; never without.
    pub expires_in_ms: Option<i64>,
}

/// How a run whose steps have all ended will end.
pub async fn outcome_of(tx: &mut Tx<'_>, id: RunId) -> Result<RunStatus, sqlx::Error> {
    let steps = sqlx::query!(
        r#"select status as "status: StepStatus", allow_failure from pipeline_steps where run_id = $1"#,
        id.uuid()
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(outcome(steps.into_iter().map(|step| (step.status, step.allow_failure))))
}

/// Ends a run whose artifacts are stored: their rows, its deployments, its status, and the next run of its group.
pub async fn end_run(
    tx: &mut Tx<'_>,
    id: RunId,
    artifacts: &[NewArtifact],
    notes: &[String],
) -> Result<Vec<NewJob>, sqlx::Error> {
    let Some(run) = lock(tx, id).await?.filter(|run| run.status == RunStatus::Running && run.open_steps == 0) else {
        return Ok(Vec::new());
    };
    for artifact in artifacts {
        sqlx::query!(
            r#"
            insert into artifacts (id, organization_id, project_id, run_id, name, path, content_type, size, sha256,
                                   storage_key, expires_at)
            values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, now() + $11::bigint * interval '1 millisecond')
            on conflict (run_id, name, path) do update
            set content_type = excluded.content_type, size = excluded.size, sha256 = excluded.sha256,
                storage_key = excluded.storage_key, expires_at = excluded.expires_at, created_at = now()
            "#,
            ArtifactId::new().uuid(),
            run.organization_id.uuid(),
            run.project_id.uuid(),
            id.uuid(),
            artifact.name,
            artifact.path,
            artifact.content_type,
            artifact.size,
            artifact.sha256,
            artifact.storage_key,
            artifact.expires_in_ms,
        )
        .execute(&mut **tx)
        .await?;
    }
    sqlx::query!("update pipeline_runs set notes = $2 where id = $1", id.uuid(), notes).execute(&mut **tx).await?;
    let status = outcome_of(tx, id).await?;
    let reason = sqlx::query_scalar!(
        r#"select 'step `' || name || '`: ' || reason as "reason!" from pipeline_steps
           where run_id = $1 and reason is not null and not (allow_failure and status = 'failure')
             and status::text = $2
           order by step_order limit 1"#,
        id.uuid(),
        status.name()
    )
    .fetch_optional(&mut **tx)
    .await?;
    // Whoever asked for a cancel said why.
    let reason = reason.filter(|_| !(run.cancelling && status == RunStatus::Cancelled));
    finish(tx, &run, status, reason.as_deref()).await
}

/// Ends the run, notes who is to be told, and starts the one that waited for it; the next one starts in the transaction that
/// ends the old one.
pub(in crate::db) async fn finish(
    tx: &mut Tx<'_>,
    run: &Run,
    status: RunStatus,
    reason: Option<&str>,
) -> Result<Vec<NewJob>, sqlx::Error> {
    sqlx::query!(
        r#"update pipeline_runs set status = $2, finished_at = now(),
                  -- Whoever asked for a cancel said why.
                  reason = coalesce($3, case when $2 = 'cancelled'::run_status then reason end),
                  started_at = coalesce(started_at, case when status = 'running' then now() end)
           where id = $1 and status in ('pending', 'running')"#,
        run.id.uuid(),
        status as RunStatus,
        reason
    )
    .execute(&mut **tx)
    .await?;
    let mut jobs = webhooks::announce(tx, run.organization_id, run.project_id, run.id, status).await?;
    jobs.extend(commit_statuses::announce(tx, run.id).await?);
    let Some(group) = &run.group else { return Ok(jobs) };
    // The same lock as in `activate`: taken before looking for who waits.
    lock_group(tx, run.pipeline_id, group).await?;
    let next = sqlx::query_scalar!(
        r#"select id as "id: RunId" from pipeline_runs
           where pipeline_id = $1 and concurrency_group = $2 and status = 'pending' and id <> $3
             and cancel_requested_at is null
           order by id limit 1"#,
        run.pipeline_id.uuid(),
        group,
        run.id.uuid()
    )
    .fetch_optional(&mut **tx)
    .await?;
    let Some(next) = next else { return Ok(jobs) };
    if let Some(next) = lock(tx, next).await?.filter(|next| next.status == RunStatus::Pending) {
        jobs.extend(Box::pin(activate(tx, &next)).await?);
    }
    Ok(jobs)
}
