//! A database for each test, on one PostgreSQL server for each test process.

use std::sync::{
    OnceLock,
    atomic::{AtomicU32, Ordering},
};

use buildit_postgres::Postgres;
use buildit_shared::db::{self, Use};
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool};
use url::Url;

const TEMPLATE: &str = "migrated";

static SERVER: OnceLock<String> = OnceLock::new();
static NEXT: AtomicU32 = AtomicU32::new(1);

/// A migrated database that only this test uses.
#[derive(Clone, Debug)]
pub struct Database {
    /// Its address.
    pub url: String,
    /// Connections to it.
    pub pool: PgPool,
}

impl Database {
    /// A new one. The first of a process starts the server, which ends with the process.
    pub async fn new() -> Self {
        let server = tokio::task::spawn_blocking(|| SERVER.get_or_init(start).clone()).await.expect("a server");
        let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let mut admin = PgConnection::connect(&server).await.expect("a connection to the server");
        let statement = format!("create database {name} template {TEMPLATE}");
        sqlx::query(AssertSqlSafe(statement)).execute(&mut admin).await.expect("a copy of the migrated database");
        let url = address(&server, &name);
        let pool = db::connect(&url, Use::Api, 10).await.expect("a pool");
        Self { url, pool }
    }

    /// The address of a new one without anything in it, for another program.
    pub async fn empty() -> String {
        let server = tokio::task::spawn_blocking(|| SERVER.get_or_init(start).clone()).await.expect("a server");
        let name = format!("other_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let mut admin = PgConnection::connect(&server).await.expect("a connection to the server");
        sqlx::query(AssertSqlSafe(format!("create database {name}"))).execute(&mut admin).await.expect("a database");
        address(&server, &name)
    }

    /// How many statements wait for a lock: in this database, since other tests have theirs on the same server.
    pub async fn waiting(&self) -> i64 {
        self.backends("wait_event_type = 'Lock'").await
    }

    /// How many wait for an advisory lock.
    pub async fn waiting_for_advisory(&self) -> i64 {
        self.backends("wait_event = 'advisory'").await
    }

    /// How many statements are being carried out, apart from the one that asks.
    pub async fn at_work(&self) -> i64 {
        self.backends("state = 'active' and backend_type = 'client backend' and pid <> pg_backend_pid()").await
    }

    async fn backends(&self, condition: &'static str) -> i64 {
        let query = format!("select count(*) from pg_stat_activity where datname = current_database() and {condition}");
        sqlx::query_scalar(AssertSqlSafe(query)).fetch_one(&self.pool).await.expect("a number")
    }
}

/// Starts the server on a thread of its own, because each test has a runtime of its own.
fn start() -> String {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let server = Postgres::throwaway(&|line| eprintln!("{line}")).await.expect("a PostgreSQL server");
            let url = server.create_database(TEMPLATE).await.expect("an empty database");
            let pool = db::connect(&url, Use::Api, 1).await.expect("a pool");
            db::migrate(&pool).await.expect("the migrations apply");
            // A template is copied only while nobody is connected to it.
            pool.close().await;
            sender.send(server.url().to_owned()).expect("somebody waits for the address");
            std::future::pending::<()>().await;
        });
    });
    receiver.recv().expect("the server started")
}

fn address(server: &str, database: &str) -> String {
    let mut url: Url = server.parse().expect("the server's address");
    url.set_path(database);
    url.into()
}
