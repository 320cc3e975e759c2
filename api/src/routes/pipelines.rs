//! Pipelines: a file in the repository or a config stored here.

use axum::{
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
};
use buildit_shared::{
    db::{
        audit::{self, Entry},
        pipelines::{self, Source},
        projects::Project,
        schedules,
    },
    ids::PipelineId,
    pipeline,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::PgConnection;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::{
    projects::{self, ProjectPath, deleted},
    validate,
};
use crate::{
    App,
    auth::{Allowed, Caller, ProjectRead, ProjectWrite},
    error::{ApiError, ErrorBody, Result},
    extract::{Json, Path, Query},
    page::{Page, PageParams},
};

/// A definition of steps.
#[derive(Serialize, ToSchema)]
pub(crate) struct Pipeline {
    id: Uuid,
    project_id: Uuid,
    /// Unique in the project.
    name: String,
    /// The file in the repository that it is read from; or
    file: Option<String>,
    /// the config stored here.
    config: Option<String>,
    created_at: Timestamp,
}

impl From<pipelines::Pipeline> for Pipeline {
    fn from(pipeline: pipelines::Pipeline) -> Self {
        Self {
            id: pipeline.id.uuid(),
            project_id: pipeline.project_id.uuid(),
            name: pipeline.name,
            file: pipeline.file,
            config: pipeline.config,
            created_at: pipeline.created_at.to_jiff(),
        }
    }
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewPipeline {
    /// Up to 100 characters; unique in the project.
    pub(crate) name: String,
    /// A file in the repository, such as `.platform.yaml`; or
    pub(crate) file: Option<String>,
    /// the text of such a file, to be stored here.
    pub(crate) config: Option<String>,
}

#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PipelineChanges {
    pub(crate) name: Option<String>,
    /// Read it from this file from now on.
    pub(crate) file: Option<String>,
    /// Take this text from now on.
    pub(crate) config: Option<String>,
}

/// A pipeline by its id.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct PipelinePath {
    /// Its id.
    pub(crate) pipeline: Uuid,
}

/// The pipeline, if this caller can see it.
pub(crate) async fn find(app: &App, caller: &Caller, id: Uuid) -> Result<pipelines::Pipeline> {
    pipelines::find(app.pool(), caller.scope(), PipelineId::from(id))
        .await?
        .ok_or_else(|| ApiError::not_found("pipeline", id))
}

/// Make a pipeline.
#[utoipa::path(post, path = "/api/v1/projects/{project}/pipelines", tag = "pipelines", operation_id = "create_pipeline",
    security(("api_key" = ["project:write"])), params(ProjectPath), request_body = NewPipeline,
    responses((status = 201, body = Pipeline), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn create(
    State(app): State<App>,
    caller: Allowed<ProjectWrite>,
    Path(path): Path<ProjectPath>,
    Json(new): Json<NewPipeline>,
) -> Result<impl IntoResponse> {
    let project = projects::find(&app, &caller, &path.project).await?;
    let pipeline = make(&app, &caller, &project, new).await?;
    let location = app.url(&format!("/api/v1/pipelines/{}", pipeline.id));
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(Pipeline::from(pipeline))))
}

/// Makes a pipeline of that project.
pub(crate) async fn make(
    app: &App,
    caller: &Caller,
    project: &Project,
    new: NewPipeline,
) -> Result<pipelines::Pipeline> {
    check_name(&new.name)?;
    let source = source(new.file, new.config)?
        .ok_or_else(|| ApiError::invalid("file", "name a `file` in the repository or give a `config`"))?;
    let organization = caller.scope().organization;
    let mut tx = app.pool().begin().await?;
    let pipeline = pipelines::create(&mut *tx, organization, project.id, &new.name, &source).await?;
    schedule(&mut tx, pipeline.id, &source).await?;
    audit::write(&mut *tx, caller.actor(), entry("pipeline.created", &pipeline).after(shown(&pipeline))).await?;
    tx.commit().await?;
    Ok(pipeline)
}

/// A project's pipelines, by name.
#[utoipa::path(get, path = "/api/v1/projects/{project}/pipelines", tag = "pipelines", operation_id = "list_pipelines",
    security(("api_key" = ["project:read"])), params(ProjectPath, PageParams),
    responses((status = 200, body = Page<Pipeline>), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn list(
    State(app): State<App>,
    caller: Allowed<ProjectRead>,
    Path(path): Path<ProjectPath>,
    Query(page): Query<PageParams>,
) -> Result<Json<Page<Pipeline>>> {
    let project = projects::find(&app, &caller, &path.project).await?;
    let after: Option<String> = page.after()?;
    let found = pipelines::list(app.pool(), project.id, after.as_deref(), page.fetch()?).await?;
    Ok(Json(page.page(found, |pipeline| pipeline.name.clone())?))
}

/// One pipeline.
#[utoipa::path(get, path = "/api/v1/pipelines/{pipeline}", tag = "pipelines", operation_id = "read_pipeline",
    security(("api_key" = ["project:read"])), params(PipelinePath),
    responses((status = 200, body = Pipeline), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn read(
    State(app): State<App>,
    caller: Allowed<ProjectRead>,
    Path(path): Path<PipelinePath>,
) -> Result<Json<Pipeline>> {
    Ok(Json(find(&app, &caller, path.pipeline).await?.into()))
}

/// Change a pipeline; what is not named stays. A `file` takes the place of a `config`, and the other way round.
#[utoipa::path(patch, path = "/api/v1/pipelines/{pipeline}", tag = "pipelines", operation_id = "update_pipeline",
    security(("api_key" = ["project:write"])), params(PipelinePath), request_body = PipelineChanges,
    responses((status = 200, body = Pipeline), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn update(
    State(app): State<App>,
    caller: Allowed<ProjectWrite>,
    Path(path): Path<PipelinePath>,
    Json(new): Json<PipelineChanges>,
) -> Result<Json<Pipeline>> {
    let pipeline = find(&app, &caller, path.pipeline).await?;
    if let Some(name) = &new.name {
        check_name(name)?;
    }
    let source = source(new.file, new.config)?;
    let mut tx = app.pool().begin().await?;
    let changed = pipelines::update(&mut *tx, caller.scope(), pipeline.id, new.name.as_deref(), source.as_ref())
        .await?
        .ok_or_else(|| ApiError::not_found("pipeline", path.pipeline))?;
    if let Some(source) = &source {
        schedule(&mut tx, changed.id, source).await?;
    }
    let entry = entry("pipeline.updated", &changed).before(shown(&pipeline)).after(shown(&changed));
    audit::write(&mut *tx, caller.actor(), entry).await?;
    tx.commit().await?;
    Ok(Json(changed.into()))
}

/// Delete a pipeline with its runs, which must have ended. Workers delete their logs and
/// artifacts soon after.
#[utoipa::path(delete, path = "/api/v1/pipelines/{pipeline}", tag = "pipelines", operation_id = "delete_pipeline",
    security(("api_key" = ["project:write"])), params(PipelinePath),
    responses((status = 204), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn delete(
    State(app): State<App>,
    caller: Allowed<ProjectWrite>,
    Path(path): Path<PipelinePath>,
) -> Result<StatusCode> {
    let pipeline = find(&app, &caller, path.pipeline).await?;
    let mut tx = app.pool().begin().await?;
    let deletion = pipelines::delete(&mut tx, caller.scope(), pipeline.id).await?;
    let answer = deleted(deletion, "pipeline", path.pipeline)?;
    audit::write(&mut *tx, caller.actor(), entry("pipeline.deleted", &pipeline).before(shown(&pipeline))).await?;
    tx.commit().await?;
    Ok(answer)
}

/// A stored config's schedules count from now on; a file's with the next run of the default branch.
async fn schedule(db: &mut PgConnection, id: PipelineId, source: &Source) -> Result<()> {
    let parsed = match source {
        Source::Config(config) => pipeline::parse_bytes("config", config.as_bytes()).ok(),
        Source::File(_) => None,
    };
    let schedules = parsed.and_then(|pipeline| pipeline.on).map(|on| on.schedule).unwrap_or_default();
    Ok(schedules::replace(db, id, &schedules).await?)
}

fn entry(action: &'static str, pipeline: &pipelines::Pipeline) -> Entry {
    Entry::new(action, &pipeline.name).id(pipeline.id).project(pipeline.project_id)
}

/// What the audit log shows of it.
fn shown(pipeline: &pipelines::Pipeline) -> Value {
    json!({ "name": pipeline.name, "file": pipeline.file, "config": pipeline.config })
}

fn check_name(name: &str) -> Result<()> {
    if (1..=100).contains(&name.chars().count()) && !name.chars().any(char::is_control) {
        return Ok(());
    }
    Err(ApiError::invalid("name", "a pipeline's name has 1 to 100 characters, none of them a control character"))
}

fn source(file: Option<String>, config: Option<String>) -> Result<Option<Source>> {
    match (file, config) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) => Err(ApiError::invalid("config", "give either a `file` or a `config`, not both")),
        (Some(file), None) => {
            check_file(&file)?;
            Ok(Some(Source::File(file)))
        }
        (None, Some(config)) => {
            validate::check(&config)?;
            Ok(Some(Source::Config(config)))
        }
    }
}

/// A path within the repository; it goes to git as `<commit>:<path>`.
fn check_file(file: &str) -> Result<()> {
    let fits = file.len() <= 1024
        && !file.chars().any(|c| c.is_control() || c == '\\')
        && !file.starts_with('-')
        && file.split('/').all(|name| !matches!(name, "" | "." | ".."));
    if fits { Ok(()) } else { Err(ApiError::invalid("file", format!("{file:?} is no path within a repository"))) }
}
