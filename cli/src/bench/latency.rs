//! Pick-up: from another process's insert call to the handler's first line.

use std::{
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::ensure;
use buildit_shared::{
    jobs::JobArgs,
    queue::{NewJob, Notifier, enqueue_and_wake},
};
use buildit_worker::Registry;
use serde_json::json;
use sqlx::{PgPool, postgres::PgListener};
use tokio::{process::Command, time::Interval};
use tokio_util::sync::CancellationToken;

use super::{
    Task,
    measure::{self, percentiles},
    monotonic, options, print,
};

pub(super) async fn latency(pool: &PgPool, database_url: &str, jobs: usize, rate: u64) -> anyhow::Result<()> {
    let before = measure::start(pool).await?;
    let limit = commits_and_notify(pool, database_url, jobs, rate).await?;
    let waits = Arc::new(Mutex::new(Vec::with_capacity(jobs)));
    let stop = CancellationToken::new();
    let seen = Arc::clone(&waits);
    let registry = Registry::default().with::<Task, _, _>(move |claim, task| {
        let arrived = monotonic();
        seen.lock().unwrap_or_else(PoisonError::into_inner).push(arrived.saturating_sub(task.sent));
        async move { Ok(claim.complete_alone(&[]).await?) }
    });
    let worker = tokio::spawn(buildit_worker::run(options(pool, database_url, 4)?, registry, stop.clone()));
    joined(pool).await?;
    let enqueuer = Command::new(std::env::current_exe()?)
        .args(["bench", "latency", "--enqueue-only", "--jobs", &jobs.to_string(), "--rate", &rate.to_string()])
        .env("DATABASE_URL", database_url)
        .stdout(Stdio::null())
        .status()
        .await?;
    ensure!(enqueuer.success(), "the enqueuing process failed");
    while waits.lock().unwrap_or_else(PoisonError::into_inner).len() < jobs {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stop.cancel();
    worker.await??;
    let waits = std::mem::take(&mut *waits.lock().unwrap_or_else(PoisonError::into_inner));
    print(&json!({ "what": "two commits and a notify that is heard", "limit": percentiles(limit) }))?;
    let mut result = serde_json::to_value(before.cost(pool, jobs as u64).await?)?;
    if let (Some(result), Some(times)) = (result.as_object_mut(), percentiles(waits).as_object()) {
        result.extend(times.clone());
    }
    print(&result)
}

/// The enqueuing process.
pub(super) async fn enqueue_at_rate(pool: &PgPool, jobs: usize, rate: u64) -> anyhow::Result<()> {
    let notifier = Notifier::new(pool.clone());
    let mut tick = tick(rate);
    for _ in 0..jobs {
        tick.tick().await;
        let job = NewJob::new(&Task { sleep: 0, more: 0, sent: monotonic() });
        let wake = notifier.wake(Task::QUEUE);
        enqueue_and_wake(pool, &[job], &wake).await?;
        wake.committed();
    }
    // The last notification is on its way.
    tokio::time::sleep(Duration::from_millis(100)).await;
    Ok(())
}

/// The least that a pick-up through the database can take, in nanoseconds each: a durable commit, a NOTIFY until it is
/// heard, and another commit; as often as the jobs come, since a machine that has to wake up first is slower.
async fn commits_and_notify(pool: &PgPool, url: &str, n: usize, rate: u64) -> anyhow::Result<Vec<u64>> {
    let (mut enqueuer, mut worker) = (pool.acquire().await?, pool.acquire().await?);
    let mut listener = PgListener::connect(url).await?;
    listener.listen("bench").await?;
    let mut times = Vec::with_capacity(n);
    let mut tick = tick(rate);
    sqlx::query("create table if not exists bench_commits (at timestamptz)").execute(&mut *enqueuer).await?;
    for _ in 0..n {
        tick.tick().await;
        let started = monotonic();
        sqlx::query("insert into bench_commits values (now())").execute(&mut *enqueuer).await?;
        sqlx::query("select pg_notify('bench', '')").execute(&mut *enqueuer).await?;
        listener.recv().await?;
        sqlx::query("insert into bench_commits values (now())").execute(&mut *worker).await?;
        times.push(monotonic() - started);
    }
    sqlx::query("drop table bench_commits").execute(&mut *enqueuer).await?;
    Ok(times)
}

fn tick(rate: u64) -> Interval {
    tokio::time::interval(Duration::from_micros(1_000_000 / rate.max(1)))
}

async fn joined(pool: &PgPool) -> anyhow::Result<()> {
    while !sqlx::query_scalar::<_, bool>("select exists (select from workers where state = 'alive' and host = 'bench')")
        .fetch_one(pool)
        .await?
    {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
