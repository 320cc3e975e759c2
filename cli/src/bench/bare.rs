//! The same work as bare SQL on the same tables: the ceiling that the queue's own code is measured against.

use std::time::Instant;

use buildit_shared::{
    jobs::JobArgs,
    queue::{NewJob, enqueue},
};
use serde_json::json;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::{Task, measure, print};

const CLAIM: &str = "
    update jobs set state = 'running', lease = 1, worker_id = $1, claimed_at = now(), attempt = attempt + 1
    where id in (select id from jobs where queue = 'bench' and state = 'ready'
                 order by priority desc, run_at, id limit $2 for update skip locked)
    returning id";

const END: &str = "
    with ended as (delete from jobs where id = any($1) and lease = 1 and state = 'running' returning *)
    insert into job_history (id, kind, queue, ended_as, priority, args, attempt, max_attempts, deaths, worker_id,
                             enqueued_at, claimed_at)
    select id, kind, queue, 'succeeded', priority, args, attempt, max_attempts, deaths, worker_id, enqueued_at, claimed_at
    from ended";

/// Ends a job and claims the next ready one. In that order: who claims may lock a row that somebody else has claimed just
/// before, and would wait with it for somebody who waits for him.
const FUSED_CLAIM: &str = "
    with ended as (delete from jobs where id = $1 and lease = 1 and state = 'running' returning *),
    archived as (
        insert into job_history (id, kind, queue, ended_as, priority, args, attempt, max_attempts, deaths, worker_id,
                                 enqueued_at, claimed_at)
        select id, kind, queue, 'succeeded', priority, args, attempt, max_attempts, deaths, worker_id, enqueued_at, claimed_at
        from ended)
    update jobs set state = 'running', lease = 1, worker_id = $2, claimed_at = now(), attempt = attempt + 1
    where id in (select id from jobs where queue = 'bench' and state = 'ready' and (select count(*) from ended) >= 0
                 order by priority desc, run_at, id limit 1 for update skip locked)
    returning id";

/// Ends a job and enqueues its successor already claimed.
const FUSED_CHAIN: &str = "
    with ended as (delete from jobs where id = $1 and lease = 1 and state = 'running' returning *),
    archived as (
        insert into job_history (id, kind, queue, ended_as, priority, args, attempt, max_attempts, deaths, worker_id,
                                 enqueued_at, claimed_at)
        select id, kind, queue, 'succeeded', priority, args, attempt, max_attempts, deaths, worker_id, enqueued_at, claimed_at
        from ended)
    insert into jobs (id, kind, queue, state, args, max_attempts, lease, worker_id, claimed_at, attempt)
    select $3, 'Bench', 'bench', 'running', '{\"v\": 1}', 3, 1, $2, now(), 1 from ended
    returning id";

pub(super) async fn limit(pool: &PgPool, n: usize) -> anyhow::Result<()> {
    one_by_one(pool, n, 1, "one by one").await?;
    one_by_one(pool, n, 100, "batches of 100").await?;
    for connections in [1, 16] {
        drain_fused(pool, n, connections).await?;
    }
    for connections in [1, 16] {
        chain_fused(pool, n, connections).await?;
    }
    Ok(())
}

async fn fill(pool: &PgPool, n: usize) -> anyhow::Result<()> {
    sqlx::query("delete from jobs where queue = 'bench'").execute(pool).await?;
    for batch in vec![(); n].chunks(1000) {
        let jobs: Vec<NewJob> = batch.iter().map(|()| NewJob::new(&Task { sleep: 0, more: 0, sent: 0 })).collect();
        enqueue(pool, &jobs).await?;
    }
    sqlx::query("vacuum analyze jobs").execute(pool).await?;
    Ok(())
}

async fn one_by_one(pool: &PgPool, n: usize, batch: i64, what: &str) -> anyhow::Result<()> {
    fill(pool, n).await?;
    let before = measure::start(pool).await?;
    let mut connection = pool.acquire().await?;
    let started = Instant::now();
    loop {
        let claimed: Vec<Uuid> =
            sqlx::query_scalar(CLAIM).bind(Uuid::nil()).bind(batch).fetch_all(&mut *connection).await?;
        if claimed.is_empty() {
            break;
        }
        sqlx::query(END).bind(&claimed).execute(&mut *connection).await?;
    }
    let secs = started.elapsed().as_secs_f64();
    report(what, 1, &before.cost_of(pool, n as u64, secs).await?)
}

async fn drain_fused(pool: &PgPool, n: usize, connections: usize) -> anyhow::Result<()> {
    fill(pool, n).await?;
    let before = measure::start(pool).await?;
    let mut open = open(pool, connections).await?;
    let started = Instant::now();
    futures::future::try_join_all(open.iter_mut().map(|connection| async move {
        let mut job: Option<Uuid> = Some(Uuid::nil());
        while let Some(id) = job {
            job = sqlx::query_scalar(FUSED_CLAIM).bind(id).bind(Uuid::nil()).fetch_optional(&mut **connection).await?;
        }
        Ok::<_, sqlx::Error>(())
    }))
    .await?;
    let secs = started.elapsed().as_secs_f64();
    report("fused: complete and claim in one statement", connections, &before.cost_of(pool, n as u64, secs).await?)
}

async fn chain_fused(pool: &PgPool, n: usize, connections: usize) -> anyhow::Result<()> {
    fill(pool, connections).await?;
    let before = measure::start(pool).await?;
    let mut open = open(pool, connections).await?;
    let started = Instant::now();
    let hops = n / connections;
    futures::future::try_join_all(open.iter_mut().map(|connection| hop(connection, hops))).await?;
    let secs = started.elapsed().as_secs_f64();
    sqlx::query("delete from jobs where queue = 'bench'").execute(pool).await?;
    let cost = before.cost_of(pool, (hops * connections) as u64, secs).await?;
    print(&json!({ "ms_per_hop": secs * 1000.0 / hops as f64 }))?;
    report("fused: complete, enqueue and claim in one statement", connections, &cost)
}

async fn hop(connection: &mut PgConnection, hops: usize) -> sqlx::Result<()> {
    let mut job: Uuid = sqlx::query_scalar(CLAIM).bind(Uuid::nil()).bind(1_i64).fetch_one(&mut *connection).await?;
    for _ in 0..hops {
        job = sqlx::query_scalar(FUSED_CHAIN)
            .bind(job)
            .bind(Uuid::nil())
            .bind(Uuid::now_v7())
            .fetch_one(&mut *connection)
            .await?;
    }
    Ok(())
}

async fn open(pool: &PgPool, n: usize) -> sqlx::Result<Vec<sqlx::pool::PoolConnection<sqlx::Postgres>>> {
    futures::future::try_join_all((0..n).map(|_| pool.acquire())).await
}

fn report(what: &str, connections: usize, cost: &measure::Cost) -> anyhow::Result<()> {
    let mut line = json!({ "what": what, "queue": Task::QUEUE, "connections": connections });
    if let (Some(line), Some(cost)) = (line.as_object_mut(), serde_json::to_value(cost)?.as_object()) {
        line.extend(cost.clone());
    }
    print(&line)
}
