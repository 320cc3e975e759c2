//! `buildit bench api`: what the API does on a given database, asked by HTTP as its clients do.
//!
//! The API is a process of its own, this program's `api`; whoever asks is another one on the same machine, so what is
//! measured has the way there and back in it, and the two share the cores.

mod client;
mod fill;
mod lists;
mod rates;
mod readers;
mod server;

use clap::Subcommand;
use sqlx::PgPool;

/// What to measure of the API.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum ApiBench {
    /// Fill an organization `bench` with projects, runs and all that the lists show; once for a database, as its superuser.
    Fill {
        /// How many projects.
        #[arg(long, default_value_t = 10_000)]
        projects: i64,
        /// How many runs; a tenth of them of the first project.
        #[arg(long, default_value_t = 1_000_000)]
        runs: i64,
    },
    /// How long each list route and each page takes, asked one after the other.
    Lists {
        /// How often each is asked.
        #[arg(long, default_value_t = 200)]
        requests: usize,
    },
    /// How many sign-ins, started runs and lists it does in a second.
    Rates {
        /// Requests at once.
        #[arg(long, default_value_t = 16)]
        concurrency: usize,
        /// Seconds for each.
        #[arg(long, default_value_t = 10)]
        seconds: u64,
    },
    /// Readers that follow one live log: memory and CPU of the API, and how late they see a line.
    Readers {
        /// How many.
        #[arg(default_value_t = 1000)]
        readers: usize,
        /// Lines a second that are written.
        #[arg(long, default_value_t = 5)]
        rate: u64,
        /// Seconds.
        #[arg(long, default_value_t = 20)]
        seconds: u64,
    },
}

/// Measures one of them.
pub(super) async fn measure(bench: ApiBench, pool: &PgPool, database_url: &str) -> anyhow::Result<()> {
    match bench {
        ApiBench::Fill { projects, runs } => fill::fill(pool, projects.max(2), runs).await,
        ApiBench::Lists { requests } => lists::lists(pool, database_url, requests).await,
        ApiBench::Rates { concurrency, seconds } => rates::rates(pool, database_url, concurrency, seconds).await,
        ApiBench::Readers { readers, rate, seconds } => {
            readers::readers(pool, database_url, readers, rate, seconds).await
        }
    }
}
