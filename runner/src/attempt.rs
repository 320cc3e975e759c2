//! One attempt, from the lock to the report.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::layout::{AttemptFolder, Layout, boot_id};
use crate::log::Log;
use crate::mask::Masker;
use crate::pod::Printer;
use crate::prepare::{NotPrepared, prepare, unpack_files};
use crate::report::{Outcome, Report};
use crate::spec::{AttemptSpec, SPEC_VERSION};
use crate::stage::{StagedAll, stage};
use crate::watch::Watch;
use crate::{commands, descendants};

pub use commands::{BECOME_SHELL, RUN_PLAIN, become_shell, run_plain};

/// For how long a lock may be held by those who only look whether it is.
const PROBES_TAKE: Duration = Duration::from_millis(50);

/// Why a runner left without a report.
#[derive(Debug, thiserror::Error)]
pub enum AttemptError {
    /// Another runner holds the attempt's lock.
    #[error("another process holds the attempt's lock")]
    Locked,
    /// The attempt was begun before, and no attempt runs twice.
    #[error("the attempt has been begun before")]
    BegunBefore,
    /// The spec is not one that this runner can carry out.
    #[error("the attempt's spec cannot be used: {0}")]
    Spec(String),
    /// The attempt's folder does not work.
    #[error("{what}: {source}")]
    Folder {
        /// What was tried.
        what: &'static str,
        /// The cause.
        source: io::Error,
    },
}

pub(crate) fn folder_error(what: &'static str) -> impl Fn(io::Error) -> AttemptError {
    move |source| AttemptError::Folder { what, source }
}

/// Carries out an attempt as the calling process, which should do nothing else: session, signal
/// handlers, umask, standard input and error are changed for good. Standard input is the
/// [`AttemptSpec`]; standard error closes once the attempt has begun, which is what a starter waits for.
pub fn run(layout: &Layout, attempt_id: &str) -> Result<(), AttemptError> {
    let started_at_ms = now_ms();
    settle();
    let spec = read_spec(attempt_id)?;
    Begun::new(layout, &spec)?.carry_out(&spec, started_at_ms, |_| ())
}

/// An attempt that is this process's from now on, and nobody else's ever.
pub(crate) struct Begun {
    folder: AttemptFolder,
    lock: File,
    watch: Watch,
}

impl Begun {
    /// Wins the attempt, which leaves standard error.
    pub(crate) fn new(layout: &Layout, spec: &AttemptSpec) -> Result<Begun, AttemptError> {
        let folder = layout.attempt(&spec.attempt_id);
        let mut lock = take_lock(&folder)?;
        descendants::adopt_orphans().map_err(|error| folder_error("children cannot be adopted")(error.into()))?;
        let watch = Watch::new(&folder).map_err(folder_error("cannot watch for a stop"))?;
        writeln!(lock, "{}\n{}", std::process::id(), boot_id().unwrap_or_default())
            .map_err(folder_error("the lock cannot be written"))?;
        if !layout.begin(&spec.attempt_id, spec.durable).map_err(folder_error("the marker cannot be made"))? {
            return Err(AttemptError::BegunBefore);
        }
        let errors =
            append_to(&folder.runner_errors()).map_err(folder_error("the file for errors cannot be opened"))?;
        rustix::stdio::dup2_stderr(errors)
            .map_err(|cause| folder_error("standard error cannot be left")(cause.into()))?;
        Ok(Begun { folder, lock, watch })
    }

    /// Carries it out and leaves the report, to which `more` may add.
    pub(crate) fn carry_out(
        mut self,
        spec: &AttemptSpec,
        started_at_ms: u64,
        more: impl FnOnce(&mut Report),
    ) -> Result<(), AttemptError> {
        let mut files = |workspace: &Path, watch: &mut Watch| unpack_files(spec, workspace, watch);
        let log = open_log(&self.folder).map_err(folder_error("the log cannot be opened"))?;
        let place = Place { folder: &self.folder, log, printer: None, fill: &mut files };
        let mut report = carry_out(spec, place, &mut self.watch, started_at_ms);
        more(&mut report);
        let error = folder_error("the report cannot be written");
        let text = serde_json::to_vec(&report).map_err(|cause| error(cause.into()))?;
        self.folder.write_whole(&self.folder.result(), &text).map_err(&error)?;
        // Before the watch: closing that takes the kernel some ten milliseconds.
        drop(self.lock);
        Ok(())
    }
}

/// Makes the process fit to be a step's runner.
pub(crate) fn settle() {
    // Fails when it leads one already, which is as good.
    let _ = rustix::process::setsid();
    // What the starter left open is not the step's.
    close_fds::set_fds_cloexec(3, &[]);
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
}

/// What the image sets is the commands' too; the attempt's own wins. `HOME` is the attempt's, and a
/// cluster's API is none of the step's business.
pub(crate) fn inherit_environment(spec: &mut AttemptSpec) {
    for (name, value) in std::env::vars_os() {
        let (Ok(name), Ok(value)) = (name.into_string(), value.into_string()) else { continue };
        if name != "HOME" && !name.starts_with("KUBERNETES_") {
            spec.environment.entry(name).or_insert(value);
        }
    }
}

/// What is not the same everywhere an attempt runs.
pub(crate) struct Place<'a> {
    /// The attempt's own folder.
    pub(crate) folder: &'a AttemptFolder,
    /// From [`open_log`].
    pub(crate) log: File,
    /// Gets the log too.
    pub(crate) printer: Option<&'a mut Printer>,
    /// Puts the checkout and the inputs into the workspace.
    pub(crate) fill: &'a mut dyn FnMut(&Path, &mut Watch) -> Result<(), NotPrepared>,
}

/// The file for the log, still empty.
pub(crate) fn open_log(folder: &AttemptFolder) -> io::Result<File> {
    append_to(&folder.log())
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

/// Carries out an attempt that has begun.
pub(crate) fn carry_out(spec: &AttemptSpec, place: Place<'_>, watch: &mut Watch, started_at_ms: u64) -> Report {
    let (masker, unmaskable) = match Masker::new(&spec.secrets) {
        Ok(masker) => (masker, None),
        Err(error) => (Masker::none(), Some(error.to_string())),
    };
    let before_ms = now_ms().saturating_sub(started_at_ms);
    let mut log = Log::new(place.log, place.printer, masker, spec.log_limit_bytes);
    let mut ran = match unmaskable {
        Some(message) => Ran::setup_failed(message),
        None => prepare_and_run(spec, place.folder, place.fill, &mut log, watch),
    };
    let log = log.finish();
    ran.notes.extend(log.note);
    ran.notes.append(&mut ran.staged.notes);
    Report {
        attempt_id: spec.attempt_id.clone(),
        outcome: ran.outcome,
        failed_command: ran.failed_command,
        started_at_ms,
        first_command_at_ms: ran.first_command_at_ms,
        ended_at_ms: now_ms(),
        log_len: log.len,
        log_sha256: log.sha256,
        log_truncated: log.truncated,
        log_times: log.times.into_iter().map(|(byte, ms)| (byte, before_ms + ms)).collect(),
        oom_killed: false,
        stopped_by: None,
        outputs: ran.staged.outputs,
        artifacts: ran.staged.artifacts,
        notes: ran.notes,
    }
}

/// What came of the attempt, apart from its log.
struct Ran {
    outcome: Outcome,
    failed_command: Option<usize>,
    first_command_at_ms: Option<u64>,
    staged: StagedAll,
    notes: Vec<String>,
}

impl Ran {
    fn nothing(outcome: Outcome) -> Ran {
        Ran {
            outcome,
            failed_command: None,
            first_command_at_ms: None,
            staged: StagedAll::default(),
            notes: Vec::new(),
        }
    }

    fn setup_failed(message: String) -> Ran {
        Ran::nothing(Outcome::SetupFailed { message })
    }
}

fn prepare_and_run(
    spec: &AttemptSpec,
    folder: &AttemptFolder,
    fill: &mut dyn FnMut(&Path, &mut Watch) -> Result<(), NotPrepared>,
    log: &mut Log<'_>,
    watch: &mut Watch,
) -> Ran {
    if watch.stop().is_some() {
        return Ran::nothing(Outcome::Stopped);
    }
    let prepared = prepare(spec, folder).and_then(|workspace| {
        fill(&workspace, watch)?;
        Ok(workspace)
    });
    let workspace = match prepared {
        Ok(workspace) => workspace,
        Err(NotPrepared::Stopped) => return Ran::nothing(Outcome::Stopped),
        Err(NotPrepared::Failed(message)) => return Ran::setup_failed(message),
    };
    if watch.stop().is_some() {
        return Ran::nothing(Outcome::Stopped);
    }
    let first_command_at_ms = Some(now_ms());
    let ended = match commands::run(spec, folder, &workspace, log, watch) {
        Ok(ended) => ended,
        Err(message) => return Ran::setup_failed(message),
    };
    log.commands_ended();
    let mut ran = Ran { first_command_at_ms, notes: ended.notes, ..Ran::nothing(ended.outcome) };
    ran.failed_command = ended.failed_command;
    ran.stage(spec, folder, &workspace, watch);
    ran
}

impl Ran {
    /// Packs, and takes a success back if its outputs cannot be handed on.
    fn stage(&mut self, spec: &AttemptSpec, folder: &AttemptFolder, workspace: &Path, watch: &mut Watch) {
        if self.outcome != Outcome::Stopped {
            self.staged = stage(spec, folder, workspace, self.outcome.is_success(), watch);
        }
        if !self.outcome.is_success() {
            return;
        }
        if self.staged.stopped {
            self.outcome = Outcome::Stopped;
        } else if let Some(error) = self.staged.outputs_failed.take() {
            let message = format!("the outputs could not be staged: {error}");
            self.outcome = Outcome::StagingFailed { message };
        }
    }
}

/// The attempt's lock, which this process holds from now on for life.
fn take_lock(folder: &AttemptFolder) -> Result<File, AttemptError> {
    let error = folder_error("the lock cannot be taken");
    let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(folder.lock());
    let lock = lock.map_err(&error)?;
    let give_up = Instant::now() + PROBES_TAKE;
    loop {
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => break,
            Err(Errno::WOULDBLOCK) if Instant::now() >= give_up => return Err(AttemptError::Locked),
            Err(Errno::WOULDBLOCK | Errno::INTR) => std::thread::yield_now(),
            Err(cause) => return Err(error(cause.into())),
        }
    }
    lock.set_len(0).map_err(&error)?;
    Ok(lock)
}

/// The spec from standard input, which becomes `/dev/null`.
fn read_spec(attempt_id: &str) -> Result<AttemptSpec, AttemptError> {
    let error = folder_error("standard input cannot be read");
    let text = io::read_to_string(io::stdin()).map_err(&error)?;
    let null = File::open("/dev/null").map_err(&error)?;
    rustix::stdio::dup2_stdin(null).map_err(|cause| error(cause.into()))?;
    parse_spec(&text, attempt_id)
}

/// The spec of this attempt, if this build can carry it out.
pub(crate) fn parse_spec(text: &str, attempt_id: &str) -> Result<AttemptSpec, AttemptError> {
    let spec: AttemptSpec = serde_json::from_str(text).map_err(|error| AttemptError::Spec(error.to_string()))?;
    if spec.version != SPEC_VERSION {
        return Err(AttemptError::Spec(format!("version {} is not known", spec.version)));
    }
    if spec.attempt_id != attempt_id {
        return Err(AttemptError::Spec(format!("it is for attempt {}", spec.attempt_id)));
    }
    Ok(spec)
}

pub(crate) fn now_ms() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
}
