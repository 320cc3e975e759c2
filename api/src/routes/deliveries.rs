//! Pushes, as a repository's hook delivers them.

use axum::{extract::State, http::StatusCode};
use buildit_shared::{
    db::{
        audit,
        create_run::{self, NewRun},
        pipelines, run_queries,
    },
    domain::RunTrigger,
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
    runs: Vec<Started>,
}

/// Deliver a push: each pipeline of the project gets a run, which its filters may skip.
#[utoipa::path(post, path = "/api/v1/projects/{project}/deliveries", tag = "runs",
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
    let delivery = push.delivery.to_string();
    let mut tx = app.pool().begin().await?;
    let before = run_queries::of_delivery(&mut *tx, project.id, &delivery).await?;
    if !before.is_empty() {
        let runs = before.into_iter().map(|run| Started::of(&app, run.id, run.number, run.status)).collect();
        return Ok((StatusCode::OK, Json(Delivered { runs })));
    }
    let mut created = Vec::new();
    let wake = app.notifier.wake(RunPipeline::QUEUE);
    // In the order of their ids, so that two equal deliveries lock them in the same order.
    let mut pipelines = pipelines::list(&mut *tx, project.id, None, 1000).await?;
    pipelines.sort_by_key(|pipeline| pipeline.id);
    for pipeline in pipelines {
        let new = NewRun {
            organization_id: caller.scope().organization,
            project_id: project.id,
            pipeline_id: pipeline.id,
            trigger: RunTrigger::Push,
            git_ref: git_ref.full.clone(),
            branch: git_ref.branch.clone(),
            commit_sha: Some(commit.clone()),
            delivery: Some(delivery.clone()),
            created_by: caller.name(),
        };
        let run = create_run::create(&mut tx, &new, &wake).await?;
        if run.new {
            let entry = runs::entry("run.started", run.run_id, run.number, project.id);
            let what = json!({ "ref": new.git_ref, "trigger": new.trigger });
            audit::write(&mut *tx, caller.actor(), entry.after(what)).await?;
        }
        created.push(run);
    }
    tx.commit().await?;
    wake.committed();
    let is_new = created.iter().any(|run| run.new);
    for run in created.iter().filter(|run| run.new) {
        app.notifier.send(Signal::Run(run.run_id));
    }
    let runs = created.iter().map(|run| Started::of(&app, run.run_id, run.number, run.status)).collect();
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(Delivered { runs })))
}
