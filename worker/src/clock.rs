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
/// Between two looks at a schedule that another worker starts.
const BUSY: Duration = Duration::from_millis(200);

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

/// Starts all that is due; then, how long until the next one is. One look while nothing is due: it goes on day and night.
async fn round(pool: &PgPool, notifier: &Notifier) -> Result<Duration, sqlx::Error> {
    loop {
        match schedules::wait_ms(pool).await? {
            None => return Ok(LONGEST),
            Some(ms) if ms > 0 => return Ok(Duration::from_millis(ms.unsigned_abs())),
            Some(_) => {}
        }
        let mut tx = pool.begin().await?;
        let wake = notifier.wake(RunPipeline::QUEUE);
        // One that another worker is at is due and stays so for a moment.
        let Some(created) = schedules::fire(&mut tx, &wake).await? else { return Ok(BUSY) };
        tx.commit().await?;
        wake.committed();
        notifier.send(Signal::Run(created.run_id));
        tracing::info!(run = %created.run_id, "started by its schedule");
    }
}
