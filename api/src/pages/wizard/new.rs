//! A new project, and a further pipeline of one that is there.

use askama::Template;
use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Redirect, Response},
};
use buildit_shared::db::{projects::DEFAULT_PIPELINE, repository_looks};
use serde::Deserialize;

use super::{
    super::{
        error::{Result, Visitor},
        layout::{Layout, page_with},
        text::part,
    },
    Progress,
};
use crate::{
    App,
    auth::{ProjectWrite, form::Form},
    error::ApiError,
    extract::Path,
    routes::{
        pipelines::{self, NewPipeline},
        projects::{self, NewProject, ProjectPath},
    },
};
use buildit_shared::jobs::{JobArgs, LookAtRepository};

#[derive(Default, Deserialize)]
pub(in crate::pages) struct ProjectForm {
    repository: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    branch: String,
}

#[derive(Default, Deserialize)]
pub(in crate::pages) struct PipelineForm {
    name: String,
    #[serde(default)]
    file: String,
}

#[derive(Template)]
#[template(path = "wizard_new.html")]
struct NewPage {
    layout: Layout,
    progress: Progress,
    given: ProjectForm,
    /// Folders that repositories on this machine may be in.
    roots: Vec<String>,
    problem: Option<String>,
}

#[derive(Template)]
#[template(path = "wizard_pipeline.html")]
struct PipelinePage {
    layout: Layout,
    progress: Progress,
    project: String,
    given: PipelineForm,
    problem: Option<String>,
}

/// `GET /new`
pub(in crate::pages) async fn form(State(app): State<App>, caller: Visitor<ProjectWrite>) -> Result<Response> {
    caller.require_whole_organization()?;
    Ok(render(&app, &caller, ProjectForm::default(), None))
}

fn render(app: &App, caller: &Visitor<ProjectWrite>, given: ProjectForm, problem: Option<ApiError>) -> Response {
    let status = problem.as_ref().map_or(StatusCode::OK, ApiError::status);
    let roots = app.config.repository_roots.iter().map(|root| root.display().to_string()).collect();
    let problem = problem.map(|error| error.to_string());
    let layout = Layout::of(caller, "projects", "New project");
    page_with(status, &NewPage { layout, progress: Progress { now: 1 }, given, roots, problem })
}

/// `POST /new`
pub(in crate::pages) async fn make(
    State(app): State<App>,
    caller: Visitor<ProjectWrite>,
    Form(given): Form<ProjectForm>,
) -> Result<Response> {
    let trimmed = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
    let repository = given.repository.trim().to_owned();
    let new = NewProject {
        name: trimmed(&given.name).unwrap_or_else(|| name_of(&repository)),
        repository,
        default_branch: trimmed(&given.branch),
    };
    let project = match projects::make(&app, &caller, new).await {
        Ok(project) => project,
        Err(error) if error.status().is_client_error() => return Ok(render(&app, &caller, given, Some(error))),
        Err(error) => return Err(error.into()),
    };
    let address = format!("/projects/{}/pipelines/{}", part(&project.name), part(DEFAULT_PIPELINE));
    let pipeline = buildit_shared::db::pipelines::find_named(app.pool(), project.id, DEFAULT_PIPELINE).await?;
    if let Some(pipeline) = pipeline {
        ask(&app, caller.scope().organization, project.id, pipeline.id).await?;
    }
    Ok(Redirect::to(&format!("{address}/setup")).into_response())
}

/// Has a worker look at the repository.
pub(super) async fn ask(
    app: &App,
    organization: buildit_shared::ids::OrganizationId,
    project: buildit_shared::ids::ProjectId,
    pipeline: buildit_shared::ids::PipelineId,
) -> Result<()> {
    let mut tx = app.pool().begin().await?;
    repository_looks::ask(&mut tx, organization, project, pipeline).await?;
    tx.commit().await?;
    app.notifier.jobs(LookAtRepository::QUEUE);
    Ok(())
}

/// What a project is called after its repository.
fn name_of(repository: &str) -> String {
    let last = repository.trim_end_matches('/').rsplit(['/', ':']).next().unwrap_or_default();
    let last = last.strip_suffix(".git").unwrap_or(last).to_lowercase();
    let dashed: String = last.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    dashed.trim_matches('-').chars().take(63).collect()
}

/// `GET /projects/{project}/new`
pub(in crate::pages) async fn pipeline_form(
    State(app): State<App>,
    caller: Visitor<ProjectWrite>,
    Path(path): Path<ProjectPath>,
) -> Result<Response> {
    let project = projects::find(&app, &caller, &path.project).await?;
    Ok(render_pipeline(&caller, project.name, PipelineForm::default(), None))
}

fn render_pipeline(
    caller: &Visitor<ProjectWrite>,
    project: String,
    given: PipelineForm,
    problem: Option<ApiError>,
) -> Response {
    let status = problem.as_ref().map_or(StatusCode::OK, ApiError::status);
    let problem = problem.map(|error| error.to_string());
    let layout = Layout::of(caller, "projects", "New pipeline");
    page_with(status, &PipelinePage { layout, progress: Progress { now: 1 }, project, given, problem })
}

/// `POST /projects/{project}/new`
pub(in crate::pages) async fn make_pipeline(
    State(app): State<App>,
    caller: Visitor<ProjectWrite>,
    Path(path): Path<ProjectPath>,
    Form(given): Form<PipelineForm>,
) -> Result<Response> {
    let project = projects::find(&app, &caller, &path.project).await?;
    let name = given.name.trim().to_owned();
    let file = match given.file.trim() {
        "" => format!(".platform/{}.yaml", name_of(&name)),
        file => file.to_owned(),
    };
    let new = NewPipeline { name, file: Some(file), config: None };
    let pipeline = match pipelines::make(&app, &caller, &project, new).await {
        Ok(pipeline) => pipeline,
        Err(error) if error.status().is_client_error() => {
            return Ok(render_pipeline(&caller, project.name, given, Some(error)));
        }
        Err(error) => return Err(error.into()),
    };
    ask(&app, caller.scope().organization, project.id, pipeline.id).await?;
    Ok(Redirect::to(&format!("{}/setup", super::address(&project, &pipeline))).into_response())
}

#[cfg(test)]
mod tests {
    use super::name_of;

    #[test]
    fn a_project_is_called_after_its_repository() {
        for (repository, name) in [
            ("https://git.example/team/Web.git", "web"),
            ("git@git.example:team/my_app", "my-app"),
            ("git.example:web", "web"),
            ("/srv/git/web.git/", "web"),
            ("", ""),
        ] {
            assert_eq!(name_of(repository), name, "{repository}");
        }
    }
}
