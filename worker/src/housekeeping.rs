//! What has to go after a while: old history, stored chunks, objects that nothing names, mirrors of deleted projects, and
//! what dead attempts left at the executor.
//!
//! Every worker does it, each at its own moment; doing it twice changes nothing.

use std::{collections::HashSet, sync::Arc, time::Duration};

use buildit_shared::{
    db::{attempts, attempts_ahead, commit_statuses, logs, sessions, webhooks},
    queue::prune,
};
use tokio_util::sync::CancellationToken;

use crate::{
    jobs::{Context, local_file},
    leftovers::{SweepError, sweep_objects, sweep_uploads},
    mirrors,
};

const EVERY: Duration = Duration::from_secs(60);
/// History is looked through once in so many rounds.
const HISTORY_ROUNDS: u32 = 60;
/// An attempt this young may have been started by somebody whose commit we cannot see yet.
const SWEEP_OLDER_THAN: Duration = Duration::from_secs(600);

/// How long things are kept.
#[derive(Clone, Copy, Debug)]
pub struct Keep {
    /// Days that ended jobs stay in the history.
    pub history_days: i32,
    /// Days after a run's end that its outputs stay, which a retry of its steps needs.
    pub outputs_days: i32,
}

/// Keeps house until `stopping`.
pub async fn keep_house(cx: Arc<Context>, keep: Keep, stopping: CancellationToken) {
    // Workers started together should not all look at the same moment.
    let mut wait = EVERY.mul_f64(rand::random::<f64>());
    for round in 0u32.. {
        tokio::select! {
            () = stopping.cancelled() => return,
            () = tokio::time::sleep(wait) => wait = EVERY,
        }
        if let Err(error) = round_of(&cx, keep, round.is_multiple_of(HISTORY_ROUNDS)).await {
            tracing::warn!(%error, "housekeeping was interrupted; the next round goes on");
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error(transparent)]
    Objects(#[from] SweepError),
    #[error(transparent)]
    Executor(#[from] crate::executor::Error),
    #[error(transparent)]
    Mirrors(#[from] mirrors::Error),
    #[error("fetched objects cannot be deleted: {0}")]
    Fetched(#[source] std::io::Error),
}

async fn round_of(cx: &Context, keep: Keep, with_history: bool) -> Result<(), Error> {
    logs::prune_chunks(&cx.logs).await?;
    local_file::sweep(&cx.scratch).await.map_err(Error::Fetched)?;
    // Their runners go by themselves, and their pods with the others that nobody wants.
    attempts_ahead::give_up_unwanted(&cx.pool, None).await?;
    let at_work: HashSet<String> = attempts::at_work(&cx.pool).await?.iter().map(ToString::to_string).collect();
    let swept = cx.executor.sweep(&|id| at_work.contains(id), SWEEP_OLDER_THAN).await?;
    if !swept.stopped.is_empty() || !swept.cleaned.is_empty() {
        tracing::info!(stopped = ?swept.stopped, cleaned = swept.cleaned.len(), "swept attempts that nobody waits for");
    }
    if with_history {
        let pruned = prune::prune(&cx.pool, keep.history_days).await?;
        sessions::prune(&cx.pool).await?;
        webhooks::prune(&cx.pool, keep.history_days).await?;
        commit_statuses::prune(&cx.pool, keep.history_days).await?;
        let mirrors = mirrors::sweep(&cx.pool, &cx.repositories.folder).await?;
        tracing::debug!(pruned, mirrors, "pruned the history and the mirrors of deleted projects");
    }
    // Last: an object store that is away must not hold up the rest.
    sweep_objects(&cx.pool, &cx.storage, keep.outputs_days).await?;
    sweep_uploads(&cx.pool, &cx.storage).await?;
    Ok(())
}
