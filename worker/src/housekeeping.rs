//! What has to go after a while: old history, stored chunks, expired artifacts, and what dead attempts left at the executor.
//!
//! Every worker does it, each at its own moment; doing it twice changes nothing.

use std::{collections::HashSet, sync::Arc, time::Duration};

use buildit_shared::{
    db::{artifacts, attempts, logs},
    queue::prune,
};
use tokio_util::sync::CancellationToken;

use crate::jobs::Context;

const EVERY: Duration = Duration::from_secs(60);
/// History is looked through once in so many rounds.
const HISTORY_ROUNDS: u32 = 60;
/// An attempt this young may have been started by somebody whose commit we cannot see yet.
const SWEEP_OLDER_THAN: Duration = Duration::from_secs(600);

/// Keeps house until `stopping`.
pub async fn keep_house(cx: Arc<Context>, history_days: i32, stopping: CancellationToken) {
    // Workers started together should not all look at the same moment.
    let mut wait = EVERY.mul_f64(rand::random::<f64>());
    for round in 0u32.. {
        tokio::select! {
            () = stopping.cancelled() => return,
            () = tokio::time::sleep(wait) => wait = EVERY,
        }
        if let Err(error) = round_of(&cx, round.is_multiple_of(HISTORY_ROUNDS).then_some(history_days)).await {
            tracing::warn!(%error, "housekeeping was interrupted; the next round goes on");
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error(transparent)]
    Storage(#[from] buildit_shared::storage::Error),
    #[error(transparent)]
    Executor(#[from] crate::executor::Error),
}

async fn round_of(cx: &Context, history_days: Option<i32>) -> Result<(), Error> {
    logs::prune_chunks(&cx.logs).await?;
    expire_artifacts(cx).await?;
    let at_work: HashSet<String> = attempts::at_work(&cx.pool).await?.iter().map(ToString::to_string).collect();
    let swept = cx.executor.sweep(&|id| at_work.contains(id), SWEEP_OLDER_THAN).await?;
    if !swept.stopped.is_empty() || !swept.cleaned.is_empty() {
        tracing::info!(stopped = ?swept.stopped, cleaned = swept.cleaned.len(), "swept attempts that nobody waits for");
    }
    if let Some(days) = history_days {
        let pruned = prune::prune(&cx.pool, days).await?;
        tracing::debug!(pruned, "pruned the history");
    }
    Ok(())
}

/// The object goes before its row: a crash in between leaves a row whose object is gone, and the next round deletes it.
async fn expire_artifacts(cx: &Context) -> Result<(), Error> {
    loop {
        let expired = artifacts::expired(&cx.pool).await?;
        if expired.is_empty() {
            return Ok(());
        }
        for (_, key) in &expired {
            cx.storage.delete(key).await?;
        }
        let ids: Vec<_> = expired.iter().map(|(id, _)| *id).collect();
        artifacts::delete(&cx.pool, &ids).await?;
        tracing::info!(files = ids.len(), "deleted expired artifacts");
    }
}
