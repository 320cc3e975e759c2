//! Invitations to the organization.

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use buildit_shared::{
    db::{
        audit::{self, Entry},
        invitations as rows,
    },
    ids::InvitationId,
    permission::Role,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::{
    App,
    auth::{Allowed, Caller, Client, MaybePerson, OrgAdmin, origin},
    error::{ApiError, ErrorBody, Result},
    extract::{Json, Path, Query},
    invitations::{self, NewAccount},
    page::{Page, PageParams},
};

/// An invitation that can be used.
#[derive(Serialize, ToSchema)]
pub(crate) struct Invitation {
    id: Uuid,
    /// Who may use it.
    email: String,
    /// `owner`, `admin`, `developer` or `viewer`.
    role: &'static str,
    /// Who invites.
    invited_by: String,
    created_at: Timestamp,
    expires_at: Timestamp,
}

impl From<rows::Invitation> for Invitation {
    fn from(invitation: rows::Invitation) -> Self {
        Self {
            id: invitation.id.uuid(),
            email: invitation.email,
            role: invitation.role.name(),
            invited_by: invitation.invited_by,
            created_at: invitation.created_at.to_jiff(),
            expires_at: invitation.expires_at.to_jiff(),
        }
    }
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Invite {
    pub(crate) email: String,
    /// `owner`, `admin`, `developer` or `viewer`.
    #[schema(value_type = String)]
    pub(crate) role: Role,
}

/// An invitation that was just made.
#[derive(Serialize, ToSchema)]
pub(crate) struct Invited {
    id: Uuid,
    /// For the invited person. It is shown this once and never again.
    pub(crate) url: String,
}

/// An invitation, for whoever has its link.
#[derive(Serialize, ToSchema)]
pub(crate) struct Offer {
    /// The organization's name.
    organization: String,
    email: String,
    role: &'static str,
    invited_by: String,
    /// Sign in with it to accept; without one a password is chosen.
    has_account: bool,
}

#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Accept {
    /// What one is called; for who has no account.
    name: Option<String>,
    /// At least ten characters; for who has no account.
    password: Option<String>,
}

/// An invitation by its id.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct InvitationPath {
    /// Its id.
    invitation: Uuid,
}

/// An invitation by its token.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct JoinPath {
    /// The last part of the link.
    token: String,
}

/// Invite somebody. The link serves once, for a week, and takes the place of an older one for the same address. Only an owner
/// invites owners.
#[utoipa::path(post, path = "/api/v1/invitations", tag = "members",
    operation_id = "create_invitation", security(("api_key" = ["org:admin"])),
    request_body = Invite, responses((status = 201, body = Invited), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn create(
    State(app): State<App>,
    caller: Allowed<OrgAdmin>,
    Json(new): Json<Invite>,
) -> Result<(StatusCode, Json<Invited>)> {
    Ok((StatusCode::CREATED, Json(invite(&app, &caller, new).await?)))
}

/// Makes an invitation.
pub(crate) async fn invite(app: &App, caller: &Caller, invite: Invite) -> Result<Invited> {
    caller.require_whole_organization()?;
    if invite.role == Role::Owner && !caller.is_owner() {
        return Err(ApiError::forbidden("only an owner invites owners"));
    }
    let email = invite.email.trim().to_lowercase();
    let fits = email.len() <= 254
        && email.split_once('@').is_some_and(|(name, host)| !name.is_empty() && !host.is_empty())
        && !email.chars().any(|c| c.is_control() || c.is_whitespace());
    if !fits {
        return Err(ApiError::invalid("email", format!("{email:?} is no e-mail address")));
    }
    let organization = caller.scope().organization;
    let mut tx = app.pool().begin().await?;
    let (token, id) = rows::create(&mut *tx, organization, &email, invite.role, &caller.name()).await?;
    let entry = Entry::new("invitation.created", &email).id(id).after(json!({ "role": invite.role }));
    audit::write(&mut *tx, caller.actor(), entry).await?;
    tx.commit().await?;
    Ok(Invited { id: id.uuid(), url: app.url(&format!("/join/{token}")) })
}

/// The organization's invitations that can be used, newest first.
#[utoipa::path(get, path = "/api/v1/invitations", tag = "members",
    operation_id = "list_invitations", security(("api_key" = ["org:admin"])),
    params(PageParams), responses((status = 200, body = Page<Invitation>), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn list(
    State(app): State<App>,
    caller: Allowed<OrgAdmin>,
    Query(page): Query<PageParams>,
) -> Result<Json<Page<Invitation>>> {
    caller.require_whole_organization()?;
    let found = rows::list(app.pool(), caller.scope().organization, page.after()?, page.fetch()?).await?;
    Ok(Json(page.page(found, |invitation| invitation.id)?))
}

/// Withdraw an invitation.
#[utoipa::path(delete, path = "/api/v1/invitations/{invitation}", tag = "members", operation_id = "withdraw_invitation",
    security(("api_key" = ["org:admin"])), params(InvitationPath),
    responses((status = 204), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn withdraw(
    State(app): State<App>,
    caller: Allowed<OrgAdmin>,
    Path(path): Path<InvitationPath>,
) -> Result<StatusCode> {
    caller.require_whole_organization()?;
    let mut tx = app.pool().begin().await?;
    let email = rows::remove(&mut *tx, caller.scope().organization, InvitationId::from(path.invitation))
        .await?
        .ok_or_else(|| ApiError::not_found("invitation", path.invitation))?;
    audit::write(&mut *tx, caller.actor(), Entry::new("invitation.withdrawn", email).id(path.invitation)).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What one is invited to.
#[utoipa::path(get, path = "/api/v1/join/{token}", tag = "members",
    operation_id = "read_offer", security(()), params(JoinPath),
    responses((status = 200, body = Offer), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn read(State(app): State<App>, Path(path): Path<JoinPath>) -> Result<Json<Offer>> {
    let (invitation, has_account) = invitations::read(&app, &path.token).await?;
    Ok(Json(Offer {
        organization: invitation.organization,
        email: invitation.email,
        role: invitation.role.name(),
        invited_by: invitation.invited_by,
        has_account,
    }))
}

/// Accept an invitation: signed in as the one it is for, or, without an account, with a password. That makes the account
/// and sets the cookie of a session.
#[utoipa::path(post, path = "/api/v1/join/{token}", tag = "members",
    operation_id = "accept_invitation", security((), ("session" = [])), params(JoinPath),
    request_body = Accept, responses((status = 204), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn accept(
    State(app): State<App>,
    Path(path): Path<JoinPath>,
    MaybePerson(person): MaybePerson,
    client: Client,
    headers: HeaderMap,
    Json(accept): Json<Accept>,
) -> Result<Response> {
    origin::refuse_others(&headers, &app.config.public_url)?;
    let new = accept.password.map(|password| NewAccount { name: accept.name.unwrap_or_default(), password });
    let cookie = invitations::accept(&app, &path.token, person.as_ref(), new, &client).await?;
    Ok(match cookie {
        Some(cookie) => (cookie, StatusCode::NO_CONTENT).into_response(),
        None => StatusCode::NO_CONTENT.into_response(),
    })
}
