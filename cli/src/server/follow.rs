//! Shows a run in the terminal while it happens.

use std::{collections::BTreeMap, io::Write};

use anyhow::Context;
use buildit_shared::{
    db::{Scope, logs, run_queries, step_queries},
    domain::RunStatus,
    ids::{AttemptId, RunId},
    queue::Signals,
};
use sqlx::PgPool;

const BATCH: i64 = 1 << 20;

/// Prints the steps' logs, in order, until the run has ended; returns how.
pub(super) async fn follow(pool: &PgPool, signals: &Signals, scope: Scope, run: RunId) -> anyhow::Result<RunStatus> {
    let mut news = signals.subscribe();
    let mut shown: BTreeMap<AttemptId, u64> = BTreeMap::new();
    loop {
        let status = run_queries::find(pool, scope, run).await?.context("the run is gone")?.status;
        for step in step_queries::steps(pool, run).await? {
            let attempts = step_queries::attempts(pool, run).await?;
            let mut unfinished = !step.status.is_ended();
            for attempt in attempts.iter().filter(|attempt| attempt.step_id == step.id) {
                if attempt.started_at.is_none() {
                    continue;
                }
                let from = shown.entry(attempt.id).or_insert_with(|| {
                    println!("\n--- {}", step.name);
                    0
                });
                *from = print_from(pool, attempt.id, *from).await?;
                unfinished |= attempt.finished_at.is_none();
            }
            if unfinished {
                break;
            }
        }
        if status.is_ended() {
            return Ok(status);
        }
        // A second at most: whoever listens also looks.
        let _ = tokio::time::timeout(std::time::Duration::from_secs(1), news.next()).await;
    }
}

async fn print_from(pool: &PgPool, attempt: AttemptId, from: u64) -> anyhow::Result<u64> {
    let mut offset = from;
    loop {
        let chunks = logs::chunks(pool, attempt, offset, BATCH).await?;
        let before = offset;
        for (start, bytes) in chunks {
            let skip = usize::try_from(offset.saturating_sub(start))?.min(bytes.len());
            std::io::stdout().write_all(&bytes[skip..])?;
            offset = offset.max(start + bytes.len() as u64);
        }
        if offset == before {
            std::io::stdout().flush()?;
            return Ok(offset);
        }
    }
}
