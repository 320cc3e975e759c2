//! All SQL but the queue's: plain functions, a file for each table or question.

pub mod advance;
pub mod api_keys;
pub mod artifact_queries;
pub mod attempts;
pub mod attempts_ahead;
pub mod audit;
pub mod cancel;
pub mod commit_statuses;
pub mod create_run;
pub mod fleet;
pub mod fleet_actions;
pub mod fleet_jobs;
pub mod forge_hooks;
pub mod forge_statuses;
pub mod identities;
pub mod invitations;
pub mod leftovers;
pub mod log_queries;
pub mod logs;
pub mod members;
pub mod organizations;
pub mod overviews;
pub mod pipelines;
pub mod planning;
pub mod project_grants;
pub mod projects;
pub mod provider_sign_ins;
pub mod reports;
pub mod repository_credentials;
pub mod repository_looks;
pub mod retry;
pub mod run_queries;
pub mod schedules;
mod scope;
pub mod secrets;
pub mod sessions;
pub mod sign_in_failures;
pub mod step_queries;
pub mod uploads;
pub mod users;
pub mod webhooks;
pub mod welcome_links;

use std::time::Duration;

use sqlx::{
    PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

pub use scope::Scope;

use crate::vault;

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("../migrations");

/// How a pool is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Requests: a connection that a restart of the database broke is noticed before a request gets it.
    Api,
    /// What runners ask and tell the API of their own attempts: the same few statements by id all the time, which are
    /// planned once; broken connections are noticed as for requests.
    Runners,
    /// Jobs: one round trip less for each statement; handlers try again by themselves.
    Worker,
    /// Log chunks: a commit does not wait for the disk. What a crash of the database loses is read again from the
    /// runner's file, because the stored length goes back with it.
    Logs,
}

/// A pool of connections to `url`.
pub async fn connect(url: &str, usage: Use, max: u32) -> Result<PgPool, sqlx::Error> {
    let mut options: PgConnectOptions = url.parse()?;
    options = options.application_name(match usage {
        Use::Api => "buildit-api",
        Use::Runners => "buildit-runners",
        Use::Worker => "buildit-worker",
        Use::Logs => "buildit-logs",
    });
    if usage == Use::Api {
        // Lists take their filters as parameters, and one plan for all of them would be none for a filter that few rows match.
        options = options.options([("plan_cache_mode", "force_custom_plan")]);
    } else {
        // The statements of the queue and of attempts look the same for every job: planning them anew each time would cost
        // more than they do. Planned once, while the hot table is all but empty, they would choose to read it whole, dead rows included.
        options = options.options([("plan_cache_mode", "force_generic_plan"), ("enable_seqscan", "off")]);
    }
    // A process that is frozen in the middle of a transaction, or a machine that vanished, must not hold its rows' locks
    // for longer than it takes to be declared dead.
    options = options.options([("idle_in_transaction_session_timeout", "10s")]);
    if usage == Use::Logs {
        options = options.options([("synchronous_commit", "off")]);
    }
    PgPoolOptions::new()
        .max_connections(max)
        .acquire_timeout(Duration::from_secs(5))
        .idle_timeout(Duration::from_secs(300))
        .test_before_acquire(matches!(usage, Use::Api | Use::Runners))
        .connect_with(options)
        .await
}

/// How long a connection that is at work holds up the end of its pool.
const CLOSING: Duration = Duration::from_secs(2);

/// Ends all connections of these pools, so that none is at work or given back when the server goes.
pub async fn close(pools: &[&PgPool]) {
    let closed = futures::future::join_all(pools.iter().map(|pool| pool.close()));
    if tokio::time::timeout(CLOSING, closed).await.is_err() {
        tracing::debug!("connections were still at work after {CLOSING:?}");
    }
}

/// Why something that is kept sealed was not written or read.
#[derive(Debug, thiserror::Error)]
pub enum SealedError {
    /// The database.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    /// It cannot be sealed or opened.
    #[error(transparent)]
    Vault(#[from] vault::Error),
}

/// How often a transaction is tried that the database gives up for another's sake.
const TRIES: usize = 3;

/// Does `work`, which is one transaction or several, again when the database ended it to resolve a deadlock.
///
/// All lock a run's concurrency group before the run. But a run gets its group only when it is planned: whoever waited
/// for its row at that moment has the row first, and asks for the group then.
pub async fn unless_deadlocked<T, W>(mut work: impl FnMut() -> W) -> Result<T, sqlx::Error>
where
    W: Future<Output = Result<T, sqlx::Error>>,
{
    for _ in 1..TRIES {
        match work().await {
            Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("40P01") => {
                tracing::info!(%error, "another transaction went first; trying again");
            }
            done => return done,
        }
    }
    work().await
}

/// Brings the schema up to date; safe to call from several processes at once.
pub async fn migrate(pool: &PgPool) -> Result<(), sqlx::migrate::MigrateError> {
    MIGRATIONS.run(pool).await
}

/// How many of this program's migrations the database lacks.
pub async fn pending_migrations(pool: &PgPool) -> Result<usize, sqlx::Error> {
    let applied =
        sqlx::query_scalar::<_, i64>("select version from _sqlx_migrations where success").fetch_all(pool).await;
    let applied = match applied {
        Ok(applied) => applied,
        // No table: nothing was ever migrated.
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("42P01") => Vec::new(),
        Err(error) => return Err(error),
    };
    Ok(MIGRATIONS.iter().filter(|migration| !applied.contains(&migration.version)).count())
}

#[cfg(test)]
mod tests {
    use sqlx::migrate::Migrator;

    use super::MIGRATIONS;

    #[tokio::test]
    async fn this_program_holds_the_migrations_of_the_folder() {
        let folder = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../migrations"));
        let found = Migrator::new(folder).await.unwrap();
        let versions = |all: &Migrator| all.iter().map(|one| (one.version, one.checksum.clone())).collect::<Vec<_>>();
        assert_eq!(versions(&MIGRATIONS), versions(&found));
    }
}
