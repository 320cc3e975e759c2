//! The fleet: queues, workers and schedules. Its operators see all of it and change it; others see their own organization's
//! part, and change nothing.

use askama::Template;
use axum::{extract::State, response::Response};
use buildit_shared::{
    db::{
        Scope,
        fleet::{self as rows, Queue, Worker},
        schedules::{self, OfFleet},
    },
    ids::WorkerId,
    permission::Permission,
};
use serde::Deserialize;

use super::{
    account::Nothing,
    error::{Result, Visitor},
    layout::{Layout, page},
    schedules::local,
    text::{When, duration, part},
};
use crate::{
    App,
    auth::{Caller, FleetAdmin, ProjectRead, form::Form},
    extract::{OptionalJson, Path, Query},
    routes::fleet::{self, Pause, QueuePath, WorkerPath},
};

/// The most workers on the page.
const WORKERS: i64 = 200;
/// The most schedules on the page.
const SCHEDULES: i64 = 50;

#[derive(Template)]
#[template(path = "fleet.html")]
struct FleetPage {
    layout: Layout,
    queues: Vec<QueueRow>,
    workers: Vec<WorkerRow>,
    schedules: Vec<ScheduleRow>,
    all: bool,
    is_cut: bool,
    /// They see what is of all organizations, and may change it.
    is_operator: bool,
}

struct ScheduleRow {
    schedule: OfFleet,
    href: String,
    next: String,
}

struct QueueRow {
    queue: Queue,
    href: String,
    oldest: String,
    /// How long until it is empty, at the pace of the last minute.
    drained: String,
    paused: Option<When>,
}

struct WorkerRow {
    worker: Worker,
    state: &'static str,
    serves: String,
    beat: When,
    started: When,
    jobs: String,
    drained: Option<When>,
    may_drain: bool,
}

#[derive(Deserialize)]
pub(super) struct Which {
    #[serde(default)]
    all: bool,
}

#[derive(Deserialize)]
pub(super) struct PauseForm {
    reason: String,
}

impl QueueRow {
    fn of(queue: Queue) -> Self {
        let waiting = queue.ready + queue.scheduled;
        Self {
            href: format!("/fleet/jobs?queue={}", part(&queue.name)),
            oldest: queue
                .oldest_seconds
                .filter(|_| queue.ready > 0)
                .map(|seconds| duration((seconds * 1000.0) as i64))
                .unwrap_or_default(),
            drained: match (waiting, queue.ended_last_minute) {
                (0, _) => String::new(),
                (_, 0) => "not at this pace".into(),
                (waiting, ended) => duration(waiting * 60_000 / ended),
            },
            paused: queue.paused_at.map(When::of),
            queue,
        }
    }
}

impl WorkerRow {
    fn of(worker: Worker, jobs: &[rows::HeldJob]) -> Self {
        let serves = worker.queues.iter().zip(&worker.slots).map(|(queue, slots)| format!("{queue} × {slots}"));
        let held = jobs.iter().filter(|job| job.worker_id == worker.id).map(|job| match &job.what {
            Some(what) => format!("{} {what}", job.kind),
            None => job.kind.clone(),
        });
        let mut held: Vec<String> = held.collect();
        if held.len() > 4 {
            let more = held.len() - 3;
            held.truncate(3);
            held.push(format!("and {more} more"));
        }
        Self {
            state: match worker.state.as_str() {
                "alive" => "success",
                "draining" => "running",
                "dead" => "failure",
                _ => "skipped",
            },
            serves: serves.collect::<Vec<_>>().join(", "),
            beat: When::of(worker.beat_at),
            started: When::of(worker.started_at),
            jobs: held.join(", "),
            drained: worker.drained_at.map(When::of),
            may_drain: matches!(worker.state.as_str(), "alive" | "draining"),
            worker,
        }
    }
}

/// What somebody may see of the fleet's jobs: all of them, or those in this scope.
pub(super) fn visible(caller: &Caller) -> Option<Scope> {
    (!caller.has(Permission::FleetAdmin)).then(|| caller.scope())
}

/// `GET /fleet`
pub(super) async fn show(
    State(app): State<App>,
    caller: Visitor<ProjectRead>,
    Query(which): Query<Which>,
) -> Result<Response> {
    let visible = visible(&caller);
    let queues = rows::queues(app.pool(), visible).await?;
    let workers = rows::workers(app.pool(), !which.all, None, WORKERS + 1).await?;
    let ids: Vec<WorkerId> = workers.iter().map(|worker| worker.id).collect();
    let held = rows::held_jobs(app.pool(), visible, &ids).await?;
    let upcoming = schedules::upcoming(app.pool(), visible, SCHEDULES).await?;
    let is_cut = workers.len() > WORKERS as usize;
    let layout = Layout::of(&caller, "fleet", "Fleet").live("/live/fleet".into());
    Ok(page(&FleetPage {
        layout,
        queues: queues.into_iter().map(QueueRow::of).collect(),
        workers: workers.into_iter().take(WORKERS as usize).map(|worker| WorkerRow::of(worker, &held)).collect(),
        schedules: upcoming
            .into_iter()
            .map(|schedule| ScheduleRow {
                href: format!("/projects/{}/schedules", part(&schedule.project)),
                next: local(schedule.next_at.to_jiff(), &schedule.timezone),
                schedule,
            })
            .collect(),
        all: which.all,
        is_cut,
        is_operator: visible.is_none(),
    }))
}

/// `POST /fleet/queues/{queue}/pause`
pub(super) async fn pause(
    state: State<App>,
    caller: Visitor<FleetAdmin>,
    path: Path<QueuePath>,
    Form(form): Form<PauseForm>,
) -> Result<Response> {
    let reason = Some(form.reason.trim().to_owned()).filter(|reason| !reason.is_empty());
    fleet::pause(state, caller.0, path, OptionalJson(Pause { reason })).await?;
    Ok(super::see("/fleet"))
}

/// `POST /fleet/queues/{queue}/resume`
pub(super) async fn resume(
    state: State<App>,
    caller: Visitor<FleetAdmin>,
    path: Path<QueuePath>,
    _form: Form<Nothing>,
) -> Result<Response> {
    fleet::resume(state, caller.0, path).await?;
    Ok(super::see("/fleet"))
}

/// `POST /fleet/workers/{worker}/drain`
pub(super) async fn drain(
    state: State<App>,
    caller: Visitor<FleetAdmin>,
    path: Path<WorkerPath>,
    _form: Form<Nothing>,
) -> Result<Response> {
    fleet::drain(state, caller.0, path).await?;
    Ok(super::see("/fleet"))
}

/// `POST /fleet/workers/{worker}/resume`
pub(super) async fn undrain(
    state: State<App>,
    caller: Visitor<FleetAdmin>,
    path: Path<WorkerPath>,
    _form: Form<Nothing>,
) -> Result<Response> {
    fleet::undrain(state, caller.0, path).await?;
    Ok(super::see("/fleet"))
}
