//! Secrets, of the organization, and of a project by its environments. Nobody can read one.

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
    /// Where its steps may deploy to, as far as that is known.
    environments: Vec<String>,
    /// What any step gets, then what each environment's do.
    groups: Vec<Group>,
}

struct Group {
    environment: Option<String>,
    secrets: Vec<SecretRow>,
}

struct SecretRow {
    name: String,
    by: String,
    at: When,
}

#[derive(Deserialize)]
pub(in crate::pages) struct SecretForm {
    /// Of a project's own: the environment that it is for, empty for any step.
    #[serde(default)]
    environment: String,
    name: String,
    value: String,
}

#[derive(Deserialize)]
pub(in crate::pages) struct NameForm {
    #[serde(default)]
    environment: String,
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
    let found = secret_rows::list(app.pool(), &owner, None, MOST).await?;
    let environments = match owner.project {
        Some(project) => secret_rows::environments(app.pool(), project).await?,
        None => Vec::new(),
    };
    let section = if project.is_some() { "projects" } else { "settings" };
    Ok(page(&SecretsPage {
        layout: Layout::of(caller, section, "Secrets"),
        tabs: Tabs::of(caller, "secrets"),
        address: secrets_address(project.as_deref()),
        project,
        environments,
        groups: grouped(found),
    }))
}

/// They come by environment.
fn grouped(found: Vec<secret_rows::Secret>) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for secret in found {
        let row = SecretRow { name: secret.name, by: secret.set_by, at: When::of(secret.set_at) };
        match groups.last_mut().filter(|group| group.environment == secret.environment) {
            Some(group) => group.secrets.push(row),
            None => groups.push(Group { environment: secret.environment, secrets: vec![row] }),
        }
    }
    groups
}

/// A project's own, or those of its environment if the form names one.
async fn of_project(app: &App, caller: &Visitor<SecretsWrite>, project: &str, environment: &str) -> Result<Owner> {
    Ok(match environment.trim() {
        "" => secrets::of_project(app, caller, project).await?,
        environment => secrets::of_environment(app, caller, project, environment).await?,
    })
}

/// `POST /settings/secrets`
pub(in crate::pages) async fn set_secret(
    State(app): State<App>,
    caller: Visitor<SecretsWrite>,
    Form(form): Form<SecretForm>,
) -> Result<Response> {
    let owner = secrets::of_organization(&caller)?;
    secrets::put(&app, &caller, &owner, form.name.trim(), &form.value).await?;
    Ok(to(&secrets_address(None)))
}

/// `POST /projects/{project}/secrets`
pub(in crate::pages) async fn set_project_secret(
    State(app): State<App>,
    caller: Visitor<SecretsWrite>,
    Path(path): Path<ProjectPath>,
    Form(form): Form<SecretForm>,
) -> Result<Response> {
    let owner = of_project(&app, &caller, &path.project, &form.environment).await?;
    secrets::put(&app, &caller, &owner, form.name.trim(), &form.value).await?;
    Ok(to(&secrets_address(Some(&path.project))))
}

/// `POST /settings/secrets/delete`
pub(in crate::pages) async fn delete_secret(
    State(app): State<App>,
    caller: Visitor<SecretsWrite>,
    Form(form): Form<NameForm>,
) -> Result<Response> {
    let owner = secrets::of_organization(&caller)?;
    secrets::remove(&app, &caller, &owner, &form.name).await?;
    Ok(to(&secrets_address(None)))
}

/// `POST /projects/{project}/secrets/delete`
pub(in crate::pages) async fn delete_project_secret(
    State(app): State<App>,
    caller: Visitor<SecretsWrite>,
    Path(path): Path<ProjectPath>,
    Form(form): Form<NameForm>,
) -> Result<Response> {
    let owner = of_project(&app, &caller, &path.project, &form.environment).await?;
    secrets::remove(&app, &caller, &owner, &form.name).await?;
    Ok(to(&secrets_address(Some(&path.project))))
}
