//! Members of the organization and their roles.

use axum::{extract::State, http::StatusCode};
use buildit_shared::{
    db::{
        audit::{self, Entry},
        members::{self, Change},
    },
    ids::UserId,
    permission::Role,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::{
    App,
    auth::{Allowed, Caller, OrgAdmin, Who},
    error::{ApiError, ErrorBody, Result},
    extract::{Json, Path, Query},
    page::{Page, PageParams},
};

/// A member of the organization.
#[derive(Serialize, ToSchema)]
pub(crate) struct Member {
    /// Of the account.
    id: Uuid,
    email: String,
    name: String,
    /// `owner`, `admin`, `developer` or `viewer`.
    role: &'static str,
    /// Since when.
    created_at: Timestamp,
}

impl From<members::Member> for Member {
    fn from(member: members::Member) -> Self {
        Self {
            id: member.user_id.uuid(),
            email: member.email,
            name: member.name,
            role: member.role.name(),
            created_at: member.created_at.to_jiff(),
        }
    }
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MemberChanges {
    /// `owner`, `admin`, `developer` or `viewer`.
    #[schema(value_type = String)]
    pub(crate) role: Role,
}

/// A member by their account's id.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct MemberPath {
    /// The account's id.
    user: Uuid,
}

/// What a role may do.
#[derive(Serialize, ToSchema)]
struct RoleView {
    name: &'static str,
    permissions: Vec<&'static str>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct Roles {
    items: Vec<RoleView>,
}

/// The roles, from the one that may most to the one that may least.
#[utoipa::path(get, path = "/api/v1/roles", tag = "members",
    operation_id = "list_roles", security(("session" = []), ("api_key" = [])),
    responses((status = 200, body = Roles), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn roles(_who: Who) -> Json<Roles> {
    let view = |role: Role| RoleView {
        name: role.name(),
        permissions: role.permissions().iter().map(|permission| permission.name()).collect(),
    };
    Json(Roles { items: Role::ALL.map(view).into() })
}

/// The organization's members.
#[utoipa::path(get, path = "/api/v1/members", tag = "members",
    operation_id = "list_members", security(("api_key" = ["org:admin"])),
    params(PageParams), responses((status = 200, body = Page<Member>), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn list(
    State(app): State<App>,
    caller: Allowed<OrgAdmin>,
    Query(page): Query<PageParams>,
) -> Result<Json<Page<Member>>> {
    caller.require_whole_organization()?;
    let found = members::list(app.pool(), caller.scope().organization, page.after()?, page.fetch()?).await?;
    Ok(Json(page.page(found, |member| member.user_id)?))
}

/// Give a member another role. Only an owner makes and unmakes owners.
#[utoipa::path(patch, path = "/api/v1/members/{user}", tag = "members",
    operation_id = "change_member", security(("api_key" = ["org:admin"])),
    params(MemberPath), request_body = MemberChanges,
    responses((status = 200, body = Member), (status = 409, description = "they are the only owner", body = ErrorBody),
              (status = "4XX", body = ErrorBody)))]
pub(crate) async fn change(
    State(app): State<App>,
    caller: Allowed<OrgAdmin>,
    Path(path): Path<MemberPath>,
    Json(changes): Json<MemberChanges>,
) -> Result<Json<Member>> {
    let member = changed(&app, &caller, path.user, Some(changes.role)).await?;
    Ok(Json(Member { role: changes.role.name(), ..member.into() }))
}

/// Remove a member. Their account stays, and so do the organization's keys that they made; their own keys serve no more.
#[utoipa::path(delete, path = "/api/v1/members/{user}", tag = "members",
    operation_id = "remove_member", security(("api_key" = ["org:admin"])), params(MemberPath),
    responses((status = 204), (status = 409, description = "they are the only owner", body = ErrorBody),
              (status = "4XX", body = ErrorBody)))]
pub(crate) async fn remove(
    State(app): State<App>,
    caller: Allowed<OrgAdmin>,
    Path(path): Path<MemberPath>,
) -> Result<StatusCode> {
    changed(&app, &caller, path.user, None).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The member as they were.
async fn changed(app: &App, caller: &Caller, user: Uuid, role: Option<Role>) -> Result<members::Member> {
    caller.require_whole_organization()?;
    let organization = caller.scope().organization;
    let mut tx = app.pool().begin().await?;
    let member = members::find(&mut *tx, organization, UserId::from(user)).await?;
    let member = member.ok_or_else(|| ApiError::not_found("member", user))?;
    let before = match members::change(&mut tx, organization, member.user_id, role, caller.is_owner()).await? {
        Change::Done(before) => before,
        Change::NotFound => return Err(ApiError::not_found("member", user)),
        Change::OwnersOnly => return Err(ApiError::forbidden("only an owner makes and unmakes owners")),
        Change::LastOwner => {
            let message = "they are the only owner; make another one first";
            return Err(ApiError::conflict("last_owner", message));
        }
    };
    let entry = match role {
        Some(role) => Entry::new("member.updated", &member.email).after(json!({ "role": role })),
        None => Entry::new("member.removed", &member.email),
    };
    audit::write(&mut *tx, caller.actor(), entry.id(user).before(json!({ "role": before }))).await?;
    tx.commit().await?;
    Ok(member)
}
