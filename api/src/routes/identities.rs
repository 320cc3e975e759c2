//! How people sign in here, and what one's own account is linked with.

use axum::{extract::State, http::StatusCode};
use buildit_shared::{
    db::{audit::Entry, identities as rows, users},
    ids::IdentityId,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::{
    App,
    auth::SignedIn,
    error::{ApiError, ErrorBody, Result},
    extract::{Json, Path, Query},
    page::{Page, PageParams},
    sessions,
};

/// How people sign in.
#[derive(Serialize, ToSchema)]
pub(crate) struct WaysIn {
    /// By address and password.
    password: bool,
    /// By a provider of OpenID Connect, where the operator has set one up.
    provider: Option<ProviderView>,
}

#[derive(Serialize, ToSchema)]
struct ProviderView {
    /// What people know it by.
    label: String,
    /// Where a browser begins.
    url: String,
}

/// Who one is at a provider.
#[derive(Serialize, ToSchema)]
pub(crate) struct Identity {
    id: Uuid,
    /// The provider.
    issuer: String,
    /// The address that it vouched for as the two were linked.
    email: String,
    created_at: Timestamp,
    last_used_at: Timestamp,
}

impl From<rows::Identity> for Identity {
    fn from(identity: rows::Identity) -> Self {
        Self {
            id: identity.id.uuid(),
            issuer: identity.issuer,
            email: identity.email,
            created_at: identity.created_at.to_jiff(),
            last_used_at: identity.last_used_at.to_jiff(),
        }
    }
}

/// A link by its id.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct IdentityPath {
    /// Its id.
    pub(crate) identity: Uuid,
}

/// How people sign in here.
#[utoipa::path(get, path = "/api/v1/sign-in", tag = "sessions", operation_id = "ways_to_sign_in", security(()),
    responses((status = 200, body = WaysIn), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn ways_in(State(app): State<App>) -> Json<WaysIn> {
    let provider = app.oidc.as_ref();
    let provider = provider.map(|oidc| ProviderView { label: oidc.label().to_owned(), url: app.url("/login/oidc") });
    Json(WaysIn { password: true, provider })
}

/// What one's account is linked with, oldest first.
#[utoipa::path(get, path = "/api/v1/me/identities", tag = "sessions",
    operation_id = "list_own_identities", security(("session" = [])), params(PageParams),
    responses((status = 200, body = Page<Identity>), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn list(
    State(app): State<App>,
    person: SignedIn,
    Query(page): Query<PageParams>,
) -> Result<Json<Page<Identity>>> {
    let found = rows::list(app.pool(), person.user_id, page.after()?, page.fetch()?).await?;
    Ok(Json(page.page(found, |identity| identity.id)?))
}

/// Take a link away: whoever it is with signs in as oneself no more. Refused without a password, since nobody could sign in then.
#[utoipa::path(delete, path = "/api/v1/me/identities/{identity}", tag = "sessions",
    operation_id = "unlink_own_identity", security(("session" = [])), params(IdentityPath),
    responses((status = 204), (status = 409, description = "the account has no password", body = ErrorBody),
              (status = "4XX", body = ErrorBody)))]
pub(crate) async fn unlink(
    State(app): State<App>,
    person: SignedIn,
    Path(path): Path<IdentityPath>,
) -> Result<StatusCode> {
    let mut tx = app.pool().begin().await?;
    let issuer = rows::unlink(&mut *tx, person.user_id, IdentityId::from(path.identity)).await?;
    let issuer = issuer.ok_or_else(|| ApiError::not_found("link", path.identity))?;
    if !users::has_password(&mut *tx, person.user_id).await? {
        let message = "your account has no password, so you could not sign in any more; an operator makes you a link to choose one";
        return Err(ApiError::conflict("no_password", message));
    }
    let entry = Entry::new("identity.unlinked", &person.email).id(person.user_id);
    let entry = entry.before(serde_json::json!({ "issuer": issuer }));
    sessions::note(&mut tx, person.actor(), person.user_id, entry).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
