//! The clock: starts what schedules ask for. Every worker looks; whoever has the schedule's row starts its run.

use std::time::Duration;

use buildit_shared::{
    db::schedules,
    jobs::{JobArgs, RunPipeline},
    queue::{Notifier, Signal},
};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

/// The longest that a schedule which came meanwhile may have to wait.
const LONGEST: Duration = Duration::from_secs(5);

/// Starts what is due until `stopping`.
pub async fn keep_time(pool: PgPool, stopping: CancellationToken) {
    let notifier = Notifier::new(pool.clone());
    loop {
        let wait = match round(&pool, &notifier).await {
            Ok(wait) => wait.min(LONGEST),
            Err(error) => {
                tracing::warn!(%error, "schedules were not looked at; the next round does so");
                LONGEST
            }
        };
        tokio::select! {
            () = stopping.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Until the next one is due.
async fn round(pool: &PgPool, notifier: &Notifier) -> Result<Duration, sqlx::Error> {
    loop {
        let mut tx = pool.begin().await?;
        let wake = notifier.wake(RunPipeline::QUEUE);
        let Some(created) = schedules::fire(&mut tx, &wake).await? else { break };
        tx.commit().await?;
        wake.committed();
        notifier.send(Signal::Run(created.run_id));
        tracing::info!(run = %created.run_id, "started by its schedule");
    }
    let wait = schedules::wait_ms(pool).await?;
    // One that another worker is at is due and stays so for a moment.
    Ok(wait.map_or(LONGEST, |ms| Duration::from_millis(u64::try_from(ms).unwrap_or(0).max(200))))
}
