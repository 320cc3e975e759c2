//! Pods that are up before their steps' turn: they wait, they go when nobody wants them, and they make room.

use std::collections::BTreeSet;

use buildit_tests::{PATIENCE, eventually, installation::Installation};
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

use super::{id, reason, step};

/// What makes a worker start pods ahead.
pub(super) const AHEAD: (&str, &str) = ("BUILDIT_KUBERNETES_AHEAD_OF_A_RUN", "2");

/// Holds a step at its first command until it is dropped.
struct Hold(TcpListener);

impl Hold {
    async fn new(installation: &Installation) -> Self {
        Self(TcpListener::bind((installation.cluster().host(), 0)).await.unwrap())
    }

    fn command(&self) -> String {
        let address = self.0.local_addr().unwrap();
        format!("nc {} {}", address.ip(), address.port())
    }

    /// The step's connection, once it is there.
    async fn reached(&self) -> TcpStream {
        tokio::time::timeout(PATIENCE, self.0.accept()).await.expect("the step runs").unwrap().0
    }
}

/// A run of steps one after another, the first of which is held.
async fn run_of_three(installation: &Installation, hold: &Hold, then: &str) -> String {
    let file = format!(
        "
pipeline:
  steps:
    - {{ name: one, image: buildit.test/busybox:1, commands: ['{}', 'echo from one > said.txt', {then}], outputs: [said.txt] }}
    - {{ name: two, image: buildit.test/busybox:1, commands: [echo from two >> said.txt], outputs: [said.txt] }}
    - {{ name: three, image: buildit.test/busybox:1, commands: [cat said.txt] }}
",
        hold.command()
    );
    let project = installation.project("web", &[(".platform.yaml", &file)]).await;
    installation.trigger(&project).await
}

/// The names of the pods of these steps, once all of them are up.
async fn pods_up(installation: &Installation, steps: &[&str]) -> BTreeSet<String> {
    let pods = installation.cluster().pods();
    let up = |pod: &Pod| pod.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Running"));
    let of = |pod: &Pod| pod.metadata.labels.as_ref().and_then(|labels| labels.get("platform.io/step").cloned());
    let found = async || {
        let found = pods.list(&ListParams::default()).await.unwrap().items;
        let found: Vec<Pod> = found.into_iter().filter(up).collect();
        let all = steps.iter().all(|step| found.iter().any(|pod| of(pod).as_deref() == Some(step)));
        all.then(|| found.into_iter().filter_map(|pod| pod.metadata.name).collect::<BTreeSet<_>>())
    };
    eventually("the pods are up", PATIENCE, async || found().await.is_some()).await;
    found().await.expect("they stay up")
}

fn attempts(run: &Value, name: &str) -> Vec<String> {
    let attempts = step(run, name)["attempts"].as_array().unwrap();
    attempts.iter().map(|attempt| attempt["id"].as_str().unwrap().to_owned()).collect()
}

/// A figure of the API.
async fn figure(installation: &Installation, name: &str) -> f64 {
    let answer = installation.send(|client| client.get(format!("{}/metrics", installation.url))).await;
    let text = answer.text().await.unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} ")).map(str::to_owned));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_steps_pods_are_up_before_their_turn_and_begin_in_it() {
    let installation = Installation::on_cluster().await;
    let _worker = installation.worker_with(&[AHEAD]);
    let hold = Hold::new(&installation).await;
    let run = run_of_three(&installation, &hold, "'true'").await;
    let held = hold.reached().await;
    let up = pods_up(&installation, &["one", "two", "three"]).await;
    assert_eq!(up.len(), 3);
    let now = installation.run(&run).await;
    for name in ["two", "three"] {
        assert_eq!((step(&now, name)["status"].as_str(), attempts(&now, name).len()), (Some("pending"), 0), "{now:#}");
    }
    eventually("the figures tell", PATIENCE, async || figure(&installation, "buildit_ahead_attempts").await == 2.0)
        .await;
    assert_eq!(figure(&installation, "buildit_ahead_reserved_bytes").await, f64::from(2 * (64 << 20)));
    drop(held);

    let run = installation.ended(&run).await;
    assert_eq!(run["status"], "success", "{run:#}");
    let ran: BTreeSet<String> = ["one", "two", "three"].iter().flat_map(|name| attempts(&run, name)).collect();
    assert_eq!(ran, up, "each step has one attempt, and it is the pod that waited");
    let log = installation.log(id(&run), "three").await;
    assert!(log.ends_with("from one\nfrom two\n"), "{log}");
    installation.cluster().is_empty().await;
    eventually("nothing waits", PATIENCE, async || figure(&installation, "buildit_ahead_attempts").await == 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_step_that_fails_is_removed_unrun() {
    let installation = Installation::on_cluster().await;
    let _worker = installation.worker_with(&[AHEAD]);
    let hold = Hold::new(&installation).await;
    let run = run_of_three(&installation, &hold, "'false'").await;
    let held = hold.reached().await;
    pods_up(&installation, &["one", "two", "three"]).await;
    drop(held);
    let run = installation.ended(&run).await;
    assert_eq!(run["status"], "failure", "{run:#}");
    for name in ["two", "three"] {
        assert_eq!((step(&run, name)["status"].as_str(), attempts(&run, name).len()), (Some("skipped"), 0), "{run:#}");
    }
    installation.cluster().is_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_in_a_cancelled_run_is_removed_unrun() {
    let installation = Installation::on_cluster().await;
    let _worker = installation.worker_with(&[AHEAD]);
    let hold = Hold::new(&installation).await;
    let run = run_of_three(&installation, &hold, "'true'").await;
    let _held = hold.reached().await;
    pods_up(&installation, &["one", "two", "three"]).await;
    assert_eq!(installation.post(&format!("/api/v1/runs/{run}/cancel"), json!({})).await.0, 202);
    let run = installation.ended(&run).await;
    assert_eq!(run["status"], "cancelled", "{run:#}");
    assert_eq!(attempts(&run, "two"), Vec::<String>::new());
    installation.cluster().is_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_makes_room_for_a_step_whose_turn_has_come() {
    let installation = Installation::on_cluster().await;
    installation.cluster().limit_pods(2).await;
    let _worker = installation.worker_with(&[AHEAD]);
    let hold = Hold::new(&installation).await;
    let first = run_of_three(&installation, &hold, "'true'").await;
    let held = hold.reached().await;
    pods_up(&installation, &["one", "two"]).await;

    let file = "pipeline:\n  steps:\n    - { name: alone, image: buildit.test/busybox:1, commands: ['true'] }";
    let project = installation.project("other", &[(".platform.yaml", file)]).await;
    let second = installation.trigger(&project).await;
    let second = installation.ended(&second).await;
    assert_eq!(second["status"], "success", "{second:#}");
    assert_eq!(reason(&step(&second, "alone")["attempts"][0]), "");
    drop(held);
    let first = installation.ended(&first).await;
    assert_eq!(first["status"], "success", "{first:#}");
    for name in ["one", "two", "three"] {
        assert_eq!(attempts(&first, name).len(), 1, "{first:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_worker_started_ahead_is_the_next_ones() {
    let installation = Installation::on_cluster().await;
    let first = installation.worker_with(&[AHEAD]);
    let hold = Hold::new(&installation).await;
    let run = run_of_three(&installation, &hold, "'true'").await;
    let held = hold.reached().await;
    let up = pods_up(&installation, &["one", "two", "three"]).await;
    first.kill();
    // Whether or not it starts any itself.
    let _second = installation.worker();
    drop(held);
    let run = installation.ended(&run).await;
    assert_eq!(run["status"], "success", "{run:#}");
    let ran: BTreeSet<String> = ["one", "two", "three"].iter().flat_map(|name| attempts(&run, name)).collect();
    assert_eq!(ran, up);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_needs_a_secret_is_not_started_ahead() {
    let installation = Installation::on_cluster().await;
    let _worker = installation.worker_with(&[AHEAD]);
    installation.set_secret("TOKEN", "hush-hush-hush").await;
    let hold = Hold::new(&installation).await;
    let file = format!(
        "
pipeline:
  steps:
    - {{ name: one, image: buildit.test/busybox:1, commands: ['{}'] }}
    - {{ name: two, image: buildit.test/busybox:1, environment: {{ TOKEN: '${{{{ secrets.TOKEN }}}}' }}, commands: ['echo $TOKEN'] }}
    - {{ name: three, image: buildit.test/busybox:1, commands: ['true'] }}
",
        hold.command()
    );
    let project = installation.project("web", &[(".platform.yaml", &file)]).await;
    let run = installation.trigger(&project).await;
    let held = hold.reached().await;
    let up = pods_up(&installation, &["one", "three"]).await;
    assert_eq!(up.len(), 2, "its pod and its secret come with its turn");
    drop(held);
    let run = installation.ended(&run).await;
    assert_eq!(run["status"], "success", "{run:#}");
}
