//! Runs: start, list, read, cancel, retry, repeat.

use axum::{
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
};
use buildit_shared::{
    db::{
        audit::{self, Actor, Entry},
        cancel::{self, Cancelled},
        create_run::{self, Created, NewRun},
        pipelines,
        projects::{self as project_rows, DEFAULT_PIPELINE},
        retry::{self, Retried},
        run_queries::{self, Filter},
        step_queries, unless_deadlocked,
    },
    domain::{RunStatus, RunTrigger},
    ids::{OrganizationId, PipelineId, ProjectId, RunId},
    jobs::{DeliverWebhook, JobArgs, RunPipeline, RunStep, UploadArtifacts},
    pipeline::{self, GivenVariables},
    queue::Signal,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::{
    projects::{self, ProjectPath},
    run_view::{self, Run, RunWithSteps},
};
use crate::{
    App,
    auth::{Allowed, Caller, ProjectRead, ProjectWrite, RunTrigger as MayTrigger},
    error::{ApiError, ErrorBody, Result},
    extract::{Json, OptionalJson, Path, Query},
    git_ref::{self, GitRef},
    page::{Page, PageParams},
};

/// What to run.
#[derive(Default, Deserialize, ToSchema)]
pub(crate) struct StartRun {
    /// A branch, a full ref (`refs/tags/v1`) or a commit's SHA; the project's default branch without it. The older
    /// shapes call it `git_ref` or `branch`.
    #[serde(rename = "ref", alias = "git_ref", alias = "branch")]
    pub(crate) git_ref: Option<String>,
    /// The commit, where the ref may have moved on.
    #[serde(alias = "commit_sha")]
    pub(crate) commit: Option<String>,
    /// A pipeline's id or name; the one called `default`, or the only one, without it.
    pub(crate) pipeline: Option<String>,
    /// Values that go before those of the file's `variables`. They are text: nothing in them is resolved, and readers of
    /// the run see them.
    #[serde(default)]
    pub(crate) variables: GivenVariables,
    /// An id of the caller's choice: however often it is sent for a pipeline, there is one run. Whoever got no answer can
    /// ask again.
    pub(crate) delivery: Option<Uuid>,
}

/// What to run anew.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RetryRun {
    /// A step's id or name: it and all that depend on it are run anew, whether they succeeded or not, and the others keep
    /// their results and outputs. Without it all that did not succeed.
    #[serde(default)]
    pub(crate) from: Option<String>,
}

/// A run that was started.
#[derive(Serialize, ToSchema)]
pub(crate) struct Started {
    id: Uuid,
    /// Within its pipeline.
    number: i32,
    /// `pending`, unless it was started before.
    #[schema(value_type = String)]
    status: RunStatus,
    /// Where it is.
    url: String,
}

impl Started {
    pub(crate) fn of(app: &App, id: RunId, number: i32, status: RunStatus) -> Self {
        Self { id: id.uuid(), number, status, url: run_view::url(app, id) }
    }
}

/// Which runs to list.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct RunFilter {
    /// One state or several, separated by commas.
    pub(crate) status: Option<String>,
    /// A full ref or a branch.
    #[serde(rename = "ref")]
    #[param(rename = "ref")]
    pub(crate) git_ref: Option<String>,
    /// `push`, `mr`, `schedule`, `api` or `manual`.
    pub(crate) trigger: Option<String>,
    /// A pipeline's id.
    pub(crate) pipeline: Option<Uuid>,
    /// The run's number within its pipeline.
    pub(crate) number: Option<i32>,
}

/// A run by its id.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct RunPath {
    /// Its id.
    pub(crate) run: Uuid,
}

/// The run, if this caller can see it.
pub(crate) async fn find(app: &App, caller: &Caller, id: Uuid) -> Result<run_queries::Run> {
    run_queries::find(app.pool(), caller.scope(), RunId::from(id)).await?.ok_or_else(|| ApiError::not_found("run", id))
}

/// Start a run.
#[utoipa::path(post, path = "/api/v1/projects/{project}/runs", tag = "runs", operation_id = "start_run",
    security(("api_key" = ["run:trigger"])), params(ProjectPath), request_body = StartRun,
    responses((status = 201, body = Started), (status = 200, description = "it was started before", body = Started),
              (status = "4XX", body = ErrorBody)))]
pub(crate) async fn create(
    State(app): State<App>,
    caller: Allowed<MayTrigger>,
    Path(path): Path<ProjectPath>,
    Json(start): Json<StartRun>,
) -> Result<impl IntoResponse> {
    let project = projects::find(&app, &caller, &path.project).await?;
    let pipeline = choose_pipeline(&app, &project, start.pipeline.as_deref()).await?;
    started(&app, start_run(&app, &caller, &project, pipeline, &start, RunTrigger::Api).await?)
}

/// Enqueues a run and tells the workers.
pub(crate) async fn start_run(
    app: &App,
    caller: &Caller,
    project: &project_rows::Project,
    pipeline: PipelineId,
    start: &StartRun,
    trigger: RunTrigger,
) -> Result<Created> {
    let git_ref = GitRef::parse(start.git_ref.as_deref().unwrap_or(&project.default_branch))?;
    pipeline::check_given(&start.variables).map_err(|problem| ApiError::invalid("variables", problem))?;
    let commit = start.commit.as_deref().map(|commit| git_ref::commit("commit", commit)).transpose()?;
    let new = NewRun {
        organization_id: caller.scope().organization,
        project_id: project.id,
        pipeline_id: pipeline,
        trigger,
        git_ref: git_ref.full,
        branch: git_ref.branch,
        commit_sha: commit.or(git_ref.commit),
        // Apart from those of pushes.
        delivery: start.delivery.map(|id| format!("api/{id}")),
        created_by: caller.name(),
        merge_request: None,
        variables: start.variables.clone(),
    };
    let mut tx = app.pool().begin().await?;
    let wake = app.notifier.wake(RunPipeline::QUEUE);
    let created = create_run::create(&mut tx, &new, &wake).await?;
    if !created.new {
        return Ok(created);
    }
    let entry = entry("run.started", created.run_id, created.number, project.id);
    let mut after = json!({ "ref": new.git_ref, "trigger": new.trigger });
    if !new.variables.is_empty() {
        // Their names only: values can be long.
        after["variables"] = new.variables.keys().cloned().map(Value::String).collect();
    }
    audit::write(&mut *tx, caller.actor(), entry.after(after)).await?;
    tx.commit().await?;
    wake.committed();
    app.notifier.send(Signal::Run(created.run_id));
    Ok(created)
}

/// An entry of the audit log about a run.
pub(crate) fn entry(action: &'static str, run: RunId, number: i32, project: ProjectId) -> Entry {
    Entry::new(action, format!("#{number}")).id(run).project(project)
}

/// The answer to a run that was started.
pub(crate) fn started(app: &App, created: Created) -> Result<impl IntoResponse + use<>> {
    let started = Started::of(app, created.run_id, created.number, created.status);
    let status = if created.new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, [(header::LOCATION, started.url.clone())], Json(started)))
}

/// The pipeline that somebody names, or the one that goes without saying.
pub(crate) async fn choose_pipeline(
    app: &App,
    project: &project_rows::Project,
    wish: Option<&str>,
) -> Result<PipelineId> {
    let pipelines = pipelines::list(app.pool(), project.id, None, 1000).await?;
    let chosen = match wish {
        Some(wish) => {
            let id = Uuid::parse_str(wish).ok().map(PipelineId::from);
            pipelines.iter().find(|pipeline| Some(pipeline.id) == id || pipeline.name == wish)
        }
        None if pipelines.len() == 1 => pipelines.first(),
        None => pipelines.iter().find(|pipeline| pipeline.name == DEFAULT_PIPELINE),
    };
    chosen.map(|pipeline| pipeline.id).ok_or_else(|| match wish {
        Some(wish) => ApiError::invalid("pipeline", format!("this project has no pipeline {wish:?}")),
        None => ApiError::invalid("pipeline", "this project has no pipeline `default`: name the one to run"),
    })
}

/// A project's runs, newest first.
#[utoipa::path(get, path = "/api/v1/projects/{project}/runs", tag = "runs", operation_id = "list_runs",
    security(("api_key" = ["project:read"])), params(ProjectPath, RunFilter, PageParams),
    responses((status = 200, body = Page<Run>), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn list(
    State(app): State<App>,
    caller: Allowed<ProjectRead>,
    Path(path): Path<ProjectPath>,
    Query(filter): Query<RunFilter>,
    Query(page): Query<PageParams>,
) -> Result<Json<Page<Run>>> {
    let project = projects::find(&app, &caller, &path.project).await?;
    let filter = Filter { project: Some(project.id), ..filter.parse()? };
    Ok(Json(list_runs(&app, &caller, &filter, &page).await?))
}

/// All runs of the organization, newest first.
#[utoipa::path(get, path = "/api/v1/runs", tag = "runs", operation_id = "list_all_runs",
    security(("api_key" = ["project:read"])), params(RunFilter, PageParams),
    responses((status = 200, body = Page<Run>), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn list_all(
    State(app): State<App>,
    caller: Allowed<ProjectRead>,
    Query(filter): Query<RunFilter>,
    Query(page): Query<PageParams>,
) -> Result<Json<Page<Run>>> {
    Ok(Json(list_runs(&app, &caller, &filter.parse()?, &page).await?))
}

pub(crate) async fn list_runs(app: &App, caller: &Caller, filter: &Filter, page: &PageParams) -> Result<Page<Run>> {
    let mut filter = filter.clone();
    if let (None, Some(pipeline)) = (filter.project, filter.pipeline) {
        let pipeline = pipelines::find(app.pool(), caller.scope(), pipeline).await?;
        filter.project = pipeline.map(|pipeline| pipeline.project_id);
    }
    let found = run_queries::list(app.pool(), caller.scope(), &filter, page.after()?, page.fetch()?).await?;
    page.page_with(found, |run| run.id, |run| Run::of(app, run))
}

impl RunFilter {
    pub(crate) fn parse(self) -> Result<Filter> {
        let status = self.status.as_deref().unwrap_or_default().split(',').filter(|name| !name.is_empty());
        Ok(Filter {
            project: None,
            pipeline: self.pipeline.map(PipelineId::from),
            status: status.map(|name| named("status", name)).collect::<Result<_>>()?,
            git_ref: self.git_ref,
            trigger: self.trigger.as_deref().map(|name| named("trigger", name)).transpose()?,
            number: self.number,
        })
    }
}

/// The value of a named set, such as a status, that has this name.
pub(crate) fn named<T: serde::de::DeserializeOwned>(field: &str, name: &str) -> Result<T> {
    serde_json::from_value(name.into()).map_err(|error| ApiError::invalid(field, error.to_string()))
}

/// One run with its steps and their attempts.
#[utoipa::path(get, path = "/api/v1/runs/{run}", tag = "runs", operation_id = "read_run",
    security(("api_key" = ["project:read"])), params(RunPath),
    responses((status = 200, body = RunWithSteps), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn read(
    State(app): State<App>,
    caller: Allowed<ProjectRead>,
    Path(path): Path<RunPath>,
) -> Result<Json<RunWithSteps>> {
    Ok(Json(read_run(&app, &caller, path.run).await?))
}

pub(crate) async fn read_run(app: &App, caller: &Caller, id: Uuid) -> Result<RunWithSteps> {
    let run = find(app, caller, id).await?;
    let steps = step_queries::steps(app.pool(), run.id).await?;
    let attempts = step_queries::attempts(app.pool(), run.id).await?;
    Ok(RunWithSteps::of(app, run, steps, attempts))
}

/// Ask for the end of a run. It has ended once its status says so.
#[utoipa::path(post, path = "/api/v1/runs/{run}/cancel", tag = "runs", operation_id = "cancel_run",
    security(("api_key" = ["project:write"])), params(RunPath),
    responses((status = 202, body = RunWithSteps), (status = 409, description = "it has ended already", body = ErrorBody),
              (status = "4XX", body = ErrorBody)))]
pub(crate) async fn cancel(
    State(app): State<App>,
    caller: Allowed<ProjectWrite>,
    Path(path): Path<RunPath>,
) -> Result<(StatusCode, Json<RunWithSteps>)> {
    let run = find(&app, &caller, path.run).await?;
    match unless_deadlocked(|| cancelled(&app, caller.scope().organization, caller.actor(), &run)).await? {
        Cancelled::Requested(jobs) => {
            for job in jobs {
                app.notifier.send(Signal::Cancel(job));
            }
            app.notifier.jobs(RunStep::QUEUE);
            app.notifier.jobs(UploadArtifacts::QUEUE);
            app.notifier.jobs(DeliverWebhook::QUEUE);
            app.notifier.send(Signal::Run(run.id));
            Ok((StatusCode::ACCEPTED, Json(read_run(&app, &caller, path.run).await?)))
        }
        Cancelled::AlreadyEnded => Err(ApiError::conflict("run_ended", "this run has ended already")),
        Cancelled::NotFound => Err(ApiError::not_found("run", path.run)),
    }
}

async fn cancelled(
    app: &App,
    organization: OrganizationId,
    by: &Actor,
    run: &run_queries::Run,
) -> std::result::Result<Cancelled, sqlx::Error> {
    let mut tx = app.pool().begin().await?;
    let cancelled = cancel::cancel_run(&mut tx, organization, run.id, &by.name).await?;
    if let Cancelled::Requested(_) = cancelled {
        audit::write(&mut *tx, by, entry("run.cancelled", run.id, run.number, run.project_id)).await?;
    }
    tx.commit().await?;
    Ok(cancelled)
}

/// Run again what did not succeed, or a step and all that depend on it, in the same run.
#[utoipa::path(post, path = "/api/v1/runs/{run}/retry", tag = "runs", operation_id = "retry_run",
    security(("api_key" = ["project:write"])), params(RunPath), request_body = RetryRun,
    responses((status = 202, body = RunWithSteps),
              (status = 409, description = "it has not ended, nothing in it failed, the step cannot be run anew, or its outputs are gone", body = ErrorBody),
              (status = "4XX", body = ErrorBody)))]
pub(crate) async fn retry(
    State(app): State<App>,
    caller: Allowed<ProjectWrite>,
    Path(path): Path<RunPath>,
    OptionalJson(retry): OptionalJson<RetryRun>,
) -> Result<(StatusCode, Json<RunWithSteps>)> {
    retry_run(&app, &caller, path.run, retry.from.as_deref()).await?;
    Ok((StatusCode::ACCEPTED, Json(read_run(&app, &caller, path.run).await?)))
}

/// Starts steps of an ended run again and tells the workers: the step `from` and what depends on it, or all that did not
/// succeed.
pub(crate) async fn retry_run(app: &App, caller: &Caller, id: Uuid, from: Option<&str>) -> Result<()> {
    let run = find(app, caller, id).await?;
    let conflict = |code, message: &str| Err(ApiError::conflict(code, message));
    match unless_deadlocked(|| retried(app, caller, &run, from)).await? {
        Retried::Started => {
            app.notifier.jobs(RunStep::QUEUE);
            app.notifier.jobs(RunPipeline::QUEUE);
            app.notifier.jobs(UploadArtifacts::QUEUE);
            app.notifier.jobs(DeliverWebhook::QUEUE);
            app.notifier.send(Signal::Run(run.id));
            Ok(())
        }
        Retried::NotEnded => {
            conflict("run_active", "this run has not ended; cancel it or wait for its end, then retry it")
        }
        Retried::NothingToRetry => conflict(
            "nothing_to_retry",
            "nothing in this run failed; name a step to retry from, or start a new run at the same commit by `rerun`",
        ),
        Retried::NotThatStep(refused) => conflict("step_not_ready", &refused.to_string()),
        Retried::InputsGone => conflict("outputs_gone", retry::INPUTS_GONE),
        Retried::NoSuchStep => Err(ApiError::not_found("step", from.unwrap_or_default())),
        Retried::NotFound => Err(ApiError::not_found("run", id)),
    }
}

async fn retried(
    app: &App,
    caller: &Caller,
    run: &run_queries::Run,
    from: Option<&str>,
) -> std::result::Result<Retried, sqlx::Error> {
    let mut tx = app.pool().begin().await?;
    let retried = retry::retry_run(&mut tx, caller.scope().organization, run.id, from).await?;
    if retried == Retried::Started {
        let entry = entry("run.retried", run.id, run.number, run.project_id);
        let entry = if let Some(from) = from { entry.after(json!({ "from": from })) } else { entry };
        audit::write(&mut *tx, caller.actor(), entry).await?;
    }
    tx.commit().await?;
    Ok(retried)
}

/// Start a new run at the same commit, with the same variables.
#[utoipa::path(post, path = "/api/v1/runs/{run}/rerun", tag = "runs", operation_id = "rerun_run",
    security(("api_key" = ["project:write"])), params(RunPath),
    responses((status = 201, body = Started), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn rerun(
    State(app): State<App>,
    caller: Allowed<ProjectWrite>,
    Path(path): Path<RunPath>,
) -> Result<impl IntoResponse> {
    started(&app, rerun_run(&app, &caller, path.run).await?)
}

/// Enqueues a new run at the commit of that one and tells the workers.
pub(crate) async fn rerun_run(app: &App, caller: &Caller, id: Uuid) -> Result<Created> {
    let run = find(app, caller, id).await?;
    let mut tx = app.pool().begin().await?;
    let wake = app.notifier.wake(RunPipeline::QUEUE);
    let created = retry::rerun(&mut tx, caller.scope().organization, run.id, &caller.name(), &wake)
        .await?
        .ok_or_else(|| ApiError::not_found("run", id))?;
    let entry = entry("run.started", created.run_id, created.number, run.project_id);
    audit::write(&mut *tx, caller.actor(), entry.after(json!({ "again": run.id }))).await?;
    tx.commit().await?;
    wake.committed();
    app.notifier.send(Signal::Run(created.run_id));
    Ok(created)
}
