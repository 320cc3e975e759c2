//! A run's steps: joins, failures, cancels, and races between them.

use std::collections::BTreeMap;

use buildit_shared::{
    db::{attempts, cancel::Cancelled},
    domain::AttemptStatus,
};
use buildit_tests::{
    queue::Worker,
    runs::{Runs, arguments, step},
};

const SLOTS: [(&str, usize); 2] = [("steps", 4), ("artifacts", 1)];

async fn runs() -> (Runs, Worker) {
    let runs = Runs::new().await;
    let worker = runs.worker(&SLOTS).await;
    (runs, worker)
}

#[tokio::test]
async fn a_sequence_runs_in_order_and_ends_in_success() {
    let (runs, worker) = runs().await;
    let run = runs.start(&[step("a", &[]), step("b", &[0]), step("c", &[1])], None).await;
    assert_eq!(runs.work_off(&worker, &[]).await, ["a", "b", "c"]);
    assert_eq!(runs.run(run).await, ("success".into(), 0, 1));
}

/// Both ending transactions ask for the run's row at the same time; whoever comes second has to see the first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_parents_that_end_at_the_same_moment_start_their_join_once_a_thousand_times() {
    const TIMES: i64 = 1_000;
    let runs = Runs::new().await;
    let (a, b) = (runs.worker(&[("steps", 1), ("artifacts", 1)]).await, runs.worker(&[("steps", 1)]).await);
    let end = |claim| {
        let runs = runs.clone();
        tokio::spawn(async move { runs.end_step(&claim, AttemptStatus::Success).await.unwrap() })
    };
    let begun = std::time::Instant::now();
    let mut brought_by: BTreeMap<&str, usize> = BTreeMap::new();
    for round in 0..TIMES {
        let steps = [step("root", &[]), step("left", &[0]), step("right", &[0]), step("join", &[1, 2])];
        let run = runs.start(&steps, None).await;
        let left = end(runs.claim_step(&a, "root").await).await.unwrap().expect("`left` came along");
        let right = runs.claim_step(&b, "right").await;
        let (with_left, with_right) = tokio::join!(end(left), end(right));
        let (who, join) = match (with_left.unwrap(), with_right.unwrap()) {
            (Some(join), None) => ("left", join),
            (None, Some(join)) => ("right", join),
            (None, None) => panic!("round {round}: nobody started the join"),
            (Some(_), Some(_)) => panic!("round {round}: two jobs where one was expected"),
        };
        *brought_by.entry(who).or_default() += 1;
        let publish = end(join).await.unwrap();
        // `right`'s worker does not publish.
        let publish = match publish {
            Some(publish) => publish,
            None => a.claim_one("artifacts").await,
        };
        assert_eq!(runs.run(run).await, ("running".into(), 0, 1));
        runs.end_run(&publish).await.unwrap();
    }
    println!("{TIMES} joins in {:?}; the parent that brought the join along: {brought_by:?}", begun.elapsed());
    assert_eq!(runs.count("select count(*) from pipeline_runs where status <> 'success' or open_steps <> 0").await, 0);
    assert_eq!(runs.count("select count(*) from pipeline_steps where status <> 'success'").await, 0);
    assert_eq!(runs.count("select count(*) from step_attempts").await, 4 * TIMES);
    assert_eq!(runs.count("select count(*) from job_history where kind = 'UploadArtifacts'").await, TIMES);
    assert_eq!(runs.count("select count(*) from jobs").await, 0);
}

#[tokio::test]
async fn a_failed_step_skips_what_depends_on_it_and_nothing_else() {
    let (runs, worker) = runs().await;
    let steps = [step("a", &[]), step("b", &[0]), step("c", &[1]), step("d", &[1, 4]), step("other", &[])];
    let run = runs.start(&steps, None).await;
    let mut ran = runs.work_off(&worker, &["a"]).await;
    ran.sort();
    assert_eq!(ran, ["a", "other"]);
    assert_eq!(runs.steps(run).await, ["a failure", "b skipped", "c skipped", "d skipped", "other success"]);
    assert_eq!(runs.run(run).await, ("failure".into(), 0, 1));
}

#[tokio::test]
async fn a_step_that_may_fail_holds_nobody_up() {
    let (runs, worker) = runs().await;
    let mut lint = step("lint", &[]);
    lint.allow_failure = true;
    let run = runs.start(&[lint, step("build", &[0])], None).await;
    assert_eq!(runs.work_off(&worker, &["lint"]).await, ["lint", "build"]);
    assert_eq!(runs.steps(run).await, ["lint failure", "build success"]);
    assert_eq!(runs.run(run).await.0, "success");
}

#[tokio::test]
async fn a_step_that_was_left_out_holds_nobody_up() {
    let (runs, worker) = runs().await;
    let mut publish = step("publish", &[0]);
    publish.left_out = Some("not on this branch".into());
    let run = runs.start(&[step("build", &[]), publish, step("tell", &[1])], None).await;
    let mut ran = runs.work_off(&worker, &[]).await;
    ran.sort();
    assert_eq!(ran, ["build", "tell"]);
    assert_eq!(runs.steps(run).await, ["build success", "publish skipped", "tell success"]);
    assert_eq!(runs.run(run).await, ("success".into(), 0, 1));
}

#[tokio::test]
async fn a_run_of_left_out_steps_is_skipped() {
    let (runs, _) = runs().await;
    let mut only = step("only", &[]);
    only.left_out = Some("not on this branch".into());
    let run = runs.start(&[only], None).await;
    assert_eq!(runs.run(run).await, ("skipped".into(), 0, 1));
    assert_eq!(runs.jobs(run).await, [""; 0]);
}

#[tokio::test]
async fn failures_and_losses_have_budgets_of_their_own() {
    let (runs, worker) = runs().await;
    let mut flaky = step("flaky", &[]);
    flaky.retries = 1;
    let run = runs.start(&[flaky], None).await;
    let mut next = Some(runs.claim_step(&worker, "flaky").await);
    for end in ["Lost", "Failure", "Lost", "Lost", "Lost"] {
        let claim = next.take().expect("another attempt came along");
        let status = if end == "Lost" { AttemptStatus::Lost } else { AttemptStatus::Failure };
        next = runs.end_step(&claim, status).await.unwrap();
    }
    assert_eq!(runs.attempts(run, "flaky").await, ["lost", "failure", "lost", "lost", "lost"]);
    assert_eq!(runs.steps(run).await, ["flaky error"]);
    assert_eq!(runs.jobs(run).await, ["UploadArtifacts"]);
}

#[tokio::test]
async fn the_last_retry_of_the_user_decides() {
    let (runs, worker) = runs().await;
    let mut flaky = step("flaky", &[]);
    flaky.retries = 2;
    let run = runs.start(&[flaky, step("after", &[0])], None).await;
    assert_eq!(runs.work_off(&worker, &["flaky"]).await, ["flaky", "flaky", "flaky"]);
    assert_eq!(runs.attempts(run, "flaky").await, ["failure"; 3]);
    assert_eq!(runs.steps(run).await, ["flaky failure", "after skipped"]);
    assert_eq!(runs.run(run).await.0, "failure");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_delivery_that_comes_many_times_at_once_makes_one_run() {
    let runs = Runs::new().await;
    let asked: Vec<_> = (0..8)
        .map(|_| {
            let runs = runs.clone();
            tokio::spawn(async move { runs.create(Some("delivery-1")).await })
        })
        .collect();
    let mut made = Vec::new();
    for created in asked {
        made.push(created.await.unwrap());
    }
    assert_eq!(made.iter().filter(|created| created.new).count(), 1);
    assert!(made.iter().all(|created| created.run_id == made[0].run_id && created.number == 1));
    assert_eq!(runs.count("select count(*) from jobs").await, 1);
    // Also after the run has ended; and another delivery gets the next number.
    runs.cancel(made[0].run_id).await.unwrap();
    let again = runs.create(Some("delivery-1")).await;
    assert_eq!((again.new, again.run_id, again.status.name()), (false, made[0].run_id, "cancelled"));
    assert_eq!(runs.create(Some("delivery-2")).await.number, 2);
}

#[tokio::test]
async fn a_cancel_ends_what_never_began_and_asks_what_did() {
    let (runs, worker) = runs().await;
    let run = runs.start(&[step("busy", &[]), step("waiting", &[]), step("after", &[0])], None).await;
    let busy = runs.claim_step(&worker, "busy").await;
    attempts::mark_started(&busy, &runs.pool, arguments(&busy).attempt_id).await.unwrap();
    let Cancelled::Requested(told) = runs.cancel(run).await.unwrap() else { panic!("it has not ended") };
    assert_eq!(told, [busy.job.id]);
    assert_eq!(runs.steps(run).await, ["busy running", "waiting cancelled", "after cancelled"]);
    assert_eq!(runs.attempts(run, "waiting").await, ["cancelled"]);
    // A successor of the worker finishes stopping it.
    runs.declare_dead(&worker.member).await;
    let successor = runs.worker(&SLOTS).await;
    let taken_over = runs.claim_step(&successor, "busy").await;
    assert!(taken_over.cancelled().is_cancelled());
    let publish = runs.end_step(&taken_over, AttemptStatus::Cancelled).await.unwrap().expect("its end");
    runs.end_run(&publish).await.unwrap();
    assert_eq!(runs.run(run).await, ("cancelled".into(), 0, 1));
    assert!(matches!(runs.cancel(run).await.unwrap(), Cancelled::AlreadyEnded));
}

#[tokio::test]
async fn a_beat_brings_a_cancel_whose_notification_was_lost() {
    let (runs, mut worker) = runs().await;
    let run = runs.start(&[step("busy", &[])], None).await;
    let busy = runs.claim_step(&worker, "busy").await;
    runs.cancel(run).await.unwrap();
    assert!(!busy.cancelled().is_cancelled());
    worker.beat().await;
    assert!(busy.cancelled().is_cancelled());
}

#[tokio::test]
async fn a_run_cancelled_before_its_plan_ends_at_once_and_while_it_is_planned_with_the_plan() {
    let runs = Runs::new().await;
    let early = runs.create(None).await.run_id;
    runs.cancel(early).await.unwrap();
    assert_eq!(runs.run(early).await.0, "cancelled");
    assert_eq!(runs.jobs(early).await, [""; 0]);
    let late = runs.create(None).await.run_id;
    let worker = runs.worker(&[("pipelines", 1)]).await;
    let claim = worker.claim_one("pipelines").await;
    runs.cancel(late).await.unwrap();
    assert_eq!(runs.run(late).await.0, "pending");
    runs.plan(late, &[step("test", &[])], None).await;
    let _ = claim.complete_alone(&[]).await.unwrap();
    assert_eq!(runs.run(late).await.0, "cancelled");
    assert_eq!(runs.steps(late).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_and_a_completion_at_the_same_moment_agree_a_hundred_times() {
    let runs = Runs::new().await;
    let worker = runs.worker(&SLOTS).await;
    let mut ends: BTreeMap<&str, usize> = BTreeMap::new();
    for _ in 0..100 {
        let run = runs.start(&[step("a", &[]), step("b", &[0])], None).await;
        let claim = runs.claim_step(&worker, "a").await;
        attempts::mark_started(&claim, &runs.pool, arguments(&claim).attempt_id).await.unwrap();
        let completing = {
            let runs = runs.clone();
            tokio::spawn(async move { runs.end_step(&claim, AttemptStatus::Success).await.unwrap() })
        };
        let cancelling = {
            let runs = runs.clone();
            tokio::spawn(async move { runs.cancel(run).await.unwrap() })
        };
        let (next, cancelled) = tokio::join!(completing, cancelling);
        let mut next = next.unwrap();
        assert!(matches!(cancelled.unwrap(), Cancelled::Requested(_)));
        while let Some(claim) = next {
            next = if claim.job.queue == "steps" {
                // Step `b` was claimed in the ending transaction: its worker stops it.
                runs.end_step(&claim, AttemptStatus::Cancelled).await.unwrap()
            } else {
                runs.end_run(&claim).await.unwrap()
            };
        }
        runs.work_off(&worker, &[]).await;
        let (status, open, _) = runs.run(run).await;
        assert_eq!((status.as_str(), open), ("cancelled", 0));
        assert_eq!(runs.jobs(run).await, [""; 0]);
        assert_eq!(runs.steps(run).await, ["a success", "b cancelled"]);
        let first = if runs.attempts(run, "b").await.is_empty() { "the cancel" } else { "the completion" };
        *ends.entry(first).or_default() += 1;
    }
    println!("cancel against completion, which came first: {ends:?}");
    assert_eq!(runs.count("select count(*) from job_history where kind = 'UploadArtifacts'").await, 100);
    assert_eq!(runs.count("select count(*) from step_attempts where finished_at is null").await, 0);
}
