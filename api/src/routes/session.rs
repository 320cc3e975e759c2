//! Signing in and out, and who one is.

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode},
    response::IntoResponse,
};
use buildit_shared::{
    db::{organizations, sessions as rows, sessions::Membership},
    ids::SessionId,
    permission::Permission,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::{
    App,
    auth::{Client, SignedIn, Who, origin},
    error::{ErrorBody, Result},
    extract::{Json, Path, Query},
    page::{Page, PageParams},
    sessions,
};

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Credentials {
    /// The account's address.
    email: String,
    password: String,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SessionChanges {
    /// The organization to look at from now on, by its id or name.
    organization: String,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PasswordChange {
    current: String,
    /// At least ten characters.
    new: String,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FirstPassword {
    /// At least ten characters.
    password: String,
}

/// Whoever asks.
#[derive(Serialize, ToSchema)]
pub(crate) struct Me {
    /// The person; null for an API key.
    user: Option<User>,
    /// The organization that is looked at; null for a member of none.
    organization: Option<Uuid>,
    /// What may be done there.
    permissions: Vec<&'static str>,
    /// All organizations of the person, by name; none for an API key.
    organizations: Vec<MyOrganization>,
}

#[derive(Serialize, ToSchema)]
struct User {
    id: Uuid,
    email: String,
    name: String,
}

#[derive(Serialize, ToSchema)]
struct MyOrganization {
    id: Uuid,
    name: String,
    /// `owner`, `admin`, `developer` or `viewer`.
    role: &'static str,
}

impl From<Membership> for MyOrganization {
    fn from(membership: Membership) -> Self {
        Self { id: membership.id.uuid(), name: membership.name, role: membership.role.name() }
    }
}

/// A browser that one is signed in on.
#[derive(Serialize, ToSchema)]
pub(crate) struct Session {
    id: Uuid,
    /// It is the one that asks.
    current: bool,
    /// What the browser calls itself.
    user_agent: String,
    /// Where it was as it signed in.
    address: Option<String>,
    created_at: Timestamp,
    /// To the minute.
    last_used_at: Timestamp,
    /// When it ends at the latest.
    expires_at: Timestamp,
}

/// Whom a link is for.
#[derive(Serialize, ToSchema)]
pub(crate) struct Welcome {
    email: String,
    name: String,
}

/// A session by its id.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct SessionPath {
    /// Its id.
    session: Uuid,
}

/// A link by its token.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct WelcomePath {
    /// The last part of the link.
    token: String,
}

/// Sign in. The answer sets the cookie of a new session.
#[utoipa::path(post, path = "/api/v1/session", tag = "sessions",
    operation_id = "sign_in", security(()), request_body = Credentials,
    responses((status = 204), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn sign_in(
    State(app): State<App>,
    client: Client,
    headers: HeaderMap,
    Json(given): Json<Credentials>,
) -> Result<impl IntoResponse> {
    origin::refuse_others(&headers, &app.config.public_url)?;
    let cookie = sessions::sign_in(&app, &given.email, given.password, &client).await?;
    Ok((cookie, StatusCode::NO_CONTENT))
}

/// Have the session look at another organization.
#[utoipa::path(patch, path = "/api/v1/session", tag = "sessions",
    operation_id = "change_session", security(("session" = [])),
    request_body = SessionChanges, responses((status = 204), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn change(
    State(app): State<App>,
    person: SignedIn,
    Json(changes): Json<SessionChanges>,
) -> Result<StatusCode> {
    sessions::switch(&app, &person, &changes.organization).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Sign out.
#[utoipa::path(delete, path = "/api/v1/session", tag = "sessions",
    operation_id = "sign_out", security(("session" = [])),
    responses((status = 204), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn sign_out(State(app): State<App>, person: SignedIn) -> Result<impl IntoResponse> {
    Ok((sessions::sign_out(&app, &person).await?, StatusCode::NO_CONTENT))
}

/// Who one is, and what one may do.
#[utoipa::path(get, path = "/api/v1/me", tag = "sessions",
    operation_id = "read_me", security(("session" = []), ("api_key" = [])),
    responses((status = 200, body = Me), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn me(State(app): State<App>, who: Who) -> Result<Json<Me>> {
    Ok(Json(match who {
        Who::Person(person) => Me {
            user: Some(User { id: person.user_id.uuid(), email: person.email.clone(), name: person.name.clone() }),
            organization: person.organization.as_ref().map(|organization| organization.id.uuid()),
            permissions: names(&person.permissions()),
            organizations: organizations::of_user(app.pool(), person.user_id)
                .await?
                .into_iter()
                .map(Into::into)
                .collect(),
        },
        Who::Key(key, _) => Me {
            user: None,
            organization: Some(key.organization_id.uuid()),
            permissions: names(&key.permissions),
            organizations: Vec::new(),
        },
    }))
}

fn names(permissions: &[Permission]) -> Vec<&'static str> {
    permissions.iter().map(|permission| permission.name()).collect()
}

/// One's sessions that have not ended, newest first.
#[utoipa::path(get, path = "/api/v1/sessions", tag = "sessions",
    operation_id = "list_sessions", security(("session" = [])), params(PageParams),
    responses((status = 200, body = Page<Session>), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn list(
    State(app): State<App>,
    person: SignedIn,
    Query(page): Query<PageParams>,
) -> Result<Json<Page<Session>>> {
    let found = rows::list(app.pool(), person.user_id, page.after()?, page.fetch()?).await?;
    let session = |row: rows::Listed| Session {
        id: row.id.uuid(),
        current: row.id == person.id,
        user_agent: row.user_agent,
        address: row.address,
        created_at: row.created_at.to_jiff(),
        last_used_at: row.last_used_at.to_jiff(),
        expires_at: row.expires_at.to_jiff(),
    };
    Ok(Json(page.page_with(found, |row| row.id, session)?))
}

/// End one of one's sessions.
#[utoipa::path(delete, path = "/api/v1/sessions/{session}", tag = "sessions",
    operation_id = "end_session", security(("session" = [])),
    params(SessionPath), responses((status = 204), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn revoke(
    State(app): State<App>,
    person: SignedIn,
    Path(path): Path<SessionPath>,
) -> Result<StatusCode> {
    sessions::end(&app, &person, SessionId::from(path.session)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Change one's password. All other sessions end.
#[utoipa::path(post, path = "/api/v1/me/password", tag = "sessions",
    operation_id = "change_password", security(("session" = [])),
    request_body = PasswordChange, responses((status = 204), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn change_password(
    State(app): State<App>,
    person: SignedIn,
    client: Client,
    Json(change): Json<PasswordChange>,
) -> Result<StatusCode> {
    sessions::change_password(&app, &person, change.current, change.new, &client).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Whom a link to an account is for. A link serves once, for a day.
#[utoipa::path(get, path = "/api/v1/welcome/{token}", tag = "sessions",
    operation_id = "read_welcome", security(()), params(WelcomePath),
    responses((status = 200, body = Welcome), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn welcomed(State(app): State<App>, Path(path): Path<WelcomePath>) -> Result<Json<Welcome>> {
    let found = sessions::welcomed(&app, &path.token).await?;
    Ok(Json(Welcome { email: found.email, name: found.name }))
}

/// Choose the password of the account that a link is for. The answer sets the cookie of a new session.
#[utoipa::path(post, path = "/api/v1/welcome/{token}", tag = "sessions",
    operation_id = "choose_first_password", security(()), params(WelcomePath),
    request_body = FirstPassword, responses((status = 204), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn welcome(
    State(app): State<App>,
    Path(path): Path<WelcomePath>,
    client: Client,
    headers: HeaderMap,
    Json(chosen): Json<FirstPassword>,
) -> Result<impl IntoResponse> {
    origin::refuse_others(&headers, &app.config.public_url)?;
    let cookie = sessions::welcome(&app, &path.token, chosen.password, &client).await?;
    Ok((cookie, StatusCode::NO_CONTENT))
}
