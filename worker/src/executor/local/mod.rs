//! Steps as processes of this machine, without isolation: a detached `buildit-runner` for each
//! attempt, which outlives whoever started it.
//!
//! All that executors and runners know of each other is in files, described by
//! [`buildit_runner::layout`]: a lock that the runner holds for life; a marker that exists once the
//! attempt may have run; a report. When the executor is root, steps run as another user who
//! can reach the workspace, but not change log, report, lock or spec. The step's `image` means
//! nothing here.

mod changes;
mod clean;
mod follow;
mod start;
mod state;
mod survivors;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use buildit_runner::layout::{AttemptFolder, is_attempt_id};
use buildit_runner::{Layout, StepUser};
use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::{self, StreamExt};
use rustix::fs::OFlags;

pub(super) use changes::{Interest, Watcher};
pub(super) use clean::{MARKERS_KEPT, ORPHAN_GRACE, old_names, remove_all};
pub(super) use follow::follow;
pub(super) use state::{is_locked, read_report};

use super::{End, Error, Executor, Handle, Launch, LogStream, State, Swept};

/// The user and group "nobody" of most systems.
const NOBODY: StepUser = StepUser { uid: 65534, gid: 65534 };

/// Runs attempts below a folder of this machine. Clones are the same executor.
#[derive(Debug, Clone)]
pub struct LocalExecutor {
    layout: Layout,
    runner: PathBuf,
    user: Option<StepUser>,
    durable: bool,
    watcher: Option<Arc<Watcher>>,
}

impl LocalExecutor {
    /// Keeps attempts below `root`, made if missing, and carries them out by the program `runner`;
    /// both are absolute paths. As root, steps run as "nobody". All descriptors of the calling
    /// process but the standard ones are closed on exec from here on, lest runners keep them open.
    pub fn new(root: PathBuf, runner: PathBuf) -> LocalExecutor {
        close_fds::set_fds_cloexec(3, &[]);
        let user = rustix::process::geteuid().is_root().then_some(NOBODY);
        LocalExecutor { layout: Layout::new(root), runner, user, durable: true, watcher: Watcher::start() }
    }

    /// The user whom steps run as; `None` is the executor's own. Another one takes root.
    #[must_use]
    pub fn with_user(self, user: Option<StepUser>) -> LocalExecutor {
        LocalExecutor { user, ..self }
    }

    /// For attempts that nobody asks for after a power cut: saves a flush of the disk per attempt.
    #[must_use]
    pub fn ephemeral(self) -> LocalExecutor {
        LocalExecutor { durable: false, ..self }
    }

    fn folder(&self, handle: &Handle) -> Result<AttemptFolder, Error> {
        match is_attempt_id(handle.attempt_id()) {
            true => Ok(self.layout.attempt(handle.attempt_id())),
            false => Err(Error::BadAttemptId(handle.attempt_id().to_owned())),
        }
    }

    /// Does `work`, which blocks, away from the async threads.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&LocalExecutor) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let executor = self.clone();
        blocking(move || work(&executor)).await
    }
}

/// Does `work`, which blocks, away from the async threads.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => {
            Err(Error::Io { what: "a task of the executor ended early".to_owned(), source: io::Error::other(error) })
        }
    }
}

impl Executor for LocalExecutor {
    fn start<'a>(&'a self, launch: &'a Launch) -> BoxFuture<'a, Result<Handle, Error>> {
        let spec = launch.spec.clone();
        Box::pin(self.blocking(move |executor| executor.start_now(spec)))
    }

    fn state<'a>(&'a self, handle: &'a Handle) -> BoxFuture<'a, Result<State, Error>> {
        let handle = handle.clone();
        Box::pin(self.blocking(move |executor| executor.state_now(&handle)))
    }

    fn follow(&self, handle: &Handle, from: u64) -> LogStream {
        let folder = match self.folder(handle) {
            Ok(folder) => folder,
            Err(error) => return stream::iter([Err(error)]).boxed(),
        };
        let (executor, handle) = (self.clone(), handle.clone());
        let look = move || {
            let (executor, handle) = (executor.clone(), handle.clone());
            async move { executor.blocking(move |executor| executor.state_now(&handle)).await }.boxed()
        };
        follow(folder, self.watcher.clone(), from, Box::new(look))
    }

    fn wait<'a>(&'a self, handle: &'a Handle) -> BoxFuture<'a, Result<End, Error>> {
        Box::pin(self.wait_for_end(handle))
    }

    fn stop<'a>(&'a self, handle: &'a Handle, grace: Duration) -> BoxFuture<'a, Result<(), Error>> {
        let handle = handle.clone();
        Box::pin(self.blocking(move |executor| executor.stop_now(&handle, grace)))
    }

    fn confirm_ended<'a>(&'a self, handle: &'a Handle) -> BoxFuture<'a, Result<(), Error>> {
        let handle = handle.clone();
        Box::pin(self.blocking(move |executor| executor.confirm_ended_now(&handle)))
    }

    fn clean<'a>(&'a self, handle: &'a Handle) -> BoxFuture<'a, Result<(), Error>> {
        let handle = handle.clone();
        Box::pin(self.blocking(move |executor| executor.clean_now(&handle)))
    }

    fn sweep<'a>(
        &'a self,
        keep: &'a (dyn Fn(&str) -> bool + Send + Sync),
        older_than: Duration,
    ) -> BoxFuture<'a, Result<Swept, Error>> {
        Box::pin(self.sweep_all(keep, older_than))
    }

    fn files(&self, handle: &Handle) -> Option<PathBuf> {
        Some(self.layout.attempt(handle.attempt_id()).path().to_owned())
    }
}

/// Says what was tried when an input or output failed.
pub(super) trait Tried<T> {
    fn tried(self, what: impl FnOnce() -> String) -> Result<T, Error>;
}

impl<T, E: Into<io::Error>> Tried<T> for Result<T, E> {
    fn tried(self, what: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|source| Error::Io { what: what(), source: source.into() })
    }
}

/// Opens a file where a step may have put anything: a link, or something that is no file, is an error.
fn open_plain(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("it is not a file")),
    }
}

/// A file that may not be there.
pub(super) fn if_there<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
