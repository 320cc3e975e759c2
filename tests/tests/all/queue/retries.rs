//! A retry of an ended run: a new generation that keeps what succeeded.

use buildit_shared::{
    db::retry::Retried,
    domain::{AttemptStatus, NotAgain},
};
use buildit_tests::{
    queue::Worker,
    runs::{Runs, step},
};

async fn runs() -> (Runs, Worker) {
    let runs = Runs::new().await;
    let worker = runs.worker(&[("steps", 1), ("artifacts", 1)]).await;
    (runs, worker)
}

#[tokio::test]
async fn a_retry_does_again_what_failed_and_what_that_held_up() {
    let (runs, worker) = runs().await;
    let steps = [step("a", &[]), step("b", &[0]), step("c", &[0, 1]), step("d", &[0])];
    let run = runs.start(&steps, None).await;
    runs.work_off(&worker, &["b"]).await;
    assert_eq!(runs.run(run).await, ("failure".into(), 0, 1));
    assert_eq!(runs.retry(run).await, Retried::Started);
    assert_eq!(runs.run(run).await, ("running".into(), 2, 2));
    assert_eq!(runs.retry(run).await, Retried::NotEnded);
    assert_eq!(runs.steps(run).await, ["a success", "b pending", "c pending", "d success"]);
    assert_eq!(runs.work_off(&worker, &[]).await, ["b", "c"]);
    assert_eq!(runs.run(run).await, ("success".into(), 0, 2));
    assert_eq!(runs.attempts(run, "a").await, ["success"]);
    assert_eq!(runs.attempts(run, "b").await, ["failure", "success"]);
    assert_eq!(runs.count("select count(*) from job_history where kind = 'UploadArtifacts'").await, 2);
    assert_eq!(runs.retry(run).await, Retried::NothingToRetry);
}

#[tokio::test]
async fn a_retry_leaves_steps_alone_that_may_fail_or_were_left_out() {
    let (runs, worker) = runs().await;
    let (mut lint, mut publish) = (step("lint", &[]), step("publish", &[]));
    lint.allow_failure = true;
    publish.left_out = Some("not on this branch".into());
    let run = runs.start(&[lint, publish, step("test", &[0, 1])], None).await;
    runs.work_off(&worker, &["lint", "test"]).await;
    assert_eq!(runs.run(run).await.0, "failure");
    runs.retry(run).await;
    assert_eq!(runs.work_off(&worker, &[]).await, ["test"]);
    assert_eq!(runs.steps(run).await, ["lint failure", "publish skipped", "test success"]);
    assert_eq!(runs.run(run).await, ("success".into(), 0, 2));
}

#[tokio::test]
async fn a_retry_gives_each_step_its_own_tries_back() {
    let (runs, worker) = runs().await;
    let (mut flaky, mut steady) = (step("flaky", &[]), step("steady", &[]));
    (flaky.retries, steady.retries) = (2, 1);
    let run = runs.start(&[flaky, steady], None).await;
    runs.work_off(&worker, &["flaky"]).await;
    assert_eq!(runs.attempts(run, "flaky").await, ["failure"; 3]);
    assert_eq!(runs.retry(run).await, Retried::Started);
    assert_eq!(runs.work_off(&worker, &["flaky"]).await, ["flaky"; 3], "once and twice again");
    assert_eq!(runs.attempts(run, "flaky").await, ["failure"; 6]);
    assert_eq!(runs.attempts(run, "steady").await, ["success"]);
    assert_eq!(runs.run(run).await.0, "failure");
}

#[tokio::test]
async fn a_retry_of_a_cancelled_run_is_not_cancelled() {
    let (runs, worker) = runs().await;
    let run = runs.start(&[step("a", &[]), step("b", &[0])], None).await;
    runs.cancel(run).await.unwrap();
    runs.work_off(&worker, &[]).await;
    assert_eq!(runs.run(run).await, ("cancelled".into(), 0, 1));
    runs.retry(run).await;
    let claim = runs.claim_step(&worker, "a").await;
    assert!(!claim.cancelled().is_cancelled());
    let next = runs.end_step(&claim, AttemptStatus::Success).await.unwrap().expect("`b`");
    drop(claim);
    let publish = runs.end_step(&next, AttemptStatus::Success).await.unwrap().expect("the end");
    runs.end_run(&publish).await.unwrap();
    assert_eq!(runs.run(run).await, ("success".into(), 0, 2));
}

#[tokio::test]
async fn a_retry_after_the_publishing_failed_publishes_again() {
    let (runs, worker) = runs().await;
    let run = runs.start(&[step("test", &[])], None).await;
    let claim = runs.claim_step(&worker, "test").await;
    let publish = runs.end_step(&claim, AttemptStatus::Success).await.unwrap().unwrap();
    runs.bury(&publish, "no space left").await.unwrap();
    drop((claim, publish));
    assert_eq!(runs.run(run).await.0, "error");
    assert_eq!(runs.retry(run).await, Retried::Started);
    assert_eq!(runs.jobs(run).await, ["UploadArtifacts"]);
    assert_eq!(runs.work_off(&worker, &[]).await, [""; 0]);
    assert_eq!(runs.run(run).await, ("success".into(), 0, 2));
}

#[tokio::test]
async fn a_retry_of_the_publishing_waits_for_its_group_and_publishes_then() {
    let (runs, worker) = runs().await;
    let group = Some(("main", false));
    let first = runs.start(&[step("test", &[])], group).await;
    let claim = runs.claim_step(&worker, "test").await;
    let publish = runs.end_step(&claim, AttemptStatus::Success).await.unwrap().unwrap();
    runs.bury(&publish, "no space left").await.unwrap();
    drop((claim, publish));
    let second = runs.start(&[step("test", &[])], group).await;
    runs.retry(first).await;
    assert_eq!(runs.run(first).await, ("pending".into(), 0, 2));
    assert_eq!(runs.work_off(&worker, &[]).await, ["test"]);
    assert_eq!(runs.run(second).await.0, "success");
    assert_eq!(runs.run(first).await, ("success".into(), 0, 2));
}

#[tokio::test]
async fn a_retry_of_a_run_that_was_never_planned_plans_it() {
    let (runs, _) = runs().await;
    let run = runs.create(None).await.run_id;
    let planner = runs.worker(&[("pipelines", 1)]).await;
    let claim = planner.claim_one("pipelines").await;
    runs.bury(&claim, "no such repository").await.unwrap();
    drop(claim);
    assert_eq!(runs.run(run).await.0, "error");
    runs.retry(run).await;
    assert_eq!(runs.run(run).await, ("pending".into(), 0, 2));
    assert_eq!(runs.jobs(run).await, ["RunPipeline"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retries_at_the_same_moment_make_one_generation() {
    let (runs, worker) = runs().await;
    let run = runs.start(&[step("test", &[])], None).await;
    runs.work_off(&worker, &["test"]).await;
    let asked: Vec<_> = (0..4)
        .map(|_| {
            let runs = runs.clone();
            tokio::spawn(async move { runs.retry(run).await })
        })
        .collect();
    let mut started = 0;
    for answer in asked {
        started += usize::from(answer.await.unwrap() == Retried::Started);
    }
    assert_eq!(started, 1);
    assert_eq!(runs.run(run).await, ("running".into(), 1, 2));
    assert_eq!(runs.jobs(run).await, ["RunStep test"]);
}

#[tokio::test]
async fn a_retry_from_a_step_does_it_and_what_depends_on_it_again_whatever_came_of_them() {
    let (runs, worker) = runs().await;
    let diamond = [step("a", &[]), step("b", &[0]), step("c", &[0]), step("d", &[1, 2])];
    let run = runs.start(&diamond, None).await;
    runs.work_off(&worker, &[]).await;
    assert_eq!(runs.run(run).await, ("success".into(), 0, 1));
    assert_eq!(runs.retry_from(run, Some("b")).await, Retried::Started);
    assert_eq!(runs.run(run).await, ("running".into(), 2, 2));
    assert_eq!(runs.steps(run).await, ["a success", "b pending", "c success", "d pending"]);
    assert_eq!(runs.retry_from(run, Some("b")).await, Retried::NotEnded);
    assert_eq!(runs.work_off(&worker, &["d"]).await, ["b", "d"]);
    assert_eq!(runs.run(run).await, ("failure".into(), 0, 2));
    assert_eq!(runs.attempts(run, "c").await, ["success"]);
    assert_eq!(runs.attempts(run, "d").await, ["success", "failure"]);
    assert_eq!(runs.retry(run).await, Retried::Started);
    assert_eq!(runs.work_off(&worker, &[]).await, ["d"]);
    assert_eq!(runs.run(run).await, ("success".into(), 0, 3));
}

#[tokio::test]
async fn a_retry_from_one_failed_step_leaves_the_other_and_what_it_holds_up() {
    let (runs, worker) = runs().await;
    let diamond = [step("a", &[]), step("b", &[0]), step("c", &[0]), step("d", &[1, 2])];
    let run = runs.start(&diamond, None).await;
    runs.work_off(&worker, &["b", "c"]).await;
    assert_eq!(runs.retry_from(run, Some("b")).await, Retried::Started);
    assert_eq!(runs.work_off(&worker, &[]).await, ["b"]);
    assert_eq!(runs.steps(run).await, ["a success", "b success", "c failure", "d skipped"]);
    assert_eq!(runs.run(run).await, ("failure".into(), 0, 2));
    let refused = runs.retry_from(run, Some("d")).await;
    assert_eq!(refused, Retried::NotThatStep(NotAgain::NotReady { step: "d".into(), on: "c".into() }));
    assert_eq!(runs.retry_from(run, Some("e")).await, Retried::NoSuchStep);
    assert_eq!(runs.retry_from(run, Some("c")).await, Retried::Started);
    assert_eq!(runs.work_off(&worker, &[]).await, ["c", "d"]);
    assert_eq!(runs.run(run).await, ("success".into(), 0, 3));
}

#[tokio::test]
async fn a_retry_from_a_step_waits_for_its_group() {
    let (runs, worker) = runs().await;
    let group = Some(("main", false));
    let first = runs.start(&[step("test", &[])], group).await;
    runs.work_off(&worker, &[]).await;
    let second = runs.start(&[step("test", &[])], group).await;
    assert_eq!(runs.retry_from(first, Some("test")).await, Retried::Started);
    assert_eq!((runs.run(first).await.0.as_str(), runs.run(second).await.0.as_str()), ("pending", "running"));
    assert_eq!(runs.work_off(&worker, &[]).await, ["test", "test"]);
    assert_eq!((runs.run(first).await.0.as_str(), runs.run(second).await.0.as_str()), ("success", "success"));
}
