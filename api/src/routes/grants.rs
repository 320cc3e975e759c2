//! What members are on single projects, in place of what their role gives them there.

use axum::{extract::State, http::StatusCode};
use buildit_shared::{
    db::{
        audit::{self, Entry},
        members,
        project_grants::{self as rows, Granted},
        projects::Project,
    },
    ids::UserId,
    permission::Role,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::projects::{self, ProjectPath};
use crate::{
    App,
    auth::{Allowed, Caller, OrgAdmin},
    error::{ApiError, ErrorBody, Result},
    extract::{Json, Path, Query},
    page::{Page, PageParams},
};

/// What a member is on a project.
#[derive(Serialize, ToSchema)]
pub(crate) struct Grant {
    /// Of the account.
    pub(crate) user: Uuid,
    pub(crate) email: String,
    pub(crate) name: String,
    /// On the project: `admin`, `developer` or `viewer`.
    pub(crate) role: &'static str,
    /// Everywhere else in the organization.
    pub(crate) organization_role: &'static str,
    /// Who gave it.
    pub(crate) granted_by: String,
    pub(crate) created_at: Timestamp,
}

impl From<rows::Grant> for Grant {
    fn from(grant: rows::Grant) -> Self {
        Self {
            user: grant.user_id.uuid(),
            email: grant.email,
            name: grant.name,
            role: grant.role.name(),
            organization_role: grant.organization_role.name(),
            granted_by: grant.granted_by,
            created_at: grant.created_at.to_jiff(),
        }
    }
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewGrant {
    /// `admin`, `developer` or `viewer`.
    #[schema(value_type = String)]
    pub(crate) role: Role,
}

/// A member's grant on a project.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct GrantPath {
    /// The project's id or name.
    pub(crate) project: String,
    /// The account's id.
    pub(crate) user: Uuid,
}

/// Who is something else on the project than in the organization.
#[utoipa::path(get, path = "/api/v1/projects/{project}/grants", tag = "members",
    operation_id = "list_grants", security(("api_key" = ["org:admin"])), params(ProjectPath, PageParams),
    responses((status = 200, body = Page<Grant>), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn list(
    State(app): State<App>,
    caller: Allowed<OrgAdmin>,
    Path(path): Path<ProjectPath>,
    Query(page): Query<PageParams>,
) -> Result<Json<Page<Grant>>> {
    let project = find(&app, &caller, &path.project).await?;
    let found = rows::list(app.pool(), project.id, page.after()?, page.fetch()?).await?;
    Ok(Json(page.page(found, |grant| grant.user_id)?))
}

/// Make a member more or less on the project than they are in the organization. Their role there decides all else. Owners and
/// admins may everything in every project.
#[utoipa::path(put, path = "/api/v1/projects/{project}/grants/{user}", tag = "members",
    operation_id = "set_grant", security(("api_key" = ["org:admin"])), params(GrantPath), request_body = NewGrant,
    responses((status = 200, body = Grant),
              (status = 409, description = "they may everything everywhere", body = ErrorBody),
              (status = "4XX", body = ErrorBody)))]
pub(crate) async fn set(
    State(app): State<App>,
    caller: Allowed<OrgAdmin>,
    Path(path): Path<GrantPath>,
    Json(new): Json<NewGrant>,
) -> Result<Json<Grant>> {
    Ok(Json(give(&app, &caller, &path, new.role).await?.into()))
}

/// Gives a member a grant.
pub(crate) async fn give(app: &App, caller: &Caller, path: &GrantPath, role: Role) -> Result<rows::Grant> {
    let project = find(app, caller, &path.project).await?;
    if role == Role::Owner {
        let message = "nobody owns a project: an organization has owners; grant `admin`, `developer` or `viewer`";
        return Err(ApiError::invalid("role", message));
    }
    let (organization, user) = (caller.scope().organization, UserId::from(path.user));
    let mut tx = app.pool().begin().await?;
    let before = match rows::set(&mut tx, organization, project.id, user, role, &caller.name()).await? {
        Granted::Done(before) => before,
        Granted::NotFound => return Err(ApiError::not_found("member", path.user)),
        Granted::Needless => {
            let message =
                "owners and admins of the organization may everything in every project; give them another role first";
            return Err(ApiError::conflict("is_admin", message));
        }
    };
    let grant = rows::find(&mut *tx, project.id, user).await?.ok_or_else(|| none(path.user))?;
    let action = if before.is_some() { "grant.updated" } else { "grant.created" };
    let entry = Entry::new(action, &grant.email).id(path.user).project(project.id).after(json!({ "role": role }));
    let entry = match before {
        Some(before) => entry.before(json!({ "role": before })),
        None => entry,
    };
    audit::write(&mut *tx, caller.actor(), entry).await?;
    tx.commit().await?;
    Ok(grant)
}

/// Take a grant away: the member is on the project what they are in the organization.
#[utoipa::path(delete, path = "/api/v1/projects/{project}/grants/{user}", tag = "members",
    operation_id = "delete_grant", security(("api_key" = ["org:admin"])), params(GrantPath),
    responses((status = 204), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn delete(
    State(app): State<App>,
    caller: Allowed<OrgAdmin>,
    Path(path): Path<GrantPath>,
) -> Result<StatusCode> {
    let project = find(&app, &caller, &path.project).await?;
    let user = UserId::from(path.user);
    let mut tx = app.pool().begin().await?;
    let member = members::find(&mut *tx, caller.scope().organization, user).await?.ok_or_else(|| none(path.user))?;
    let before = rows::remove(&mut *tx, project.id, user).await?.ok_or_else(|| none(path.user))?;
    let entry = Entry::new("grant.deleted", member.email).id(path.user).project(project.id);
    audit::write(&mut *tx, caller.actor(), entry.before(json!({ "role": before }))).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The project, for somebody who manages the whole organization.
pub(crate) async fn find(app: &App, caller: &Caller, project: &str) -> Result<Project> {
    caller.require_whole_organization()?;
    projects::find(app, caller, project).await
}

fn none(user: Uuid) -> ApiError {
    ApiError::not_found("grant of the member", user)
}
