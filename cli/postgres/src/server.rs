//! Starting, adopting, stopping.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection};

use crate::account::Account;
use crate::cluster::{Cluster, USER, data};
use crate::process::Process;
use crate::watchdog::Watchdog;
use crate::{Tell, binaries, files};

/// The application's database.
const DATABASE: &str = "buildit";

/// How often a server that is starting is asked whether it is ready.
const ASK: Duration = Duration::from_millis(10);

/// The longest start, crash recovery included.
const START_LIMIT: Duration = Duration::from_secs(600);

/// How long an adopted server may refuse connections before it is taken for stuck.
const ADOPT_LIMIT: Duration = Duration::from_secs(15);

/// SQLSTATE `cannot_connect_now`: starting up, recovering or shutting down.
const CANNOT_CONNECT_NOW: &str = "57P03";

/// What becomes of the server when nobody has stopped it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// It goes on, and the next start adopts it.
    Independent,
    /// It ends with the value returned, or with the process that holds it.
    Owned,
}

/// A running server with a database `buildit` in it.
#[derive(Debug)]
pub struct Postgres {
    folder: PathBuf,
    throwaway: bool,
    lifetime: Lifetime,
    cluster: Cluster,
    url: String,
    port: u16,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    process: Process,
    watchdog: Option<Watchdog>,
}

impl Postgres {
    /// Starts the server whose data is in `folder`, which is made when it is missing, and waits until
    /// it answers. A server that runs there already is adopted.
    ///
    /// # Errors
    /// When the programs cannot be fetched or the server does not become ready; the message says why.
    pub async fn start(folder: &Path, lifetime: Lifetime, tell: Tell<'_>) -> Result<Postgres> {
        Self::open(folder, lifetime, false, tell).await
    }

    /// Starts a server that ends with its owner, its data with it.
    ///
    /// # Errors
    /// As [`Postgres::start`].
    pub async fn throwaway(tell: Tell<'_>) -> Result<Postgres> {
        let folder = tempfile::Builder::new().prefix("buildit-postgres-").tempdir()?;
        let postgres = Self::open(folder.path(), Lifetime::Owned, true, tell).await?;
        // From here on the watchdog removes it.
        drop(folder.keep());
        Ok(postgres)
    }

    async fn open(folder: &Path, lifetime: Lifetime, throwaway: bool, tell: Tell<'_>) -> Result<Postgres> {
        let folder = std::path::absolute(folder)?;
        files::folder(&folder, 0o700)?;
        let folder = folder.canonicalize()?;
        let account = Account::of_server(&data(&folder))?;
        let programs = binaries::obtain(account, tell).await?;
        let cluster = {
            let _lock = lock(&folder, tell).await?;
            Cluster::open(&folder, programs, account, tell).await?
        };
        let mut postgres =
            Postgres { folder, throwaway, lifetime, cluster, url: String::new(), port: 0, running: None };
        postgres.resume(tell).await?;
        Ok(postgres)
    }

    /// `postgres://buildit:…@127.0.0.1:port/buildit`. The port can change when the server is
    /// started again and another program has taken the old one.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Creates an empty database beside `buildit` and returns its address.
    ///
    /// # Errors
    /// When the server is down, or the database exists.
    pub async fn create_database(&self, name: &str) -> Result<String> {
        let mut admin = connect(&self.cluster, self.port).await?;
        let statement = format!("CREATE DATABASE \"{}\"", name.replace('"', "\"\""));
        sqlx::query(AssertSqlSafe(statement))
            .execute(&mut admin)
            .await
            .with_context(|| format!("cannot create the database {name}"))?;
        admin.close().await?;
        Ok(self.address(name))
    }

    /// Starts the server again after [`Postgres::stop`] or [`Postgres::kill`]. Waits for crash recovery.
    ///
    /// # Errors
    /// As [`Postgres::start`].
    pub async fn resume(&mut self, tell: Tell<'_>) -> Result<()> {
        let _lock = lock(&self.folder, tell).await?;
        let (process, port) = match self.adopt(tell).await? {
            Some(adopted) => adopted,
            None => self.launch(tell).await?,
        };
        self.port = port;
        let watchdog = match self.lifetime {
            Lifetime::Independent => None,
            Lifetime::Owned => {
                Some(Watchdog::start(&process, &data(&self.folder), self.throwaway.then_some(self.folder.as_path()))?)
            }
        };
        self.running = Some(Running { process, watchdog });
        self.url = self.address(DATABASE);
        self.provide_database().await
    }

    /// Shuts the server down: sessions end, what is committed is written. Escalates when that takes
    /// longer than a minute. A server that is down already is no error.
    ///
    /// # Errors
    /// When it survives even that.
    pub async fn stop(&mut self) -> Result<()> {
        self.end(&[
            (Signal::INT, Duration::from_secs(60)),
            (Signal::QUIT, Duration::from_secs(10)),
            (Signal::KILL, Duration::from_secs(10)),
        ])
        .await
    }

    /// Ends the server as a crash would, without any farewell.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn kill(&mut self) -> Result<()> {
        self.end(&[(Signal::KILL, Duration::from_secs(10))]).await
    }

    /// [`Postgres::stop`], then [`Postgres::resume`].
    ///
    /// # Errors
    /// As those two.
    pub async fn restart(&mut self, tell: Tell<'_>) -> Result<()> {
        self.stop().await?;
        self.resume(tell).await
    }

    async fn end(&mut self, signals: &[(Signal, Duration)]) -> Result<()> {
        let Some(mut running) = self.running.take() else {
            return Ok(());
        };
        for (signal, patience) in signals {
            running.process.signal(*signal)?;
            if running.process.ended(*patience).await? {
                if let Some(watchdog) = running.watchdog {
                    watchdog.dismiss();
                }
                return Ok(());
            }
        }
        let pid = running.process.pid();
        self.running = Some(running);
        bail!("PostgreSQL, process {pid}, does not end; its data is in {}", self.folder.display())
    }

    /// Takes over a server that an earlier owner left behind, once it answers. One that is shutting
    /// down is awaited, one that is stuck is ended: both give `None`.
    async fn adopt(&self, tell: Tell<'_>) -> Result<Option<(Process, u16)>> {
        let Some((mut process, port)) = self.cluster.running()? else {
            return Ok(None);
        };
        match ready(&self.cluster, &mut process, port, ADOPT_LIMIT, tell).await? {
            Ready::Yes => Ok(Some((process, port))),
            Ready::Ended => Ok(None),
            Ready::Late => {
                tell("The database server that runs already does not answer: starting it again");
                for signal in [Signal::QUIT, Signal::KILL] {
                    process.signal(signal)?;
                    if process.ended(Duration::from_secs(5)).await? {
                        break;
                    }
                }
                Ok(None)
            }
        }
    }

    async fn launch(&self, tell: Tell<'_>) -> Result<(Process, u16)> {
        let begun = Instant::now();
        loop {
            let port = self.cluster.port()?;
            let (mut process, log) = self.cluster.spawn(port)?;
            let said = match ready(&self.cluster, &mut process, port, START_LIMIT, tell).await? {
                Ready::Yes => return Ok((process, port)),
                Ready::Ended => self.cluster.logged_since(log),
                Ready::Late => {
                    process.signal(Signal::QUIT)?;
                    format!("it was not ready after {} s", START_LIMIT.as_secs())
                }
            };
            // Both pass: a killed server's sessions take a moment to notice, and another program can
            // be quicker to take the port.
            let transient = said.contains("shared memory block") || said.contains("could not bind");
            if !transient || begun.elapsed() > ADOPT_LIMIT {
                bail!(
                    "PostgreSQL did not start; its log {} ends with:\n{}",
                    self.cluster.log().display(),
                    said.trim_end()
                );
            }
            tokio::time::sleep(ASK).await;
        }
    }

    async fn provide_database(&self) -> Result<()> {
        let mut admin = connect(&self.cluster, self.port).await?;
        let exists: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)")
            .bind(DATABASE)
            .fetch_one(&mut admin)
            .await?;
        admin.close().await?;
        if !exists {
            self.create_database(DATABASE).await?;
        }
        Ok(())
    }

    fn address(&self, database: &str) -> String {
        format!("postgres://{USER}:{}@127.0.0.1:{}/{database}", self.cluster.password, self.port)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // A server that still runs has its watchdog, which removes the folder after it.
        if self.throwaway && self.running.is_none() {
            std::fs::remove_dir_all(&self.folder).ok();
        }
    }
}

enum Ready {
    Yes,
    Ended,
    Late,
}

/// Waits until the server takes connections. Time that it spends on recovery does not count towards
/// `limit`, but has one of its own.
async fn ready(cluster: &Cluster, process: &mut Process, port: u16, limit: Duration, tell: Tell<'_>) -> Result<Ready> {
    let begun = Instant::now();
    let mut answered = begun;
    let mut told = begun;
    loop {
        match connect(cluster, port).await {
            Ok(admin) => {
                admin.close().await?;
                return Ok(Ready::Yes);
            }
            Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some(CANNOT_CONNECT_NOW) => {
                answered = Instant::now();
            }
            Err(sqlx::Error::Database(error)) => {
                return Err(error).context("PostgreSQL refuses our connection");
            }
            Err(_) => {}
        }
        if process.ended(ASK).await? {
            return Ok(Ready::Ended);
        }
        if answered.elapsed() > limit || begun.elapsed() > START_LIMIT {
            return Ok(Ready::Late);
        }
        if told.elapsed() > Duration::from_secs(5) {
            told = Instant::now();
            tell("Waiting for the database server, which is recovering or shutting down");
        }
    }
}

async fn connect(cluster: &Cluster, port: u16) -> Result<PgConnection, sqlx::Error> {
    let options = PgConnectOptions::new_without_pgpass()
        .host("127.0.0.1")
        .port(port)
        .username(USER)
        .password(&cluster.password)
        .database("postgres")
        .ssl_mode(PgSslMode::Disable);
    tokio::time::timeout(Duration::from_secs(5), options.connect())
        .await
        .unwrap_or_else(|elapsed| Err(sqlx::Error::Io(std::io::Error::other(elapsed))))
}

async fn lock(folder: &Path, tell: Tell<'_>) -> Result<std::fs::File> {
    files::lock(&folder.join("lock"), || {
        tell("Waiting for another process that is starting this database");
    })
    .await
}
