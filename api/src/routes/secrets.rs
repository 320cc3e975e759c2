//! Secrets of the organization, of its projects and of their environments. Values come in and never go out.

use std::{convert::Infallible, fmt, str::FromStr};

use axum::{extract::State, http::StatusCode};
use buildit_shared::{
    db::{
        audit::{self, Entry},
        secrets::{self, Owner},
    },
    pipeline::is_plain_name,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
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
    /// The environment whose steps alone get it; null where any step does.
    environment: Option<String>,
    /// Who set it last.
    set_by: String,
    set_at: Timestamp,
    created_at: Timestamp,
}

impl From<secrets::Secret> for Secret {
    fn from(secret: secrets::Secret) -> Self {
        Self {
            name: secret.name,
            environment: secret.environment,
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

/// An environment of a project, as a step's `deploy` names it.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct EnvironmentPath {
    /// The project's id or name.
    project: String,
    /// Up to 63 letters, digits, dashes, underscores and dots, a letter or digit first.
    environment: String,
}

/// A secret of an environment by its name.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct EnvironmentSecretPath {
    /// The project's id or name.
    project: String,
    /// Up to 63 letters, digits, dashes, underscores and dots, a letter or digit first.
    environment: String,
    /// Letters, digits and underscores.
    secret: String,
}

/// Behind which secret a page of a list begins: its environment, empty where it has none, and its name.
struct Position {
    environment: String,
    name: String,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Neither has a slash in it.
        write!(f, "{}/{}", self.environment, self.name)
    }
}

impl FromStr for Position {
    type Err = Infallible;

    fn from_str(text: &str) -> std::result::Result<Self, Infallible> {
        let (environment, name) = text.split_once('/').unwrap_or(("", text));
        Ok(Self { environment: environment.to_owned(), name: name.to_owned() })
    }
}

/// The organization's secrets, which all its projects get, by name.
#[utoipa::path(get, path = "/api/v1/secrets", tag = "secrets",
    operation_id = "list_secrets", security(("api_key" = ["secrets:write"])),
    params(PageParams), responses((status = 200, body = Page<Secret>), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn list(
    State(app): State<App>,
    caller: Allowed<SecretsWrite>,
    Query(page): Query<PageParams>,
) -> Result<Json<Page<Secret>>> {
    listed(&app, &of_organization(&caller)?, &page).await
}

/// Set a secret of the organization, new or anew.
#[utoipa::path(put, path = "/api/v1/secrets/{secret}", tag = "secrets",
    operation_id = "set_secret", security(("api_key" = ["secrets:write"])),
    params(SecretPath), request_body = SecretValue, responses((status = 204), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn set(
    State(app): State<App>,
    caller: Allowed<SecretsWrite>,
    Path(path): Path<SecretPath>,
    Json(value): Json<SecretValue>,
) -> Result<StatusCode> {
    put(&app, &caller, &of_organization(&caller)?, &path.secret, &value.value).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Delete a secret of the organization.
#[utoipa::path(delete, path = "/api/v1/secrets/{secret}", tag = "secrets",
    operation_id = "delete_secret", security(("api_key" = ["secrets:write"])),
    params(SecretPath), responses((status = 204), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn delete(
    State(app): State<App>,
    caller: Allowed<SecretsWrite>,
    Path(path): Path<SecretPath>,
) -> Result<StatusCode> {
    remove(&app, &caller, &of_organization(&caller)?, &path.secret).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A project's own secrets, which go before the organization's of the same name, and behind them those of its environments.
#[utoipa::path(get, path = "/api/v1/projects/{project}/secrets", tag = "secrets", operation_id = "list_project_secrets",
    security(("api_key" = ["secrets:write"])), params(ProjectPath, PageParams),
    responses((status = 200, body = Page<Secret>), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn list_of_project(
    State(app): State<App>,
    caller: Allowed<SecretsWrite>,
    Path(path): Path<ProjectPath>,
    Query(page): Query<PageParams>,
) -> Result<Json<Page<Secret>>> {
    listed(&app, &of_project(&app, &caller, &path.project).await?, &page).await
}

/// Set a project's own secret, new or anew.
#[utoipa::path(put, path = "/api/v1/projects/{project}/secrets/{secret}", tag = "secrets",
    operation_id = "set_project_secret",
    security(("api_key" = ["secrets:write"])), params(ProjectSecretPath), request_body = SecretValue,
    responses((status = 204), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn set_of_project(
    State(app): State<App>,
    caller: Allowed<SecretsWrite>,
    Path(path): Path<ProjectSecretPath>,
    Json(value): Json<SecretValue>,
) -> Result<StatusCode> {
    let owner = of_project(&app, &caller, &path.project).await?;
    put(&app, &caller, &owner, &path.secret, &value.value).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Delete a project's own secret.
#[utoipa::path(delete, path = "/api/v1/projects/{project}/secrets/{secret}", tag = "secrets",
    operation_id = "delete_project_secret", security(("api_key" = ["secrets:write"])), params(ProjectSecretPath),
    responses((status = 204), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn delete_of_project(
    State(app): State<App>,
    caller: Allowed<SecretsWrite>,
    Path(path): Path<ProjectSecretPath>,
) -> Result<StatusCode> {
    let owner = of_project(&app, &caller, &path.project).await?;
    remove(&app, &caller, &owner, &path.secret).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The secrets of a project's environment, by name. Steps whose `deploy` names it get them, before the project's own.
#[utoipa::path(get, path = "/api/v1/projects/{project}/environments/{environment}/secrets", tag = "secrets",
    operation_id = "list_environment_secrets",
    security(("api_key" = ["secrets:write"])), params(EnvironmentPath, PageParams),
    responses((status = 200, body = Page<Secret>), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn list_of_environment(
    State(app): State<App>,
    caller: Allowed<SecretsWrite>,
    Path(path): Path<EnvironmentPath>,
    Query(page): Query<PageParams>,
) -> Result<Json<Page<Secret>>> {
    listed(&app, &of_environment(&app, &caller, &path.project, &path.environment).await?, &page).await
}

/// Set a secret of a project's environment, new or anew.
#[utoipa::path(put, path = "/api/v1/projects/{project}/environments/{environment}/secrets/{secret}", tag = "secrets",
    operation_id = "set_environment_secret",
    security(("api_key" = ["secrets:write"])), params(EnvironmentSecretPath), request_body = SecretValue,
    responses((status = 204), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn set_of_environment(
    State(app): State<App>,
    caller: Allowed<SecretsWrite>,
    Path(path): Path<EnvironmentSecretPath>,
    Json(value): Json<SecretValue>,
) -> Result<StatusCode> {
    let owner = of_environment(&app, &caller, &path.project, &path.environment).await?;
    put(&app, &caller, &owner, &path.secret, &value.value).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Delete a secret of a project's environment.
#[utoipa::path(delete, path = "/api/v1/projects/{project}/environments/{environment}/secrets/{secret}",
    tag = "secrets",
    operation_id = "delete_environment_secret", security(("api_key" = ["secrets:write"])),
    params(EnvironmentSecretPath),
    responses((status = 204), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn delete_of_environment(
    State(app): State<App>,
    caller: Allowed<SecretsWrite>,
    Path(path): Path<EnvironmentSecretPath>,
) -> Result<StatusCode> {
    let owner = of_environment(&app, &caller, &path.project, &path.environment).await?;
    remove(&app, &caller, &owner, &path.secret).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The organization's own.
pub(crate) fn of_organization(caller: &Caller) -> Result<Owner> {
    caller.require_whole_organization()?;
    Ok(Owner { organization: caller.scope().organization, project: None, environment: None })
}

/// A project's own, if this caller can see it.
pub(crate) async fn of_project(app: &App, caller: &Caller, project: &str) -> Result<Owner> {
    let project = projects::find(app, caller, project).await?;
    Ok(Owner { organization: caller.scope().organization, project: Some(project.id), environment: None })
}

/// Those of a project's environment, if this caller can see the project.
pub(crate) async fn of_environment(app: &App, caller: &Caller, project: &str, environment: &str) -> Result<Owner> {
    let owner = of_project(app, caller, project).await?;
    if !is_plain_name(environment) {
        let rule = "up to 63 letters, digits, `-`, `_` and `.`, a letter or digit first";
        return Err(ApiError::invalid("environment", format!("{environment:?} is no environment's name: {rule}")));
    }
    Ok(Owner { environment: Some(environment.to_owned()), ..owner })
}

async fn listed(app: &App, owner: &Owner, page: &PageParams) -> Result<Json<Page<Secret>>> {
    let after: Option<Position> = page.after()?;
    let after = after.as_ref().map(|after| (after.environment.as_str(), after.name.as_str()));
    let found = secrets::list(app.pool(), owner, after, page.fetch()?).await?;
    let position = |secret: &secrets::Secret| Position {
        environment: secret.environment.clone().unwrap_or_default(),
        name: secret.name.clone(),
    };
    Ok(Json(page.page(found, position)?))
}

/// Sets a secret.
pub(crate) async fn put(app: &App, caller: &Caller, owner: &Owner, name: &str, value: &str) -> Result<()> {
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
    let entry = entry(action, owner, name);
    let entry = match &owner.environment {
        Some(environment) => entry.after(json!({ "environment": environment })),
        None => entry,
    };
    audit::write(&mut *tx, caller.actor(), entry).await?;
    tx.commit().await?;
    Ok(())
}

/// Deletes a secret.
pub(crate) async fn remove(app: &App, caller: &Caller, owner: &Owner, name: &str) -> Result<()> {
    let mut tx = app.pool().begin().await?;
    if !secrets::delete(&mut *tx, owner, name).await? {
        return Err(ApiError::not_found("secret", name));
    }
    let entry = entry("secret.deleted", owner, name);
    let entry = match &owner.environment {
        Some(environment) => entry.before(json!({ "environment": environment })),
        None => entry,
    };
    audit::write(&mut *tx, caller.actor(), entry).await?;
    tx.commit().await?;
    Ok(())
}

fn entry(action: &'static str, owner: &Owner, name: &str) -> Entry {
    let entry = Entry::new(action, name);
    match owner.project {
        Some(project) => entry.project(project),
        None => entry,
    }
}
