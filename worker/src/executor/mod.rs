//! Where steps run.
//!
//! An executor carries out attempts. An attempt is named by its id alone: whoever knows the id
//! holds the [`Handle`], after any crash, in any process that reaches the same place. The contract:
//!
//! - **start** makes the attempt run unless it was ever started, and is safe to repeat: an attempt
//!   that runs or has ended is adopted as it is, one that began and was lost stays lost. The
//!   attempt does not depend on the life of whoever started it.
//! - **adopt** needs no call of its own: [`Handle::new`] and [`Executor::state`].
//! - **state** tells what is known for certain. `Absent { begun: false }` and nothing else means
//!   that a start will run the commands; `begun: true` means that they may have run and nothing is
//!   left to tell. `Lost` is an attempt that began and whose runner is gone without a report.
//! - **follow** gives the masked log from a byte offset on, live, and ends when nothing more can
//!   come, without a chunk where nothing ever comes. That is not the end of the attempt's story: ask `wait`. What cannot be shown any more is
//!   skipped, and the next chunk's offset tells; the stored log of a reported attempt is whole.
//! - **notices** tells why an attempt that was started does not get on, for people.
//! - **ahead** tells how many attempts may be started before their step's turn. Their runners wait until somebody marks the
//!   attempt as started; **room** is what each takes meanwhile.
//! - **wait** ends with the report, or with what is known without one, as soon as it is known.
//! - **stop** asks for the end: TERM to all processes, KILL after the grace. It does not wait. An
//!   attempt that has not begun by then never runs a command, also when a start comes later.
//!   Repeating it with a shorter grace hastens the end.
//! - **confirm_ended** is due after a loss, before a new attempt of the same step starts: it ends
//!   what is left of the attempt's processes, and succeeds only when none is left.
//! - **clean** removes everything but the memory that the attempt began; where reports are kept
//!   elsewhere, they stay. Only an attempt that has ended can be cleaned.
//! - **sweep** stops and cleans attempts that nobody wants any more.
//! - **files** is the attempt's folder on this machine, where the log and what was staged are until
//!   it is cleaned; an executor without one has runners that store all of that before they report.
//!
//! Futures may be dropped at any time; what they have done then stays done, and repeating the call
//! completes it.

pub mod docker;
pub mod fake;
pub mod kubernetes;
pub mod local;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use buildit_runner::{AttemptSpec, Report};
use buildit_shared::db::attempts_ahead::{Limits, Room};
use buildit_shared::pipeline::Resources;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, StreamExt};
use serde::{Deserialize, Serialize};
use tokio_util::bytes::Bytes;

pub use docker::DockerExecutor;
pub use fake::FakeExecutor;
pub use kubernetes::KubernetesExecutor;
pub use local::LocalExecutor;

/// The log of an attempt: chunks of at most [`MAX_CHUNK`] bytes, in order.
pub type LogStream = BoxStream<'static, Result<LogChunk, Error>>;

/// A piece of an attempt's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogChunk {
    /// Offset of its first byte in the log.
    pub start: u64,
    /// The bytes; not empty.
    pub bytes: Bytes,
}

/// An attempt to be started.
#[derive(Debug, Clone)]
pub struct Launch {
    /// What its runner is to do.
    pub spec: AttemptSpec,
    /// The image it runs in, where the executor has images.
    pub image: String,
    /// What it asks for.
    pub resources: Resources,
    /// The run, for those who look at the executor.
    pub run_id: String,
    /// It is started before its turn and may wait long for it.
    pub ahead: bool,
}

impl From<AttemptSpec> for Launch {
    /// One that only needs a machine.
    fn from(spec: AttemptSpec) -> Launch {
        Launch { spec, image: String::new(), resources: Resources::default(), run_id: String::new(), ahead: false }
    }
}

/// The size in bytes that no chunk of a [`LogStream`] exceeds.
pub const MAX_CHUNK: usize = 256 * 1024;

/// The contract stands in the module's documentation.
pub trait Executor: fmt::Debug + Send + Sync {
    /// Starts or adopts the attempt.
    fn start<'a>(&'a self, launch: &'a Launch) -> BoxFuture<'a, Result<Handle, Error>>;

    /// What is known of the attempt now.
    fn state<'a>(&'a self, handle: &'a Handle) -> BoxFuture<'a, Result<State, Error>>;

    /// The log from byte `from` on. Fails with [`Error::NotStarted`], or ends at once, where there is none.
    fn follow(&self, handle: &Handle, from: u64) -> LogStream;

    /// Why the attempt does not get on, each time the answer changes. Never ends.
    fn notices(&self, _handle: &Handle) -> BoxStream<'static, Notice> {
        stream::pending().boxed()
    }

    /// How many attempts may be started before their turn; by default none, as runners begin at once.
    fn ahead(&self) -> Limits {
        Limits::default()
    }

    /// What an attempt that asks for `resources` reserves where it runs.
    fn room(&self, _resources: Resources) -> Room {
        Room::default()
    }

    /// The attempt's end. Fails with [`Error::NotStarted`] if it neither runs nor began.
    fn wait<'a>(&'a self, handle: &'a Handle) -> BoxFuture<'a, Result<End, Error>>;

    /// Asks for the end within `grace`.
    fn stop<'a>(&'a self, handle: &'a Handle, grace: Duration) -> BoxFuture<'a, Result<(), Error>>;

    /// Makes sure that no process of an attempt without a runner is left. Fails with
    /// [`Error::StillRunning`] if it has one, with [`Error::Survivors`] if some cannot be ended.
    fn confirm_ended<'a>(&'a self, handle: &'a Handle) -> BoxFuture<'a, Result<(), Error>>;

    /// Removes the attempt. Fails with [`Error::StillRunning`] while it runs.
    fn clean<'a>(&'a self, handle: &'a Handle) -> BoxFuture<'a, Result<(), Error>>;

    /// Stops (the running) and cleans (the others) all attempts that `keep` denies and that were
    /// started more than `older_than` ago. The stopped ones are for the next sweep to clean.
    fn sweep<'a>(
        &'a self,
        keep: &'a (dyn Fn(&str) -> bool + Send + Sync),
        older_than: Duration,
    ) -> BoxFuture<'a, Result<Swept, Error>>;

    /// The attempt's folder, if it has one on this machine.
    fn files(&self, handle: &Handle) -> Option<PathBuf>;
}

/// Names an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Handle {
    attempt_id: String,
}

impl Handle {
    /// The handle of the attempt with this id, whether or not it exists.
    pub fn new(attempt_id: impl Into<String>) -> Handle {
        Handle { attempt_id: attempt_id.into() }
    }

    /// The attempt's id.
    pub fn attempt_id(&self) -> &str {
        &self.attempt_id
    }
}

/// Why an attempt does not get on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notice {
    /// For people; empty when it does.
    pub text: String,
    /// There is no room for it.
    pub wants_room: bool,
}

/// What is known of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It is not here.
    Absent {
        /// It began once, so that it will not run again.
        begun: bool,
    },
    /// Its runner is on its way; no command has run.
    Starting,
    /// It has begun and its runner lives.
    Running,
    /// It has ended, and this is the runner's last word.
    Ended(Box<Report>),
    /// It began, and its runner is gone without a word.
    Lost {
        /// What is known about it, for people.
        reason: String,
    },
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// With the runner's last word.
    Reported(Box<Report>),
    /// Without, and by the step's own doing: its memory, its image.
    Failed {
        /// What happened and what to do, for people.
        reason: String,
        /// Where there is one.
        exit_code: Option<i32>,
    },
    /// Without: the runner is gone.
    Lost {
        /// What is known about it, for people.
        reason: String,
    },
}

/// What a sweep did, as attempt ids.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Swept {
    /// Ran, and were asked to stop.
    pub stopped: Vec<String>,
    /// Did not run, and are gone.
    pub cleaned: Vec<String>,
}

/// Why an executor could not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The id cannot name an attempt.
    #[error("{0:?} is no attempt id")]
    BadAttemptId(String),
    /// There is nothing to follow or to wait for.
    #[error("the attempt was not started")]
    NotStarted,
    /// The attempt's runner lives.
    #[error("the attempt is still running")]
    StillRunning,
    /// Processes of a lost attempt cannot be ended.
    #[error("processes of the lost attempt are still there: {}", list(pids))]
    Survivors {
        /// Their ids.
        pids: Vec<i32>,
    },
    /// The runner ended before the attempt had begun.
    #[error("the step's runner did not begin: {said}")]
    Runner {
        /// Its own words, if it had any.
        said: String,
    },
    /// Steps would run as another user, whom a folder on the way does not let through.
    #[error("{path} is closed to the user that steps run as; open it (chmod o+x) or move the data")]
    Unreachable {
        /// The folder.
        path: PathBuf,
    },
    /// There is no room for it now; starting it again later may work.
    #[error("{reason}")]
    Busy {
        /// For people.
        reason: String,
    },
    /// It can never be started as it is.
    #[error("{reason}")]
    Denied {
        /// What is wrong and what to do, for people.
        reason: String,
    },
    /// The place where attempts run does not answer this worker.
    #[error("{what}: {reason}")]
    Away {
        /// What was tried.
        what: String,
        /// What came of it.
        reason: String,
    },
    /// The database, where begins and reports are kept, did not answer.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    /// The place where attempts run does not work.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// The cause.
        source: std::io::Error,
    },
}

fn list(pids: &[i32]) -> String {
    pids.iter().map(i32::to_string).collect::<Vec<_>>().join(", ")
}
