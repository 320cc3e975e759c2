//! What planning and publishing a run need to know of it.

use serde_json::Value;
use sqlx::{PgPool, types::Json};

use crate::{
    domain::{RunStatus, RunTrigger},
    ids::{PipelineId, ProjectId, RunId},
    pipeline::GivenVariables,
};

/// A run to be planned.
#[derive(Clone, Debug)]
pub struct Unplanned {
    /// Where it stands.
    pub status: RunStatus,
    /// Its number in its pipeline.
    pub number: i32,
    /// What started it.
    pub trigger: RunTrigger,
    /// The ref as it came.
    pub git_ref: String,
    /// The branch, unless it is a tag.
    pub branch: Option<String>,
    /// The commit, where it is known.
    pub commit_sha: Option<String>,
    /// The project.
    pub project_id: ProjectId,
    /// Its name.
    pub project: String,
    /// Its repository.
    pub repository: String,
    /// The pipeline.
    pub pipeline_id: PipelineId,
    /// Its name.
    pub pipeline: String,
    /// The file in the repository, unless `config` is set.
    pub file: Option<String>,
    /// The config stored in BuildIt.
    pub config: Option<String>,
    /// What happened to its merge request.
    pub mr_action: Option<String>,
    /// It is of another repository's commit, and gets no secret.
    pub fork: bool,
    /// Values for the file's own variables.
    pub variables: Json<GivenVariables>,
    /// A schedule that somebody added started it: whatever the file says of events.
    pub is_added: bool,
}

/// Reads a run to plan; `None` when it was deleted.
pub async fn read(pool: &PgPool, id: RunId) -> Result<Option<Unplanned>, sqlx::Error> {
    sqlx::query_as!(
        Unplanned,
        r#"
        select r.status as "status: RunStatus", r.number, r.trigger as "trigger: RunTrigger", r.git_ref, r.branch,
               r.commit_sha, p.id as "project_id: ProjectId", p.name as project, p.repository,
               l.id as "pipeline_id: PipelineId", l.name as pipeline, l.file, l.config,
               r.mr_action, r.fork, r.variables as "variables: Json<GivenVariables>",
               coalesce(r.trigger = 'schedule' and starts_with(r.delivery, $2 || '/'), false) as "is_added!"
        from pipeline_runs r join projects p on p.id = r.project_id join pipelines l on l.id = r.pipeline_id
        where r.id = $1
        "#,
        id.uuid(),
        super::schedules::ADDED
    )
    .fetch_optional(pool)
    .await
}

/// A run whose steps have ended.
#[derive(Clone, Debug)]
pub struct Unpublished {
    /// Where it stands.
    pub status: RunStatus,
    /// The name of its project, which is also that of its images.
    pub project: String,
    /// The commit.
    pub commit_sha: Option<String>,
    /// The file's artifact declarations.
    pub artifacts: Value,
    /// The plans of the steps that succeeded, in order.
    pub succeeded: Vec<Value>,
}

/// Reads a run to publish; `None` when it was deleted.
pub async fn read_unpublished(pool: &PgPool, id: RunId) -> Result<Option<Unpublished>, sqlx::Error> {
    sqlx::query_as!(
        Unpublished,
        r#"
        select r.status as "status: RunStatus", p.name as project, r.commit_sha, r.artifacts,
               array(select s.plan from pipeline_steps s where s.run_id = r.id and s.status = 'success'
                     order by s.step_order) as "succeeded!"
        from pipeline_runs r join projects p on p.id = r.project_id
        where r.id = $1
        "#,
        id.uuid()
    )
    .fetch_optional(pool)
    .await
}

/// The outcome that a run's steps amount to, before it has ended.
pub async fn outcome(pool: &PgPool, id: RunId) -> Result<RunStatus, sqlx::Error> {
    let mut tx = pool.begin().await?;
    super::advance::outcome_of(&mut tx, id).await
}
