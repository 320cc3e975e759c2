//! Workers that die: what they held goes on, what they do too late changes nothing, and poison is given up.

use std::time::Duration;

use buildit_shared::{
    db::{attempts, logs},
    domain::AttemptStatus,
    jobs::RunStep,
    queue::{Error, NewJob, enqueue, rescue},
};
use buildit_tests::{
    eventually,
    queue::{Left, Queue},
    runs::{Runs, arguments, step},
};

#[tokio::test]
async fn a_beat_that_has_moved_saves_its_worker() {
    let queue = Queue::new().await;
    let mut worker = queue.worker(&[("left", 1)]).await;
    let job = queue.left().await;
    let claim = worker.claim_one("left").await;
    let seen = rescue::Dead { worker: worker.member.id(), beat: 0 };
    worker.beat().await;
    assert!(queue.rescue(seen).await.is_none());
    assert_eq!(queue.live(job).await.unwrap().state, "running");
    let _ = claim.complete_alone(&[]).await.unwrap();
}

#[tokio::test]
async fn a_worker_declared_dead_learns_it_from_its_next_beat_and_gets_nothing_more() {
    let queue = Queue::new().await;
    let mut worker = queue.worker(&[("left", 2)]).await;
    queue.left().await;
    let claim = worker.claim_one("left").await;
    assert_eq!(queue.declare_dead(&worker.member).await.readied, 1);
    assert!(!worker.beat().await.alive);
    assert!(worker.claim().await.is_empty());
    assert!(matches!(claim.retry("late", Duration::ZERO).await, Err(Error::LeaseLost)));
    // Nobody is rescued twice.
    assert!(queue.rescue(rescue::Dead { worker: worker.member.id(), beat: 0 }).await.is_none());
}

#[tokio::test]
async fn a_stale_worker_changes_nothing() {
    let runs = Runs::new().await;
    let run = runs.start(&[step("test", &[])], None).await;
    let (stale, fresh) = (runs.worker(&[("steps", 1)]).await, runs.worker(&[("steps", 1)]).await);
    let old = runs.claim_step(&stale, "test").await;
    let attempt = arguments(&old).attempt_id;
    runs.declare_dead(&stale.member).await;
    let new = runs.claim_step(&fresh, "test").await;
    assert!(matches!(attempts::mark_started(&old, &runs.pool, attempt).await, Err(Error::LeaseLost)));
    attempts::mark_started(&new, &runs.pool, attempt).await.unwrap();
    assert!(logs::append(&runs.pool, &new, attempt, 0, 0, b"one ").await.unwrap());
    assert!(!logs::append(&runs.pool, &old, attempt, 4, 4, b"bad ").await.unwrap());
    assert_eq!(logs::stored_len(&runs.pool, old.job.id, old.lease(), attempt).await.unwrap(), None);
    attempts::explain(&old, &runs.pool, attempt, Some("bad")).await.unwrap();
    assert!(matches!(runs.end_step(&old, AttemptStatus::Failure).await, Err(Error::LeaseLost)));
    assert!(matches!(runs.bury(&old, "bad").await, Err(Error::LeaseLost)));
    assert!(matches!(old.snooze(Duration::ZERO).await, Err(Error::LeaseLost)));
    assert_eq!(runs.steps(run).await, ["test running"]);
    let read = attempts::read(&runs.pool, attempt).await.unwrap().unwrap();
    assert_eq!((read.log_len, read.status), (4, AttemptStatus::Running));
    assert!(logs::append(&runs.pool, &new, attempt, 4, 4, b"two").await.unwrap());
    runs.end_step(&new, AttemptStatus::Success).await.unwrap();
    assert_eq!(runs.steps(run).await, ["test success"]);
    let log: Vec<u8> =
        logs::chunks(&runs.pool, attempt, 0, 100).await.unwrap().into_iter().flat_map(|(_, bytes)| bytes).collect();
    assert_eq!(log, b"one two");
}

/// The claim saw its worker alive while somebody else's transaction declared it dead.
#[tokio::test]
async fn a_claim_at_the_moment_of_its_workers_death_strands_nothing() {
    let queue = Queue::new().await;
    let worker = queue.worker(&[("left", 1)]).await;
    let job = queue.left().await;
    let mut tx = queue.pool.begin().await.unwrap();
    let dead = rescue::Dead { worker: worker.member.id(), beat: 0 };
    assert_eq!(rescue::rescue(&mut tx, dead).await.unwrap().unwrap().readied, 0);
    let claim = worker.claim_one("left").await;
    tx.commit().await.unwrap();
    assert_eq!(queue.live(job).await.unwrap().state, "running");
    let mut tx = queue.pool.begin().await.unwrap();
    assert_eq!(rescue::free_jobs_of_the_dead(&mut tx).await.unwrap().readied, 1);
    tx.commit().await.unwrap();
    assert_eq!(queue.live(job).await.unwrap().state, "ready");
    assert!(matches!(claim.complete_alone(&[]).await, Err(Error::LeaseLost)));
}

#[tokio::test]
async fn deaths_in_a_row_without_progress_end_step_and_run_as_error() {
    let runs = Runs::new().await;
    let run = runs.start(&[step("build", &[]), step("deploy", &[0]), step("lint", &[])], None).await;
    let steady = runs.worker(&[("steps", 1), ("artifacts", 1)]).await;
    let mut build = None;
    for death in 1..=rescue::POISON {
        let worker = runs.worker(&[("steps", 1)]).await;
        let claim = runs.claim_step(&worker, "build").await;
        build = Some((claim.job.id, arguments(&claim)));
        let mut tx = runs.pool.begin().await.unwrap();
        let dead = rescue::Dead { worker: worker.member.id(), beat: 0 };
        let rescued = rescue::rescue(&mut tx, dead).await.unwrap().unwrap();
        for job in &rescued.poisoned {
            let follow_up = buildit_shared::db::advance::job_died(&mut tx, job, "they died").await.unwrap();
            enqueue(&mut *tx, &follow_up).await.unwrap();
        }
        tx.commit().await.unwrap();
        assert_eq!(rescued.poisoned.len(), usize::from(death == rescue::POISON), "death {death}");
    }
    let (job, RunStep { .. }) = build.unwrap();
    assert_eq!(runs.end(job).await.as_deref(), Some("dead"));
    assert_eq!(runs.errors(job).await, ["worker_died"; rescue::POISON as usize]);
    let named: i64 = runs.count("select count(distinct worker_id) from job_errors where claimed_at is not null").await;
    assert_eq!(named, i64::from(rescue::POISON));
    assert_eq!(runs.attempts(run, "build").await, ["error"]);
    assert_eq!(runs.steps(run).await, ["build error", "deploy skipped", "lint pending"]);
    assert_eq!(runs.work_off(&steady, &[]).await, ["lint"]);
    assert_eq!(runs.run(run).await.0, "error");
    assert!(runs.reason(run).await.unwrap().contains("they died"));
}

#[tokio::test]
async fn deaths_with_progress_in_between_do_not_add_up() {
    let runs = Runs::new().await;
    runs.start(&[step("test", &[])], None).await;
    let mut len = 0;
    let mut deaths = Vec::new();
    for death in 0..2 * rescue::POISON {
        let worker = runs.worker(&[("steps", 1)]).await;
        let claim = worker.claim_one("steps").await;
        let attempt = arguments(&claim).attempt_id;
        match death {
            0 => {}
            1 => attempts::mark_started(&claim, &runs.pool, attempt).await.unwrap(),
            _ => {
                assert!(logs::append(&runs.pool, &claim, attempt, len, len, b"line\n").await.unwrap());
                len += 5;
            }
        }
        assert_eq!(runs.declare_dead(&worker.member).await.readied, 1);
        let live = runs.live(claim.job.id).await.unwrap();
        assert_eq!(live.attempt, 0, "a death is no failed attempt");
        deaths.push(live.deaths);
    }
    assert!(deaths.iter().all(|deaths| *deaths == 1), "{deaths:?}");
}

#[tokio::test]
async fn a_failed_attempt_in_between_means_that_the_job_does_not_kill() {
    let queue = Queue::new().await;
    let job = queue.left().await;
    for round in 0..3 {
        for _ in 1..rescue::POISON {
            let worker = queue.worker(&[("left", 1)]).await;
            let _claim = worker.claim_one("left").await;
            queue.declare_dead(&worker.member).await;
        }
        assert_eq!(queue.live(job).await.unwrap().deaths, rescue::POISON - 1, "round {round}");
        let worker = queue.worker(&[("left", 1)]).await;
        let _ = worker.claim_one("left").await.retry("no luck", Duration::ZERO).await.unwrap();
        sqlx::query("update jobs set state = 'ready'").execute(&queue.pool).await.unwrap();
    }
    assert_eq!(queue.live(job).await.unwrap().attempt, 3);
}

/// Poison is buried under the run's lock like every other end, so the two wait for each other in one order only.
#[tokio::test]
async fn a_cancel_and_the_burial_of_poison_do_not_block_each_other() {
    let runs = Runs::new().await;
    let run = runs.start(&[step("test", &[])], Some(("main", false))).await;
    for _ in 1..rescue::POISON {
        let worker = runs.worker(&[("steps", 1)]).await;
        let _claim = worker.claim_one("steps").await;
        runs.declare_dead(&worker.member).await;
    }
    let worker = runs.worker(&[("steps", 1)]).await;
    let _claim = worker.claim_one("steps").await;
    // The cancel has the run's row, and has not come to its jobs yet.
    let mut cancel = runs.pool.begin().await.unwrap();
    sqlx::query("select from pipeline_runs where id = $1 for update").bind(run).execute(&mut *cancel).await.unwrap();
    let bury = {
        let (runs, dead) = (runs.clone(), rescue::Dead { worker: worker.member.id(), beat: 0 });
        tokio::spawn(async move {
            let mut tx = runs.pool.begin().await?;
            for job in rescue::rescue(&mut tx, dead).await.unwrap().unwrap().poisoned {
                let follow_up = buildit_shared::db::advance::job_died(&mut tx, &job, "they died").await?;
                enqueue(&mut *tx, &follow_up).await?;
            }
            tx.commit().await
        })
    };
    eventually("the burial waits for the run", Duration::from_secs(10), async || runs.database.waiting().await > 0)
        .await;
    sqlx::query("update jobs set cancel_requested = true where run_id = $1")
        .bind(run)
        .execute(&mut *cancel)
        .await
        .unwrap();
    cancel.commit().await.unwrap();
    bury.await.unwrap().unwrap();
    assert_eq!(runs.steps(run).await, ["test error"]);
}

#[tokio::test]
async fn a_goodbye_readies_what_its_worker_still_holds() {
    let queue = Queue::new().await;
    let job = queue.left().await;
    let worker = queue.worker(&[("left", 1)]).await;
    let claim = worker.claim_one("left").await;
    worker.goodbye().await;
    let live = queue.live(job).await.unwrap();
    assert_eq!((live.state.as_str(), live.attempt, live.deaths), ("ready", 0, 0));
    assert!(matches!(claim.complete_alone(&[NewJob::new(&Left {})]).await, Err(Error::LeaseLost)));
    assert_eq!(queue.count("select count(*) from workers where state = 'stopped'").await, 1);
}
