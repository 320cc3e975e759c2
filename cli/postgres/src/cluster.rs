//! The data folder: made once, and what is kept beside it.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Pid;

use crate::account::Account;
use crate::process::Process;
use crate::{Tell, files};

/// The superuser of the server and the owner of its databases.
pub(crate) const USER: &str = "buildit";

/// Below the range that the system hands out for outgoing connections, which would be in the way at
/// a later start.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// A log that is longer is put aside at the next start, in bytes.
const LOG_LIMIT: u64 = 8 << 20;

/// `folder/data` is PostgreSQL's; `folder/password`, `folder/port` and `folder/postgres.log` are ours.
#[derive(Debug)]
pub(crate) struct Cluster {
    folder: PathBuf,
    programs: PathBuf,
    pub(crate) account: Option<Account>,
    pub(crate) password: String,
}

impl Cluster {
    /// Opens the cluster in `folder` and makes it when there is none.
    pub(crate) async fn open(
        folder: &Path,
        programs: PathBuf,
        account: Option<Account>,
        tell: Tell<'_>,
    ) -> Result<Cluster> {
        let password = folder.join("password");
        if !password.exists() {
            ensure!(
                !data(folder).exists(),
                "{} is missing, without which the database beside it does not open: restore it from a backup",
                password.display(),
            );
            files::write_private(&password, &format!("{:032x}", rand::random::<u128>()))?;
        }
        let cluster = Cluster {
            folder: folder.to_owned(),
            programs,
            account,
            password: fs::read_to_string(&password).with_context(|| format!("cannot read {}", password.display()))?,
        };
        if !data(folder).exists() {
            tell("Making a database");
            cluster
                .initialise()
                .await
                .with_context(|| format!("cannot make a database in {}", data(folder).display()))?;
        }
        Ok(cluster)
    }

    /// Makes the data folder beside its final place and renames it, so that it is always whole.
    async fn initialise(&self) -> Result<()> {
        let nobody = Account::of_initdb()?;
        let temporary = tempfile::Builder::new().prefix("initdb-").tempdir_in(&self.folder)?;
        let made = temporary.path().join("data");
        let password = temporary.path().join("password");
        files::write_private(&password, &self.password)?;
        files::folder(&made, 0o700)?;
        own(temporary.path(), nobody)?;

        // The password is handed over as an open file: its folder may be closed to `nobody`.
        let (_opened, mut command) = self.program("initdb", &made, nobody)?;
        command
            .args(["--username", USER, "--pwfile=/dev/stdin"])
            .args(["--auth=scram-sha-256", "--data-checksums"])
            .args(["--encoding=UTF8", "--locale=C", "--no-instructions"]);
        command.stdin(File::open(&password)?);
        let output = tokio::process::Command::from(command).output().await?;
        ensure!(
            output.status.success(),
            "initdb failed ({}): {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim(),
        );
        own(&made, self.account)?;
        fs::rename(&made, data(&self.folder))?;
        files::sync_folder_of(&data(&self.folder))?;
        Ok(())
    }

    /// A command that runs one of PostgreSQL's programs on a data folder, in a process group of its
    /// own, so that a Ctrl-C at the terminal is not its.
    ///
    /// The program knows the folder only as its working directory, which it enters through the
    /// descriptor returned beside the command: so the folder may lie where its user cannot go.
    fn program(&self, name: &str, data: &Path, account: Option<Account>) -> Result<(File, Command)> {
        use std::os::unix::process::CommandExt;

        let opened = File::open(data).with_context(|| format!("cannot open {}", data.display()))?;
        let mut command = Command::new(self.programs.join("bin").join(name));
        command
            .current_dir(format!("/proc/self/fd/{}", opened.as_raw_fd()))
            .args(["-D", "/proc/self/cwd"])
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("LC_ALL", "C")
            .env("TZ", "UTC")
            .stdin(Stdio::null())
            .process_group(0);
        if let Some(account) = account {
            account.apply(&mut command);
        }
        Ok((opened, command))
    }

    /// Starts `postgres` on `port`; it is ready some time later. The number is where in the log its
    /// lines begin.
    pub(crate) fn spawn(&self, port: u16) -> Result<(Process, u64)> {
        let log = self.log();
        if fs::metadata(&log).is_ok_and(|metadata| metadata.len() > LOG_LIMIT) {
            fs::rename(&log, log.with_extension("log.1"))?;
        }
        let log = File::options()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(log)
            .context("cannot open the log of PostgreSQL")?;
        let start = log.metadata()?.len();
        let (_opened, mut command) = self.program("postgres", &data(&self.folder), self.account)?;
        for setting in SETTINGS {
            command.args(["-c", setting]);
        }
        command.args(["-c", &format!("port={port}")]).stdout(log.try_clone()?).stderr(log);
        let child = tokio::process::Command::from(command)
            .spawn()
            .with_context(|| format!("cannot start {}", self.programs.join("bin/postgres").display()))?;
        Ok((Process::of_child(child)?, start))
    }

    /// The server that runs on this folder, whoever started it, and its port.
    ///
    /// Its pid file may be older than the machine's last start. A process is this server when it
    /// works in this very folder.
    pub(crate) fn running(&self) -> Result<Option<(Process, u16)>> {
        let path = data(&self.folder).join("postmaster.pid");
        let Ok(content) = fs::read_to_string(&path) else {
            return Ok(None);
        };
        let mut lines = content.lines();
        let pid = lines.next().and_then(|line| line.parse().ok());
        let port = lines.nth(2).and_then(|line| line.parse().ok());
        let Some(process) = pid.and_then(Pid::from_raw).map(Process::open) else {
            return Ok(None);
        };
        let Some(process) = process? else {
            return Ok(None);
        };
        let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
        let works_in = fs::metadata(format!("/proc/{}/cwd", process.pid().as_raw_nonzero()));
        let ours = works_in.ok().map(identity) == Some(identity(fs::metadata(data(&self.folder))?));
        match (ours, port) {
            (true, Some(port)) => Ok(Some((process, port))),
            (true, None) => bail!("{} is damaged; stop process {}", path.display(), process.pid()),
            (false, _) => {
                disown(&path, &content)?;
                Ok(None)
            }
        }
    }

    /// The port of the last start where it is free, otherwise another one, which is kept.
    pub(crate) fn port(&self) -> Result<u16> {
        let path = self.folder.join("port");
        let free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
        let kept = fs::read_to_string(&path).ok();
        if let Some(port) = kept.and_then(|text| text.trim().parse().ok()).filter(free) {
            return Ok(port);
        }
        let port = std::iter::repeat_with(|| rand::random_range(PORTS))
            .take(1000)
            .find(free)
            .context("no port between 20000 and 32000 is free on 127.0.0.1")?;
        files::write_private(&path, &port.to_string())?;
        Ok(port)
    }

    /// What the server has logged from byte `start` on, its last lines.
    pub(crate) fn logged_since(&self, start: u64) -> String {
        let read = || -> std::io::Result<String> {
            let mut file = File::open(self.log())?;
            let end = file.metadata()?.len();
            file.seek(SeekFrom::Start(start.max(end.saturating_sub(4096))))?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        read().unwrap_or_else(|error| format!("its log cannot be read: {error}"))
    }

    /// Where the server's messages go.
    pub(crate) fn log(&self) -> PathBuf {
        self.folder.join("postgres.log")
    }
}

/// Durable first, then small when idle.
const SETTINGS: &[&str] = &[
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "fsync=on",
    "synchronous_commit=on",
    "full_page_writes=on",
    "max_connections=300",
    "timezone=UTC",
    "log_timezone=UTC",
    "log_checkpoints=off",
    // A queue's dead rows have to go soon, or its index scans grow.
    "autovacuum_naptime=15s",
    "jit=off",
    // Parallel queries take /dev/shm, which is tiny in containers.
    "max_parallel_workers_per_gather=0",
    "max_logical_replication_workers=0",
    "io_workers=1",
];

pub(crate) fn data(folder: &Path) -> PathBuf {
    folder.join("data")
}

/// Gives `path` and all below it to `account`.
fn own(path: &Path, account: Option<Account>) -> std::io::Result<()> {
    let Some(account) = account else {
        return Ok(());
    };
    files::walk(path, &|path, _| std::os::unix::fs::lchown(path, Some(account.uid), Some(account.gid)))
}

/// Names ourselves in a pid file of a server that is gone, whose number another process has now.
///
/// PostgreSQL refuses to start where the number is alive and not its parent's. It must not be
/// removed: it also tells where the shared memory is, by which PostgreSQL finds out whether sessions
/// of the old server still write.
fn disown(path: &Path, content: &str) -> Result<()> {
    let rest = content.split_once('\n').map_or("", |(_, rest)| rest);
    let mut file = File::options()
        .write(true)
        .truncate(true)
        .open(path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    std::io::Write::write_all(&mut file, format!("{}\n{rest}", std::process::id()).as_bytes())?;
    Ok(())
}
