//! Runs again: a retry of what failed, or from a step on, keeps the rest; a rerun is a new run at the same commit.

use sqlx::types::Json;
use uuid::Uuid;

use super::{
    advance::{self, Tx},
    commit_statuses,
    create_run::{self, Created, MergeRequest, NewRun},
};
use crate::{
    domain::{EndedStep, NotAgain, RunStatus, RunTrigger, StepStatus, from_step, unsuccessful},
    ids::{OrganizationId, PipelineId, ProjectId, RunId, StepId},
    pipeline::{GivenVariables, MrAction},
    queue::{Wake, enqueue},
};

/// What became of the request.
#[derive(Debug, PartialEq)]
pub enum Retried {
    /// The run is at work again.
    Started,
    /// It has not ended.
    NotEnded,
    /// Nothing in it failed.
    NothingToRetry,
    /// It has no such step.
    NoSuchStep,
    /// That step cannot be run anew.
    NotThatStep(NotAgain),
    /// What its steps would need was deleted.
    InputsGone,
    /// No such run in this organization.
    NotFound,
}

/// What to say of [`Retried::InputsGone`].
pub const INPUTS_GONE: &str = "this run ended so long ago that the outputs of its steps were deleted, which a retry would \
                               need; `rerun` starts a new run at the same commit";

/// Starts steps of an ended run again, as a new generation: the step `from`, by its id or name, and all that depend on it, or
/// without one all that did not succeed. The others keep results and outputs. The caller commits and tells queues `pipelines`,
/// `steps` and `webhooks`.
pub async fn retry_run(
    tx: &mut Tx<'_>,
    organization: OrganizationId,
    id: RunId,
    from: Option<&str>,
) -> Result<Retried, sqlx::Error> {
    let Some(run) = advance::lock(tx, id).await?.filter(|run| run.organization_id == organization) else {
        return Ok(Retried::NotFound);
    };
    if !run.status.is_ended() {
        return Ok(Retried::NotEnded);
    }
    let (ids, steps) = ended_steps(tx, id).await?;
    let again = match from {
        None if !matches!(run.status, RunStatus::Failure | RunStatus::Error | RunStatus::Cancelled) => {
            return Ok(Retried::NothingToRetry);
        }
        None => unsuccessful(&steps),
        Some(from) => {
            let by_id = ids.iter().position(|id| Uuid::parse_str(from) == Ok(id.uuid()));
            let Some(position) = by_id.or_else(|| steps.iter().position(|step| step.name == from)) else {
                return Ok(Retried::NoSuchStep);
            };
            match from_step(&steps, position) {
                Ok(again) => again,
                Err(refused) => return Ok(Retried::NotThatStep(refused)),
            }
        }
    };
    let inputs_deleted = sqlx::query_scalar!(
        r#"select inputs_deleted_at is not null as "inputs_deleted!" from pipeline_runs where id = $1"#,
        id.uuid()
    )
    .fetch_one(&mut **tx)
    .await?;
    if !steps.is_empty() && inputs_deleted {
        return Ok(Retried::InputsGone);
    }
    let again: Vec<Uuid> = again.into_iter().map(|position| ids[position].uuid()).collect();
    reopen(tx, id, &again).await?;
    let generation = sqlx::query_scalar!(
        r#"
        update pipeline_runs
        set status = 'pending', generation = generation + 1, open_steps = $2, reason = null, diagnostics = null,
            cancel_requested_at = null, finished_at = null, inputs_deleted_at = null
        where id = $1 returning generation
        "#,
        id.uuid(),
        i32::try_from(again.len()).unwrap_or(i32::MAX)
    )
    .fetch_one(&mut **tx)
    .await?;
    let Some(run) = advance::lock(tx, id).await? else { return Ok(Retried::NotFound) };
    let jobs = if steps.is_empty() {
        let plan = advance::plan_again(&run, generation);
        [plan].into_iter().chain(commit_statuses::announce(tx, id).await?).collect()
    } else {
        advance::activate(tx, &run).await?
    };
    enqueue(&mut **tx, &jobs).await?;
    Ok(Retried::Started)
}

/// A run's steps in their order; none where it was never planned.
async fn ended_steps(tx: &mut Tx<'_>, id: RunId) -> Result<(Vec<StepId>, Vec<EndedStep>), sqlx::Error> {
    let rows = sqlx::query!(
        r#"
        select s.id as "id: StepId", s.name, s.status as "status: StepStatus", s.allow_failure, s.left_out,
               array(select d.depends_on_id from step_dependencies d where d.step_id = s.id) as "waits_for!: Vec<Uuid>"
        from pipeline_steps s where s.run_id = $1 order by s.step_order
        "#,
        id.uuid()
    )
    .fetch_all(&mut **tx)
    .await?;
    let ids: Vec<StepId> = rows.iter().map(|row| row.id).collect();
    let position = |id: Uuid| ids.iter().position(|step| step.uuid() == id);
    let steps = rows
        .into_iter()
        .map(|row| EndedStep {
            name: row.name,
            status: row.status,
            allow_failure: row.allow_failure,
            left_out: row.left_out,
            waits_for: row.waits_for.into_iter().filter_map(position).collect(),
        })
        .collect();
    Ok((ids, steps))
}

/// Puts these steps back to pending and computes their counters anew, from what stands then.
async fn reopen(tx: &mut Tx<'_>, run: RunId, steps: &[Uuid]) -> Result<(), sqlx::Error> {
    // What waited for a turn that never came may be going just now.
    sqlx::query!("delete from attempts_ahead where run_id = $1", run.uuid()).execute(&mut **tx).await?;
    sqlx::query!(
        r#"
        update pipeline_steps
        set status = 'pending', reason = null, exit_code = null, started_at = null, finished_at = null,
            retries_left = retries, losses_left = greatest(losses_left, 1)
        where id = any($1)
        "#,
        steps
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query!(
        r#"
        update pipeline_steps s
        set unmet = (select count(*) from step_dependencies d join pipeline_steps p on p.id = d.depends_on_id
                     where d.step_id = s.id and p.status = 'pending')
        where run_id = $1 and status = 'pending'
        "#,
        run.uuid()
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// A new run at the same commit, with the same variables; `None` when there is no such run in this organization.
pub async fn rerun(
    tx: &mut Tx<'_>,
    organization: OrganizationId,
    id: RunId,
    by: &str,
    wake: &Wake,
) -> Result<Option<Created>, sqlx::Error> {
    let old = sqlx::query!(
        r#"select project_id as "project_id: ProjectId", pipeline_id as "pipeline_id: PipelineId", git_ref, branch,
                  commit_sha, mr_number, mr_action, fork, variables as "variables: Json<GivenVariables>"
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
        variables: old.variables.0,
    };
    create_run::create(tx, &run, wake).await.map(Some)
}
