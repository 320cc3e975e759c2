//! Projects.

use axum::{
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
};
use buildit_shared::{
    db::{
        audit::{self, Entry},
        projects::{self, Changes, Deletion},
    },
    permission::Permission,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::{
    App,
    auth::{Allowed, Caller, ProjectRead, ProjectWrite},
    error::{ApiError, ErrorBody, Result},
    extract::{Json, Path, Query},
    git_ref::GitRef,
    page::{Page, PageParams},
    repository,
};

/// A git repository plus its settings.
#[derive(Serialize, ToSchema)]
pub(crate) struct Project {
    id: Uuid,
    /// Unique in the organization.
    name: String,
    /// A path or an address.
    repository: String,
    /// The branch that a run without a ref is of.
    default_branch: String,
    created_at: Timestamp,
}

impl From<projects::Project> for Project {
    fn from(project: projects::Project) -> Self {
        Self {
            id: project.id.uuid(),
            name: project.name,
            repository: project.repository,
            default_branch: project.default_branch,
            created_at: project.created_at.to_jiff(),
        }
    }
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewProject {
    /// Lower-case letters, digits and dashes; unique in the organization.
    pub(crate) name: String,
    /// An absolute path below a folder that the operator allows, `https://…`, `ssh://…` or `user@host:path`.
    pub(crate) repository: String,
    /// `main` without it.
    pub(crate) default_branch: Option<String>,
}

#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProjectChanges {
    pub(crate) name: Option<String>,
    pub(crate) repository: Option<String>,
    pub(crate) default_branch: Option<String>,
}

/// A project by its id or name.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct ProjectPath {
    /// Its id or its name.
    pub(crate) project: String,
}

/// The project, if this caller can see it.
pub(crate) async fn find(app: &App, caller: &Caller, id_or_name: &str) -> Result<projects::Project> {
    projects::find(app.pool(), caller.scope(), id_or_name)
        .await?
        .ok_or_else(|| ApiError::not_found("project", id_or_name))
}

/// Make a project. It begins with a pipeline `default`, read from the file `.platform.yaml`.
#[utoipa::path(post, path = "/api/v1/projects", tag = "projects",
    operation_id = "create_project", security(("api_key" = ["project:write"])), request_body = NewProject,
    responses((status = 201, body = Project), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn create(
    State(app): State<App>,
    caller: Allowed<ProjectWrite>,
    Json(new): Json<NewProject>,
) -> Result<impl IntoResponse> {
    let project = make(&app, &caller, new).await?;
    let location = app.url(&format!("/api/v1/projects/{}", project.id));
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(Project::from(project))))
}

/// Makes a project.
pub(crate) async fn make(app: &App, caller: &Caller, new: NewProject) -> Result<projects::Project> {
    caller.require_whole_organization()?;
    let default_branch = new.default_branch.unwrap_or_else(|| "main".into());
    check(app, Some(&new.name), Some(&new.repository), Some(&default_branch))?;
    let mut tx = app.pool().begin().await?;
    let organization = caller.scope().organization;
    let (project, _) = projects::create(&mut tx, organization, &new.name, &new.repository, &default_branch).await?;
    let entry = Entry::new("project.created", &project.name).id(project.id).project(project.id);
    audit::write(&mut *tx, caller.actor(), entry.after(shown(&project))).await?;
    tx.commit().await?;
    Ok(project)
}

/// The organization's projects, by name.
#[utoipa::path(get, path = "/api/v1/projects", tag = "projects",
    operation_id = "list_projects", security(("api_key" = ["project:read"])),
    params(PageParams), responses((status = 200, body = Page<Project>), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn list(
    State(app): State<App>,
    caller: Allowed<ProjectRead>,
    Query(page): Query<PageParams>,
) -> Result<Json<Page<Project>>> {
    let after: Option<String> = page.after()?;
    let found = projects::list(app.pool(), caller.scope(), after.as_deref(), page.fetch()?).await?;
    Ok(Json(page.page(found, |project| project.name.clone())?))
}

/// One project.
#[utoipa::path(get, path = "/api/v1/projects/{project}", tag = "projects",
    operation_id = "read_project", security(("api_key" = ["project:read"])),
    params(ProjectPath), responses((status = 200, body = Project), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn read(
    State(app): State<App>,
    caller: Allowed<ProjectRead>,
    Path(path): Path<ProjectPath>,
) -> Result<Json<Project>> {
    Ok(Json(find(&app, &caller, &path.project).await?.into()))
}

/// Change a project; what is not named stays.
#[utoipa::path(patch, path = "/api/v1/projects/{project}", tag = "projects",
    operation_id = "update_project", security(("api_key" = ["project:write"])),
    params(ProjectPath), request_body = ProjectChanges,
    responses((status = 200, body = Project), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn update(
    State(app): State<App>,
    caller: Allowed<ProjectWrite>,
    Path(path): Path<ProjectPath>,
    Json(new): Json<ProjectChanges>,
) -> Result<Json<Project>> {
    let project = find(&app, &caller, &path.project).await?;
    check(&app, new.name.as_deref(), new.repository.as_deref(), new.default_branch.as_deref())?;
    let changes = Changes {
        name: new.name.as_deref(),
        repository: new.repository.as_deref(),
        default_branch: new.default_branch.as_deref(),
    };
    let mut tx = app.pool().begin().await?;
    let changed = projects::update(&mut *tx, caller.scope(), project.id, changes)
        .await?
        .ok_or_else(|| ApiError::not_found("project", &path.project))?;
    let entry = Entry::new("project.updated", &changed.name).id(changed.id).project(changed.id);
    audit::write(&mut *tx, caller.actor(), entry.before(shown(&project)).after(shown(&changed))).await?;
    tx.commit().await?;
    Ok(Json(changed.into()))
}

/// Delete a project with its pipelines and runs, which must have ended. Workers delete their logs and
/// artifacts soon after.
#[utoipa::path(delete, path = "/api/v1/projects/{project}", tag = "projects",
    operation_id = "delete_project", security(("api_key" = ["project:write"])),
    params(ProjectPath), responses((status = 204), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn delete(
    State(app): State<App>,
    caller: Allowed<ProjectWrite>,
    Path(path): Path<ProjectPath>,
) -> Result<StatusCode> {
    caller.require_whole_organization()?;
    let project = find(&app, &caller, &path.project).await?;
    caller.require_everywhere(Permission::ProjectWrite)?;
    let mut tx = app.pool().begin().await?;
    let deletion = projects::delete(&mut tx, caller.scope(), project.id).await?;
    let answer = deleted(deletion, "project", &path.project)?;
    let entry = Entry::new("project.deleted", &project.name).id(project.id).project(project.id);
    audit::write(&mut *tx, caller.actor(), entry.before(shown(&project))).await?;
    tx.commit().await?;
    Ok(answer)
}

/// What the audit log shows of it.
fn shown(project: &projects::Project) -> Value {
    json!({ "name": project.name, "repository": project.repository, "default_branch": project.default_branch })
}

/// The answer to a deletion.
pub(crate) fn deleted(deletion: Deletion, what: &str, name: impl std::fmt::Display) -> Result<StatusCode> {
    match deletion {
        Deletion::Deleted => Ok(StatusCode::NO_CONTENT),
        Deletion::NotFound => Err(ApiError::not_found(what, name)),
        Deletion::Active(runs) => Err(ApiError::conflict(
            "runs_active",
            format!("{runs} runs of this {what} have not ended; cancel them or wait for them, then delete it"),
        )),
    }
}

fn check(app: &App, name: Option<&str>, repository: Option<&str>, default_branch: Option<&str>) -> Result<()> {
    if let Some(name) = name {
        check_name(name)?;
    }
    if let Some(repository) = repository {
        repository::check(repository, &app.config.repository_roots)
            .map_err(|reason| ApiError::invalid("repository", reason))?;
    }
    if let Some(branch) = default_branch {
        let parsed = GitRef::parse(branch).ok().and_then(|parsed| parsed.branch);
        if parsed.as_deref() != Some(branch) {
            return Err(ApiError::invalid("default_branch", format!("{branch:?} is no branch's name")));
        }
    }
    Ok(())
}

fn check_name(name: &str) -> Result<()> {
    let fits = (1..=63).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-');
    if !fits {
        let rule = "up to 63 lower-case letters, digits and dashes, with a letter or digit at both ends";
        return Err(ApiError::invalid("name", format!("{name:?} is no project's name: {rule}")));
    }
    if Uuid::parse_str(name).is_ok() {
        return Err(ApiError::invalid("name", "a name that looks like an id would be taken for one"));
    }
    Ok(())
}
