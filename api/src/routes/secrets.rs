//! Secrets of the organization and of its projects. Values come in and never go out.

use axum::{extract::State, http::StatusCode};
use buildit_shared::db::{
    audit::{self, Entry},
    secrets::{self, Owner},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::projects::{self, ProjectPath};
use crate::{
    App,
    auth::{Allowed, Caller, SecretsWrite},
    error::{ApiError, ErrorBody, Result},
    extract::{Json, Path, Query},
    page::{Page, PageParams},
};

/// A secret; its value cannot be read.
#[derive(Serialize, ToSchema)]
pub(crate) struct Secret {
    /// For `${secrets.NAME}`.
    name: String,
    /// Who set it last.
    set_by: String,
    set_at: Timestamp,
    created_at: Timestamp,
}

impl From<secrets::Secret> for Secret {
    fn from(secret: secrets::Secret) -> Self {
        Self {
            name: secret.name,
            set_by: secret.set_by,
            set_at: secret.set_at.to_jiff(),
            created_at: secret.created_at.to_jiff(),
        }
    }
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SecretValue {
    /// From 4 bytes to 48 KiB.
    value: String,
}

/// A secret of the organization by its name.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct SecretPath {
    /// Letters, digits and underscores.
    secret: String,
}

/// A secret of a project by its name.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct ProjectSecretPath {
    /// The project's id or name.
    project: String,
    /// Letters, digits and underscores.
    secret: String,
}

/// The organization's secrets, which all its projects get, by name.
#[utoipa::path(get, path = "/api/v1/secrets", tag = "secrets", security(("api_key" = ["secrets:write"])),
    params(PageParams), responses((status = 200, body = Page<Secret>), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn list(
    State(app): State<App>,
    caller: Allowed<SecretsWrite>,
    Query(page): Query<PageParams>,
) -> Result<Json<Page<Secret>>> {
    listed(&app, of_organization(&caller)?, &page).await
}

/// Set a secret of the organization, new or anew.
#[utoipa::path(put, path = "/api/v1/secrets/{secret}", tag = "secrets", security(("api_key" = ["secrets:write"])),
    params(SecretPath), request_body = SecretValue, responses((status = 204), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn set(
    State(app): State<App>,
    caller: Allowed<SecretsWrite>,
    Path(path): Path<SecretPath>,
    Json(value): Json<SecretValue>,
) -> Result<StatusCode> {
    put(&app, &caller, of_organization(&caller)?, &path.secret, &value.value).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Delete a secret of the organization.
#[utoipa::path(delete, path = "/api/v1/secrets/{secret}", tag = "secrets", security(("api_key" = ["secrets:write"])),
    params(SecretPath), responses((status = 204), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn delete(
    State(app): State<App>,
    caller: Allowed<SecretsWrite>,
    Path(path): Path<SecretPath>,
) -> Result<StatusCode> {
    remove(&app, &caller, of_organization(&caller)?, &path.secret).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A project's own secrets, by name. They go before the organization's of the same name.
#[utoipa::path(get, path = "/api/v1/projects/{project}/secrets", tag = "secrets",
    security(("api_key" = ["secrets:write"])), params(ProjectPath, PageParams),
    responses((status = 200, body = Page<Secret>), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn list_of_project(
    State(app): State<App>,
    caller: Allowed<SecretsWrite>,
    Path(path): Path<ProjectPath>,
    Query(page): Query<PageParams>,
) -> Result<Json<Page<Secret>>> {
    listed(&app, of_project(&app, &caller, &path.project).await?, &page).await
}

/// Set a project's own secret, new or anew.
#[utoipa::path(put, path = "/api/v1/projects/{project}/secrets/{secret}", tag = "secrets",
    security(("api_key" = ["secrets:write"])), params(ProjectSecretPath), request_body = SecretValue,
    responses((status = 204), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn set_of_project(
    State(app): State<App>,
    caller: Allowed<SecretsWrite>,
    Path(path): Path<ProjectSecretPath>,
    Json(value): Json<SecretValue>,
) -> Result<StatusCode> {
    let owner = of_project(&app, &caller, &path.project).await?;
    put(&app, &caller, owner, &path.secret, &value.value).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Delete a project's own secret.
#[utoipa::path(delete, path = "/api/v1/projects/{project}/secrets/{secret}", tag = "secrets",
    security(("api_key" = ["secrets:write"])), params(ProjectSecretPath),
    responses((status = 204), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn delete_of_project(
    State(app): State<App>,
    caller: Allowed<SecretsWrite>,
    Path(path): Path<ProjectSecretPath>,
) -> Result<StatusCode> {
    let owner = of_project(&app, &caller, &path.project).await?;
    remove(&app, &caller, owner, &path.secret).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The organization's own.
pub(crate) fn of_organization(caller: &Caller) -> Result<Owner> {
    caller.require_whole_organization()?;
    Ok(Owner { organization: caller.scope().organization, project: None })
}

/// A project's own, if this caller can see it.
pub(crate) async fn of_project(app: &App, caller: &Caller, project: &str) -> Result<Owner> {
    let project = projects::find(app, caller, project).await?;
    Ok(Owner { organization: caller.scope().organization, project: Some(project.id) })
}

async fn listed(app: &App, owner: Owner, page: &PageParams) -> Result<Json<Page<Secret>>> {
    let after: Option<String> = page.after()?;
    let found = secrets::list(app.pool(), owner, after.as_deref(), page.fetch()?).await?;
    Ok(Json(page.page(found, |secret| secret.name.clone())?))
}

/// Sets a secret.
pub(crate) async fn put(app: &App, caller: &Caller, owner: Owner, name: &str, value: &str) -> Result<()> {
    if !secrets::is_name(name) {
        let rule = "up to 100 letters, digits and underscores, no digit first";
        return Err(ApiError::invalid("secret", format!("{name:?} is no secret's name: {rule}")));
    }
    if value.len() < secrets::SHORTEST {
        let message = format!("fewer than {} bytes could not be masked in logs", secrets::SHORTEST);
        return Err(ApiError::invalid("value", message));
    }
    if value.len() > secrets::LONGEST || value.contains('\0') {
        let message = format!("a value has at most {} bytes and no NUL character", secrets::LONGEST);
        return Err(ApiError::invalid("value", message));
    }
    let mut tx = app.pool().begin().await?;
    let new = secrets::set(&mut *tx, app.vault()?, owner, name, value, &caller.name()).await?;
    let action = if new { "secret.created" } else { "secret.updated" };
    audit::write(&mut *tx, caller.actor(), entry(action, owner, name)).await?;
    tx.commit().await?;
    Ok(())
}

/// Deletes a secret.
pub(crate) async fn remove(app: &App, caller: &Caller, owner: Owner, name: &str) -> Result<()> {
    let mut tx = app.pool().begin().await?;
    if !secrets::delete(&mut *tx, owner, name).await? {
        return Err(ApiError::not_found("secret", name));
    }
    audit::write(&mut *tx, caller.actor(), entry("secret.deleted", owner, name)).await?;
    tx.commit().await?;
    Ok(())
}

fn entry(action: &'static str, owner: Owner, name: &str) -> Entry {
    let entry = Entry::new(action, name);
    match owner.project {
        Some(project) => entry.project(project),
        None => entry,
    }
}
