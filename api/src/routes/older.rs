//! The run routes at their older addresses, from the same handlers. Below `/api/projects/{project}/pipelines` a run is
//! called a pipeline and its ref `git_ref`.

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use buildit_shared::{
    db::{projects as project_rows, run_queries::Filter},
    ids::PipelineId,
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    artifacts::{self, Artifact},
    logs::{self, LogParams, StepPath},
    pipelines::{self, PipelinePath},
    projects::{self, ProjectPath},
    run_view::{Run, RunWithSteps},
    runs::{self, RetryRun, RunFilter, RunPath, StartRun, Started},
};
use crate::{
    App,
    auth::{Allowed, Caller, ProjectRead, ProjectWrite, RunTrigger},
    error::{ApiError, ErrorBody, Result},
    extract::{Json, OptionalJson, Path, Query},
    page::{Page, PageParams},
};

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(create, list))
        .routes(routes!(read))
        .routes(routes!(cancel))
        .routes(routes!(retry))
        .routes(routes!(rerun))
        .routes(routes!(logs))
        .routes(routes!(artifacts))
        .routes(routes!(create_of_pipeline, list_of_pipeline))
}

/// A run, with its ref under both names.
#[derive(Serialize, ToSchema)]
pub(crate) struct OlderRun {
    git_ref: String,
    #[serde(flatten)]
    run: Run,
}

/// A run with its steps, with its ref under both names.
#[derive(Serialize, ToSchema)]
pub(crate) struct OlderRunWithSteps {
    git_ref: String,
    #[serde(flatten)]
    run: RunWithSteps,
}

impl From<Run> for OlderRun {
    fn from(run: Run) -> Self {
        Self { git_ref: run.git_ref.clone(), run }
    }
}

impl From<RunWithSteps> for OlderRunWithSteps {
    fn from(run: RunWithSteps) -> Self {
        Self { git_ref: run.git_ref().to_owned(), run }
    }
}

/// A run of a project.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct OlderPath {
    /// The project's id or name.
    project: String,
    /// The run's id.
    run: Uuid,
}

impl OlderPath {
    /// The run's own path, if it is this project's.
    async fn run(&self, app: &App, caller: &Caller) -> Result<Path<RunPath>> {
        let project = projects::find(app, caller, &self.project).await?;
        let run = runs::find(app, caller, self.run).await?;
        if run.project_id != project.id {
            return Err(ApiError::not_found("run", self.run));
        }
        Ok(Path(RunPath { run: self.run }))
    }
}

/// Start a run.
#[utoipa::path(post, path = "/api/projects/{project}/pipelines", tag = "older", operation_id = "older_start_run",
    security(("api_key" = ["run:trigger"])), params(ProjectPath), request_body = StartRun,
    responses((status = 201, body = Started), (status = 200, description = "it was started before", body = Started),
              (status = "4XX", body = ErrorBody)))]
async fn create(
    state: State<App>,
    caller: Allowed<RunTrigger>,
    path: Path<ProjectPath>,
    start: Json<StartRun>,
) -> Result<impl IntoResponse> {
    runs::create(state, caller, path, start).await
}

/// A project's runs, newest first.
#[utoipa::path(get, path = "/api/projects/{project}/pipelines", tag = "older", operation_id = "older_list_runs",
    security(("api_key" = ["project:read"])), params(ProjectPath, RunFilter, PageParams),
    responses((status = 200, body = Page<OlderRun>), (status = "4XX", body = ErrorBody)))]
async fn list(
    state: State<App>,
    caller: Allowed<ProjectRead>,
    path: Path<ProjectPath>,
    filter: Query<RunFilter>,
    page: Query<PageParams>,
) -> Result<Json<Page<OlderRun>>> {
    let Json(page) = runs::list(state, caller, path, filter, page).await?;
    Ok(Json(page.map(OlderRun::from)))
}

/// One run with its steps and their attempts.
#[utoipa::path(get, path = "/api/projects/{project}/pipelines/{run}", tag = "older", operation_id = "older_read_run",
    security(("api_key" = ["project:read"])), params(OlderPath),
    responses((status = 200, body = OlderRunWithSteps), (status = "4XX", body = ErrorBody)))]
async fn read(
    State(app): State<App>,
    caller: Allowed<ProjectRead>,
    Path(path): Path<OlderPath>,
) -> Result<Json<OlderRunWithSteps>> {
    let path = path.run(&app, &caller).await?;
    let Json(run) = runs::read(State(app), caller, path).await?;
    Ok(Json(run.into()))
}

/// Ask for the end of a run.
#[utoipa::path(post, path = "/api/projects/{project}/pipelines/{run}/cancel", tag = "older",
    operation_id = "older_cancel_run", security(("api_key" = ["project:write"])), params(OlderPath),
    responses((status = 202, body = OlderRunWithSteps), (status = "4XX", body = ErrorBody)))]
async fn cancel(
    State(app): State<App>,
    caller: Allowed<ProjectWrite>,
    Path(path): Path<OlderPath>,
) -> Result<(StatusCode, Json<OlderRunWithSteps>)> {
    let path = path.run(&app, &caller).await?;
    let (status, Json(run)) = runs::cancel(State(app), caller, path).await?;
    Ok((status, Json(run.into())))
}

/// Run again what did not succeed, or a step and all that depend on it, in the same run.
#[utoipa::path(post, path = "/api/projects/{project}/pipelines/{run}/retry", tag = "older",
    operation_id = "older_retry_run",
    security(("api_key" = ["project:write"])), params(OlderPath), request_body = RetryRun,
    responses((status = 202, body = OlderRunWithSteps), (status = "4XX", body = ErrorBody)))]
async fn retry(
    State(app): State<App>,
    caller: Allowed<ProjectWrite>,
    Path(path): Path<OlderPath>,
    retry: OptionalJson<RetryRun>,
) -> Result<(StatusCode, Json<OlderRunWithSteps>)> {
    let path = path.run(&app, &caller).await?;
    let (status, Json(run)) = runs::retry(State(app), caller, path, retry).await?;
    Ok((status, Json(run.into())))
}

/// Start a new run at the same commit.
#[utoipa::path(post, path = "/api/projects/{project}/pipelines/{run}/rerun", tag = "older",
    operation_id = "older_rerun_run", security(("api_key" = ["project:write"])), params(OlderPath),
    responses((status = 201, body = Started), (status = "4XX", body = ErrorBody)))]
async fn rerun(
    State(app): State<App>,
    caller: Allowed<ProjectWrite>,
    Path(path): Path<OlderPath>,
) -> Result<impl IntoResponse> {
    let path = path.run(&app, &caller).await?;
    runs::rerun(State(app), caller, path).await
}

/// A step of a run of a project.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct OlderStepPath {
    /// The project's id or name.
    project: String,
    /// The run's id.
    run: Uuid,
    /// The step's id or name.
    step: String,
}

/// A step's log.
#[utoipa::path(get, path = "/api/projects/{project}/pipelines/{run}/steps/{step}/logs", tag = "older",
    operation_id = "older_read_log", security(("api_key" = ["project:read"])), params(OlderStepPath, LogParams),
    responses((status = 200, content_type = "text/event-stream", body = String),
              (status = 307, description = "to the stored log"), (status = "4XX", body = ErrorBody)))]
async fn logs(
    State(app): State<App>,
    caller: Allowed<ProjectRead>,
    Path(path): Path<OlderStepPath>,
    params: Query<LogParams>,
    headers: HeaderMap,
) -> Result<Response> {
    let older = OlderPath { project: path.project, run: path.run };
    let Path(RunPath { run }) = older.run(&app, &caller).await?;
    logs::read(State(app), caller, Path(StepPath { run, step: path.step }), params, headers).await
}

/// A run's artifacts, by name.
#[utoipa::path(get, path = "/api/projects/{project}/pipelines/{run}/artifacts", tag = "older",
    operation_id = "older_list_artifacts", security(("api_key" = ["project:read"])), params(OlderPath, PageParams),
    responses((status = 200, body = Page<Artifact>), (status = "4XX", body = ErrorBody)))]
async fn artifacts(
    State(app): State<App>,
    caller: Allowed<ProjectRead>,
    Path(path): Path<OlderPath>,
    page: Query<PageParams>,
) -> Result<Json<Page<Artifact>>> {
    let path = path.run(&app, &caller).await?;
    artifacts::list(State(app), caller, path, page).await
}

/// Start a run of this pipeline.
#[utoipa::path(post, path = "/api/v1/pipelines/{pipeline}/runs", tag = "older",
    operation_id = "older_start_run_of_pipeline",
    security(("api_key" = ["run:trigger"])), params(PipelinePath), request_body = StartRun,
    responses((status = 201, body = Started), (status = 200, description = "it was started before", body = Started),
              (status = "4XX", body = ErrorBody)))]
async fn create_of_pipeline(
    State(app): State<App>,
    caller: Allowed<RunTrigger>,
    Path(path): Path<PipelinePath>,
    Json(start): Json<StartRun>,
) -> Result<impl IntoResponse> {
    let pipeline = pipelines::find(&app, &caller, path.pipeline).await?;
    let project = project_rows::find(app.pool(), caller.scope(), &pipeline.project_id.to_string())
        .await?
        .ok_or_else(|| ApiError::not_found("pipeline", path.pipeline))?;
    runs::started(
        &app,
        runs::start_run(&app, &caller, &project, pipeline.id, &start, buildit_shared::domain::RunTrigger::Api).await?,
    )
}

/// The runs of this pipeline, newest first.
#[utoipa::path(get, path = "/api/v1/pipelines/{pipeline}/runs", tag = "older",
    operation_id = "older_list_runs_of_pipeline",
    security(("api_key" = ["project:read"])), params(PipelinePath, RunFilter, PageParams),
    responses((status = 200, body = Page<Run>), (status = "4XX", body = ErrorBody)))]
async fn list_of_pipeline(
    State(app): State<App>,
    caller: Allowed<ProjectRead>,
    Path(path): Path<PipelinePath>,
    Query(filter): Query<RunFilter>,
    Query(page): Query<PageParams>,
) -> Result<Json<Page<Run>>> {
    let pipeline = pipelines::find(&app, &caller, path.pipeline).await?;
    let filter = Filter { pipeline: Some(PipelineId::from(pipeline.id.uuid())), ..filter.parse()? };
    Ok(Json(runs::list_runs(&app, &caller, &filter, &page).await?))
}
