//! Concurrency groups: one run at a time, and the next starts in the transaction that ends the one before.

use std::time::Duration;

use buildit_shared::{domain::AttemptStatus, ids::RunId};
use buildit_tests::{
    eventually,
    queue::Worker,
    runs::{Runs, step},
};

const ONE_AT_A_TIME: Option<(&str, bool)> = Some(("main", false));
const NEWEST_ONLY: Option<(&str, bool)> = Some(("main", true));

async fn runs() -> (Runs, Worker) {
    let runs = Runs::new().await;
    let worker = runs.worker(&[("steps", 1), ("artifacts", 1)]).await;
    (runs, worker)
}

async fn statuses(runs: &Runs, ids: &[RunId]) -> Vec<String> {
    let mut statuses = Vec::new();
    for id in ids {
        statuses.push(runs.run(*id).await.0);
    }
    statuses
}

#[tokio::test]
async fn the_next_run_of_a_group_starts_in_the_transaction_that_ends_the_one_before() {
    let (runs, worker) = runs().await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(runs.start(&[step("test", &[])], ONE_AT_A_TIME).await);
    }
    let elsewhere = runs.start(&[step("test", &[])], Some(("other", false))).await;
    assert_eq!(statuses(&runs, &ids).await, ["running", "pending", "pending"]);
    assert_eq!(runs.run(elsewhere).await.0, "running");
    assert_eq!(runs.reason(ids[1]).await.unwrap(), "waits for run #1 of its concurrency group");
    assert_eq!(runs.jobs(ids[1]).await, [""; 0]);
    let claim = worker.claim_one("steps").await;
    assert_eq!(claim.job.run_id, Some(ids[0]));
    let publish = runs.end_step(&claim, AttemptStatus::Success).await.unwrap().unwrap();
    assert_eq!(statuses(&runs, &ids).await, ["running", "pending", "pending"]);
    drop(claim);
    let first = runs.end_run(&publish).await.unwrap().expect("the next run's step came along");
    assert_eq!(first.job.run_id, Some(ids[1]));
    assert_eq!(statuses(&runs, &ids).await, ["success", "running", "pending"]);
    assert_eq!(runs.reason(ids[1]).await, None);
}

#[tokio::test]
async fn a_run_whose_jobs_die_lets_the_next_of_its_group_go() {
    let (runs, worker) = runs().await;
    let first = runs.start(&[step("test", &[])], ONE_AT_A_TIME).await;
    let second = runs.start(&[step("test", &[])], ONE_AT_A_TIME).await;
    let claim = runs.claim_step(&worker, "test").await;
    runs.bury(&claim, "it broke").await.unwrap();
    assert_eq!(runs.steps(first).await, ["test error"]);
    let publish = worker.claim_one("artifacts").await;
    runs.bury(&publish, "no space left").await.unwrap();
    assert_eq!(statuses(&runs, &[first, second]).await, ["error", "running"]);
    assert_eq!(runs.reason(first).await.unwrap(), "the artifacts could not be published: no space left");
    assert_eq!(runs.jobs(second).await, ["RunStep test"]);
}
