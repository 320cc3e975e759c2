//! The API that is measured: a process of its own, on a port of its own.

use std::{
    fs,
    net::TcpListener,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::client;

/// A start takes less, migrated or not.
const START: Duration = Duration::from_secs(30);

/// A running API; it ends with this.
pub(super) struct Server {
    child: Child,
    /// Its address, without a slash at the end.
    pub(super) url: String,
    _folder: TempDir,
}

impl Server {
    /// Starts one on this database and waits until it is ready.
    pub(super) async fn start(database_url: &str) -> anyhow::Result<Self> {
        // Files below 1024 are not enough for a thousand readers, here and there.
        let limits = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        let wider = rustix::process::Rlimit { current: limits.maximum, ..limits };
        rustix::process::setrlimit(rustix::process::Resource::Nofile, wider)?;
        let folder = tempfile::tempdir()?;
        let listen = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let child = Command::new(std::env::current_exe()?)
            .arg("api")
            .env_clear()
            .env("DATABASE_URL", database_url)
            .env("BUILDIT_LISTEN", &listen)
            .env("BUILDIT_DATA_DIR", folder.path())
            .env("BUILDIT_SIGNING_KEY", "a signing key of thirty-two characters and more")
            .env("BUILDIT_SECRETS_KEY", super::fill::SECRETS_KEY)
            .env("BUILDIT_LOG", "warn")
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let mut server = Self { child, url: format!("http://{listen}"), _folder: folder };
        let client = client::http()?;
        let began = Instant::now();
        loop {
            let answer = client.get(format!("{}/readyz", server.url)).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(server);
            }
            ensure!(server.child.try_wait()?.is_none(), "the API ended; what it said stands above");
            ensure!(began.elapsed() < START, "the API is not ready after {START:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// CPU that the process has used so far, in milliseconds.
    pub(super) fn cpu_ms(&self) -> u64 {
        self.child.id().map_or(0, |pid| crate::bench::measure::cpu(&pid.to_string()))
    }

    /// Its memory in megabytes: now, and the most so far.
    pub(super) fn memory_mb(&self) -> anyhow::Result<(f64, f64)> {
        let pid = self.child.id().context("the API has ended")?;
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let kilobytes = |field: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_default();
            line.trim().trim_end_matches(" kB").parse::<f64>().unwrap_or(0.0)
        };
        Ok((kilobytes("VmRSS:") / 1000.0, kilobytes("VmHWM:") / 1000.0))
    }
}
