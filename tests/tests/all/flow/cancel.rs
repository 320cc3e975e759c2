//! Cancelling a run.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{id, reason, started, statuses, step};

#[tokio::test(flavor = "multi_thread")]
async fn cancel_stops_what_runs_keeps_its_log_and_closes_the_rest() {
    let (installation, _worker) = started().await;
    let pid = installation.shared.join("pid");
    let file = format!(
        "
pipeline:
  steps:
    - name: long
      image: debian
      commands: ['trap \"echo told to stop; exit 1\" TERM', 'echo $$ > {}', echo begun, 'while :; do sleep 0.05; done']
    - {{ name: never, image: debian, commands: [echo no] }}
",
        pid.display()
    );
    let project = installation.project("cancel", &[(".platform.yaml", &file)]).await;
    let run = installation.trigger(&project).await;
    let log = |run: &serde_json::Value| run["steps"][0]["attempts"][0]["log_length"].as_i64().unwrap_or(0);
    installation.until(&run, "the step has spoken", |run| log(run) > 0 && pid.exists()).await;
    let path = format!("/api/v1/runs/{run}/cancel");
    let asked = Instant::now();
    let (status, answer) = installation.post(&path, json!({})).await;
    assert_eq!(status, 202, "{answer}");
    assert_eq!(step(&answer, "never")["status"], "cancelled", "what waits ends at once: {answer:#}");
    let run = installation.ended(&run).await;
    println!("a step that heeds TERM was cancelled within {} ms", asked.elapsed().as_millis());
    assert_eq!(run["status"], "cancelled", "{run:#}");
    assert_eq!(statuses(&run), ["cancelled", "cancelled"]);
    assert!(reason(&run).contains("cancelled by"), "{run:#}");
    let log = installation.log(id(&run), "long").await;
    assert!(log.contains("\nbegun\n") && log.contains("told to stop"), "{log}");

    let (status, answer) = installation.post(&path, json!({})).await;
    assert_eq!((status, &answer["error"]["code"]), (409, &json!("run_ended")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_ignores_term_is_killed() {
    let (installation, _worker) = started().await;
    let file = "
pipeline:
  steps:
    - { name: deaf, image: debian, commands: [\"trap '' TERM\", echo begun, 'while :; do sleep 0.05; done'] }
";
    let project = installation.project("deaf", &[(".platform.yaml", file)]).await;
    let run = installation.trigger(&project).await;
    let spoken = |run: &serde_json::Value| run["steps"][0]["attempts"][0]["log_length"].as_i64().unwrap_or(0) > 20;
    installation.until(&run, "the step has spoken", spoken).await;
    let asked = Instant::now();
    installation.post(&format!("/api/v1/runs/{run}/cancel"), json!({})).await;
    let run = installation.ended(&run).await;
    println!("a step that ignores TERM was killed after {:.1} s", asked.elapsed().as_secs_f64());
    assert!((Duration::from_secs(9)..Duration::from_secs(20)).contains(&asked.elapsed()), "{:?}", asked.elapsed());
    assert_eq!(run["status"], "cancelled", "{run:#}");
    assert!(installation.log(id(&run), "deaf").await.contains("begun"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_no_worker_has_seen_is_cancelled_at_once() {
    let installation = buildit_tests::installation::Installation::start().await;
    let file = "pipeline: { steps: [{ name: a, image: debian, commands: ['true'] }] }";
    let project = installation.project("unseen", &[(".platform.yaml", file)]).await;
    let run = installation.trigger(&project).await;
    let (status, answer) = installation.post(&format!("/api/v1/runs/{run}/cancel"), json!({})).await;
    assert_eq!((status, &answer["status"]), (202, &json!("cancelled")), "{answer:#}");
    let _worker = installation.worker();
    // A run of a later time shows that the worker has looked.
    let later = installation.trigger(&project).await;
    assert_eq!(installation.ended(&later).await["status"], "success");
    assert_eq!(installation.run(&run).await["status"], "cancelled");
}
