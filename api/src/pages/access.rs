//! Who is something else on a project than in the organization.

use askama::Template;
use axum::{extract::State, http::StatusCode, response::Response};
use buildit_shared::{
    db::{members, project_grants},
    permission::Role,
};
use serde::Deserialize;
use uuid::Uuid;

use super::{
    account::Nothing,
    error::{Result, Visitor},
    layout::{Layout, page_with},
    text::{When, part},
};
use crate::{
    App,
    auth::{OrgAdmin, form::Form},
    error::ApiError,
    extract::Path,
    routes::{
        grants::{self, GrantPath},
        projects::ProjectPath,
    },
};

/// The most that a page shows.
const MOST: i64 = 500;

#[derive(Template)]
#[template(path = "project_access.html")]
struct AccessPage {
    layout: Layout,
    project: String,
    address: String,
    rows: Vec<Row>,
    /// Whom something can be granted.
    members: Vec<MemberOption>,
    roles: [&'static str; 3],
    problem: Option<String>,
}

struct Row {
    user: Uuid,
    email: String,
    name: String,
    role: &'static str,
    elsewhere: &'static str,
    by: String,
    at: When,
}

struct MemberOption {
    user: Uuid,
    email: String,
    role: &'static str,
}

#[derive(Deserialize)]
pub(super) struct GrantForm {
    user: Uuid,
    role: Role,
}

/// `GET /projects/{project}/access`
pub(super) async fn show(
    State(app): State<App>,
    caller: Visitor<OrgAdmin>,
    Path(path): Path<ProjectPath>,
) -> Result<Response> {
    render(&app, &caller, &path.project, None).await
}

async fn render(app: &App, caller: &Visitor<OrgAdmin>, project: &str, problem: Option<ApiError>) -> Result<Response> {
    let project = grants::find(app, caller, project).await?;
    let found = project_grants::list(app.pool(), project.id, None, MOST).await?;
    let members = members::list(app.pool(), caller.scope().organization, None, MOST).await?;
    let status = problem.as_ref().map_or(StatusCode::OK, ApiError::status);
    Ok(page_with(
        status,
        &AccessPage {
            layout: Layout::of(caller, "projects", "Access"),
            address: format!("/projects/{}/access", part(&project.name)),
            project: project.name,
            rows: found
                .into_iter()
                .map(|grant| Row {
                    user: grant.user_id.uuid(),
                    email: grant.email,
                    name: grant.name,
                    role: grant.role.name(),
                    elsewhere: grant.organization_role.name(),
                    by: grant.granted_by,
                    at: When::of(grant.created_at),
                })
                .collect(),
            members: members
                .into_iter()
                .filter(|member| member.role > Role::Admin)
                .map(|member| MemberOption {
                    user: member.user_id.uuid(),
                    email: member.email,
                    role: member.role.name(),
                })
                .collect(),
            roles: [Role::Admin, Role::Developer, Role::Viewer].map(Role::name),
            problem: problem.map(|error| error.to_string()),
        },
    ))
}

/// `POST /projects/{project}/access`
pub(super) async fn give(
    State(app): State<App>,
    caller: Visitor<OrgAdmin>,
    Path(path): Path<ProjectPath>,
    Form(form): Form<GrantForm>,
) -> Result<Response> {
    let path = GrantPath { project: path.project, user: form.user };
    match grants::give(&app, &caller, &path, form.role).await {
        Ok(_) => Ok(back(&path.project)),
        Err(error) if error.status().is_client_error() => render(&app, &caller, &path.project, Some(error)).await,
        Err(error) => Err(error.into()),
    }
}

/// `POST /projects/{project}/access/{user}/remove`
pub(super) async fn remove(
    state: State<App>,
    caller: Visitor<OrgAdmin>,
    Path(path): Path<GrantPath>,
    _form: Form<Nothing>,
) -> Result<Response> {
    let back = back(&path.project);
    grants::delete(state, caller.0, Path(path)).await?;
    Ok(back)
}

fn back(project: &str) -> Response {
    super::see(&format!("/projects/{}/access", part(project)))
}
