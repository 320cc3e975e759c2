//! The fleet, for those who operate it: queues and workers.

use askama::Template;
use axum::{
    extract::State,
    response::{IntoResponse, Redirect, Response},
};
use buildit_shared::{
    db::fleet::{self as rows, Queue, Worker},
    ids::WorkerId,
};
use serde::Deserialize;

use super::{
    account::Nothing,
    error::{Result, Visitor},
    layout::{Layout, page},
    text::{When, duration, part},
};
use crate::{
    App,
    auth::{FleetAdmin, form::Form},
    extract::{OptionalJson, Path, Query},
    routes::fleet::{self, Pause, QueuePath},
};

/// The most workers on the page.
const WORKERS: i64 = 200;

#[derive(Template)]
#[template(path = "fleet.html")]
struct FleetPage {
    layout: Layout,
    queues: Vec<QueueRow>,
    workers: Vec<WorkerRow>,
    all: bool,
    is_cut: bool,
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
            worker,
        }
    }
}

/// `GET /fleet`
pub(super) async fn show(
    State(app): State<App>,
    caller: Visitor<FleetAdmin>,
    Query(which): Query<Which>,
) -> Result<Response> {
    let queues = rows::queues(app.pool()).await?;
    let workers = rows::workers(app.pool(), !which.all, None, WORKERS + 1).await?;
    let ids: Vec<WorkerId> = workers.iter().map(|worker| worker.id).collect();
    let held = rows::held_jobs(app.pool(), &ids).await?;
    let is_cut = workers.len() > WORKERS as usize;
    let layout = Layout::of(&caller, "fleet", "Fleet").live("/live/fleet".into());
    Ok(page(&FleetPage {
        layout,
        queues: queues.into_iter().map(QueueRow::of).collect(),
        workers: workers.into_iter().take(WORKERS as usize).map(|worker| WorkerRow::of(worker, &held)).collect(),
        all: which.all,
        is_cut,
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
    Ok(Redirect::to("/fleet").into_response())
}

/// `POST /fleet/queues/{queue}/resume`
pub(super) async fn resume(
    state: State<App>,
    caller: Visitor<FleetAdmin>,
    path: Path<QueuePath>,
    _form: Form<Nothing>,
) -> Result<Response> {
    fleet::resume(state, caller.0, path).await?;
    Ok(Redirect::to("/fleet").into_response())
}
