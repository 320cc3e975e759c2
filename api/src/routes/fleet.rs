//! The fleet's queues and workers.

use std::collections::BTreeMap;

use axum::{extract::State, http::StatusCode};
use buildit_shared::{
    db::{
        audit::{self, Entry},
        fleet,
    },
    ids::WorkerId,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::run_view::time;
use crate::{
    App,
    auth::{Allowed, FleetAdmin},
    error::{ApiError, ErrorBody, Result},
    extract::{Json, OptionalJson, Path, Query},
    page::{Page, PageParams},
};

/// A queue.
#[derive(Serialize, ToSchema)]
pub(crate) struct Queue {
    name: String,
    /// Jobs that can be claimed now.
    ready: i64,
    /// Jobs that wait for their time.
    scheduled: i64,
    /// Jobs that a worker has.
    running: i64,
    /// How long the oldest ready job has been due.
    oldest_seconds: Option<f64>,
    /// Jobs that ended in the last minute, however they did.
    ended_last_minute: i64,
    /// How many workers claim from it.
    workers: i64,
    paused: bool,
    paused_at: Option<Timestamp>,
    paused_by: Option<String>,
    paused_reason: Option<String>,
}

impl From<fleet::Queue> for Queue {
    fn from(queue: fleet::Queue) -> Self {
        Self {
            name: queue.name,
            ready: queue.ready,
            scheduled: queue.scheduled,
            running: queue.running,
            oldest_seconds: queue.oldest_seconds,
            ended_last_minute: queue.ended_last_minute,
            workers: queue.workers,
            paused: queue.paused_at.is_some(),
            paused_at: time(queue.paused_at),
            paused_by: queue.paused_by,
            paused_reason: queue.paused_reason,
        }
    }
}

/// A worker process.
#[derive(Serialize, ToSchema)]
pub(crate) struct Worker {
    /// New for every process.
    id: Uuid,
    host: String,
    pid: i32,
    version: String,
    /// The queues it claims from, and how many jobs of each it runs at once.
    queues: BTreeMap<String, i32>,
    /// `alive`, `draining`, `stopped` or `dead`.
    state: String,
    /// Jobs it has.
    jobs: i64,
    /// Its last sign of life.
    beat_at: Timestamp,
    started_at: Timestamp,
    ended_at: Option<Timestamp>,
    /// An operator wants it to claim nothing.
    drained: bool,
    drained_at: Option<Timestamp>,
    drained_by: Option<String>,
}

impl From<fleet::Worker> for Worker {
    fn from(worker: fleet::Worker) -> Self {
        Self {
            id: worker.id.uuid(),
            host: worker.host,
            pid: worker.pid,
            version: worker.version,
            queues: worker.queues.into_iter().zip(worker.slots).collect(),
            state: worker.state,
            jobs: worker.jobs,
            beat_at: worker.beat_at.to_jiff(),
            started_at: worker.started_at.to_jiff(),
            ended_at: time(worker.ended_at),
            drained: worker.drained_at.is_some(),
            drained_at: time(worker.drained_at),
            drained_by: worker.drained_by,
        }
    }
}

#[derive(Serialize, ToSchema)]
pub(crate) struct Queues {
    items: Vec<Queue>,
}

/// A queue by its name.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct QueuePath {
    /// Its name.
    pub(crate) queue: String,
}

/// A worker by its id.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct WorkerPath {
    /// Its id.
    pub(crate) worker: Uuid,
}

#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pause {
    /// For whoever wonders later.
    pub(crate) reason: Option<String>,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct WorkerFilter {
    /// Those that ended too.
    #[serde(default)]
    all: bool,
}

/// All queues that have jobs, are paused or are served, by name.
#[utoipa::path(get, path = "/api/v1/fleet/queues", tag = "fleet",
    operation_id = "list_queues", security(("api_key" = ["fleet:admin"])),
    responses((status = 200, body = Queues), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn queues(State(app): State<App>, _caller: Allowed<FleetAdmin>) -> Result<Json<Queues>> {
    let items = fleet::queues(app.pool(), None).await?.into_iter().map(Queue::from).collect();
    Ok(Json(Queues { items }))
}

/// Claim nothing from a queue until it is resumed. What runs goes on.
#[utoipa::path(post, path = "/api/v1/fleet/queues/{queue}/pause", tag = "fleet", operation_id = "pause_queue",
    security(("api_key" = ["fleet:admin"])), params(QueuePath), request_body = Option<Pause>,
    responses((status = 204), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn pause(
    State(app): State<App>,
    caller: Allowed<FleetAdmin>,
    Path(path): Path<QueuePath>,
    OptionalJson(pause): OptionalJson<Pause>,
) -> Result<StatusCode> {
    if path.queue.len() > 100 || path.queue.chars().any(char::is_control) {
        return Err(ApiError::not_found("queue", path.queue));
    }
    let mut tx = app.pool().begin().await?;
    fleet::pause(&mut *tx, &path.queue, &caller.name(), pause.reason.as_deref()).await?;
    let entry = Entry::new("queue.paused", &path.queue).of_installation().after(json!({ "reason": pause.reason }));
    audit::write(&mut *tx, caller.actor(), entry).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Claim from a paused queue again.
#[utoipa::path(post, path = "/api/v1/fleet/queues/{queue}/resume", tag = "fleet", operation_id = "resume_queue",
    security(("api_key" = ["fleet:admin"])), params(QueuePath),
    responses((status = 204), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn resume(
    State(app): State<App>,
    caller: Allowed<FleetAdmin>,
    Path(path): Path<QueuePath>,
) -> Result<StatusCode> {
    let mut tx = app.pool().begin().await?;
    if fleet::resume(&mut *tx, &path.queue).await? {
        let entry = Entry::new("queue.resumed", &path.queue).of_installation();
        audit::write(&mut *tx, caller.actor(), entry).await?;
    }
    tx.commit().await?;
    app.notifier.jobs(&path.queue);
    Ok(StatusCode::NO_CONTENT)
}

/// Workers, newest first.
#[utoipa::path(get, path = "/api/v1/fleet/workers", tag = "fleet",
    operation_id = "list_workers", security(("api_key" = ["fleet:admin"])), params(WorkerFilter, PageParams),
    responses((status = 200, body = Page<Worker>), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn workers(
    State(app): State<App>,
    _caller: Allowed<FleetAdmin>,
    Query(filter): Query<WorkerFilter>,
    Query(page): Query<PageParams>,
) -> Result<Json<Page<Worker>>> {
    let found = fleet::workers(app.pool(), !filter.all, page.after()?, page.fetch()?).await?;
    Ok(Json(page.page(found, |worker| worker.id)?))
}

/// Have a worker claim nothing until it is resumed. Other workers go on with what it holds, and it stays.
#[utoipa::path(post, path = "/api/v1/fleet/workers/{worker}/drain", tag = "fleet", operation_id = "drain_worker",
    security(("api_key" = ["fleet:admin"])), params(WorkerPath),
    responses((status = 204), (status = 409, description = "it has ended", body = ErrorBody),
              (status = "4XX", body = ErrorBody)))]
pub(crate) async fn drain(
    State(app): State<App>,
    caller: Allowed<FleetAdmin>,
    Path(path): Path<WorkerPath>,
) -> Result<StatusCode> {
    let (id, host) = worker(&app, &path).await?;
    let mut tx = app.pool().begin().await?;
    if !fleet::drain(&mut *tx, id, &caller.name()).await? {
        return Err(ApiError::conflict("worker_ended", "this worker has ended"));
    }
    let entry = Entry::new("worker.drained", host).id(id).of_installation();
    audit::write(&mut *tx, caller.actor(), entry).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Have a drained worker claim again.
#[utoipa::path(post, path = "/api/v1/fleet/workers/{worker}/resume", tag = "fleet", operation_id = "resume_worker",
    security(("api_key" = ["fleet:admin"])), params(WorkerPath),
    responses((status = 204), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn undrain(
    State(app): State<App>,
    caller: Allowed<FleetAdmin>,
    Path(path): Path<WorkerPath>,
) -> Result<StatusCode> {
    let (id, host) = worker(&app, &path).await?;
    let mut tx = app.pool().begin().await?;
    if fleet::undrain(&mut *tx, id).await? {
        let entry = Entry::new("worker.resumed", host).id(id).of_installation();
        audit::write(&mut *tx, caller.actor(), entry).await?;
    }
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn worker(app: &App, path: &WorkerPath) -> Result<(WorkerId, String)> {
    let id = WorkerId::from(path.worker);
    let host = fleet::host(app.pool(), id).await?;
    Ok((id, host.ok_or_else(|| ApiError::not_found("worker", path.worker))?))
}
