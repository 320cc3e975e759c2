//! Many readers of one live log on one API process.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use buildit_shared::{
    ids::{AttemptId, JobId, StepId},
    queue::{Notifier, Signal},
};
use futures::StreamExt;
use reqwest::{Method, header};
use serde_json::json;
use sqlx::PgPool;
use tokio::{sync::mpsc, task::JoinSet};
use uuid::Uuid;

use super::{
    client::{Caller, json},
    server::Server,
};
use crate::bench::{
    measure::{cpu, percentiles, server_cpu},
    monotonic, print,
};

/// What a line says before the time when it was written.
const MARK: &str = "written ";

pub(super) async fn readers(
    pool: &PgPool,
    database_url: &str,
    readers: usize,
    rate: u64,
    seconds: u64,
) -> anyhow::Result<()> {
    let server = Server::start(database_url).await?;
    let caller = Caller::new(pool, &server.url).await?;
    let (run, attempt) = running(pool, &caller).await?;
    let path = format!("/api/v1/runs/{run}/steps/log/logs");
    let (idle_mb, _) = server.memory_mb()?;
    let (sender, mut delays) = mpsc::unbounded_channel();
    let connected = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    let began = Instant::now();
    for _ in 0..readers {
        let request = caller.by_key(Method::GET, &path).header(header::ACCEPT, "text/event-stream");
        tasks.spawn(read(request, sender.clone(), Arc::clone(&connected)));
        if tasks.len() % 50 == 0 {
            tokio::task::yield_now().await;
        }
    }
    drop(sender);
    while connected.load(Ordering::Relaxed) < readers {
        ensure!(
            began.elapsed() < Duration::from_secs(60),
            "{} of {readers} are connected",
            connected.load(Ordering::Relaxed)
        );
        if let Some(ended) = tasks.try_join_next() {
            ended??;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    print(&json!({ "connected": readers, "secs": began.elapsed().as_secs_f64() }))?;

    let waiting = Duration::from_secs(5);
    let quiet = server.cpu_ms();
    tokio::time::sleep(waiting).await;
    let quiet_cpu = (server.cpu_ms() - quiet) as f64 / waiting.as_millis() as f64;

    let notifier = Notifier::new(pool.clone());
    let (before, database, ours) = (server.cpu_ms(), server_cpu(pool).await?, cpu("self"));
    let began = Instant::now();
    let mut tick = tokio::time::interval(Duration::from_micros(1_000_000 / rate.max(1)));
    let lines = usize::try_from(rate * seconds)?;
    for _ in 0..lines {
        tick.tick().await;
        write(pool, attempt).await?;
        notifier.send(Signal::Log(attempt));
    }
    let wanted = lines * readers;
    let mut times = Vec::with_capacity(wanted);
    while times.len() < wanted {
        let delay = tokio::time::timeout(Duration::from_secs(30), delays.recv()).await;
        times.push(
            delay.with_context(|| format!("{} of {wanted} lines came", times.len()))?.context("no reader is left")?,
        );
    }
    let secs = began.elapsed().as_secs_f64();
    let (memory_mb, peak_mb) = server.memory_mb()?;
    let used = |before: u64, now: u64| (now - before) as f64 / 1000.0 / secs;
    let database_now = server_cpu(pool).await?;
    let database_ms: u64 =
        database_now.iter().map(|(pid, now)| now.saturating_sub(database.get(pid).copied().unwrap_or(0))).sum();
    let mut line = percentiles(times);
    line["readers"] = json!(readers);
    line["lines_per_s"] = json!(rate);
    line["secs"] = json!(secs);
    line["api_memory_mb"] = json!(memory_mb);
    line["api_peak_mb"] = json!(peak_mb);
    line["api_idle_mb"] = json!(idle_mb);
    line["api_cores"] = json!(used(before, server.cpu_ms()));
    line["api_cores_while_nothing_is_written"] = json!(quiet_cpu);
    line["database_cores"] = json!(database_ms as f64 / 1000.0 / secs);
    line["readers_cores"] = json!(used(ours, cpu("self")));
    tasks.abort_all();
    print(&line)
}

/// A step at work of a run of its own.
async fn running(pool: &PgPool, caller: &Caller) -> anyhow::Result<(Uuid, AttemptId)> {
    let projects = json(caller.by_key(Method::GET, "/api/v1/projects?limit=1")).await?;
    let project = projects["items"][0]["name"].as_str().context("no project: fill the database first")?.to_owned();
    let body = json!({ "ref": "main" });
    let started = json(caller.by_key(Method::POST, &format!("/api/v1/projects/{project}/runs")).json(&body)).await?;
    let run = Uuid::parse_str(started["id"].as_str().unwrap_or_default())?;
    let (step, attempt) = (StepId::new(), AttemptId::new());
    let mut tx = pool.begin().await?;
    sqlx::query("update pipeline_runs set status = 'running', started_at = now(), open_steps = 1 where id = $1")
        .bind(run)
        .execute(&mut *tx)
        .await?;
    sqlx::query("delete from jobs where run_id = $1").bind(run).execute(&mut *tx).await?;
    sqlx::query(
        "insert into pipeline_steps (id, organization_id, project_id, run_id, name, step_order, image, status, plan, started_at)
         select $1, organization_id, project_id, id, 'log', 0, 'busybox', 'running', '{}', now()
         from pipeline_runs where id = $2",
    )
    .bind(step)
    .bind(run)
    .execute(&mut *tx)
    .await?;
    sqlx::query(
        "insert into step_attempts (id, organization_id, run_id, step_id, number, job_id, status, started_at)
         select $1, organization_id, run_id, id, 1, $3, 'running', now() from pipeline_steps where id = $2",
    )
    .bind(attempt)
    .bind(step)
    .bind(JobId::new())
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok((run, attempt))
}

/// A line as a worker stores it, with the time of now.
async fn write(pool: &PgPool, attempt: AttemptId) -> anyhow::Result<()> {
    let line = format!("{MARK}{}\n", monotonic());
    sqlx::query(
        "with grown as (
             update step_attempts set log_len = log_len + length($2::bytea) where id = $1 returning log_len)
         insert into step_log_chunks (attempt_id, start, bytes) select $1, log_len - length($2), $2 from grown",
    )
    .bind(attempt)
    .bind(line.into_bytes())
    .execute(pool)
    .await?;
    Ok(())
}

/// Follows the log and tells of each line how many nanoseconds it took.
async fn read(
    request: reqwest::RequestBuilder,
    delays: mpsc::UnboundedSender<u64>,
    connected: Arc<AtomicUsize>,
) -> anyhow::Result<()> {
    let answer = request.send().await?.error_for_status()?;
    connected.fetch_add(1, Ordering::Relaxed);
    let mut stream = answer.bytes_stream();
    let mut text = String::new();
    while let Some(bytes) = stream.next().await {
        text.push_str(&String::from_utf8_lossy(&bytes?));
        let now = monotonic();
        while let Some((event, rest)) = text.split_once("\n\n") {
            for (at, _) in event.match_indices(MARK) {
                let digits = &event[at + MARK.len()..];
                let digits = digits.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
                delays.send(now.saturating_sub(digits.parse()?)).ok();
            }
            text = rest.to_owned();
        }
    }
    Ok(())
}
