//! Whole workers: what becomes of failures, hand-overs and outages.

use std::{sync::Arc, time::Duration};

use buildit_postgres::Postgres;
use buildit_shared::{
    db::{self, Use},
    ids::JobId,
    queue::{Claim, Ended, JobError, NewJob, enqueue, rescue},
};
use buildit_tests::{
    database::Database,
    eventually,
    fleet::Running,
    queue::{Left, Queue, Right},
};
use buildit_worker::Registry;
use sqlx::PgPool;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const SOON: Duration = Duration::from_secs(20);

async fn complete(claim: Arc<Claim>) -> Result<Ended, JobError> {
    Ok(claim.complete_alone(&[]).await?)
}

/// A handler that does `first` at the first attempt and completes at any other.
fn failing_once<F>(first: F) -> Registry
where
    F: Fn() -> Result<Ended, JobError> + Copy + Send + Sync + 'static,
{
    Registry::default().with::<Left, _, _>(move |claim, _| async move {
        if claim.job.attempt == 1 { first() } else { complete(claim).await }
    })
}

async fn error_of(queue: &Queue, job: JobId) -> String {
    sqlx::query_scalar("select error from job_errors where job_id = $1")
        .bind(job)
        .fetch_one(&queue.database.pool)
        .await
        .unwrap()
}

/// Seconds until a scheduled job is due.
async fn due_in(queue: &Queue, job: JobId) -> Option<f64> {
    sqlx::query_scalar(
        "select extract(epoch from run_at - now())::float8 from jobs where id = $1 and state = 'scheduled'",
    )
    .bind(job)
    .fetch_optional(&queue.database.pool)
    .await
    .unwrap()
}

async fn ended(queue: &Queue, job: JobId) {
    eventually("the job ends", SOON, async || queue.end(job).await.is_some()).await;
}

#[tokio::test]
async fn a_panic_is_a_failed_attempt_and_the_worker_goes_on() {
    let queue = Queue::new().await;
    let job = queue.left().await;
    let worker = Running::start(&queue.database.url, "a", failing_once(|| panic!("boom"))).await;
    ended(&queue, job).await;
    assert_eq!(queue.end(job).await.as_deref(), Some("succeeded"));
    assert_eq!(queue.errors(job).await, ["failed"]);
    assert_eq!(error_of(&queue, job).await, "the handler panicked: boom");
    worker.stop().await;
}

#[tokio::test]
async fn a_failure_without_hope_is_dead_at_once() {
    let queue = Queue::new().await;
    let job = queue.left().await;
    let worker = Running::start(&queue.database.url, "a", failing_once(|| Err(JobError::fail("no such thing")))).await;
    ended(&queue, job).await;
    assert_eq!(queue.end(job).await.as_deref(), Some("dead"));
    assert_eq!(error_of(&queue, job).await, "no such thing");
    worker.stop().await;
}

#[tokio::test]
async fn a_failure_waits_in_the_database_for_its_next_attempt() {
    let queue = Queue::new().await;
    let (backed_off, told, last) =
        (NewJob::new(&Left {}), NewJob::new(&Right {}), NewJob::new(&Left {}).max_attempts(1));
    queue.enqueue(&[backed_off.clone(), told.clone(), last.clone()]).await;
    let registry = failing_once(|| Err(JobError::retry("no luck"))).with::<Right, _, _>(|_, _| async {
        Err(JobError::Retry { message: "too early".into(), after: Some(Duration::from_secs(3600)) })
    });
    let worker = Running::start(&queue.database.url, "a", registry).await;
    let mut seen = None;
    eventually("backed off", SOON, async || {
        seen = due_in(&queue, backed_off.id()).await.or(seen);
        queue.end(backed_off.id()).await.is_some()
    })
    .await;
    let seen = seen.expect("it was scheduled");
    assert!(seen <= 1.25, "{seen} s is longer than the first back-off");
    let told = due_in(&queue, told.id()).await.expect("scheduled");
    assert!((3500.0..=3600.0).contains(&told), "{told}");
    ended(&queue, last.id()).await;
    assert_eq!(queue.end(last.id()).await.as_deref(), Some("dead"));
    worker.stop().await;
}

#[tokio::test]
async fn a_worker_that_is_asked_to_stop_hands_over_and_burns_no_attempt() {
    let queue = Queue::new().await;
    let job = queue.left().await;
    let (entered, mut inside) = watch::channel(0);
    let shutdown = CancellationToken::new();
    let stopping = shutdown.child_token();
    let waiting = Registry::default().with::<Left, _, _>(move |_, _| {
        let (entered, stopping) = (entered.clone(), stopping.clone());
        async move {
            entered.send_modify(|times| *times += 1);
            stopping.cancelled().await;
            Err(JobError::HandOver)
        }
    });
    let first = Running::start_until(&queue.database.url, "first", waiting, shutdown).await;
    inside.wait_for(|times| *times == 1).await.unwrap();
    first.stop().await;
    let live = queue.live(job).await.unwrap();
    assert_eq!((live.state.as_str(), live.attempt, live.deaths), ("ready", 0, 0));
    assert_eq!(*inside.borrow(), 1, "it does not claim again what it handed over");
    assert_eq!(queue.errors(job).await, [""; 0]);
    let registry = Registry::default().with::<Left, _, _>(|claim, _| complete(claim));
    let second = Running::start(&queue.database.url, "second", registry).await;
    ended(&queue, job).await;
    second.stop().await;
    assert_eq!(queue.count("select attempt::bigint from job_history").await, 1);
    assert_eq!(queue.count("select count(*) from workers where state = 'stopped'").await, 2);
}

/// The members of the fleet: host, id, state.
async fn members(pool: &PgPool) -> Vec<(String, uuid::Uuid, String)> {
    sqlx::query_as("select host, id, state::text from workers order by host").fetch_all(pool).await.unwrap()
}

async fn joined(pool: &PgPool, workers: usize) -> Vec<(String, uuid::Uuid, String)> {
    eventually("the workers join", SOON, async || members(pool).await.len() == workers).await;
    members(pool).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_of_the_database_pauses_the_fleet_and_nothing_more() {
    let mut server = Postgres::throwaway(&|line| eprintln!("{line}")).await.unwrap();
    let url = server.url().to_owned();
    let pool = db::connect(&url, Use::Api, 4).await.unwrap();
    db::migrate(&pool).await.unwrap();
    // `left` jobs end while the database is away, `right` ones after it has come back.
    let (entered, mut inside) = watch::channel(0);
    let (open_left, left) = watch::channel(false);
    let (open_right, right) = watch::channel(false);
    let registry = || {
        let handler = |gate: watch::Receiver<bool>, entered: watch::Sender<i32>| {
            move |claim: Arc<Claim>| {
                let (mut gate, entered) = (gate.clone(), entered.clone());
                async move {
                    entered.send_modify(|times| *times += 1);
                    gate.wait_for(|open| *open).await.map_err(|error| JobError::fail(error.to_string()))?;
                    complete(claim).await
                }
            }
        };
        let (left, right) = (handler(left.clone(), entered.clone()), handler(right.clone(), entered.clone()));
        Registry::default()
            .with::<Left, _, _>(move |claim, _| left(claim))
            .with::<Right, _, _>(move |claim, _| right(claim))
    };
    let workers = [Running::start(&url, "a", registry()).await, Running::start(&url, "b", registry()).await];
    // It will be the last to notice that the database is back.
    let queue = Queue { database: Database { url: url.clone(), pool: pool.clone() }, pool: pool.clone() };
    let mut slow = queue.worker(&[]).await;
    let before = joined(&pool, 3).await;
    let mut jobs: Vec<_> = (0..4).map(|_| NewJob::new(&Left {})).collect();
    jobs.extend((0..4).map(|_| NewJob::new(&Right {})));
    enqueue(&pool, &jobs).await.unwrap();
    inside.wait_for(|times| *times == 8).await.unwrap();

    slow.beat().await;
    let stopped = std::time::Instant::now();
    server.stop().await.unwrap();
    open_left.send_replace(true);
    // Longer than the silence after which a worker is dead: only the passing of that time can show it.
    tokio::time::sleep(rescue::SILENCE + Duration::from_secs(4)).await;
    server.resume(&|line| eprintln!("{line}")).await.unwrap();
    assert_eq!(server.url(), url);
    let away = stopped.elapsed();
    open_right.send_replace(true);

    let resumed = std::time::Instant::now();
    let count = async |query: &'static str| sqlx::query_scalar::<_, i64>(query).fetch_one(&pool).await.unwrap();
    // Whoever came back first has looked at the others, and found nobody dead at first sight.
    let least_beat = async || count("select min(beat) from workers where host <> 'test'").await;
    let beat = least_beat().await;
    eventually("the others beat", SOON, async || least_beat().await > beat).await;
    slow.reconnect(&queue).await;
    assert!(slow.beat().await.alive);
    eventually("every job ends", SOON, async || count("select count(*) from job_history").await == 8).await;
    println!(
        "away for {away:?}, the last of 8 jobs ended {:?} after; handlers entered {} times",
        resumed.elapsed(),
        *inside.borrow()
    );
    assert_eq!(count("select count(*) from job_history where ended_as = 'succeeded' and attempt = 1").await, 8);
    assert_eq!(count("select coalesce(sum(deaths), 0)::bigint from job_history").await, 0);
    assert_eq!(count("select count(*) from job_errors").await, 0);
    assert_eq!(members(&pool).await, before, "the same workers, alive");
    for worker in workers {
        worker.stop().await;
    }
}

#[tokio::test]
async fn a_worker_whose_connection_alone_breaks_is_not_declared_dead() {
    let queue = Queue::new().await;
    let (open, gate) = watch::channel(false);
    let registry = || {
        let gate = gate.clone();
        Registry::default().with::<Left, _, _>(move |claim, _| {
            let mut gate = gate.clone();
            async move {
                gate.wait_for(|open| *open).await.map_err(|error| JobError::fail(error.to_string()))?;
                complete(claim).await
            }
        })
    };
    let workers = [
        Running::start(&queue.database.url, "a", registry()).await,
        Running::start(&queue.database.url, "b", registry()).await,
    ];
    let before = joined(&queue.pool, 2).await;
    let job = queue.left().await;
    eventually("claimed", SOON, async || queue.live(job).await.is_some_and(|live| live.state == "running")).await;
    let holder =
        "select l.pid from pg_locks l join workers w on l.objid = w.number::oid join jobs j on j.worker_id = w.id
                  where l.locktype = 'advisory' and l.objsubid = 2 and l.granted
                    and l.database = (select oid from pg_database where datname = current_database())";
    let pid = async || sqlx::query_scalar::<_, i32>(holder).fetch_optional(&queue.pool).await.unwrap();
    let beat = async || queue.count("select w.beat from workers w join jobs j on j.worker_id = w.id").await;
    for round in 0..3 {
        let broken = pid().await.expect("the lock is held");
        let beat_then = beat().await;
        sqlx::query("select pg_terminate_backend($1)").bind(broken).execute(&queue.pool).await.unwrap();
        eventually("another connection holds the lock", SOON, async || pid().await.is_some_and(|pid| pid != broken))
            .await;
        // Longer than the grace that a worker without its lock has.
        eventually("it goes on beating", SOON, async || beat().await > beat_then + 3).await;
        assert_eq!(members(&queue.pool).await, before, "round {round}");
    }
    open.send_replace(true);
    ended(&queue, job).await;
    assert_eq!(queue.errors(job).await, [""; 0]);
    for worker in workers {
        worker.stop().await;
    }
}
