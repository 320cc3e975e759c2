//! Logs that are longer than what the kubelet keeps, and one that the store has lost.

use buildit_shared::storage::{Checksum, keys};
use buildit_tests::{PATIENCE, eventually, installation::Installation};

use super::{id, step};

/// Lines of 100 bytes: 100 MB, of which the kubelet keeps the last.
const LINES: u32 = 1_000_000;

/// Whether the one step's runner has said its last word.
async fn reported(installation: &Installation) -> bool {
    let query = "select count(*) > 0 from step_attempts where report is not null";
    sqlx::query_scalar(query).fetch_one(&installation.pool).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_megabytes_through_two_dead_workers_are_stored_once_and_in_order() {
    let installation = Installation::on_cluster().await;
    let file = format!(
        "
pipeline:
  steps:
    - name: talk
      image: buildit.test/debian:1
      commands: [seq -f %099.0f 1 {LINES}]
"
    );
    let project = installation.project("web", &[(".platform.yaml", &file)]).await;
    let run = installation.trigger(&project).await;
    let stored = async || {
        let query = "select coalesce(max(log_len), 0) from step_attempts";
        sqlx::query_scalar::<_, i64>(query).fetch_one(&installation.pool).await.unwrap()
    };
    for _ in 0..2 {
        let worker = installation.worker();
        let before = stored().await;
        // The runner may be through with all of it before the next worker has taken over; its report is no less in the
        // middle of things.
        let goes_on = async || stored().await > before || reported(&installation).await;
        eventually("the log is followed", PATIENCE, goes_on).await;
        worker.kill();
    }
    let _last = installation.worker();
    let run = installation.ended(&run).await;
    assert_eq!(run["status"], "success", "{run:#}");
    assert_eq!(step(&run, "talk")["attempts"].as_array().unwrap().len(), 1);
    let log = installation.log(id(&run), "talk").await;
    let (_, said) = log.split_once('\n').unwrap();
    let expected: String = (1..=LINES).map(|line| format!("{line:099}\n")).collect();
    assert_eq!(said.len(), expected.len());
    assert_eq!(Checksum::of(said.as_bytes()), Checksum::of(expected.as_bytes()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_stored_and_is_gone_is_what_the_worker_had_seen_of_it() {
    let installation = Installation::on_cluster().await;
    let file = "
pipeline:
  steps:
    - { name: talk, image: buildit.test/busybox:1, commands: [echo seen, sleep 20] }
";
    let project = installation.project("web", &[(".platform.yaml", file)]).await;
    let dies = installation.worker_that_dies_at("step: log chunk stored");
    let run = installation.trigger(&project).await;
    dies.killed().await;
    eventually("its runner reports", PATIENCE, async || reported(&installation).await).await;
    let stored = keys::attempt_log(run.parse().unwrap(), "talk", 1);
    assert!(installation.storage.exists(&stored).await.unwrap());
    installation.storage.delete(&stored).await.unwrap();

    let _next = installation.worker();
    let run = installation.ended(&run).await;
    assert_eq!(run["status"], "success", "{run:#}");
    let log = installation.log(id(&run), "talk").await;
    assert!(log.contains("\nseen\n"), "{log}");
}
