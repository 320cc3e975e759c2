//! `buildit bench`: programs that print what the queue and the API do on a given database, through the product's own code.
//!
//! Each prints one JSON object a line, the last one being the result. Durability is whatever the database is set to;
//! `setup` says so. Besides times, which depend on how busy the machine is, every result tells commits, WAL bytes and
//! CPU per job, which do not.

mod api;
mod bare;
mod chain;
mod drain;
mod fill;
mod latency;
mod measure;

use std::{path::PathBuf, time::Duration};

use anyhow::Context;
use buildit_shared::{
    db::{self, Use},
    jobs::JobArgs,
    queue::Signals,
};
use clap::Subcommand;
use serde::{Deserialize, Serialize};
use sqlx::PgPool;

use crate::{
    config::Settings,
    exit::{Exit, Problem},
};

/// What to measure.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Bench {
    /// Bring the schema up to date and tell how durable the database is.
    Setup,
    /// Enqueue N no-op jobs.
    Enqueue {
        /// How many.
        n: usize,
        /// One transaction for each, as an API would, instead of batches of 1,000.
        #[arg(long)]
        one_by_one: bool,
        /// Milliseconds each job sleeps when it is worked on.
        #[arg(long, default_value_t = 0, value_name = "MS")]
        sleep: u64,
    },
    /// Fill the history with N finished jobs, to see that they do not slow the queue.
    History {
        /// How many.
        n: i64,
    },
    /// Work on waiting jobs until none is left.
    Work {
        /// Jobs at once.
        concurrency: usize,
        /// End once this many jobs have been worked on by this process and none is left.
        #[arg(long, value_name = "N")]
        until_drained: Option<u64>,
        /// Append a line for each start and end to this file.
        #[arg(long, value_name = "FILE")]
        events: Option<PathBuf>,
    },
    /// Time from the insert call of another process to the handler's first line.
    Latency {
        /// How many jobs.
        #[arg(long, default_value_t = 200)]
        jobs: usize,
        /// Jobs a second.
        #[arg(long, default_value_t = 20)]
        rate: u64,
        /// The enqueuing half; started by the other one.
        #[arg(long, hide = true)]
        enqueue_only: bool,
    },
    /// Chains of jobs of which each enqueues the next in the transaction that ends it.
    Chain {
        /// Jobs in each chain.
        length: u32,
        /// How many chains at once.
        chains: usize,
    },
    /// The same work as bare SQL statements: what the database could do at best.
    Limit {
        /// Jobs for each way.
        #[arg(default_value_t = 5000)]
        n: usize,
    },
    /// What the API does: lists and pages on many rows, rates, and readers of a live log.
    #[command(subcommand)]
    Api(api::ApiBench),
}

/// A job of these benches.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Task {
    /// Milliseconds to sleep.
    #[serde(default)]
    sleep: u64,
    /// Jobs that follow it in its chain.
    #[serde(default)]
    more: u32,
    /// When the insert was called, nanoseconds of the machine's monotonic clock.
    #[serde(default)]
    sent: u64,
}

impl JobArgs for Task {
    const KIND: &'static str = "Bench";
    const QUEUE: &'static str = "bench";
    const MAX_ATTEMPTS: i32 = 3;
}

/// Runs one of them.
pub(crate) fn run(bench: Bench) -> Result<Exit, Problem> {
    let settings = Settings::load(None, serde_json::Map::new())?;
    let url = settings.database_url()?;
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let pool = db::connect(url, Use::Worker, 40)
            .await
            .context("cannot reach the database")
            .map_err(Problem::unreachable)?;
        measure(bench, pool, url).await?;
        Ok(Exit::Success)
    })
}

async fn measure(bench: Bench, pool: PgPool, database_url: &str) -> anyhow::Result<()> {
    match bench {
        Bench::Setup => measure::setup(&pool).await,
        Bench::Enqueue { n, one_by_one, sleep } => fill::enqueue_many(&pool, n, one_by_one, sleep).await,
        Bench::History { n } => fill::history(&pool, n).await,
        Bench::Work { concurrency, until_drained, events } => {
            drain::work(&pool, database_url, concurrency, until_drained, events).await
        }
        Bench::Latency { jobs, rate, enqueue_only: true } => latency::enqueue_at_rate(&pool, jobs, rate).await,
        Bench::Latency { jobs, rate, .. } => latency::latency(&pool, database_url, jobs, rate).await,
        Bench::Chain { length, chains } => chain::chain(&pool, database_url, length, chains).await,
        Bench::Limit { n } => bare::limit(&pool, n).await,
        Bench::Api(bench) => api::measure(bench, &pool, database_url).await,
    }
}

fn print(line: &impl Serialize) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string(line)?);
    Ok(())
}

/// The product's worker with one queue of so many slots.
fn options(pool: &PgPool, database_url: &str, concurrency: usize) -> Result<buildit_worker::Options, sqlx::Error> {
    Ok(buildit_worker::Options {
        database_url: database_url.to_owned(),
        pool: pool.clone(),
        signals: Signals::listen(database_url)?,
        host: "bench".into(),
        slots: [(Task::QUEUE, concurrency)].into(),
    })
}

/// Nanoseconds of the clock that all processes of this machine share.
fn monotonic() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let time = Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0));
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
