//! `/healthz`, `/readyz` and `/metrics` of a worker, for whoever keeps its process running. It promises that both answers
//! tell of this worker alone: the database's absence makes it unready, and never a reason to restart it.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use buildit_shared::queue::Member;
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::json;
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;

/// The beat loop comes round every second, also while the database is away; standing still for so long it is stuck.
const STUCK: Duration = Duration::from_secs(30);
/// What running requests have once the worker has left.
const DRAIN: Duration = Duration::from_secs(1);

/// What a worker's beat loop says of itself. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Health(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    turned: Mutex<Instant>,
    member: watch::Sender<Option<Arc<Member>>>,
}

impl Default for Health {
    fn default() -> Self {
        Self(Arc::new(Inner { turned: Mutex::new(Instant::now()), member: watch::Sender::new(None) }))
    }
}

impl Health {
    /// The beat loop came round.
    pub(crate) fn turned(&self) {
        *self.0.turned.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// It is in the fleet as `member`, or not any more.
    pub(crate) fn is_member(&self, member: Option<Arc<Member>>) {
        self.0.member.send_replace(member);
    }

    pub(crate) fn member(&self) -> watch::Receiver<Option<Arc<Member>>> {
        self.0.member.subscribe()
    }

    /// The process lives and its beat loop comes round.
    fn lives(&self) -> Result<(), String> {
        let still = self.0.turned.lock().unwrap_or_else(PoisonError::into_inner).elapsed();
        if still < STUCK {
            return Ok(());
        }
        Err(format!("the loop that keeps this worker in the fleet has stood still for {} s", still.as_secs()))
    }

    /// It is in the fleet, may act, and claims.
    fn is_ready(&self) -> Result<(), String> {
        let member = self.0.member.borrow();
        let wrong = match member.as_deref() {
            None => "not in the fleet; does the database answer?",
            Some(member) if member.is_drained() => "drained: an operator wants it to claim nothing",
            Some(member) if member.is_draining() => "stopping: it claims nothing any more",
            Some(member) if !member.acting() => "its last beat was not answered; does the database answer?",
            Some(_) => return Ok(()),
        };
        Err(wrong.into())
    }
}

/// Answers on `listener` until `shutdown`.
pub async fn serve_health(
    listener: TcpListener,
    health: Health,
    metrics: PrometheusHandle,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    let routes = Router::new()
        .route("/healthz", get(async |State(health): State<Health>| answer(health.lives())))
        .route("/readyz", get(async |State(health): State<Health>| answer(health.is_ready())))
        .route("/metrics", get(move || std::future::ready(figures(&metrics))))
        .with_state(health);
    let cut_off = {
        let shutdown = shutdown.clone();
        async move {
            shutdown.cancelled().await;
            tokio::time::sleep(DRAIN).await;
        }
    };
    let server = axum::serve(listener, routes).with_graceful_shutdown(shutdown.cancelled_owned());
    tokio::select! {
        ended = server.into_future() => ended,
        () = cut_off => Ok(()),
    }
}

/// In the API's shape.
fn answer(state: Result<(), String>) -> Response {
    match state {
        Ok(()) => Json(json!({ "status": "ok" })).into_response(),
        Err(message) => {
            let body = json!({ "error": { "code": "not_ready", "message": message } });
            (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
        }
    }
}

fn figures(metrics: &PrometheusHandle) -> impl IntoResponse + use<> {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics.render())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beat_loop_that_stands_still_is_no_life() {
        let health = Health::default();
        assert_eq!(health.lives(), Ok(()));
        let long_ago = Instant::now().checked_sub(STUCK).unwrap();
        *health.0.turned.lock().unwrap() = long_ago;
        assert!(health.lives().unwrap_err().contains("stood still for 30 s"));
        health.turned();
        assert_eq!(health.lives(), Ok(()));
    }

    #[test]
    fn who_is_not_in_the_fleet_is_not_ready_but_lives() {
        let health = Health::default();
        assert!(health.is_ready().unwrap_err().contains("not in the fleet"));
        assert_eq!(health.lives(), Ok(()));
    }
}
