//! Streams that tell a page when to read itself again. They carry no content: the page that the server would send now is
//! always the truth, also after a connection broke, and whoever connects reads first.

use std::{convert::Infallible, time::Duration};

use axum::{
    extract::State,
    http::HeaderValue,
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use buildit_shared::{ids::RunId, queue::Signal};
use futures::{FutureExt, stream};

use super::error::{Result, Visitor};
use crate::{
    App,
    auth::ProjectRead,
    extract::Path,
    routes::runs::{self, RunPath},
};

/// The least time between two readings of a page.
const CALM: Duration = Duration::from_millis(250);
/// That of lists, which many runs change.
const CALM_LIST: Duration = Duration::from_secs(1);
/// Numbers without a signal are read again after that time; others in case that a signal was lost.
const FLEET: Duration = Duration::from_secs(2);
const LOST: Duration = Duration::from_secs(20);
const HEARTBEAT: Duration = Duration::from_secs(15);

/// `GET /live/runs/{run}`
pub(super) async fn run(
    State(app): State<App>,
    caller: Visitor<ProjectRead>,
    Path(path): Path<RunPath>,
) -> Result<Response> {
    let run = runs::find(&app, &caller, path.run).await?.id;
    Ok(changes(app, CALM, LOST, Some(run)))
}

/// `GET /live/runs`
pub(super) async fn all_runs(State(app): State<App>, _caller: Visitor<ProjectRead>) -> Response {
    changes(app, CALM_LIST, LOST, None)
}

/// `GET /live/fleet`
pub(super) async fn fleet(State(app): State<App>, _caller: Visitor<ProjectRead>) -> Response {
    changes(app, FLEET, FLEET, None)
}

/// An event now, and one whenever `run`, or any run, may have changed.
fn changes(app: App, calm: Duration, poll: Duration, run: Option<RunId>) -> Response {
    let signals = app.signals().subscribe();
    let events = stream::unfold((app, signals, true), move |(app, mut signals, first)| async move {
        if !first {
            let stopped = tokio::time::timeout(calm, app.shutdown.cancelled()).await;
            if stopped.is_ok() {
                return None;
            }
            // What came meanwhile is answered by the same reading; what comes from now on by the next one.
            let mut due = false;
            while let Some(signal) = signals.next().now_or_never() {
                due |= concerns(&signal, run);
            }
            if !due {
                tokio::select! {
                    () = app.shutdown.cancelled() => return None,
                    () = tokio::time::sleep(poll) => {}
                    () = async { while !concerns(&signals.next().await, run) {} } => {}
                }
            }
        }
        Some((Ok::<_, Infallible>(Event::default().event("changed").data("now")), (app, signals, false)))
    });
    let mut response = Sse::new(events).keep_alive(KeepAlive::new().interval(HEARTBEAT)).into_response();
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

fn concerns(signal: &Signal, run: Option<RunId>) -> bool {
    match signal {
        Signal::Run(changed) => run.is_none_or(|run| run == *changed),
        Signal::Resync => true,
        _ => false,
    }
}
