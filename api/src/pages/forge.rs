//! Which forge calls for a project, and the exact lines that make it do so.

use askama::Template;
use axum::{extract::State, response::Response};
use buildit_shared::{
    db::forge_hooks::{self, Forge},
    permission::Permission,
};
use serde::Deserialize;

use super::{
    account::Nothing,
    error::{Result, Visitor},
    layout::{Layout, page},
    text::part,
};
use crate::{
    App,
    auth::{ProjectRead, ProjectWrite, form::Form},
    extract::Path,
    routes::{
        forges::{self, SetForge},
        projects::{self, ProjectPath},
        statuses,
    },
};

#[derive(Template)]
#[template(path = "project_forge.html")]
struct ForgePage {
    layout: Layout,
    project: String,
    address: String,
    /// The forge that calls.
    forge: Option<Forge>,
    /// What it calls.
    url: String,
    /// What it proves itself by, shown once.
    secret: Option<String>,
    place: Place,
    may_change: bool,
}

#[derive(Deserialize)]
pub(super) struct Choice {
    forge: Forge,
}

/// Where the repository is at its forge, as far as its address tells.
struct Place {
    host: String,
    /// Such as `team/web`.
    path: String,
}

impl Place {
    fn of(repository: &str) -> Self {
        let unknown = || ("FORGE".into(), "OWNER/REPOSITORY".into());
        let (host, path) = statuses::place_of(repository).unwrap_or_else(unknown);
        Self { host, path }
    }

    /// The path as one part of another one.
    fn as_part(&self) -> String {
        part(&self.path)
    }
}

impl ForgePage {
    fn is(&self, forge: &str) -> bool {
        self.forge.is_some_and(|set| set.name() == forge)
    }

    /// The secret, or what stands for it once it is not shown any more.
    fn shown_secret(&self) -> &str {
        self.secret.as_deref().unwrap_or("THE-SECRET")
    }
}

/// What people call a forge.
fn title(forge: &Forge) -> &'static str {
    match forge {
        Forge::Github => "GitHub",
        Forge::Gitlab => "GitLab",
        Forge::Gitea => "Gitea or Forgejo",
    }
}

/// `GET /projects/{project}/forge`
pub(super) async fn show(
    State(app): State<App>,
    caller: Visitor<ProjectRead>,
    Path(path): Path<ProjectPath>,
) -> Result<Response> {
    render(&app, &caller, &path.project, None).await
}

async fn render<P>(app: &App, caller: &Visitor<P>, project: &str, secret: Option<String>) -> Result<Response> {
    let project = projects::find(app, caller, project).await?;
    let hook = forge_hooks::find(app.pool(), project.id).await?;
    Ok(page(&ForgePage {
        layout: Layout::of(caller, "projects", "Forge"),
        address: format!("/projects/{}/forge", part(&project.name)),
        forge: hook.map(|hook| hook.forge),
        url: app.url(&format!("/api/v1/forges/{}", project.id)),
        place: Place::of(&project.repository),
        project: project.name,
        secret,
        may_change: caller.has(Permission::ProjectWrite),
    }))
}

/// `POST /projects/{project}/forge`: another one, or a new secret for the same.
pub(super) async fn set(
    State(app): State<App>,
    caller: Visitor<ProjectWrite>,
    Path(path): Path<ProjectPath>,
    Form(choice): Form<Choice>,
) -> Result<Response> {
    let secret = forges::put(&app, &caller, &path.project, SetForge { forge: choice.forge }).await?.secret;
    render(&app, &caller, &path.project, Some(secret)).await
}

/// `POST /projects/{project}/forge/delete`
pub(super) async fn delete(
    state: State<App>,
    caller: Visitor<ProjectWrite>,
    Path(path): Path<ProjectPath>,
    _form: Form<Nothing>,
) -> Result<Response> {
    let address = format!("/projects/{}/forge", part(&path.project));
    forges::delete(state, caller.0, Path(path)).await?;
    Ok(super::see(&address))
}
