//! Projects, and a project's pipelines.

use askama::Template;
use axum::{
    extract::State,
    response::{IntoResponse, Redirect, Response},
};
use buildit_shared::{
    db::overviews::{self, Overview},
    permission::Permission,
};
use serde::Deserialize;

use super::{
    error::{Result, Visitor},
    layout::{Layout, page},
    status::Status,
    text::{When, first_line, part, short_ref},
};
use crate::{
    App,
    auth::ProjectRead,
    extract::{Path, Query},
    routes::projects::{self, ProjectPath},
};

/// How many are on a page.
const PAGE: i64 = 50;
/// The most pipelines of a project that are shown.
const PIPELINES: i64 = 500;

#[derive(Deserialize)]
pub(super) struct Search {
    #[serde(default)]
    q: String,
    after: Option<String>,
}

#[derive(Template)]
#[template(path = "projects.html")]
struct Projects {
    layout: Layout,
    rows: Vec<Row>,
    search: String,
    next: Option<String>,
    /// The address of this installation, for what one is to type.
    url: String,
    may_make: bool,
}

#[derive(Template)]
#[template(path = "project.html")]
struct Project {
    layout: Layout,
    name: String,
    repository: String,
    rows: Vec<Row>,
    may_change: bool,
}

/// A project or a pipeline with its last run.
struct Row {
    href: String,
    name: String,
    status: Status,
    what: String,
    at: Option<When>,
    recent: Vec<Status>,
}

impl Row {
    fn of(found: Overview, href: String) -> Self {
        let message = found.commit_message.as_deref().map(first_line).unwrap_or_default();
        let git_ref = short_ref(found.branch.as_deref(), found.git_ref.as_deref().unwrap_or_default());
        let what = match (found.number, message.is_empty()) {
            (None, _) => "No run yet".into(),
            (Some(number), true) => format!("#{number} {git_ref}"),
            (Some(number), false) => format!("#{number} {git_ref}: {message}"),
        };
        Self {
            href,
            what,
            status: found.status.map_or(Status("none"), Status::from),
            at: found.created_at.map(When::of),
            recent: found.recent.iter().map(|name| Status::named(name)).collect(),
            name: found.name,
        }
    }
}

/// `GET /`
pub(super) async fn list(
    State(app): State<App>,
    caller: Visitor<ProjectRead>,
    Query(search): Query<Search>,
) -> Result<Response> {
    let wanted = search.q.trim().to_lowercase();
    let part_of_name = (!wanted.is_empty()).then_some(wanted.as_str());
    let mut found =
        overviews::projects(app.pool(), caller.scope(), part_of_name, search.after.as_deref(), PAGE + 1).await?;
    let more = found.len() > PAGE as usize;
    found.truncate(PAGE as usize);
    let next = found.last().filter(|_| more).map(|last| format!("/?q={}&after={}", part(&wanted), part(&last.name)));
    let rows = found.into_iter().map(|project| {
        let href = format!("/projects/{}", part(&project.name));
        Row::of(project, href)
    });
    let may_make = caller.has(Permission::ProjectWrite) && caller.scope().project.is_none();
    let layout = Layout::of(&caller, "projects", "Projects").live("/live/runs".into());
    Ok(page(&Projects { layout, rows: rows.collect(), search: wanted, next, url: app.url(""), may_make }))
}

/// `GET /projects/{project}`: its one pipeline, or those that it has.
pub(super) async fn show(
    State(app): State<App>,
    caller: Visitor<ProjectRead>,
    Path(path): Path<ProjectPath>,
) -> Result<Response> {
    let project = projects::find(&app, &caller, &path.project).await?;
    let found = overviews::pipelines(app.pool(), project.id, PIPELINES).await?;
    let address = |name: &str| format!("/projects/{}/pipelines/{}", part(&project.name), part(name));
    if let [only] = found.as_slice() {
        return Ok(Redirect::to(&address(&only.name)).into_response());
    }
    let rows = found.into_iter().map(|pipeline| {
        let href = address(&pipeline.name);
        Row::of(pipeline, href)
    });
    let layout = Layout::of(&caller, "projects", project.name.as_str()).live("/live/runs".into());
    Ok(page(&Project {
        layout,
        may_change: caller.has(Permission::ProjectWrite),
        rows: rows.collect(),
        name: project.name,
        repository: project.repository,
    }))
}
