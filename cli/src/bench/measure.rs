//! What a piece of work cost the database and this process.

use std::{collections::BTreeMap, fs, time::Instant};

use serde::Serialize;
use serde_json::{Value, json};
use sqlx::PgPool;

use super::print;

/// Counters before the work.
pub(super) struct Before {
    at: Instant,
    commits: i64,
    wal: i64,
    cpu: u64,
    server_cpu: BTreeMap<i32, u64>,
}

/// What each job cost.
#[derive(Debug, Serialize)]
pub(super) struct Cost {
    pub(super) n: u64,
    pub(super) secs: f64,
    pub(super) jobs_per_s: f64,
    commits_per_job: f64,
    wal_bytes_per_job: f64,
    cpu_ms_per_job: f64,
    /// Of the database's processes, where they run on this machine.
    server_cpu_ms_per_job: f64,
}

/// Reads the counters.
pub(super) async fn start(pool: &PgPool) -> anyhow::Result<Before> {
    let (commits, wal) = counters(pool).await?;
    Ok(Before { commits, wal, cpu: cpu("self"), server_cpu: server_cpu(pool).await?, at: Instant::now() })
}

impl Before {
    /// The costs of `n` jobs since then.
    pub(super) async fn cost(&self, pool: &PgPool, n: u64) -> anyhow::Result<Cost> {
        let secs = self.at.elapsed().as_secs_f64();
        self.cost_of(pool, n, secs).await
    }

    /// The same, when the work itself took `secs`.
    pub(super) async fn cost_of(&self, pool: &PgPool, n: u64, secs: f64) -> anyhow::Result<Cost> {
        let used = cpu("self") - self.cpu;
        let server: u64 = server_cpu(pool)
            .await?
            .iter()
            .map(|(pid, now)| now.saturating_sub(self.server_cpu.get(pid).copied().unwrap_or(0)))
            .sum();
        let (commits, wal) = counters(pool).await?;
        let per_job = |value: f64| (value / n.max(1) as f64 * 1000.0).round() / 1000.0;
        Ok(Cost {
            n,
            secs,
            jobs_per_s: n as f64 / secs,
            commits_per_job: per_job((commits - self.commits) as f64),
            wal_bytes_per_job: per_job((wal - self.wal) as f64),
            cpu_ms_per_job: per_job(used as f64),
            server_cpu_ms_per_job: per_job(server as f64),
        })
    }
}

/// Migrates, and tells what the database promises.
pub(super) async fn setup(pool: &PgPool) -> anyhow::Result<()> {
    buildit_shared::db::migrate(pool).await?;
    let settings: Vec<(String, String)> = sqlx::query_as(
        "select name, setting from pg_settings
         where name in ('fsync', 'synchronous_commit', 'full_page_writes', 'server_version', 'shared_buffers') order by name",
    )
    .fetch_all(pool)
    .await?;
    print(&settings.into_iter().collect::<BTreeMap<_, _>>())
}

async fn counters(pool: &PgPool) -> anyhow::Result<(i64, i64)> {
    // Each backend reports its commits at most once a second, and when it is asked to.
    Ok(sqlx::query_as(
        "select (select xact_commit from pg_stat_database where datname = current_database()),
                (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint
         from pg_sleep(1.1)",
    )
    .fetch_one(pool)
    .await?)
}

/// CPU of the database's processes by pid, in milliseconds; empty when they are not on this machine.
pub(super) async fn server_cpu(pool: &PgPool) -> anyhow::Result<BTreeMap<i32, u64>> {
    let pids: Vec<i32> = sqlx::query_scalar("select pid from pg_stat_activity").fetch_all(pool).await?;
    let local = |pid: &i32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "postgres");
    Ok(pids.into_iter().filter(local).map(|pid| (pid, cpu(&pid.to_string()))).collect())
}

/// User and system time of a process in milliseconds.
pub(super) fn cpu(pid: &str) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name in parentheses may hold spaces; what follows does not. utime and stime are fields 14 and 15.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |n: usize| fields.get(n).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    (ticks(11) + ticks(12)) * 1000 / rustix::param::clock_ticks_per_second()
}

/// What so many nanoseconds come to, as milliseconds.
pub(super) fn percentiles(mut nanos: Vec<u64>) -> Value {
    nanos.sort_unstable();
    let at = |p: f64| {
        let index = ((nanos.len() as f64 * p).ceil() as usize).clamp(1, nanos.len().max(1)) - 1;
        nanos.get(index).map_or(0.0, |n| *n as f64 / 1e6)
    };
    json!({ "p50_ms": at(0.5), "p95_ms": at(0.95), "p99_ms": at(0.99), "max_ms": at(1.0) })
}
