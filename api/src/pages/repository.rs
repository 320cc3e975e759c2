//! What opens a project's private repository, and whether its forge is told how runs stand.

use askama::Template;
use axum::{extract::State, http::StatusCode, response::Response};
use buildit_shared::db::forge_hooks::Forge;
use serde::Deserialize;

use super::{
    account::Nothing,
    error::{Result, Visitor},
    layout::{Layout, page_with},
    text::{Sentence, When, part},
};
use crate::{
    App,
    auth::{SecretsWrite, form::Form},
    error::ApiError,
    extract::Path,
    routes::{
        credentials::{self, Credential, SetCredential},
        projects::{self, ProjectPath},
        statuses::{self, SetStatuses, Statuses},
    },
};

#[derive(Template)]
#[template(path = "project_repository.html")]
struct RepositoryPage {
    layout: Layout,
    project: String,
    address: String,
    repository: String,
    credential: Option<Credential>,
    statuses: Option<Statuses>,
    /// What was wrong with what was sent.
    problem: Option<Sentence>,
}

impl RepositoryPage {
    fn is_path(&self) -> bool {
        self.repository.starts_with('/')
    }

    fn is_https(&self) -> bool {
        self.repository.starts_with("https://")
    }

    fn is_told(&self, forge: &str) -> bool {
        self.statuses.as_ref().is_some_and(|statuses| statuses.forge == forge)
    }
}

/// Fields that are empty were not given.
#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
pub(super) struct CredentialForm {
    token: String,
    username: String,
    private_key: String,
    known_hosts: String,
}

#[derive(Deserialize)]
pub(super) struct StatusesForm {
    forge: Forge,
    token: String,
    #[serde(default)]
    api_url: String,
    #[serde(default)]
    repository: String,
}

/// `GET /projects/{project}/repository`
pub(super) async fn show(
    State(app): State<App>,
    caller: Visitor<SecretsWrite>,
    Path(path): Path<ProjectPath>,
) -> Result<Response> {
    render(&app, &caller, &path.project, None).await
}

async fn render(
    app: &App,
    caller: &Visitor<SecretsWrite>,
    project: &str,
    problem: Option<ApiError>,
) -> Result<Response> {
    let project = projects::find(app, caller, project).await?;
    let status = problem.as_ref().map_or(StatusCode::OK, ApiError::status);
    let page = RepositoryPage {
        layout: Layout::of(caller, "projects", "Repository"),
        address: format!("/projects/{}/repository", part(&project.name)),
        credential: credentials::shown(app, &project).await?,
        statuses: statuses::shown(app, &project).await?,
        repository: project.repository,
        project: project.name,
        problem: problem.map(|error| Sentence(error.to_string())),
    };
    Ok(page_with(status, &page))
}

/// Back to the page, which says what was wrong where the caller can mend it.
async fn answer(
    app: &App,
    caller: &Visitor<SecretsWrite>,
    project: &str,
    done: std::result::Result<(), ApiError>,
) -> Result<Response> {
    match done {
        Ok(()) => Ok(super::see(&format!("/projects/{}/repository", part(project)))),
        Err(error) if error.status().is_client_error() => render(app, caller, project, Some(error)).await,
        Err(error) => Err(error.into()),
    }
}

fn given(text: &str) -> Option<String> {
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// `POST /projects/{project}/repository/credential`
pub(super) async fn set_credential(
    State(app): State<App>,
    caller: Visitor<SecretsWrite>,
    Path(path): Path<ProjectPath>,
    Form(form): Form<CredentialForm>,
) -> Result<Response> {
    let project = projects::find(&app, &caller, &path.project).await?;
    let new = match form.private_key.is_empty() {
        true => SetCredential::Token { token: form.token.trim().to_owned(), username: given(&form.username) },
        false => SetCredential::SshKey { private_key: form.private_key, known_hosts: form.known_hosts },
    };
    let done = credentials::put(&app, &caller, &project, new).await;
    answer(&app, &caller, &path.project, done).await
}

/// `POST /projects/{project}/repository/credential/delete`
pub(super) async fn delete_credential(
    State(app): State<App>,
    caller: Visitor<SecretsWrite>,
    Path(path): Path<ProjectPath>,
    _form: Form<Nothing>,
) -> Result<Response> {
    let project = projects::find(&app, &caller, &path.project).await?;
    let done = credentials::remove(&app, &caller, &project).await;
    answer(&app, &caller, &path.project, done).await
}

/// `POST /projects/{project}/repository/statuses`
pub(super) async fn set_statuses(
    State(app): State<App>,
    caller: Visitor<SecretsWrite>,
    Path(path): Path<ProjectPath>,
    Form(form): Form<StatusesForm>,
) -> Result<Response> {
    let project = projects::find(&app, &caller, &path.project).await?;
    let new = SetStatuses {
        forge: form.forge,
        token: form.token.trim().to_owned(),
        api_url: given(&form.api_url),
        repository: given(&form.repository),
    };
    let done = statuses::put(&app, &caller, &project, &new).await;
    answer(&app, &caller, &path.project, done).await
}

/// `POST /projects/{project}/repository/statuses/delete`
pub(super) async fn delete_statuses(
    State(app): State<App>,
    caller: Visitor<SecretsWrite>,
    Path(path): Path<ProjectPath>,
    _form: Form<Nothing>,
) -> Result<Response> {
    let project = projects::find(&app, &caller, &path.project).await?;
    let done = statuses::remove(&app, &caller, &project).await;
    answer(&app, &caller, &path.project, done).await
}
