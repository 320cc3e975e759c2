//! Concurrency groups: one run at a time, and the next starts in the transaction that ends the one before.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use buildit_shared::{
    db::{cancel::Cancelled, unless_deadlocked},
    domain::AttemptStatus,
    ids::RunId,
};
use buildit_tests::{
    eventually,
    queue::Worker,
    runs::{Runs, step},
};

const LIMIT: Duration = Duration::from_secs(30);
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
async fn a_newer_run_cancels_the_older_ones_of_its_group() {
    let (runs, worker) = runs().await;
    let first = runs.start(&[step("test", &[])], NEWEST_ONLY).await;
    let busy = runs.claim_step(&worker, "test").await;
    let second = runs.start(&[step("test", &[])], NEWEST_ONLY).await;
    let third = runs.start(&[step("test", &[])], NEWEST_ONLY).await;
    assert_eq!(statuses(&runs, &[first, second, third]).await, ["running", "cancelled", "pending"]);
    assert_eq!(runs.reason(second).await.unwrap(), "superseded by a newer run of its group");
    let publish = runs.end_step(&busy, AttemptStatus::Cancelled).await.unwrap().unwrap();
    drop(busy);
    let next = runs.end_run(&publish).await.unwrap().unwrap();
    assert_eq!(next.job.run_id, Some(third));
    assert_eq!(statuses(&runs, &[first, second, third]).await, ["cancelled", "cancelled", "running"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_of_a_group_that_are_planned_at_the_same_moment_run_one_after_the_other() {
    let (runs, worker) = runs().await;
    for newest_only in [false, true] {
        let mut ids = Vec::new();
        for _ in 0..8 {
            ids.push(runs.create(None).await.run_id);
        }
        sqlx::query("delete from jobs").execute(&runs.pool).await.unwrap();
        let planning: Vec<_> = ids
            .iter()
            .map(|id| {
                let (runs, id) = (runs.clone(), *id);
                tokio::spawn(async move { runs.plan(id, &[step("test", &[])], Some(("main", newest_only))).await })
            })
            .collect();
        for planned in planning {
            planned.await.unwrap();
        }
        let active = || runs.count("select count(*) from pipeline_runs where status = 'running'");
        assert_eq!(active().await, 1);
        let worked = runs.work_off(&worker, &[]).await.len();
        assert_eq!(active().await, 0);
        assert_eq!(runs.count("select count(*) from pipeline_runs where status = 'pending'").await, 0);
        // Of those that supersede each other only the newest works, in whatever order they were planned.
        assert_eq!(worked, if newest_only { 1 } else { 8 });
        assert_eq!(runs.run(ids[7]).await.0, "success");
    }
}

/// Whoever ends a run looks for the one that waits; whoever cancels that one looks for the next. They meet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_run_and_the_cancel_of_the_one_that_waits_do_not_block_each_other() {
    let (runs, worker) = runs().await;
    let first = runs.start(&[step("test", &[])], ONE_AT_A_TIME).await;
    let second = runs.start(&[step("test", &[])], ONE_AT_A_TIME).await;
    let third = runs.start(&[step("test", &[])], ONE_AT_A_TIME).await;
    let claim = runs.claim_step(&worker, "test").await;
    let publish = runs.end_step(&claim, AttemptStatus::Success).await.unwrap().unwrap();
    drop(claim);
    let waiting = async |n| {
        eventually("it waits", Duration::from_secs(10), async || runs.database.waiting_for_advisory().await == n).await;
    };
    // The gate holds the group, so that both have begun when either goes on.
    let mut gate = runs.pool.begin().await.unwrap();
    sqlx::query(
        "select pg_advisory_xact_lock(hashtextextended('group/' || pipeline_id || '/' || concurrency_group, 0))
         from pipeline_runs where id = $1",
    )
    .bind(first)
    .execute(&mut *gate)
    .await
    .unwrap();
    let ending = {
        let runs = runs.clone();
        tokio::spawn(async move { runs.end_run(&publish).await.unwrap() })
    };
    waiting(1).await;
    let cancelling = {
        let runs = runs.clone();
        tokio::spawn(async move { runs.cancel(second).await })
    };
    waiting(2).await;
    gate.commit().await.unwrap();
    let (next, cancelled) = tokio::join!(ending, cancelling);
    cancelled.unwrap().unwrap();
    drop(next.unwrap());
    // The run that ended started the second; the cancel ended that again, and the third is next.
    let mut worker = worker;
    worker.beat().await;
    runs.work_off(&worker, &[]).await;
    assert_eq!(statuses(&runs, &[first, second, third]).await, ["success", "cancelled", "success"]);
}

#[tokio::test]
async fn a_cancelled_run_that_waited_says_who_cancelled_it() {
    let (runs, _) = runs().await;
    runs.start(&[step("test", &[])], ONE_AT_A_TIME).await;
    let second = runs.start(&[step("test", &[])], ONE_AT_A_TIME).await;
    runs.cancel(second).await.unwrap();
    assert_eq!(runs.run(second).await.0, "cancelled");
    assert_eq!(runs.reason(second).await.unwrap(), "cancelled by Ada");
    assert_eq!(runs.jobs(second).await, [""; 0]);
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

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_that_meets_the_planning_of_its_run_and_the_end_of_another_goes_through() {
    let runs = Runs::new().await;
    let run = runs.create(None).await.run_id;
    // The planning of the run gives it its group while the cancel waits for its row.
    let mut planning = runs.database.pool.begin().await.unwrap();
    sqlx::query("update pipeline_runs set concurrency_group = 'main' where id = $1")
        .bind(run)
        .execute(&mut *planning)
        .await
        .unwrap();
    // The end of another run of the group has the group's lock and looks for the next run.
    let mut ending = runs.database.pool.begin().await.unwrap();
    let group = format!("group/{}/main", runs.pipeline);
    sqlx::query("select pg_advisory_xact_lock(hashtextextended($1, 0))")
        .bind(group)
        .execute(&mut *ending)
        .await
        .unwrap();
    let tries = AtomicUsize::new(0);
    let cancel = unless_deadlocked(|| {
        tries.fetch_add(1, Ordering::Relaxed);
        runs.cancel(run)
    });
    let others = async {
        eventually("the cancel waits for the row", LIMIT, async || runs.database.waiting().await == 1).await;
        planning.commit().await.unwrap();
        eventually("it has the row and waits for the group", LIMIT, async || {
            runs.database.waiting_for_advisory().await == 1
        })
        .await;
        // The longer waiting one is given up.
        sqlx::query("select from pipeline_runs where id = $1 for update")
            .bind(run)
            .execute(&mut *ending)
            .await
            .unwrap();
        ending.commit().await.unwrap();
    };
    let (cancelled, ()) = tokio::join!(cancel, others);
    assert!(matches!(cancelled.unwrap(), Cancelled::Requested(_)));
    assert_eq!(tries.into_inner(), 2, "once in vain");
    assert_eq!(runs.run(run).await.0, "cancelled");
}
