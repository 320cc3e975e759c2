//! How BuildIt hears of what happens in a repository, with the lines to paste, and the first run.

use askama::Template;
use axum::{extract::State, response::Response};
use buildit_shared::db::{forge_hooks, projects::Project, run_queries, schedules};

use super::{
    super::{
        error::{Result, Visitor},
        layout::{Layout, page},
        text::part,
    },
    PipelinePath, Progress, address, find,
};
use crate::{App, auth::ProjectWrite, extract::Path};

#[derive(Template)]
#[template(path = "wizard_start.html")]
struct StartPage {
    layout: Layout,
    progress: Progress,
    project: Project,
    project_href: String,
    pipeline: String,
    address: String,
    /// What the pipeline is read from.
    source: String,
    /// The repository is a folder on a machine.
    is_path: bool,
    /// The name of the forge that calls already.
    forge: Option<&'static str>,
    schedules: Vec<String>,
    has_runs: bool,
    /// The address of this installation, for what one is to paste.
    url: String,
}

/// `GET …/setup/start`
pub(in crate::pages) async fn show(
    State(app): State<App>,
    caller: Visitor<ProjectWrite>,
    Path(path): Path<PipelinePath>,
) -> Result<Response> {
    let (project, pipeline) = find(&app, &caller, &path).await?;
    let forge = forge_hooks::find(app.pool(), project.id).await?.map(|hook| hook.forge.name());
    let scheduled = schedules::list(app.pool(), caller.scope(), project.id, None, 20).await?;
    let of_pipeline = scheduled.into_iter().filter(|schedule| schedule.pipeline_id == pipeline.id);
    let filter = run_queries::Filter {
        project: Some(project.id),
        pipeline: Some(pipeline.id),
        ..run_queries::Filter::default()
    };
    let has_runs = !run_queries::list(app.pool(), caller.scope(), &filter, None, 1).await?.is_empty();
    Ok(page(&StartPage {
        layout: Layout::of(&caller, "projects", format!("Set up {}", project.name)),
        progress: Progress { now: 3 },
        project_href: format!("/projects/{}", part(&project.name)),
        address: address(&project, &pipeline),
        source: match &pipeline.file {
            Some(file) => format!("the file {file}"),
            None => "the text stored in BuildIt".into(),
        },
        pipeline: pipeline.name,
        is_path: project.repository.starts_with('/'),
        forge,
        schedules: of_pipeline.map(|schedule| format!("{} {}", schedule.cron, schedule.timezone)).collect(),
        has_runs,
        url: app.url(""),
        project,
    }))
}
