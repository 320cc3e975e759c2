//! API keys.

use axum::{extract::State, http::StatusCode};
use buildit_shared::{
    db::{
        api_keys::{self, NewKey},
        audit::{self, Entry},
    },
    ids::{ApiKeyId, UserId},
    permission::Permission,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::{projects, run_view::time};
use crate::{
    App,
    auth::{Allowed, Caller, OrgAdmin, SignedIn},
    error::{ApiError, ErrorBody, Result},
    extract::{Json, Path, Query},
    page::{Page, PageParams},
};

/// A key that a program signs in with.
#[derive(Serialize, ToSchema)]
pub(crate) struct ApiKey {
    id: Uuid,
    /// What it is for.
    name: String,
    /// Its first characters.
    prefix: String,
    permissions: Vec<String>,
    /// The one project it sees, if it is bound to one.
    project_id: Option<Uuid>,
    /// The person whose own key it is; null for the organization's.
    user_id: Option<Uuid>,
    created_at: Timestamp,
    /// To the minute.
    last_used_at: Option<Timestamp>,
    expires_at: Option<Timestamp>,
    revoked_at: Option<Timestamp>,
}

/// A key that was just made.
#[derive(Serialize, ToSchema)]
pub(crate) struct NewApiKey {
    /// The key itself. It is shown this once and never again.
    pub(crate) token: String,
    #[serde(flatten)]
    key: ApiKey,
}

impl From<api_keys::ApiKey> for ApiKey {
    fn from(key: api_keys::ApiKey) -> Self {
        Self {
            id: key.id.uuid(),
            name: key.name,
            prefix: key.prefix,
            permissions: key.permissions,
            project_id: key.project_id.map(|id| id.uuid()),
            user_id: key.user_id.map(|id| id.uuid()),
            created_at: key.created_at.to_jiff(),
            last_used_at: time(key.last_used_at),
            expires_at: time(key.expires_at),
            revoked_at: time(key.revoked_at),
        }
    }
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateApiKey {
    /// What it is for.
    pub(crate) name: String,
    /// What it may do: `project:read`, `project:write`, `run:trigger`, `deploy:read`, `deploy:promote`,
    /// `secrets:write`, `org:admin`, `fleet:admin`. Nobody can give away more than they have.
    pub(crate) permissions: Vec<String>,
    /// A project's id or name, to bind the key to it: it sees nothing else.
    pub(crate) project: Option<String>,
    /// From when on it is refused; never without it.
    pub(crate) expires_at: Option<Timestamp>,
}

/// A key by its id.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct KeyPath {
    /// Its id.
    key: Uuid,
}

/// Make a key of the organization.
#[utoipa::path(post, path = "/api/v1/api-keys", tag = "api keys",
    operation_id = "create_api_key", security(("api_key" = ["org:admin"])),
    request_body = CreateApiKey, responses((status = 201, body = NewApiKey), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn create(
    State(app): State<App>,
    caller: Allowed<OrgAdmin>,
    Json(new): Json<CreateApiKey>,
) -> Result<(StatusCode, Json<NewApiKey>)> {
    make(&app, &caller, new).await.map(created)
}

/// Makes a key of the organization.
pub(crate) async fn make(app: &App, caller: &Caller, new: CreateApiKey) -> Result<NewApiKey> {
    caller.require_whole_organization()?;
    made(app, caller, new, None).await
}

fn created(key: NewApiKey) -> (StatusCode, Json<NewApiKey>) {
    (StatusCode::CREATED, Json(key))
}

/// Make a key of one's own in the organization that one looks at. It may no more than oneself, also later.
#[utoipa::path(post, path = "/api/v1/me/api-keys", tag = "api keys",
    operation_id = "create_own_api_key", security(("session" = [])),
    request_body = CreateApiKey, responses((status = 201, body = NewApiKey), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn create_own(
    State(app): State<App>,
    person: SignedIn,
    Json(new): Json<CreateApiKey>,
) -> Result<(StatusCode, Json<NewApiKey>)> {
    let user = person.user_id;
    made(&app, &person.caller()?, new, Some(user)).await.map(created)
}

async fn made(app: &App, caller: &Caller, new: CreateApiKey, owner: Option<UserId>) -> Result<NewApiKey> {
    if new.name.trim().is_empty() || new.name.chars().count() > 100 || new.name.chars().any(char::is_control) {
        return Err(ApiError::invalid("name", "say in 1 to 100 characters what the key is for"));
    }
    let permissions = permissions(&new.permissions)?;
    if let Some(more) = permissions.iter().find(|permission| !caller.has(**permission)) {
        let message = format!("nobody can give away what they lack themselves: `{}`", more.name());
        return Err(ApiError::forbidden(message));
    }
    let project = match &new.project {
        Some(project) => Some(projects::find(app, caller, project).await?.id),
        None => None,
    };
    let new = NewKey {
        organization_id: caller.scope().organization,
        name: new.name.trim(),
        permissions: &permissions,
        project_id: project,
        user_id: owner,
        created_by: caller.user(),
        expires_at: new.expires_at,
    };
    let mut tx = app.pool().begin().await?;
    let created = api_keys::create(&mut *tx, new).await?;
    let after = json!({ "prefix": created.key.prefix, "permissions": created.key.permissions });
    let entry = Entry::new("api_key.created", &created.key.name).id(created.key.id).after(after);
    audit::write(&mut *tx, caller.actor(), entry).await?;
    tx.commit().await?;
    Ok(NewApiKey { token: created.plain, key: created.key.into() })
}

/// The organization's keys and its members' own, newest first, revoked ones included.
#[utoipa::path(get, path = "/api/v1/api-keys", tag = "api keys",
    operation_id = "list_api_keys", security(("api_key" = ["org:admin"])),
    params(PageParams), responses((status = 200, body = Page<ApiKey>), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn list(
    State(app): State<App>,
    caller: Allowed<OrgAdmin>,
    Query(page): Query<PageParams>,
) -> Result<Json<Page<ApiKey>>> {
    let found = api_keys::list(app.pool(), caller.scope(), None, page.after()?, page.fetch()?).await?;
    Ok(Json(page.page(found, |key| key.id)?))
}

/// One's own keys in the organization that one looks at, newest first, revoked ones included.
#[utoipa::path(get, path = "/api/v1/me/api-keys", tag = "api keys",
    operation_id = "list_own_api_keys", security(("session" = [])),
    params(PageParams), responses((status = 200, body = Page<ApiKey>), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn list_own(
    State(app): State<App>,
    person: SignedIn,
    Query(page): Query<PageParams>,
) -> Result<Json<Page<ApiKey>>> {
    let (scope, user) = (person.caller()?.scope(), Some(person.user_id));
    let found = api_keys::list(app.pool(), scope, user, page.after()?, page.fetch()?).await?;
    Ok(Json(page.page(found, |key| key.id)?))
}

/// Revoke a key: it is refused from now on.
#[utoipa::path(delete, path = "/api/v1/api-keys/{key}", tag = "api keys",
    operation_id = "revoke_api_key", security(("api_key" = ["org:admin"])),
    params(KeyPath), responses((status = 204), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn revoke(
    State(app): State<App>,
    caller: Allowed<OrgAdmin>,
    Path(path): Path<KeyPath>,
) -> Result<StatusCode> {
    caller.require_whole_organization()?;
    revoked(&app, &caller, path.key, None).await
}

/// Revoke a key of one's own.
#[utoipa::path(delete, path = "/api/v1/me/api-keys/{key}", tag = "api keys",
    operation_id = "revoke_own_api_key", security(("session" = [])),
    params(KeyPath), responses((status = 204), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn revoke_own(
    State(app): State<App>,
    person: SignedIn,
    Path(path): Path<KeyPath>,
) -> Result<StatusCode> {
    let user = Some(person.user_id);
    revoked(&app, &person.caller()?, path.key, user).await
}

async fn revoked(app: &App, caller: &Caller, key: Uuid, of: Option<UserId>) -> Result<StatusCode> {
    let mut tx = app.pool().begin().await?;
    let name = api_keys::revoke(&mut *tx, caller.scope(), of, ApiKeyId::from(key))
        .await?
        .ok_or_else(|| ApiError::not_found("API key", key))?;
    audit::write(&mut *tx, caller.actor(), Entry::new("api_key.revoked", name).id(key)).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

fn permissions(names: &[String]) -> Result<Vec<Permission>> {
    if names.is_empty() {
        return Err(ApiError::invalid("permissions", "a key without any permission could do nothing"));
    }
    let known = |name: &String| {
        Permission::parse(name).ok_or_else(|| {
            let all = Permission::ALL.map(|permission| permission.name()).join("`, `");
            ApiError::invalid("permissions", format!("there is no permission {name:?}; there are `{all}`"))
        })
    };
    names.iter().map(known).collect()
}
