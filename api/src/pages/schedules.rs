//! What the clock starts in a project.

use askama::Template;
use axum::{extract::State, http::StatusCode, response::Response};
use buildit_shared::{
    db::{pipelines, schedules as rows},
    permission::Permission,
};
use jiff::{Timestamp, tz::TimeZoneDatabase};
use serde::Deserialize;

use super::{
    account::Nothing,
    error::{Result, Visitor},
    layout::{Layout, page_with},
    text::{When, part},
};
use crate::{
    App,
    auth::{ProjectRead, ProjectWrite, form::Form},
    error::ApiError,
    extract::{Json, Path},
    routes::{
        projects::{self, ProjectPath},
        schedules::{self, NewSchedule, Schedule, ScheduleChanges, SchedulePath},
    },
};

/// The most that a page shows.
const MOST: i64 = 200;

#[derive(Template)]
#[template(path = "project_schedules.html")]
struct SchedulesPage {
    layout: Layout,
    project: String,
    address: String,
    default_branch: String,
    rows: Vec<Row>,
    pipelines: Vec<String>,
    given: Given,
    problem: Option<String>,
    may_change: bool,
}

struct Row {
    schedule: Schedule,
    last: Option<When>,
    /// The next times, on the clock of its time zone.
    next: Vec<String>,
}

#[derive(Default, Deserialize)]
pub(super) struct Given {
    cron: String,
    #[serde(default)]
    timezone: String,
    #[serde(default)]
    pipeline: String,
}

impl From<rows::Scheduled> for Row {
    fn from(row: rows::Scheduled) -> Self {
        let schedule = Schedule::from(row);
        Self {
            last: schedule.last.map(When),
            next: schedule.next.iter().take(3).map(|at| local(*at, &schedule.timezone)).collect(),
            schedule,
        }
    }
}

/// A moment as the clocks of that time zone show it.
pub(super) fn local(at: Timestamp, timezone: &str) -> String {
    match TimeZoneDatabase::bundled().get(timezone) {
        Ok(zone) => at.to_zoned(zone).strftime("%a %Y-%m-%d %H:%M %Z").to_string(),
        Err(_) => at.to_string(),
    }
}

/// `GET /projects/{project}/schedules`
pub(super) async fn show(
    State(app): State<App>,
    caller: Visitor<ProjectRead>,
    Path(path): Path<ProjectPath>,
) -> Result<Response> {
    render(&app, &caller, &path.project, Given::default(), None).await
}

async fn render<P>(
    app: &App,
    caller: &Visitor<P>,
    project: &str,
    given: Given,
    problem: Option<ApiError>,
) -> Result<Response> {
    let project = projects::find(app, caller, project).await?;
    let found = rows::list(app.pool(), caller.scope(), project.id, None, MOST).await?;
    let pipelines = pipelines::list(app.pool(), project.id, None, MOST).await?;
    let status = problem.as_ref().map_or(StatusCode::OK, ApiError::status);
    Ok(page_with(
        status,
        &SchedulesPage {
            layout: Layout::of(caller, "projects", "Schedules").live("/live/runs".into()),
            address: format!("/projects/{}/schedules", part(&project.name)),
            project: project.name,
            default_branch: project.default_branch,
            rows: found.into_iter().map(Row::from).collect(),
            pipelines: pipelines.into_iter().map(|pipeline| pipeline.name).collect(),
            given,
            problem: problem.map(|error| error.to_string()),
            may_change: caller.has(Permission::ProjectWrite),
        },
    ))
}

/// `POST /projects/{project}/schedules`
pub(super) async fn add(
    State(app): State<App>,
    caller: Visitor<ProjectWrite>,
    Path(path): Path<ProjectPath>,
    Form(given): Form<Given>,
) -> Result<Response> {
    let text = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
    let new = NewSchedule {
        cron: given.cron.trim().to_owned(),
        timezone: text(&given.timezone),
        pipeline: text(&given.pipeline),
    };
    match schedules::make(&app, &caller, &path.project, new).await {
        Ok(_) => Ok(back(&path.project)),
        Err(error) if error.status().is_client_error() => {
            render(&app, &caller, &path.project, given, Some(error)).await
        }
        Err(error) => Err(error.into()),
    }
}

/// `POST /projects/{project}/schedules/{schedule}/pause`
pub(super) async fn pause(
    state: State<App>,
    caller: Visitor<ProjectWrite>,
    path: Path<SchedulePath>,
    _form: Form<Nothing>,
) -> Result<Response> {
    change(state, caller, path, true).await
}

/// `POST /projects/{project}/schedules/{schedule}/resume`
pub(super) async fn resume(
    state: State<App>,
    caller: Visitor<ProjectWrite>,
    path: Path<SchedulePath>,
    _form: Form<Nothing>,
) -> Result<Response> {
    change(state, caller, path, false).await
}

async fn change(
    state: State<App>,
    caller: Visitor<ProjectWrite>,
    Path(path): Path<SchedulePath>,
    paused: bool,
) -> Result<Response> {
    let back = back(&path.project);
    schedules::update(state, caller.0, Path(path), Json(ScheduleChanges { paused })).await?;
    Ok(back)
}

/// `POST /projects/{project}/schedules/{schedule}/delete`
pub(super) async fn delete(
    state: State<App>,
    caller: Visitor<ProjectWrite>,
    Path(path): Path<SchedulePath>,
    _form: Form<Nothing>,
) -> Result<Response> {
    let back = back(&path.project);
    schedules::delete(state, caller.0, Path(path)).await?;
    Ok(back)
}

fn back(project: &str) -> Response {
    super::see(&format!("/projects/{}/schedules", part(project)))
}
