//! The fleet's jobs, as its operator sees and changes them.

use axum::extract::State;
use buildit_shared::{
    db::{
        fleet_actions::{self, Action, Outcome},
        fleet_jobs::{self, Failure, Filter, JobRow},
    },
    ids::{JobId, ProjectId},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::run_view::time;
use crate::{
    App,
    auth::{Allowed, Caller, FleetAdmin},
    error::{ApiError, ErrorBody, Result},
    extract::{Json, Path, Query},
    page::{Page, PageParams},
};

/// The most jobs that one request changes.
const BULK: i64 = 1000;

/// A unit of queued work.
#[derive(Serialize, ToSchema)]
pub(crate) struct Job {
    id: Uuid,
    kind: String,
    queue: String,
    /// `scheduled`, `ready` or `running`; `succeeded`, `dead`, `discarded` or `cancelled`.
    state: String,
    /// Higher goes first.
    priority: i16,
    /// Claims that counted.
    attempt: i32,
    /// Claims that may fail before it is dead.
    max_attempts: i32,
    /// Workers that died in a row while they held it.
    deaths: i16,
    worker_id: Option<Uuid>,
    cancel_requested: bool,
    /// Ids only.
    #[schema(value_type = Object)]
    args: Value,
    organization_id: Option<Uuid>,
    project_id: Option<Uuid>,
    run_id: Option<Uuid>,
    step_id: Option<Uuid>,
    enqueued_at: Timestamp,
    /// When it is due; null once it ended.
    run_at: Option<Timestamp>,
    claimed_at: Option<Timestamp>,
    ended_at: Option<Timestamp>,
    /// What it ended of.
    error: Option<String>,
}

impl From<JobRow> for Job {
    fn from(job: JobRow) -> Self {
        Self {
            id: job.id.uuid(),
            kind: job.kind,
            queue: job.queue,
            state: job.state,
            priority: job.priority,
            attempt: job.attempt,
            max_attempts: job.max_attempts,
            deaths: job.deaths,
            worker_id: job.worker_id.map(|id| id.uuid()),
            cancel_requested: job.cancel_requested,
            args: job.args,
            organization_id: job.organization_id.map(|id| id.uuid()),
            project_id: job.project_id.map(|id| id.uuid()),
            run_id: job.run_id.map(|id| id.uuid()),
            step_id: job.step_id.map(|id| id.uuid()),
            enqueued_at: job.enqueued_at.to_jiff(),
            run_at: time(job.run_at),
            claimed_at: time(job.claimed_at),
            ended_at: time(job.ended_at),
            error: job.error,
        }
    }
}

/// A job with its attempts that did not succeed.
#[derive(Serialize, ToSchema)]
pub(crate) struct JobWithErrors {
    #[serde(flatten)]
    job: Job,
    /// Oldest first.
    errors: Vec<JobFailure>,
}

/// An attempt that did not succeed.
#[derive(Serialize, ToSchema)]
struct JobFailure {
    happened_at: Timestamp,
    attempt: i32,
    /// `failed` or `worker_died`.
    kind: String,
    worker_id: Option<Uuid>,
    /// The machine of that worker, while that is known.
    host: Option<String>,
    claimed_at: Option<Timestamp>,
    error: String,
}

impl From<Failure> for JobFailure {
    fn from(failure: Failure) -> Self {
        Self {
            happened_at: failure.happened_at.to_jiff(),
            attempt: failure.attempt,
            kind: failure.kind,
            worker_id: failure.worker_id.map(|id| id.uuid()),
            host: failure.host,
            claimed_at: time(failure.claimed_at),
            error: failure.error,
        }
    }
}

/// Which jobs.
#[derive(Deserialize, IntoParams, ToSchema)]
#[into_params(parameter_in = Query)]
pub(crate) struct JobFilter {
    /// One state or several, separated by commas.
    pub(crate) state: Option<String>,
    /// The name of a kind, such as `RunStep`.
    pub(crate) kind: Option<String>,
    /// The name of a queue.
    pub(crate) queue: Option<String>,
    /// A project's id.
    pub(crate) project: Option<Uuid>,
    /// Part of the arguments or the error, or the whole id. Of the jobs that succeeded the newest 10,000 are looked through.
    pub(crate) text: Option<String>,
}

impl JobFilter {
    pub(crate) fn parse(self) -> Result<Filter> {
        let states = self.state.as_deref().unwrap_or_default().split(',').filter(|name| !name.is_empty());
        let states: Vec<String> = states.map(str::to_owned).collect();
        let known = fleet_jobs::LIVE.iter().chain(&fleet_jobs::UNSUCCESSFUL).chain(&[fleet_jobs::SUCCEEDED]);
        if let Some(unknown) = states.iter().find(|state| !known.clone().any(|known| known == state)) {
            let all = known.copied().collect::<Vec<_>>().join(", ");
            return Err(ApiError::invalid("state", format!("{unknown:?} is none of {all}")));
        }
        Ok(Filter {
            states,
            kind: self.kind,
            queue: self.queue,
            project: self.project.map(ProjectId::from),
            scope: None,
            text: self.text.filter(|text| !text.is_empty()),
        })
    }
}

/// A job by its id.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct JobPath {
    /// Its id.
    pub(crate) job: Uuid,
}

/// Jobs, newest first, those that ended included.
#[utoipa::path(get, path = "/api/v1/fleet/jobs", tag = "fleet",
    operation_id = "list_jobs", security(("api_key" = ["fleet:admin"])), params(JobFilter, PageParams),
    responses((status = 200, body = Page<Job>), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn list(
    State(app): State<App>,
    _caller: Allowed<FleetAdmin>,
    Query(filter): Query<JobFilter>,
    Query(page): Query<PageParams>,
) -> Result<Json<Page<Job>>> {
    let found = fleet_jobs::list(app.pool(), &filter.parse()?, page.after()?, page.fetch()?).await?;
    Ok(Json(page.page(found, |job| job.id)?))
}

/// One job with its errors.
#[utoipa::path(get, path = "/api/v1/fleet/jobs/{job}", tag = "fleet",
    operation_id = "read_job", security(("api_key" = ["fleet:admin"])),
    params(JobPath), responses((status = 200, body = JobWithErrors), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn read(
    State(app): State<App>,
    _caller: Allowed<FleetAdmin>,
    Path(path): Path<JobPath>,
) -> Result<Json<JobWithErrors>> {
    Ok(Json(read_job(&app, path.job).await?))
}

async fn read_job(app: &App, id: Uuid) -> Result<JobWithErrors> {
    let id = JobId::from(id);
    let job = fleet_jobs::find(app.pool(), id).await?.ok_or_else(|| ApiError::not_found("job", id))?;
    let errors = fleet_jobs::failures(app.pool(), id).await?;
    Ok(JobWithErrors { job: job.into(), errors: errors.into_iter().map(JobFailure::from).collect() })
}

/// Run a job again, now. A job of a run retries what failed in the run.
#[utoipa::path(post, path = "/api/v1/fleet/jobs/{job}/retry", tag = "fleet", operation_id = "retry_job",
    security(("api_key" = ["fleet:admin"])), params(JobPath),
    responses((status = 202, body = JobWithErrors), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn retry(state: State<App>, caller: Allowed<FleetAdmin>, path: Path<JobPath>) -> Result<Accepted> {
    act(state, &caller, path, Action::Retry).await
}

/// Take a job out of the queue. A job of a run ends its step, or its run, as an error.
#[utoipa::path(post, path = "/api/v1/fleet/jobs/{job}/discard", tag = "fleet", operation_id = "discard_job",
    security(("api_key" = ["fleet:admin"])), params(JobPath),
    responses((status = 202, body = JobWithErrors), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn discard(state: State<App>, caller: Allowed<FleetAdmin>, path: Path<JobPath>) -> Result<Accepted> {
    act(state, &caller, path, Action::Discard).await
}

/// Stop a job. A job of a run cancels the run.
#[utoipa::path(post, path = "/api/v1/fleet/jobs/{job}/cancel", tag = "fleet", operation_id = "cancel_job",
    security(("api_key" = ["fleet:admin"])), params(JobPath),
    responses((status = 202, body = JobWithErrors), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn cancel(state: State<App>, caller: Allowed<FleetAdmin>, path: Path<JobPath>) -> Result<Accepted> {
    act(state, &caller, path, Action::Cancel).await
}

type Accepted = (axum::http::StatusCode, Json<JobWithErrors>);

async fn act(State(app): State<App>, caller: &Caller, Path(path): Path<JobPath>, action: Action) -> Result<Accepted> {
    match fleet_actions::act(app.pool(), &app.notifier, action, path.job.into(), caller.actor()).await? {
        Outcome::Done => Ok((axum::http::StatusCode::ACCEPTED, Json(read_job(&app, path.job).await?))),
        Outcome::Refused(reason) => {
            Err(ApiError::conflict("job_state", format!("this cannot be done with the job: {reason}")))
        }
        Outcome::NotFound => Err(ApiError::not_found("job", path.job)),
    }
}

#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum BulkAction {
    Retry,
    Discard,
    Cancel,
}

/// What to do with many jobs: with these, or with those that a filter matches.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Bulk {
    pub(crate) action: BulkAction,
    /// At most 1000.
    pub(crate) ids: Option<Vec<Uuid>>,
    /// As in the list of jobs. The newest 1000 of them; ask again while `more` is true.
    pub(crate) filter: Option<JobFilter>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct BulkOutcome {
    /// With how many it was done.
    pub(crate) done: usize,
    pub(crate) skipped: Vec<Skipped>,
    /// The filter matches more jobs than one request changes.
    pub(crate) more: bool,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct Skipped {
    id: Uuid,
    pub(crate) reason: &'static str,
}

/// Retry, discard or cancel many jobs. Each is changed for itself: what cannot be done is told with its reason.
#[utoipa::path(post, path = "/api/v1/fleet/jobs/bulk", tag = "fleet", operation_id = "change_jobs",
    security(("api_key" = ["fleet:admin"])), request_body = Bulk,
    responses((status = 200, body = BulkOutcome), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn bulk(
    State(app): State<App>,
    caller: Allowed<FleetAdmin>,
    Json(bulk): Json<Bulk>,
) -> Result<Json<BulkOutcome>> {
    let most = usize::try_from(BULK).unwrap_or(usize::MAX);
    let mut ids = match (bulk.ids, bulk.filter) {
        (Some(ids), None) if ids.len() > most => {
            return Err(ApiError::invalid("ids", format!("{} are more than {BULK} at once", ids.len())));
        }
        (Some(ids), None) => ids,
        (None, Some(filter)) => fleet_jobs::ids(app.pool(), &filter.parse()?, BULK + 1).await?,
        _ => return Err(ApiError::invalid("ids", "give either `ids` or a `filter`")),
    };
    let more = ids.len() > most;
    ids.truncate(most);
    let action = match bulk.action {
        BulkAction::Retry => Action::Retry,
        BulkAction::Discard => Action::Discard,
        BulkAction::Cancel => Action::Cancel,
    };
    let mut outcome = BulkOutcome { done: 0, skipped: Vec::new(), more };
    for id in ids {
        match fleet_actions::act(app.pool(), &app.notifier, action, id.into(), caller.actor()).await? {
            Outcome::Done => outcome.done += 1,
            Outcome::Refused(reason) => outcome.skipped.push(Skipped { id, reason }),
            Outcome::NotFound => outcome.skipped.push(Skipped { id, reason: "there is no such job" }),
        }
    }
    Ok(Json(outcome))
}
