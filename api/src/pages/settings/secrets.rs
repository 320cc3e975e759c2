//! Secrets, of the organization and of a project. Nobody can read one.

use askama::Template;
use axum::{extract::State, response::Response};
use buildit_shared::db::secrets::{self as secret_rows, Owner};
use serde::Deserialize;

use super::{
    super::{
        error::{Result, Visitor},
        layout::{Layout, page},
        text::{When, part},
    },
    MOST, Tabs, to,
};
use crate::{
    App,
    auth::{SecretsWrite, form::Form},
    extract::Path,
    routes::{projects::ProjectPath, secrets},
};

#[derive(Template)]
#[template(path = "settings_secrets.html")]
struct SecretsPage {
    layout: Layout,
    tabs: Tabs,
    /// The project whose secrets they are; the organization's without one.
    project: Option<String>,
    address: String,
    secrets: Vec<SecretRow>,
}

struct SecretRow {
    name: String,
    by: String,
    at: When,
}

#[derive(Deserialize)]
pub(in crate::pages) struct SecretForm {
    name: String,
    value: String,
}

#[derive(Deserialize)]
pub(in crate::pages) struct NameForm {
    name: String,
}

/// `GET /settings/secrets`
pub(in crate::pages) async fn show(State(app): State<App>, caller: Visitor<SecretsWrite>) -> Result<Response> {
    let owner = secrets::of_organization(&caller)?;
    render_secrets(&app, &caller, owner, None).await
}

/// `GET /projects/{project}/secrets`
pub(in crate::pages) async fn project_secrets(
    State(app): State<App>,
    caller: Visitor<SecretsWrite>,
    Path(path): Path<ProjectPath>,
) -> Result<Response> {
    let owner = secrets::of_project(&app, &caller, &path.project).await?;
    render_secrets(&app, &caller, owner, Some(path.project)).await
}

fn secrets_address(project: Option<&str>) -> String {
    match project {
        Some(project) => format!("/projects/{}/secrets", part(project)),
        None => "/settings/secrets".into(),
    }
}

async fn render_secrets(
    app: &App,
    caller: &Visitor<SecretsWrite>,
    owner: Owner,
    project: Option<String>,
) -> Result<Response> {
    let found = secret_rows::list(app.pool(), owner, None, MOST).await?;
    let section = if project.is_some() { "projects" } else { "settings" };
    Ok(page(&SecretsPage {
        layout: Layout::of(caller, section, "Secrets"),
        tabs: Tabs::of(caller, "secrets"),
        address: secrets_address(project.as_deref()),
        project,
        secrets: found
            .into_iter()
            .map(|secret| SecretRow { name: secret.name, by: secret.set_by, at: When::of(secret.set_at) })
            .collect(),
    }))
}

/// `POST /settings/secrets`
pub(in crate::pages) async fn set_secret(
    State(app): State<App>,
    caller: Visitor<SecretsWrite>,
    Form(form): Form<SecretForm>,
) -> Result<Response> {
    let owner = secrets::of_organization(&caller)?;
    secrets::put(&app, &caller, owner, form.name.trim(), &form.value).await?;
    Ok(to(&secrets_address(None)))
}

/// `POST /projects/{project}/secrets`
pub(in crate::pages) async fn set_project_secret(
    State(app): State<App>,
    caller: Visitor<SecretsWrite>,
    Path(path): Path<ProjectPath>,
    Form(form): Form<SecretForm>,
) -> Result<Response> {
    let owner = secrets::of_project(&app, &caller, &path.project).await?;
    secrets::put(&app, &caller, owner, form.name.trim(), &form.value).await?;
    Ok(to(&secrets_address(Some(&path.project))))
}

/// `POST /settings/secrets/delete`
pub(in crate::pages) async fn delete_secret(
    State(app): State<App>,
    caller: Visitor<SecretsWrite>,
    Form(form): Form<NameForm>,
) -> Result<Response> {
    let owner = secrets::of_organization(&caller)?;
    secrets::remove(&app, &caller, owner, &form.name).await?;
    Ok(to(&secrets_address(None)))
}

/// `POST /projects/{project}/secrets/delete`
pub(in crate::pages) async fn delete_project_secret(
    State(app): State<App>,
    caller: Visitor<SecretsWrite>,
    Path(path): Path<ProjectPath>,
    Form(form): Form<NameForm>,
) -> Result<Response> {
    let owner = secrets::of_project(&app, &caller, &path.project).await?;
    secrets::remove(&app, &caller, owner, &form.name).await?;
    Ok(to(&secrets_address(Some(&path.project))))
}
