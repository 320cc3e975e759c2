//! Logs that are longer than what the kubelet keeps.

use buildit_shared::storage::Checksum;
use buildit_tests::{PATIENCE, eventually, installation::Installation};

use super::{id, step};

/// Lines of 100 bytes: 100 MB, of which the kubelet keeps the last.
const LINES: u32 = 1_000_000;

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
    let reported = async || {
        let query = "select count(*) > 0 from step_attempts where report is not null";
        sqlx::query_scalar::<_, bool>(query).fetch_one(&installation.pool).await.unwrap()
    };
    for _ in 0..2 {
        let worker = installation.worker();
        let before = stored().await;
        // The runner may be through with all of it before the next worker has taken over; its report is no less in the
        // middle of things.
        let goes_on = async || stored().await > before || reported().await;
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
