//! A server that takes deliveries, as the hooks see it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

/// Answers each delivery with a run, the same run for the same delivery.
pub(crate) struct Server {
    runtime: Option<Runtime>,
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    refuse_with: Option<(u16, Value)>,
    deliveries: Vec<Value>,
    keys: Vec<String>,
    projects: Vec<String>,
}

impl Server {
    pub(crate) fn start() -> Server {
        Server::start_at("127.0.0.1:0".parse().unwrap())
    }

    pub(crate) fn start_at(address: SocketAddr) -> Server {
        let runtime = Runtime::new().unwrap();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let app =
            Router::new().route("/api/v1/projects/{project}/deliveries", post(take)).with_state(Arc::clone(&seen));
        let listener = runtime.block_on(tokio::net::TcpListener::bind(address)).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(async move { axum::serve(listener, app).await });
        Server { runtime: Some(runtime), address, seen }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn refuse_with(&self, answer: Option<(u16, Value)>) {
        self.seen.lock().unwrap().refuse_with = answer;
    }

    /// What it has taken, each delivery once, in order.
    pub(crate) fn deliveries(&self) -> Vec<Value> {
        self.seen.lock().unwrap().deliveries.clone()
    }

    pub(crate) fn refs(&self) -> Vec<String> {
        self.deliveries().iter().map(|delivery| delivery["ref"].as_str().unwrap().to_owned()).collect()
    }

    pub(crate) fn keys(&self) -> Vec<String> {
        self.seen.lock().unwrap().keys.clone()
    }

    pub(crate) fn projects(&self) -> Vec<String> {
        self.seen.lock().unwrap().projects.clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn take(
    State(seen): State<Arc<Mutex<Seen>>>,
    Path(project): Path<String>,
    headers: HeaderMap,
    Json(delivery): Json<Value>,
) -> (StatusCode, Json<Value>) {
    let mut seen = seen.lock().unwrap();
    if let Some((status, body)) = seen.refuse_with.clone() {
        return (StatusCode::from_u16(status).unwrap(), Json(body));
    }
    seen.keys.push(headers["authorization"].to_str().unwrap().to_owned());
    seen.projects.push(project);
    let known = seen.deliveries.iter().position(|known| known["delivery"] == delivery["delivery"]);
    let number = known.unwrap_or_else(|| {
        seen.deliveries.push(delivery);
        seen.deliveries.len() - 1
    }) + 1;
    let run = json!({ "id": "x", "number": number, "status": "pending", "url": format!("http://ci/runs/{number}") });
    (StatusCode::CREATED, Json(json!({ "runs": [run] })))
}
