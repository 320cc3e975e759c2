//! The kill matrix with pods: a worker dies, or freezes, at each place, and each step's commands run once.

use buildit_tests::{installation::Installation, places};
use futures::StreamExt;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::{ahead::AHEAD, id, step};

/// So many installations at once; most of the time is waiting until the dead are certain to be dead.
const AT_ONCE: usize = 4;

const FILE: &str = "
pipeline:
  steps:
    - name: one
      image: buildit.test/busybox:1
      commands: [cat /proc/sys/kernel/random/uuid > once.txt, cat once.txt, sleep 1]
      outputs: [once.txt]
    - { name: two, image: buildit.test/busybox:1, commands: ['echo \"from one: $(cat once.txt)\"'] }
  artifacts:
    - { name: once, path: once.txt }
";

/// The pipeline for a worker that dies there.
fn file(place: &str) -> String {
    // The worker follows a log once the kubelet has told that the container runs, a second late or several on a busy node.
    let long = if place == "step: log chunk stored" { "sleep 20" } else { "sleep 1" };
    FILE.replace("sleep 1", long)
}

fn all() -> Vec<&'static str> {
    [&places::ALWAYS[..], &places::KUBERNETES, &places::LAST].concat()
}

/// The run went as if nothing had happened.
async fn check(installation: &Installation, place: &str, run: &Value) {
    assert_eq!(run["status"], "success", "{place}: {run:#}");
    for name in ["one", "two"] {
        assert_eq!(step(run, name)["attempts"].as_array().unwrap().len(), 1, "{place}: {run:#}");
    }
    let one = installation.log(id(run), "one").await;
    let said: Vec<&str> = one.lines().filter(|line| uuid::Uuid::parse_str(line).is_ok()).collect();
    assert_eq!(said.len(), 1, "{place}: {one}");
    let two = installation.log(id(run), "two").await;
    assert!(two.ends_with(&format!("\nfrom one: {}\n", said[0])), "{place}: {one} {two}");
}

#[tokio::test(flavor = "multi_thread")]
async fn wherever_a_worker_dies_each_command_runs_once() {
    let deaths = all().into_iter().map(async |place| {
        let installation = Installation::on_cluster().await;
        let project = installation.project("web", &[(".platform.yaml", &file(place))]).await;
        let dies = installation.worker_that_dies_at(place);
        let run = installation.trigger(&project).await;
        dies.killed().await;
        let _next = installation.worker();
        let run = installation.ended(&run).await;
        check(&installation, place, &run).await;
        installation.cluster().is_idle().await;
    });
    futures::stream::iter(deaths).buffer_unordered(AT_ONCE).collect::<()>().await;
}

/// The places around the turn of a step whose pod is up already.
const AROUND_A_TURN: [&str; 8] = [
    places::AHEAD[0],
    "step: before its Secret is made",
    "step: before its pod is made",
    "step: started",
    "step: end written, not committed",
    "step: end committed",
    "step: claimed",
    "step: marked started",
];

#[tokio::test(flavor = "multi_thread")]
async fn wherever_a_worker_dies_each_command_of_a_step_started_ahead_runs_once() {
    let deaths = AROUND_A_TURN.into_iter().map(async |place| {
        let installation = Installation::on_cluster().await;
        let project = installation.project("web", &[(".platform.yaml", &file(place))]).await;
        let dies = installation.worker_that_dies_at_with(place, &[AHEAD]);
        let run = installation.trigger(&project).await;
        dies.killed().await;
        let _next = installation.worker_with(&[AHEAD]);
        let run = installation.ended(&run).await;
        check(&installation, place, &run).await;
        installation.cluster().is_idle().await;
    });
    futures::stream::iter(deaths).buffer_unordered(AT_ONCE).collect::<()>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_step_is_stopped_wherever_its_worker_dies() {
    let deaths = places::CANCEL.into_iter().map(async |place| {
        let installation = Installation::on_cluster().await;
        // It takes its time to end: otherwise that could be known before the worker's stop has returned, which is to die then.
        let file = "
pipeline:
  steps:
    - name: one
      image: buildit.test/busybox:1
      commands: [echo begun, 'trap \"sleep 3; exit 1\" TERM; sleep 300; echo survived']
";
        let project = installation.project("web", &[(".platform.yaml", file)]).await;
        let dies = installation.worker_that_dies_at(place);
        let run = installation.trigger(&project).await;
        installation
            .until(&run, "it prints", |run| step(run, "one")["attempts"][0]["log_length"].as_u64() > Some(0))
            .await;
        installation.post(&format!("/api/v1/runs/{run}/cancel"), json!({})).await;
        dies.killed().await;
        let _next = installation.worker();
        let run = installation.ended(&run).await;
        assert_eq!(step(&run, "one")["status"], "cancelled", "{place}: {run:#}");
        let log = installation.log(id(&run), "one").await;
        assert!(log.contains("begun") && !log.contains("\nsurvived"), "{place}: {log}");
        installation.cluster().is_idle().await;
    });
    futures::stream::iter(deaths).buffer_unordered(AT_ONCE).collect::<()>().await;
}

/// Thawed after the run has ended it makes its Secret and its pod after all, or stores and ends what has ended: nothing of
/// that changes the run, and no command runs.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_was_frozen_changes_nothing_when_it_thaws() {
    let freezes = all().into_iter().filter(|place| place.starts_with("step")).map(async |place| {
        let installation = Installation::on_cluster().await;
        let project = installation.project("web", &[(".platform.yaml", &file(place))]).await;
        let zombie = installation.worker_that_freezes_at(place);
        let run = installation.trigger(&project).await;
        zombie.frozen().await;
        let _successor = installation.worker();
        let run = installation.ended(&run).await;
        check(&installation, place, &run).await;
        zombie.signal(Signal::CONT);
        installation.rejoined(&zombie).await;
        installation.cluster().is_idle().await;
        assert_eq!(installation.run(id(&run)).await, run, "{place}: the run is as it was");
        check(&installation, place, &run).await;
    });
    futures::stream::iter(freezes).buffer_unordered(AT_ONCE).collect::<()>().await;
}
