//! Puts jobs into the queue and its history.

use std::time::Instant;

use buildit_shared::queue::{NewJob, Notifier, enqueue};
use serde_json::json;
use sqlx::PgPool;

use super::{Task, measure, print};

const BATCH: usize = 1000;

pub(super) async fn enqueue_many(pool: &PgPool, n: usize, one_by_one: bool, sleep: u64) -> anyhow::Result<()> {
    let before = measure::start(pool).await?;
    let task = Task { sleep, more: 0, sent: 0 };
    let started = Instant::now();
    let batch = if one_by_one { 1 } else { BATCH };
    let notifier = Notifier::new(pool.clone());
    let mut left = n;
    while left > 0 {
        let jobs: Vec<NewJob> = (0..left.min(batch)).map(|_| NewJob::new(&task)).collect();
        enqueue(pool, &jobs).await?;
        notifier.jobs("bench");
        left -= jobs.len();
    }
    let secs = started.elapsed().as_secs_f64();
    print(&before.cost_of(pool, n as u64, secs).await?)
}

pub(super) async fn history(pool: &PgPool, n: i64) -> anyhow::Result<()> {
    let started = Instant::now();
    sqlx::query(
        "insert into job_history (id, kind, queue, ended_as, priority, args, attempt, max_attempts, deaths, enqueued_at,
                                  claimed_at, ended_at)
         select gen_random_uuid(), 'Bench', 'bench', 'succeeded', 0, '{\"v\": 1}', 1, 3, 0, now(), now(),
                now() - n * interval '10 milliseconds'
         from generate_series(1, $1) n",
    )
    .bind(n)
    .execute(pool)
    .await?;
    sqlx::query("vacuum analyze job_history").execute(pool).await?;
    print(&json!({ "n": n, "secs": started.elapsed().as_secs_f64() }))
}
