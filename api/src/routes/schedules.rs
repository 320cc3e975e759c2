//! What the clock starts.

use axum::{
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
};
use buildit_shared::{
    db::{
        audit::{self, Entry},
        projects::Project,
        schedules,
    },
    ids::ScheduleId,
    pipeline,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::{
    projects::{self, ProjectPath},
    run_view::time,
    runs,
};
use crate::{
    App,
    auth::{Allowed, Caller, ProjectRead, ProjectWrite},
    error::{ApiError, ErrorBody, Result},
    extract::{Json, Path, Query},
    page::{Page, PageParams},
};

/// How many of the times to come are told.
const SHOWN: usize = 5;

/// A schedule of a pipeline: of its file on the default branch, or added by hand.
#[derive(Serialize, ToSchema)]
pub(crate) struct Schedule {
    pub(crate) id: Uuid,
    pipeline_id: Uuid,
    /// The pipeline's name.
    pub(crate) pipeline: String,
    /// Minute, hour, day of the month, month, day of the week.
    pub(crate) cron: String,
    /// The time zone that they are about.
    pub(crate) timezone: String,
    /// The next times, soonest first; none while it is paused.
    pub(crate) next: Vec<Timestamp>,
    /// When it was due last. What was missed while nobody was there is started once.
    pub(crate) last: Option<Timestamp>,
    /// Who added it by hand; null where the pipeline's file has it.
    pub(crate) added_by: Option<String>,
    pub(crate) paused: bool,
    pub(crate) paused_by: Option<String>,
}

impl From<schedules::Scheduled> for Schedule {
    fn from(row: schedules::Scheduled) -> Self {
        let schedule = pipeline::Schedule { cron: row.cron, timezone: row.timezone };
        let paused = row.paused_at.is_some();
        let first = Some(row.next_at.to_jiff()).filter(|_| !paused);
        let next = std::iter::successors(first, |moment| schedule.next_after(*moment)).take(SHOWN).collect();
        Self {
            id: row.id.uuid(),
            pipeline_id: row.pipeline_id.uuid(),
            pipeline: row.pipeline,
            cron: schedule.cron,
            timezone: schedule.timezone,
            next,
            last: time(row.last_at),
            added_by: row.added_by,
            paused,
            paused_by: row.paused_by,
        }
    }
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewSchedule {
    /// Minute, hour, day of the month, month, day of the week.
    pub(crate) cron: String,
    /// `UTC` without it.
    pub(crate) timezone: Option<String>,
    /// A pipeline's id or name; the one called `default`, or the only one, without it.
    pub(crate) pipeline: Option<String>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ScheduleChanges {
    /// A paused one starts nothing. What was due meanwhile does not come.
    pub(crate) paused: bool,
}

/// A schedule by its project and id.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct SchedulePath {
    /// The project's id or its name.
    pub(crate) project: String,
    /// The schedule's id.
    pub(crate) schedule: Uuid,
}

/// A project's schedules: those of the pipeline files of its default branch, and those added by hand.
#[utoipa::path(get, path = "/api/v1/projects/{project}/schedules", tag = "projects", operation_id = "list_schedules",
    security(("api_key" = ["project:read"])), params(ProjectPath, PageParams),
    responses((status = 200, body = Page<Schedule>), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn list(
    State(app): State<App>,
    caller: Allowed<ProjectRead>,
    Path(path): Path<ProjectPath>,
    Query(page): Query<PageParams>,
) -> Result<Json<Page<Schedule>>> {
    let project = projects::find(&app, &caller, &path.project).await?;
    let found = schedules::list(app.pool(), caller.scope(), project.id, page.after()?, page.fetch()?).await?;
    Ok(Json(page.page(found, |schedule| schedule.id)?))
}

/// Add a schedule by hand. Its runs are of the default branch, and start whatever `on` says.
#[utoipa::path(post, path = "/api/v1/projects/{project}/schedules", tag = "projects", operation_id = "create_schedule",
    security(("api_key" = ["project:write"])), params(ProjectPath), request_body = NewSchedule,
    responses((status = 201, body = Schedule), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn create(
    State(app): State<App>,
    caller: Allowed<ProjectWrite>,
    Path(path): Path<ProjectPath>,
    Json(new): Json<NewSchedule>,
) -> Result<impl IntoResponse> {
    let made = make(&app, &caller, &path.project, new).await?;
    let location = app.url(&format!("/api/v1/projects/{}/schedules", path.project));
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(made)))
}

/// Adds a schedule.
pub(crate) async fn make(app: &App, caller: &Caller, project: &str, new: NewSchedule) -> Result<Schedule> {
    let project = projects::find(app, caller, project).await?;
    let pipeline = runs::choose_pipeline(app, &project, new.pipeline.as_deref()).await?;
    let timezone = new.timezone.unwrap_or_else(|| "UTC".into());
    let schedule = pipeline::Schedule { cron: new.cron, timezone };
    schedule.check().map_err(|(field, message)| ApiError::invalid(field, message))?;
    let next = next(&schedule)?;
    let mut tx = app.pool().begin().await?;
    let id = schedules::add(&mut *tx, pipeline, &schedule, next, &caller.name())
        .await?
        .ok_or_else(|| ApiError::conflict("schedule_exists", "this pipeline has that very schedule already"))?;
    let made = schedules::find(&mut *tx, project.id, id).await?.ok_or_else(|| ApiError::not_found("schedule", id))?;
    audit::write(&mut *tx, caller.actor(), entry("schedule.added", &project, &made).after(shown(&made))).await?;
    tx.commit().await?;
    Ok(made.into())
}

/// Pause a schedule, or resume it.
#[utoipa::path(patch, path = "/api/v1/projects/{project}/schedules/{schedule}", tag = "projects",
    operation_id = "update_schedule",
    security(("api_key" = ["project:write"])), params(SchedulePath), request_body = ScheduleChanges,
    responses((status = 200, body = Schedule), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn update(
    State(app): State<App>,
    caller: Allowed<ProjectWrite>,
    Path(path): Path<SchedulePath>,
    Json(changes): Json<ScheduleChanges>,
) -> Result<Json<Schedule>> {
    let (project, before) = find(&app, &caller, &path).await?;
    let mut tx = app.pool().begin().await?;
    if changes.paused != before.paused_at.is_some() {
        let action = if changes.paused {
            schedules::pause(&mut *tx, before.id, &caller.name()).await?;
            "schedule.paused"
        } else {
            let schedule = pipeline::Schedule { cron: before.cron.clone(), timezone: before.timezone.clone() };
            schedules::resume(&mut *tx, before.id, next(&schedule)?).await?;
            "schedule.resumed"
        };
        audit::write(&mut *tx, caller.actor(), entry(action, &project, &before)).await?;
    }
    let found = schedules::find(&mut *tx, project.id, before.id).await?;
    let changed = found.ok_or_else(|| ApiError::not_found("schedule", path.schedule))?;
    tx.commit().await?;
    Ok(Json(changed.into()))
}

/// Delete a schedule that was added by hand. One of a pipeline's file goes with the file, or is paused.
#[utoipa::path(delete, path = "/api/v1/projects/{project}/schedules/{schedule}", tag = "projects",
    operation_id = "delete_schedule", security(("api_key" = ["project:write"])), params(SchedulePath),
    responses((status = 204), (status = 409, description = "it is of the pipeline's file", body = ErrorBody),
              (status = "4XX", body = ErrorBody)))]
pub(crate) async fn delete(
    State(app): State<App>,
    caller: Allowed<ProjectWrite>,
    Path(path): Path<SchedulePath>,
) -> Result<StatusCode> {
    let (project, schedule) = find(&app, &caller, &path).await?;
    let mut tx = app.pool().begin().await?;
    if !schedules::delete(&mut *tx, schedule.id).await? {
        let message = "this schedule is of the pipeline's file: take it out there, or pause it";
        return Err(ApiError::conflict("schedule_of_file", message));
    }
    let entry = entry("schedule.deleted", &project, &schedule).before(shown(&schedule));
    audit::write(&mut *tx, caller.actor(), entry).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn find(app: &App, caller: &Caller, path: &SchedulePath) -> Result<(Project, schedules::Scheduled)> {
    let project = projects::find(app, caller, &path.project).await?;
    let found = schedules::find(app.pool(), project.id, ScheduleId::from(path.schedule)).await?;
    Ok((project, found.ok_or_else(|| ApiError::not_found("schedule", path.schedule))?))
}

fn next(schedule: &pipeline::Schedule) -> Result<Timestamp> {
    schedule
        .next_after(Timestamp::now())
        .ok_or_else(|| ApiError::invalid("cron", format!("{:?} never comes", schedule.cron)))
}

fn entry(action: &'static str, project: &Project, schedule: &schedules::Scheduled) -> Entry {
    let subject = format!("{} {}", schedule.cron, schedule.timezone);
    Entry::new(action, subject).id(schedule.id).project(project.id)
}

/// What the audit log shows of it.
fn shown(schedule: &schedules::Scheduled) -> Value {
    json!({ "pipeline": schedule.pipeline, "cron": schedule.cron, "timezone": schedule.timezone })
}
