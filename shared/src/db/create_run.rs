//! A run and its `RunPipeline` job, made in one transaction; the same delivery twice makes one run.

use sqlx::{Postgres, Transaction, types::Json};

use crate::{
    domain::{RunStatus, RunTrigger},
    ids::{OrganizationId, PipelineId, ProjectId, RunId},
    jobs::RunPipeline,
    pipeline::{GivenVariables, MrAction},
    queue::{NewJob, Wake, enqueue_and_wake},
};

/// What starts a run.
#[derive(Clone, Debug)]
pub struct NewRun {
    /// The tenant.
    pub organization_id: OrganizationId,
    /// The project.
    pub project_id: ProjectId,
    /// Which of its pipelines.
    pub pipeline_id: PipelineId,
    /// What asked for it.
    pub trigger: RunTrigger,
    /// The full ref (`refs/heads/main`), or a commit's SHA where only that is known.
    pub git_ref: String,
    /// The branch, unless it is a tag.
    pub branch: Option<String>,
    /// The commit; without one `RunPipeline` pins what the ref points to when it runs.
    pub commit_sha: Option<String>,
    /// Durable unique id of the delivery that asked for it.
    pub delivery: Option<String>,
    /// Who asked, for people.
    pub created_by: String,
    /// The merge request that it is about, if it is one's.
    pub merge_request: Option<MergeRequest>,
    /// Values for the file's own variables.
    pub variables: GivenVariables,
}

/// What happened to a merge request.
#[derive(Clone, Copy, Debug)]
pub struct MergeRequest {
    /// Its number in its project.
    pub number: i32,
    /// What happened.
    pub action: MrAction,
    /// The commit comes from another repository, so the run gets no secret.
    pub fork: bool,
}

/// A run that exists now.
#[derive(Clone, Debug)]
pub struct Created {
    /// Its id.
    pub run_id: RunId,
    /// Its number in its pipeline, from 1.
    pub number: i32,
    /// Where it stands.
    pub status: RunStatus,
    /// False when this delivery had made it before.
    pub new: bool,
}

/// Makes the run and enqueues its first job. The caller commits and then tells `wake`, made for the queue
/// `pipelines`.
///
/// # Errors
/// `RowNotFound` when the pipeline does not belong to that project and organization.
pub async fn create(tx: &mut Transaction<'_, Postgres>, run: &NewRun, wake: &Wake) -> Result<Created, sqlx::Error> {
    // The lock makes numbers gapless, and two equal deliveries wait for each other here.
    let number = sqlx::query_scalar!(
        "select next_number from pipelines where id = $1 and project_id = $2 and organization_id = $3 for update",
        run.pipeline_id.uuid(),
        run.project_id.uuid(),
        run.organization_id.uuid(),
    )
    .fetch_one(&mut **tx)
    .await?;
    if let Some(delivery) = &run.delivery {
        let before = sqlx::query!(
            r#"select id as "id: RunId", number, status as "status: RunStatus"
               from pipeline_runs where pipeline_id = $1 and delivery = $2"#,
            run.pipeline_id.uuid(),
            delivery
        )
        .fetch_optional(&mut **tx)
        .await?;
        if let Some(run) = before {
            return Ok(Created { run_id: run.id, number: run.number, status: run.status, new: false });
        }
    }
    let run_id = RunId::new();
    sqlx::query!(
        r#"
        with numbered as (
            update pipelines set next_number = next_number + 1 where id = $4
        )
        insert into pipeline_runs (id, organization_id, project_id, pipeline_id, number, trigger, git_ref, branch,
                                   commit_sha, delivery, created_by, mr_number, mr_action, fork, variables)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
        "#,
        run_id.uuid(),
        run.organization_id.uuid(),
        run.project_id.uuid(),
        run.pipeline_id.uuid(),
        number,
        run.trigger as RunTrigger,
        run.git_ref,
        run.branch,
        run.commit_sha,
        run.delivery,
        run.created_by,
        run.merge_request.map(|request| request.number),
        run.merge_request.map(|request| request.action.as_str()),
        run.merge_request.is_some_and(|request| request.fork),
        Json(&run.variables) as Json<&GivenVariables>,
    )
    .execute(&mut **tx)
    .await?;
    let job = plan_job(run.organization_id, run.project_id, run_id, 1);
    enqueue_and_wake(&mut **tx, &[job], wake).await?;
    Ok(Created { run_id, number, status: RunStatus::Pending, new: true })
}

/// The job that plans a run.
pub(super) fn plan_job(organization: OrganizationId, project: ProjectId, run: RunId, generation: i32) -> NewJob {
    NewJob::new(&RunPipeline { run_id: run }).of(organization, project, run, None).unique(plan_key(run, generation))
}

/// The unique key of that job.
pub(super) fn plan_key(run: RunId, generation: i32) -> String {
    format!("RunPipeline/{run}/{generation}")
}
