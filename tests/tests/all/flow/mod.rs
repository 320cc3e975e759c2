//! Whole flows through real processes: git, the API, a worker, its runner, Postgres.

mod again;
mod artifacts;
mod cancel;
mod credentials;
mod environment;
mod forges;
mod health;
mod leftovers;
mod logs;
mod outcomes;
mod planning;
mod pushes;
mod schedules;
mod secrets;
mod statuses;
mod takeover;
mod webhooks;

use std::path::Path;

use buildit_tests::installation::{Installation, Project, Worker};
use serde_json::Value;

/// An installation with one worker.
async fn started() -> (Installation, Worker) {
    let installation = Installation::start().await;
    let worker = installation.worker();
    (installation, worker)
}

/// The ended run of a project's first commit, which holds just this pipeline file.
async fn run_of(installation: &Installation, name: &str, file: &str) -> (Project, Value) {
    let project = installation.project(name, &[(".platform.yaml", file)]).await;
    let run = installation.trigger(&project).await;
    let run = installation.ended(&run).await;
    (project, run)
}

fn id(run: &Value) -> &str {
    run["id"].as_str().unwrap()
}

fn step<'a>(run: &'a Value, name: &str) -> &'a Value {
    let steps = run["steps"].as_array().unwrap();
    steps.iter().find(|step| step["name"] == name).unwrap_or_else(|| panic!("no step {name}: {run:#}"))
}

/// The status of each step, in order.
fn statuses(run: &Value) -> Vec<&str> {
    run["steps"].as_array().unwrap().iter().map(|step| step["status"].as_str().unwrap()).collect()
}

fn reason(of: &Value) -> &str {
    of["reason"].as_str().unwrap_or_default()
}

/// Its lines, where there is such a file.
fn lines(path: &Path) -> Vec<String> {
    std::fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}
