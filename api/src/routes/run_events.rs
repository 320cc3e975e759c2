//! A run as it changes. Each event is the whole run as it stands, so whoever connects anew misses nothing but states that
//! have passed.

use std::{convert::Infallible, time::Duration};

use axum::{
    extract::State,
    http::HeaderValue,
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use buildit_shared::{
    ids::RunId,
    queue::{Signal, listen::Subscription},
};
use futures::{FutureExt, stream};

use super::{
    run_view::RunWithSteps,
    runs::{self, RunPath},
};
use crate::{
    App,
    auth::{Allowed, Caller, ProjectRead},
    error::{ApiError, ErrorBody, Result},
    extract::Path,
};

/// The least time between two readings of the run.
const CALM: Duration = Duration::from_millis(250);
/// After that time the run is read in case that a signal was lost.
const POLL: Duration = Duration::from_secs(5);
const HEARTBEAT: Duration = Duration::from_secs(15);

/// A run with its steps as server-sent events `run`: one now, one whenever it has changed, and the last one once it has
/// ended. A stream that ends before is to be asked for anew.
#[utoipa::path(get, path = "/api/v1/runs/{run}/events", tag = "runs", operation_id = "follow_run",
    security(("api_key" = ["project:read"])), params(RunPath),
    responses((status = 200, content_type = "text/event-stream", body = String,
               example = json!("event: run\ndata: {\"id\":\"019cab1e-5a00-7000-8000-000000000001\",\"status\":\"success\"}\n\n")),
              (status = "4XX", body = ErrorBody)))]
pub(crate) async fn events(
    State(app): State<App>,
    caller: Allowed<ProjectRead>,
    Path(path): Path<RunPath>,
) -> Result<Response> {
    // Before the first reading, so that nothing falls between.
    let signals = app.signals().subscribe();
    let first = runs::read_run(&app, &caller, path.run).await?;
    let watch = Watch {
        caller: caller.clone(),
        run: path.run.into(),
        signals,
        app,
        next: Some(first),
        sent: String::new(),
        ended: false,
    };
    let events = stream::unfold(watch, |mut watch| async move {
        match watch.next().await {
            Ok(Some(event)) => Some((Ok::<_, Infallible>(event), watch)),
            Ok(None) => None,
            Err(error) => {
                tracing::debug!(%error, "a run's stream broke off");
                None
            }
        }
    });
    let mut response = Sse::new(events).keep_alive(KeepAlive::new().interval(HEARTBEAT)).into_response();
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

struct Watch {
    app: App,
    caller: Caller,
    run: RunId,
    signals: Subscription,
    /// A reading that was not sent yet.
    next: Option<RunWithSteps>,
    /// What was sent last.
    sent: String,
    /// The last event was sent.
    ended: bool,
}

impl Watch {
    /// The next event; `None` after the last one.
    async fn next(&mut self) -> Result<Option<Event>> {
        while !self.ended {
            let run = match self.next.take() {
                Some(run) => run,
                None => self.changed().await?,
            };
            self.ended = run.is_ended();
            let text = serde_json::to_string(&run).map_err(ApiError::internal)?;
            if text != self.sent {
                let event = Event::default().event("run").data(&text);
                self.sent = text;
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    /// The run once it may have changed.
    async fn changed(&mut self) -> Result<RunWithSteps> {
        loop {
            self.wait().await?;
            match runs::read_run(&self.app, &self.caller, self.run.uuid()).await {
                // A restart of the database is a pause for watchers too.
                Err(error) if error.is_passing() => tracing::debug!(%error, "a run's watcher waits"),
                read => return read,
            }
        }
    }

    async fn wait(&mut self) -> Result<()> {
        let stopping = || ApiError::unavailable("shutting_down", "this process stops; watch on at another one");
        if tokio::time::timeout(CALM, self.app.shutdown.cancelled()).await.is_ok() {
            return Err(stopping());
        }
        // What came meanwhile is answered by the same reading; what comes from now on by the next one.
        let mut due = false;
        while let Some(signal) = self.signals.next().now_or_never() {
            due |= concerns(&signal, self.run);
        }
        if due {
            return Ok(());
        }
        tokio::select! {
            () = self.app.shutdown.cancelled() => Err(stopping()),
            () = tokio::time::sleep(POLL) => Ok(()),
            () = async { while !concerns(&self.signals.next().await, self.run) {} } => Ok(()),
        }
    }
}

/// Whether the run may have changed.
pub(super) fn concerns(signal: &Signal, run: RunId) -> bool {
    match signal {
        Signal::Run(changed) => *changed == run,
        Signal::Resync => true,
        _ => false,
    }
}
