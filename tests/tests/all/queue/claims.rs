//! Claims: lost replies, fused claims, and many workers at once.

use std::{collections::HashMap, time::Duration};

use buildit_shared::{
    db::fleet,
    ids::JobId,
    queue::{Claim, Error, NewJob},
};
use buildit_tests::{
    eventually,
    queue::{Left, Queue, Right, Worker},
};
use sqlx::Connection;

async fn one_left() -> (Queue, Worker, JobId) {
    let queue = Queue::new().await;
    let worker = queue.worker(&[("left", 1), ("right", 1)]).await;
    let job = queue.left().await;
    (queue, worker, job)
}

async fn state(queue: &Queue, job: JobId) -> String {
    queue.live(job).await.map_or("gone".into(), |live| live.state)
}

#[tokio::test]
async fn a_claim_whose_reply_is_lost_is_readied_by_the_next_beat_and_burns_nothing() {
    let (queue, mut worker, job) = one_left().await;
    drop(worker.claim_one("left").await);
    assert_eq!(queue.live(job).await.unwrap().attempt, 1);
    worker.beat().await;
    let live = queue.live(job).await.unwrap();
    assert_eq!((live.state.as_str(), live.attempt, live.deaths), ("ready", 0, 0));
    assert_eq!(queue.errors(job).await, [""; 0]);
    let again = worker.claim_one("left").await;
    assert_eq!((again.job.id, again.job.attempt), (job, 1));
}

#[tokio::test]
async fn a_claim_that_is_held_is_left_alone_by_beats() {
    let (queue, mut worker, job) = one_left().await;
    let claim = worker.claim_one("left").await;
    worker.beat().await;
    worker.beat().await;
    let _ = claim.complete_alone(&[]).await.unwrap();
    assert_eq!(queue.end(job).await.as_deref(), Some("succeeded"));
}

/// The claim waits in the database for the worker's row, so that it is in flight for as long as the test wants.
#[tokio::test]
async fn a_claim_in_flight_is_not_taken_for_lost_and_an_aborted_one_is() {
    let (queue, mut worker, job) = one_left().await;
    for aborted in [false, true] {
        let mut gate = sqlx::PgConnection::connect(&queue.database.url).await.unwrap();
        let mut shut = gate.begin().await.unwrap();
        sqlx::query("lock table queues in access exclusive mode").execute(&mut *shut).await.unwrap();
        let member = worker.member.clone();
        let claiming = tokio::spawn(async move {
            Claim::take(&member, member.slots().take_all()).await.unwrap().pop().expect("the job")
        });
        eventually("the claim waits", Duration::from_secs(10), async || queue.database.waiting().await > 0).await;
        if aborted {
            claiming.abort();
            assert!(claiming.await.unwrap_err().is_cancelled());
            shut.commit().await.unwrap();
            // The server may or may not have finished what nobody waits for any more.
            eventually("nothing goes on", Duration::from_secs(10), async || queue.database.at_work().await == 0).await;
            eventually("readied", Duration::from_secs(10), async || {
                worker.beat().await;
                state(&queue, job).await == "ready"
            })
            .await;
            assert_eq!(queue.live(job).await.unwrap().attempt, 0);
        } else {
            shut.commit().await.unwrap();
            let claim = claiming.await.unwrap();
            worker.beat().await;
            assert_eq!(state(&queue, job).await, "running");
            let _ = claim.snooze(Duration::ZERO).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_fused_claim_whose_reply_is_lost_is_readied_and_the_job_that_ended_stays_ended() {
    let (queue, mut worker, job) = one_left().await;
    let claim = worker.claim_one("left").await;
    let next = NewJob::new(&Left {});
    // What a lost reply leaves: the commit happened, and nobody knows of the claim that came with it.
    drop(claim.complete_alone(std::slice::from_ref(&next)).await.unwrap());
    assert_eq!(state(&queue, next.id()).await, "running");
    // The handler saw an error and tries again to settle its job: that changes nothing.
    assert!(matches!(claim.snooze(Duration::ZERO).await, Err(Error::LeaseLost)));
    assert!(matches!(claim.complete_alone(&[NewJob::new(&Left {})]).await, Err(Error::LeaseLost)));
    drop(claim);
    worker.beat().await;
    let live = queue.live(next.id()).await.unwrap();
    assert_eq!((live.state.as_str(), live.attempt), ("ready", 0));
    assert_eq!(queue.end(job).await.as_deref(), Some("succeeded"));
    assert_eq!(queue.count("select count(*) from jobs").await, 1);
}

#[tokio::test]
async fn a_completed_job_hands_its_slot_to_what_it_enqueued() {
    let (_queue, worker, _) = one_left().await;
    let claim = worker.claim_one("left").await;
    let next = NewJob::new(&Left {});
    let fused = claim.complete_alone(std::slice::from_ref(&next)).await.unwrap().into_next().expect("a fused claim");
    assert_eq!((fused.job.id, fused.job.attempt), (next.id(), 1));
    // The slot moved: there is no second one.
    assert!(worker.member.slots().take("left").is_none());
    let other = NewJob::new(&Right {});
    let fused = fused.complete_alone(std::slice::from_ref(&other)).await.unwrap().into_next().expect("another queue");
    assert_eq!(fused.job.id, other.id());
    drop(fused);
}

#[tokio::test]
async fn without_a_follow_up_the_next_ready_job_comes_along() {
    let (queue, worker, _) = one_left().await;
    let claim = worker.claim_one("left").await;
    let waiting = queue.left().await;
    let next = claim.complete_alone(&[]).await.unwrap().into_next().expect("the waiting job");
    assert_eq!(next.job.id, waiting);
    assert!(next.complete_alone(&[]).await.unwrap().into_next().is_none());
}

#[tokio::test]
async fn a_ready_job_of_higher_priority_goes_before_the_follow_up() {
    let (queue, worker, _) = one_left().await;
    let claim = worker.claim_one("left").await;
    let urgent = NewJob::new(&Left {}).priority(1);
    queue.enqueue(std::slice::from_ref(&urgent)).await;
    let follow_up = NewJob::new(&Left {});
    assert!(claim.complete_alone(std::slice::from_ref(&follow_up)).await.unwrap().into_next().is_none());
    assert_eq!(state(&queue, follow_up.id()).await, "ready");
    // The slot is free for it.
    assert_eq!(worker.claim_one("left").await.job.id, urgent.id());
}

#[tokio::test]
async fn a_paused_queue_hands_out_nothing_fused_or_not() {
    let (queue, worker, _) = one_left().await;
    let claim = worker.claim_one("left").await;
    fleet::pause(&queue.pool, "left", "Ada", None).await.unwrap();
    let next = NewJob::new(&Left {});
    assert!(claim.complete_alone(std::slice::from_ref(&next)).await.unwrap().into_next().is_none());
    drop(claim);
    assert!(worker.claim().await.is_empty());
    assert!(fleet::resume(&queue.pool, "left").await.unwrap());
    assert_eq!(worker.claim_one("left").await.job.id, next.id());
}

#[tokio::test]
async fn a_draining_worker_takes_nothing_more() {
    let (queue, worker, _) = one_left().await;
    let claim = worker.claim_one("left").await;
    queue.left().await;
    worker.member.drain();
    assert!(claim.complete_alone(&[NewJob::new(&Left {})]).await.unwrap().into_next().is_none());
    drop(claim);
    assert!(worker.claim().await.is_empty());
    assert_eq!(queue.count("select count(*) from jobs where state = 'ready'").await, 2);
}

#[tokio::test]
async fn a_worker_fuses_no_job_of_a_kind_it_does_not_know() {
    let (queue, worker, _) = one_left().await;
    let claim = worker.claim_one("left").await;
    #[derive(Debug, serde::Serialize, serde::Deserialize)]
    struct Newer {}
    impl buildit_shared::jobs::JobArgs for Newer {
        const KIND: &'static str = "TestNewer";
        const QUEUE: &'static str = "left";
        const MAX_ATTEMPTS: i32 = 3;
    }
    let newer = NewJob::new(&Newer {});
    assert!(claim.complete_alone(std::slice::from_ref(&newer)).await.unwrap().into_next().is_none());
    assert_eq!(state(&queue, newer.id()).await, "ready");
}

#[tokio::test]
async fn a_job_may_follow_itself_under_the_same_unique_key() {
    let (queue, worker, _) = one_left().await;
    let _ = worker.claim_one("left").await.complete_alone(&[]).await.unwrap();
    let job = |delay| NewJob::new(&Left {}).unique("nightly").after(delay);
    assert_eq!(queue.enqueue(&[job(Duration::ZERO)]).await, 1);
    assert_eq!(queue.enqueue(&[job(Duration::ZERO)]).await, 0);
    let claim = worker.claim_one("left").await;
    let next = job(Duration::from_secs(60));
    let _ = claim.complete_alone(std::slice::from_ref(&next)).await.unwrap();
    assert_eq!(state(&queue, next.id()).await, "scheduled");
    assert_eq!(queue.enqueue(&[job(Duration::ZERO)]).await, 0);
}

#[tokio::test]
async fn what_a_transaction_wrote_goes_when_the_lease_is_lost() {
    let (queue, worker, job) = one_left().await;
    let claim = worker.claim_one("left").await;
    queue.declare_dead(&worker.member).await;
    let mut tx = queue.pool.begin().await.unwrap();
    sqlx::query("insert into queues (name) values ('written')").execute(&mut *tx).await.unwrap();
    assert!(matches!(claim.complete(tx, &[NewJob::new(&Right {})]).await, Err(Error::LeaseLost)));
    assert_eq!(queue.count("select count(*) from queues").await, 0);
    assert_eq!(queue.count("select count(*) from jobs").await, 1);
    assert_eq!(state(&queue, job).await, "ready");
}

/// Counts each handling; a job that is handled twice would be seen here even if its second end were refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_workers_drain_two_thousand_jobs_each_exactly_once() {
    const JOBS: usize = 2_000;
    let queue = Queue::new().await;
    let jobs: Vec<_> = (0..JOBS).map(|_| NewJob::new(&Left {})).collect();
    assert_eq!(queue.enqueue(&jobs).await, JOBS as u64);
    let drain = async |worker: Worker| {
        let lane = async || {
            let mut handled = Vec::new();
            while let Some(claim) = worker.claim().await.pop() {
                let mut next = Some(claim);
                while let Some(claim) = next {
                    handled.push(claim.job.id);
                    next = claim.complete_alone(&[]).await.unwrap().into_next();
                }
            }
            handled
        };
        let (mut a, b) = tokio::join!(lane(), lane());
        a.extend(b);
        a
    };
    let begun = std::time::Instant::now();
    // Two slots each, but taken one by one: a lane asks for what is free.
    let (a, b) = (queue.worker(&[("left", 1)]).await, queue.worker(&[("left", 1)]).await);
    let (a, b) = tokio::join!(drain(a), drain(b));
    println!("{JOBS} jobs in {:?}: {} by one worker, {} by the other", begun.elapsed(), a.len(), b.len());
    let mut handled: HashMap<JobId, usize> = HashMap::new();
    for id in a.iter().chain(&b) {
        *handled.entry(*id).or_default() += 1;
    }
    assert_eq!(handled.len(), JOBS);
    assert!(handled.values().all(|times| *times == 1));
    assert_eq!(queue.count("select count(*) from jobs").await, 0);
    assert_eq!(queue.count("select count(*) from job_history where ended_as = 'succeeded'").await, JOBS as i64);
}

#[tokio::test]
async fn a_job_whose_end_the_database_refused_keeps_its_slot() {
    let (queue, worker, job) = one_left().await;
    let claim = worker.claim_one("left").await;
    for follow_up in [vec![], vec![NewJob::new(&Left {})], vec![NewJob::new(&Right {})]] {
        let mut broken = queue.pool.begin().await.unwrap();
        sqlx::query("select 1 / 0").execute(&mut *broken).await.unwrap_err();
        let refused = claim.complete(broken, &follow_up).await;
        assert!(matches!(refused, Err(Error::Database(_))), "{refused:?}");
        assert!(worker.member.slots().take("left").is_none(), "it still works on the job");
        assert!(worker.member.slots().take("right").is_some());
    }
    assert_eq!(state(&queue, job).await, "running");
    // Settled in the end, the slot goes to the next job as ever.
    let next = queue.left().await;
    let ended = claim.complete_alone(&[]).await.unwrap();
    assert_eq!(ended.into_next().map(|claim| claim.job.id), Some(next));
    drop(claim);
    assert!(worker.member.slots().take("left").is_some());
}
