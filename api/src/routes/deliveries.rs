//! Pushes, as a repository's hook delivers them.

use axum::{extract::State, http::StatusCode};
use buildit_shared::{
    db::{
        audit::{self, Actor},
        create_run::{self, MergeRequest, NewRun},
        pipelines, run_queries,
    },
    domain::RunTrigger,
    ids::{OrganizationId, ProjectId},
    jobs::{JobArgs, RunPipeline},
    queue::Signal,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    projects::{self, ProjectPath},
    runs::{self, Started},
};
use crate::{
    App,
    auth::{Allowed, RunTrigger as MayTrigger},
    error::{ErrorBody, Result},
    extract::{Json, Path},
    git_ref::{self, GitRef},
};

/// One ref that was pushed.
#[derive(Deserialize, ToSchema)]
pub(crate) struct Delivery {
    /// Made once by the hook and kept until it was accepted: the same one twice makes no second run.
    delivery: Uuid,
    /// In full, such as `refs/heads/main`.
    #[serde(rename = "ref")]
    git_ref: String,
    /// The commit it was at before; zeros if it is new.
    before: String,
    /// The commit it is at now; zeros if it was deleted.
    after: String,
}

/// What a delivery started.
#[derive(Serialize, ToSchema)]
pub(crate) struct Delivered {
    /// One for each pipeline of the project; none for a ref that was deleted or is neither a branch nor a tag.
    pub(crate) runs: Vec<Started>,
}

/// Deliver a push: each pipeline of the project gets a run, which its filters may skip.
#[utoipa::path(post, path = "/api/v1/projects/{project}/deliveries", tag = "runs", operation_id = "deliver_push",
    security(("api_key" = ["run:trigger"])), params(ProjectPath), request_body = Delivery,
    responses((status = 201, body = Delivered), (status = 200, description = "seen before, or nothing to run", body = Delivered),
              (status = "4XX", body = ErrorBody)))]
pub(crate) async fn create(
    State(app): State<App>,
    caller: Allowed<MayTrigger>,
    Path(path): Path<ProjectPath>,
    Json(push): Json<Delivery>,
) -> Result<(StatusCode, Json<Delivered>)> {
    let project = projects::find(&app, &caller, &path.project).await?;
    let git_ref = GitRef::parse_full(&push.git_ref)?;
    git_ref::commit("before", &push.before)?;
    let commit = git_ref::commit("after", &push.after)?;
    if git_ref::is_zero(&commit) || !git_ref.is_branch_or_tag() {
        return Ok((StatusCode::OK, Json(Delivered { runs: Vec::new() })));
    }
    let start = Start {
        organization: caller.scope().organization,
        project: project.id,
        trigger: RunTrigger::Push,
        git_ref: git_ref.full,
        branch: git_ref.branch,
        commit,
        delivery: push.delivery.to_string(),
        merge_request: None,
        by: caller.actor(),
    };
    start_all(&app, start).await
}

/// What starts a run in each pipeline of a project.
pub(crate) struct Start<'a> {
    pub(crate) organization: OrganizationId,
    pub(crate) project: ProjectId,
    pub(crate) trigger: RunTrigger,
    pub(crate) git_ref: String,
    pub(crate) branch: Option<String>,
    pub(crate) commit: String,
    /// The same one twice makes no second run.
    pub(crate) delivery: String,
    pub(crate) merge_request: Option<MergeRequest>,
    pub(crate) by: &'a Actor,
}

/// Starts them in one transaction.
pub(crate) async fn start_all(app: &App, start: Start<'_>) -> Result<(StatusCode, Json<Delivered>)> {
    let mut tx = app.pool().begin().await?;
    let before = run_queries::of_delivery(&mut *tx, start.project, &start.delivery).await?;
    if !before.is_empty() {
        let runs = before.into_iter().map(|run| Started::of(app, run.id, run.number, run.status)).collect();
        return Ok((StatusCode::OK, Json(Delivered { runs })));
    }
    let mut created = Vec::new();
    let wake = app.notifier.wake(RunPipeline::QUEUE);
    // In the order of their ids, so that two equal deliveries lock them in the same order.
    let mut pipelines = pipelines::list(&mut *tx, start.project, None, 1000).await?;
    pipelines.sort_by_key(|pipeline| pipeline.id);
    for pipeline in pipelines {
        let new = NewRun {
            organization_id: start.organization,
            project_id: start.project,
            pipeline_id: pipeline.id,
            trigger: start.trigger,
            git_ref: start.git_ref.clone(),
            branch: start.branch.clone(),
            commit_sha: Some(start.commit.clone()),
            delivery: Some(start.delivery.clone()),
            created_by: start.by.name.clone(),
            merge_request: start.merge_request,
            variables: Default::default(),
        };
        let run = create_run::create(&mut tx, &new, &wake).await?;
        if run.new {
            let entry = runs::entry("run.started", run.run_id, run.number, start.project);
            let what = json!({ "ref": new.git_ref, "trigger": new.trigger });
            audit::write(&mut *tx, start.by, entry.after(what)).await?;
        }
        created.push(run);
    }
    tx.commit().await?;
    wake.committed();
    let is_new = created.iter().any(|run| run.new);
    for run in created.iter().filter(|run| run.new) {
        app.notifier.send(Signal::Run(run.run_id));
    }
    let runs = created.iter().map(|run| Started::of(app, run.run_id, run.number, run.status)).collect();
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(Delivered { runs })))
}
