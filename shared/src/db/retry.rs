//! Runs again: a retry of what failed keeps the rest; a rerun is a new run at the same commit.

use super::{
    advance::{self, Tx},
    create_run::{self, Created, MergeRequest, NewRun},
};
use crate::{
    domain::{RunStatus, RunTrigger},
    ids::{OrganizationId, PipelineId, ProjectId, RunId},
    pipeline::MrAction,
    queue::{Wake, enqueue},
};

/// What became of the request.
#[derive(Debug, PartialEq)]
pub enum Retried {
    /// The run is at work again.
    Started,
    /// It has not ended, or nothing in it failed.
    NothingToRetry,
    /// What its steps would need was deleted.
    InputsGone,
    /// No such run in this organization.
    NotFound,
}

/// What to say of [`Retried::InputsGone`].
pub const INPUTS_GONE: &str = "this run ended so long ago that the outputs of its steps were deleted, which a retry would \
                               need; `rerun` starts a new run at the same commit";

/// Starts an ended run's unsuccessful steps again, as a new generation; steps that succeeded keep results and outputs.
/// The caller commits and tells queues `pipelines` and `steps`.
pub async fn retry_run(tx: &mut Tx<'_>, organization: OrganizationId, id: RunId) -> Result<Retried, sqlx::Error> {
    let Some(run) = advance::lock(tx, id).await?.filter(|run| run.organization_id == organization) else {
        return Ok(Retried::NotFound);
    };
    if !matches!(run.status, RunStatus::Failure | RunStatus::Error | RunStatus::Cancelled) {
        return Ok(Retried::NothingToRetry);
    }
    let stands = sqlx::query!(
        r#"select exists (select from pipeline_steps where run_id = $1) as "planned!",
                  inputs_deleted_at is not null as "inputs_deleted!"
           from pipeline_runs where id = $1"#,
        id.uuid()
    )
    .fetch_one(&mut **tx)
    .await?;
    if stands.planned && stands.inputs_deleted {
        return Ok(Retried::InputsGone);
    }
    // Back to pending: all that did not succeed, other than by its author's leave.
    let reopened = sqlx::query!(
        r#"
        update pipeline_steps
        set status = 'pending', reason = null, exit_code = null, started_at = null, finished_at = null,
            retries_left = retries, losses_left = greatest(losses_left, 1)
        where run_id = $1 and not left_out
          and (status in ('error', 'cancelled', 'skipped') or (status = 'failure' and not allow_failure))
        "#,
        id.uuid()
    )
    .execute(&mut **tx)
    .await?
    .rows_affected();
    // The counters anew, from what stands now.
    sqlx::query!(
        r#"
        update pipeline_steps s
        set unmet = (select count(*) from step_dependencies d join pipeline_steps p on p.id = d.depends_on_id
                     where d.step_id = s.id and p.status = 'pending')
        where run_id = $1 and status = 'pending'
        "#,
        id.uuid()
    )
    .execute(&mut **tx)
    .await?;
    let generation = sqlx::query_scalar!(
        r#"
        update pipeline_runs
        set status = 'pending', generation = generation + 1, open_steps = $2, reason = null, diagnostics = null,
            cancel_requested_at = null, finished_at = null, inputs_deleted_at = null
        where id = $1 returning generation
        "#,
        id.uuid(),
        i32::try_from(reopened).unwrap_or(i32::MAX)
    )
    .fetch_one(&mut **tx)
    .await?;
    let Some(run) = advance::lock(tx, id).await? else { return Ok(Retried::NotFound) };
    let jobs =
        if stands.planned { advance::activate(tx, &run).await? } else { vec![advance::plan_again(&run, generation)] };
    enqueue(&mut **tx, &jobs).await?;
    Ok(Retried::Started)
}

/// A new run at the same commit; `None` when there is no such run in this organization.
pub async fn rerun(
    tx: &mut Tx<'_>,
    organization: OrganizationId,
    id: RunId,
    by: &str,
    wake: &Wake,
) -> Result<Option<Created>, sqlx::Error> {
    let old = sqlx::query!(
        r#"select project_id as "project_id: ProjectId", pipeline_id as "pipeline_id: PipelineId", git_ref, branch,
                  commit_sha, mr_number, mr_action, fork
           from pipeline_runs where id = $1 and organization_id = $2"#,
        id.uuid(),
        organization.uuid()
    )
    .fetch_optional(&mut **tx)
    .await?;
    let Some(old) = old else { return Ok(None) };
    let action = old.mr_action.and_then(|action| MrAction::parse(&action));
    let merge_request =
        old.mr_number.zip(action).map(|(number, action)| MergeRequest { number, action, fork: old.fork });
    let run = NewRun {
        organization_id: organization,
        project_id: old.project_id,
        pipeline_id: old.pipeline_id,
        trigger: RunTrigger::Api,
        git_ref: old.git_ref,
        branch: old.branch,
        commit_sha: old.commit_sha,
        delivery: None,
        created_by: by.to_owned(),
        merge_request,
    };
    create_run::create(tx, &run, wake).await.map(Some)
}
