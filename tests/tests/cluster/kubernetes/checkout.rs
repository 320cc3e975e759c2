//! A step whose files cannot be had, or are too many.

use std::io::Read;

use buildit_shared::storage::{Storage, keys};
use serde_json::Value;

use super::{notice, reason, started, step};

/// The ended run of a step whose packed commit was changed before its pod was made.
async fn run_after(change: impl AsyncFnOnce(&Storage, &str)) -> Value {
    let (installation, _worker) = started().await;
    let cluster = installation.cluster();
    cluster.limit_pods(0).await;
    let file = "pipeline:\n  steps:\n    - { name: one, image: buildit.test/busybox:1, commands: [echo survived] }";
    let project = installation.project("web", &[(".platform.yaml", file)]).await;
    let run = installation.trigger(&project).await;
    installation.until(&run, "it waits for its pod", |run| notice(run, "one").contains("exceeded quota")).await;
    change(&installation.storage, &keys::checkout(run.parse().unwrap())).await;
    cluster.lift_limit().await;
    let run = installation.ended(&run).await;
    assert_eq!(run["status"], "error", "{run:#}");
    let log = installation.log(run["id"].as_str().unwrap(), "one").await;
    assert!(!log.contains("survived"), "{log}");
    cluster.is_empty().await;
    run
}

fn why(run: &Value) -> &str {
    reason(&step(run, "one")["attempts"][0])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_is_gone_from_the_storage_is_said() {
    let run = run_after(async |storage, checkout| storage.delete(checkout).await.unwrap()).await;
    let why = why(&run);
    assert!(why.starts_with("its workspace could not be made: The checkout") && why.contains("404"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_is_too_big_is_said() {
    let run = run_after(async |storage, checkout| {
        let size = 3 << 30;
        let mut header = tar::Header::new_gnu();
        header.set_size(size);
        header.set_mode(0o644);
        let mut tar = tar::Builder::new(zstd::Encoder::new(Vec::new(), 1).unwrap());
        tar.append_data(&mut header, "zeros", std::io::repeat(0).take(size)).unwrap();
        let packed = tar.into_inner().unwrap().finish().unwrap();
        storage.put(checkout, packed).await.unwrap();
    })
    .await;
    let why = why(&run);
    assert!(why.starts_with("its workspace could not be made: The checkout") && why.contains("grows to more"), "{why}");
}
