//! Works on what waits, with the product's worker.

use std::{
    fs::File,
    io::Write,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use buildit_shared::{ids::JobId, jobs::JobArgs, queue::JobError};
use buildit_worker::Registry;
use serde_json::json;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use super::{Task, measure, monotonic, options, print};

/// Start and end lines, each by one appending write, so that those of several processes do not mix.
#[derive(Clone, Default)]
struct Events(Option<Arc<Mutex<File>>>);

impl Events {
    fn open(path: Option<PathBuf>) -> std::io::Result<Self> {
        let open = |path| File::options().create(true).append(true).open(path);
        Ok(Self(path.map(open).transpose()?.map(|file| Arc::new(Mutex::new(file)))))
    }

    fn write(&self, job: JobId, event: &str) -> std::io::Result<()> {
        let Some(file) = &self.0 else { return Ok(()) };
        let line = json!({ "job": job, "ev": event, "pid": std::process::id(), "t": monotonic() as f64 / 1e9 });
        file.lock().unwrap_or_else(PoisonError::into_inner).write_all(format!("{line}\n").as_bytes())
    }
}

pub(super) async fn work(
    pool: &PgPool,
    database_url: &str,
    concurrency: usize,
    until_drained: Option<u64>,
    events: Option<PathBuf>,
) -> anyhow::Result<()> {
    let events = Events::open(events)?;
    let before = measure::start(pool).await?;
    let (done, stop) = (Arc::new(AtomicU64::new(0)), CancellationToken::new());
    let counter = Arc::clone(&done);
    let registry = Registry::default().with::<Task, _, _>(move |claim, task| {
        let (events, counter) = (events.clone(), Arc::clone(&counter));
        async move {
            let io = |error: std::io::Error| JobError::retry(error.to_string());
            events.write(claim.job.id, "start").map_err(io)?;
            if task.sleep > 0 {
                tokio::time::sleep(Duration::from_millis(task.sleep)).await;
            }
            events.write(claim.job.id, "end").map_err(io)?;
            let ended = claim.complete_alone(&[]).await?;
            counter.fetch_add(1, Ordering::Relaxed);
            Ok(ended)
        }
    });
    let started = Instant::now();
    let worker = tokio::spawn(buildit_worker::run(options(pool, database_url, concurrency)?, registry, stop.clone()));
    let secs = drained(pool, &done, until_drained, started).await?;
    stop.cancel();
    worker.await??;
    print(&before.cost_of(pool, done.load(Ordering::Relaxed), secs).await?)
}

/// Seconds until the last job was worked on; nobody must be left who has one.
async fn drained(pool: &PgPool, done: &AtomicU64, until_drained: Option<u64>, started: Instant) -> anyhow::Result<f64> {
    let mut seen = 0;
    let mut changed = started;
    loop {
        tokio::time::sleep(Duration::from_millis(5)).await;
        let now = done.load(Ordering::Relaxed);
        if now != seen {
            (seen, changed) = (now, Instant::now());
        }
        let enough = until_drained.is_none_or(|n| now >= n);
        let quiet = changed.elapsed() > Duration::from_millis(100);
        if enough && quiet && !unfinished(pool).await? {
            return Ok((changed - started).as_secs_f64());
        }
        if !enough && changed.elapsed() > Duration::from_secs(1) && !unfinished(pool).await? {
            // Other processes took the rest.
            return Ok((changed - started).as_secs_f64());
        }
    }
}

async fn unfinished(pool: &PgPool) -> sqlx::Result<bool> {
    sqlx::query_scalar("select exists (select from jobs where queue = $1)").bind(Task::QUEUE).fetch_one(pool).await
}
