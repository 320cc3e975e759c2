//! Steps as pods of a real cluster, objects in a real S3, workers as real processes.

mod ahead;
mod checkout;
mod contract;
mod crashes;
mod ends;
mod flow;
mod images;
mod logs;
mod matrix;
mod nodes;
mod outages;

use buildit_tests::installation::{Installation, Worker};
use serde_json::Value;

/// An installation on the cluster with one worker.
async fn started() -> (Installation, Worker) {
    let installation = Installation::on_cluster().await;
    let worker = installation.worker();
    (installation, worker)
}

/// The ended run of a project's first commit, which holds just this pipeline file.
async fn run_of(installation: &Installation, file: &str) -> Value {
    let project = installation.project("web", &[(".platform.yaml", file)]).await;
    let run = installation.trigger(&project).await;
    installation.ended(&run).await
}

fn id(run: &Value) -> &str {
    run["id"].as_str().unwrap()
}

/// The step; `Null` before the run is planned.
fn step<'a>(run: &'a Value, name: &str) -> &'a Value {
    let steps = run["steps"].as_array().unwrap();
    steps.iter().find(|step| step["name"] == name).unwrap_or(&Value::Null)
}

fn reason(of: &Value) -> &str {
    of["reason"].as_str().unwrap_or_default()
}

/// The reason of the step's attempt that is at work, as the run's readers see it.
fn notice(run: &Value, name: &str) -> String {
    let attempts = step(run, name)["attempts"].as_array().cloned().unwrap_or_default();
    attempts.last().map(|attempt| reason(attempt).to_owned()).unwrap_or_default()
}
