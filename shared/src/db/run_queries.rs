//! Reading runs.

use serde_json::Value;
use sqlx::{PgExecutor, types::Json};

use super::Scope;
use crate::{
    domain::{RunStatus, RunTrigger},
    ids::{PipelineId, ProjectId, RunId},
    pipeline::GivenVariables,
};

/// A run, as its readers see it.
#[derive(Clone, Debug)]
pub struct Run {
    /// Its id.
    pub id: RunId,
    /// Its number within its pipeline.
    pub number: i32,
    /// Its project.
    pub project_id: ProjectId,
    /// Its project's name.
    pub project: String,
    /// Its pipeline.
    pub pipeline_id: PipelineId,
    /// Its pipeline's name.
    pub pipeline: String,
    /// Where it stands.
    pub status: RunStatus,
    /// What started it.
    pub trigger: RunTrigger,
    /// The ref it is of, in full.
    pub git_ref: String,
    /// The branch, unless it is of a tag.
    pub branch: Option<String>,
    /// The commit, once it is known.
    pub commit_sha: Option<String>,
    /// The commit's message.
    pub commit_message: Option<String>,
    /// The commit's author.
    pub commit_author: Option<String>,
    /// Why it ended so, and what to do.
    pub reason: Option<String>,
    /// What is wrong with its pipeline file.
    pub diagnostics: Option<Value>,
    /// What a reader should know.
    pub notes: Vec<String>,
    /// Values that it was started with, for the file's own variables.
    pub variables: Json<GivenVariables>,
    /// Raised by each retry.
    pub generation: i32,
    /// When its end was asked for.
    pub cancel_requested_at: Option<jiff_sqlx::Timestamp>,
    /// Who or what started it.
    pub created_by: String,
    /// When it was made.
    pub created_at: jiff_sqlx::Timestamp,
    /// When its first step began.
    pub started_at: Option<jiff_sqlx::Timestamp>,
    /// When it ended.
    pub finished_at: Option<jiff_sqlx::Timestamp>,
}

/// Which runs a list shows.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only this project's.
    pub project: Option<ProjectId>,
    /// Only this pipeline's.
    pub pipeline: Option<PipelineId>,
    /// Only those in one of these states; all if empty.
    pub status: Vec<RunStatus>,
    /// Only those of this ref, in full or as a branch's name.
    pub git_ref: Option<String>,
    /// Only those that this started.
    pub trigger: Option<RunTrigger>,
    /// Only those of this number within their pipelines.
    pub number: Option<i32>,
}

/// What a run of this ref or branch is found by: its branch, or else its ref; and, where that does not tell, its ref.
fn named(git_ref: &str) -> (Option<&str>, Option<&str>) {
    match git_ref.strip_prefix("refs/heads/") {
        Some(branch) => (Some(branch), Some(git_ref)),
        // A merge request's head is kept under a ref of its own, and its branch is another one's.
        None if git_ref.starts_with("refs/") && !git_ref.starts_with("refs/tags/") => (None, Some(git_ref)),
        None => (Some(git_ref), None),
    }
}

/// Runs, newest first, those older than `before`. Name the project of a pipeline too: what a project's runs are like is
/// known, what a pipeline's are is not.
pub async fn list(
    db: impl PgExecutor<'_>,
    scope: Scope,
    filter: &Filter,
    before: Option<RunId>,
    limit: i64,
) -> Result<Vec<Run>, sqlx::Error> {
    let (name, git_ref) = filter.git_ref.as_deref().map_or((None, None), named);
    sqlx::query_as!(
        Run,
        r#"
        select r.id as "id: RunId", r.number, r.project_id as "project_id: ProjectId", p.name as project,
               r.pipeline_id as "pipeline_id: PipelineId", l.name as pipeline, r.status as "status: RunStatus",
               r.trigger as "trigger: RunTrigger", r.git_ref, r.branch, r.commit_sha, r.commit_message, r.commit_author,
               r.reason, r.diagnostics, r.notes, r.variables as "variables: Json<GivenVariables>", r.generation,
               r.cancel_requested_at as "cancel_requested_at: jiff_sqlx::Timestamp", r.created_by,
               r.created_at as "created_at: jiff_sqlx::Timestamp", r.started_at as "started_at: jiff_sqlx::Timestamp",
               r.finished_at as "finished_at: jiff_sqlx::Timestamp"
        from pipeline_runs r join projects p on p.id = r.project_id join pipelines l on l.id = r.pipeline_id
        where r.organization_id = $1 and ($2::uuid is null or r.project_id = $2)
          and ($3::uuid is null or r.project_id = $3) and ($4::uuid is null or r.pipeline_id = $4)
          and (cardinality($5::run_status[]) = 0 or r.status = any($5))
          and ($6::text is null or coalesce(r.branch, r.git_ref) = $6) and ($7::text is null or r.git_ref = $7)
          and ($8::run_trigger is null or r.trigger = $8)
          and ($9::uuid is null or r.id < $9) and ($10::int is null or r.number = $10)
        order by r.id desc limit $11
        "#,
        scope.organization.uuid(),
        scope.project_uuid(),
        filter.project.map(ProjectId::uuid),
        filter.pipeline.map(PipelineId::uuid),
        &filter.status as &[RunStatus],
        name,
        git_ref,
        filter.trigger as Option<RunTrigger>,
        before.map(RunId::uuid),
        filter.number,
        limit
    )
    .fetch_all(db)
    .await
}

/// The run with that id.
pub async fn find(db: impl PgExecutor<'_>, scope: Scope, id: RunId) -> Result<Option<Run>, sqlx::Error> {
    sqlx::query_as!(
        Run,
        r#"
        select r.id as "id: RunId", r.number, r.project_id as "project_id: ProjectId", p.name as project,
               r.pipeline_id as "pipeline_id: PipelineId", l.name as pipeline, r.status as "status: RunStatus",
               r.trigger as "trigger: RunTrigger", r.git_ref, r.branch, r.commit_sha, r.commit_message, r.commit_author,
               r.reason, r.diagnostics, r.notes, r.variables as "variables: Json<GivenVariables>", r.generation,
               r.cancel_requested_at as "cancel_requested_at: jiff_sqlx::Timestamp", r.created_by,
               r.created_at as "created_at: jiff_sqlx::Timestamp", r.started_at as "started_at: jiff_sqlx::Timestamp",
               r.finished_at as "finished_at: jiff_sqlx::Timestamp"
        from pipeline_runs r join projects p on p.id = r.project_id join pipelines l on l.id = r.pipeline_id
        where r.organization_id = $1 and ($2::uuid is null or r.project_id = $2) and r.id = $3
        "#,
        scope.organization.uuid(),
        scope.project_uuid(),
        id.uuid()
    )
    .fetch_optional(db)
    .await
}

/// A run of a delivery or a merge request.
#[derive(Clone, Copy, Debug)]
pub struct Delivered {
    /// Its id.
    pub id: RunId,
    /// Its number within its pipeline.
    pub number: i32,
    /// Where it stands.
    pub status: RunStatus,
}

/// The runs of a merge request that have not ended.
pub async fn active_of_merge_request(
    db: impl PgExecutor<'_>,
    project: ProjectId,
    number: i32,
) -> Result<Vec<Delivered>, sqlx::Error> {
    sqlx::query_as!(
        Delivered,
        r#"
        select id as "id: RunId", number, status as "status: RunStatus" from pipeline_runs
        where project_id = $1 and mr_number = $2 and status in ('pending', 'running') order by id
        "#,
        project.uuid(),
        number
    )
    .fetch_all(db)
    .await
}

/// The runs that a delivery made.
pub async fn of_delivery(
    db: impl PgExecutor<'_>,
    project: ProjectId,
    delivery: &str,
) -> Result<Vec<Delivered>, sqlx::Error> {
    sqlx::query_as!(
        Delivered,
        r#"
        select r.id as "id: RunId", r.number, r.status as "status: RunStatus"
        from pipelines l join pipeline_runs r on r.pipeline_id = l.id and r.delivery = $2
        where l.project_id = $1 order by r.id
        "#,
        project.uuid(),
        delivery
    )
    .fetch_all(db)
    .await
}

#[cfg(test)]
mod tests {
    use super::named;

    #[test]
    fn a_ref_is_looked_for_by_what_its_runs_are_kept_in_order_of() {
        assert_eq!(named("main"), (Some("main"), None));
        assert_eq!(named("refs/heads/main"), (Some("main"), Some("refs/heads/main")));
        assert_eq!(named("refs/tags/v1"), (Some("refs/tags/v1"), None));
        assert_eq!(named("refs/pull/7/head"), (None, Some("refs/pull/7/head")));
    }
}
