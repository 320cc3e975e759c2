//! What the clock starts.

use axum::extract::State;
use buildit_shared::{db::schedules, pipeline};
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    projects::{self, ProjectPath},
    run_view::time,
};
use crate::{
    App,
    auth::{Allowed, ProjectRead},
    error::{ErrorBody, Result},
    extract::{Json, Path, Query},
    page::{Page, PageParams},
};

/// How many of the times to come are told.
const SHOWN: usize = 5;

/// A schedule of a pipeline file on the default branch.
#[derive(Serialize, ToSchema)]
pub(crate) struct Schedule {
    id: Uuid,
    pipeline_id: Uuid,
    /// The pipeline's name.
    pipeline: String,
    /// Minute, hour, day of the month, month, day of the week.
    cron: String,
    /// The time zone that they are about.
    timezone: String,
    /// The next times, soonest first.
    next: Vec<Timestamp>,
    /// When it was due last. What was missed while nobody was there is started once.
    last: Option<Timestamp>,
}

impl From<schedules::Scheduled> for Schedule {
    fn from(row: schedules::Scheduled) -> Self {
        let schedule = pipeline::Schedule { cron: row.cron, timezone: row.timezone };
        let first = row.next_at.to_jiff();
        let next = std::iter::successors(Some(first), |moment| schedule.next_after(*moment)).take(SHOWN).collect();
        Self {
            id: row.id.uuid(),
            pipeline_id: row.pipeline_id.uuid(),
            pipeline: row.pipeline,
            cron: schedule.cron,
            timezone: schedule.timezone,
            next,
            last: time(row.last_at),
        }
    }
}

/// A project's schedules, as the pipeline files of its default branch have them.
#[utoipa::path(get, path = "/api/v1/projects/{project}/schedules", tag = "projects",
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
