//! Chains: each handler's completing transaction enqueues the next job.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use buildit_shared::{
    jobs::JobArgs,
    queue::{NewJob, Notifier, enqueue},
};
use buildit_worker::Registry;
use serde_json::json;
use sqlx::PgPool;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{Task, measure, options, print};

pub(super) async fn chain(pool: &PgPool, database_url: &str, length: u32, chains: usize) -> anyhow::Result<()> {
    let total = u64::from(length) * chains as u64;
    let (done, finished, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(Notify::new()), CancellationToken::new());
    let (counter, last) = (Arc::clone(&done), Arc::clone(&finished));
    let registry = Registry::default().with::<Task, _, _>(move |claim, task| {
        let (counter, last) = (Arc::clone(&counter), Arc::clone(&last));
        async move {
            let next = (task.more > 0).then(|| NewJob::new(&Task { more: task.more - 1, ..task }));
            let ended = claim.complete_alone(next.as_slice()).await?;
            if counter.fetch_add(1, Ordering::Relaxed) + 1 == total {
                last.notify_one();
            }
            Ok(ended)
        }
    });
    let worker = tokio::spawn(buildit_worker::run(options(pool, database_url, chains)?, registry, stop.clone()));
    // The worker joins while the counters settle.
    let before = measure::start(pool).await?;
    let started = Instant::now();
    let first: Vec<NewJob> =
        (0..chains).map(|_| NewJob::new(&Task { sleep: 0, more: length.saturating_sub(1), sent: 0 })).collect();
    enqueue(pool, &first).await?;
    Notifier::new(pool.clone()).jobs(Task::QUEUE);
    while done.load(Ordering::Relaxed) < total {
        // A signal that came just before is not lost; the time-out only guards against a job that died.
        let _ = tokio::time::timeout(Duration::from_secs(5), finished.notified()).await;
    }
    let secs = started.elapsed().as_secs_f64();
    stop.cancel();
    worker.await??;
    let mut result = serde_json::to_value(before.cost_of(pool, total, secs).await?)?;
    if let Some(result) = result.as_object_mut() {
        result.insert("ms_per_hop".into(), json!(secs * 1000.0 / f64::from(length)));
    }
    print(&result)
}
