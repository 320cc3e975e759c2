//! Runs the commands and sees to it that nothing of them is left.

mod plain;
mod script;
mod shell;
mod words;

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};

use crate::descendants;
use crate::layout::AttemptFolder;
use crate::log::Log;
use crate::report::Outcome;
use crate::spec::AttemptSpec;
use crate::watch::Watch;

pub use plain::{RUN_PLAIN, run_plain};
pub use shell::{BECOME_SHELL, become_shell};

/// How long processes may survive KILL, in a call into the kernel that does not end, before the
/// runner gives up on them.
const UNKILLABLE_AFTER: Duration = Duration::from_secs(10);

/// How often KILL is sent to what was forked meanwhile.
const KILL_AGAIN_AFTER: Duration = Duration::from_millis(20);

/// Bytes of output that may wait to be read.
const PIPE_SIZE: usize = 1 << 20;

/// How the commands ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) outcome: Outcome,
    pub(crate) failed_command: Option<usize>,
    pub(crate) notes: Vec<String>,
}

/// Runs the commands to their end. `Err` says why they could not be started.
pub(crate) fn run(
    spec: &AttemptSpec,
    folder: &AttemptFolder,
    workspace: &Path,
    log: &mut Log<'_>,
    watch: &mut Watch,
) -> Result<Ended, String> {
    let (pipe, output) = pipe_with(PipeFlags::CLOEXEC).map_err(|error| error.to_string())?;
    rustix::io::ioctl_fionbio(&pipe, true).map_err(|error| error.to_string())?;
    // Fewer switches between writer and reader; where it is not allowed, the default does.
    let _ = fcntl_setpipe_size(&pipe, PIPE_SIZE);
    let shell = shell::start(spec, folder, workspace, output)?;
    let mut shell = Shell {
        pid: Pid::from_child(&shell),
        status: None,
        childless: false,
        pipe: Some(pipe),
        buffer: vec![0; 256 * 1024],
        end: None,
    };
    let now = Instant::now();
    let timeout = now.checked_add(Duration::from_millis(spec.timeout_ms));
    shell.drive(spec, timeout, log, watch);
    Ok(shell.ended(spec, folder))
}

/// The shell, its descendants, and what they print.
struct Shell {
    pid: Pid,
    status: Option<WaitStatus>,
    /// The shell and all its descendants are gone.
    childless: bool,
    /// `None` after its end.
    pipe: Option<OwnedFd>,
    buffer: Vec<u8>,
    end: Option<End>,
}

/// The end that is being brought about.
struct End {
    /// `None`: the shell ended by itself, and what it left behind has to go.
    cause: Option<Outcome>,
    kill_at: Option<Instant>,
}

impl Shell {
    fn drive(&mut self, spec: &AttemptSpec, timeout: Option<Instant>, log: &mut Log<'_>, watch: &mut Watch) {
        let default_grace = Duration::from_millis(spec.grace_ms);
        let mut given_up_at = None;
        let mut killed_at: Option<Instant> = None;
        while !self.childless {
            let next = match (&self.end, killed_at) {
                (None, _) => timeout,
                (Some(end), None) => end.kill_at,
                (Some(_), Some(killed)) => Some(killed + KILL_AGAIN_AFTER),
            };
            self.wait(next, log, watch);
            if let Some(printer) = log.printer() {
                printer.write();
            }
            if !is_held_up(log) {
                self.read(log);
            }
            if watch.children_ended() {
                self.reap();
            }
            let now = Instant::now();
            if let Some(stop) = watch.stop() {
                let grace = stop.grace.unwrap_or(default_grace);
                self.stop(Outcome::Stopped, now, grace);
            }
            if timeout.is_some_and(|timeout| now >= timeout) {
                self.stop(Outcome::TimedOut, now, default_grace);
            }
            if self.status.is_some() && self.end.is_none() {
                self.end = Some(End { cause: None, kill_at: Some(now) });
            }
            let kill_at = self.end.as_ref().and_then(|end| end.kill_at);
            if kill_at.is_some_and(|kill_at| now >= kill_at) && !self.childless {
                descendants::signal_all(Signal::KILL);
                killed_at = Some(now);
                if now >= *given_up_at.get_or_insert(now + UNKILLABLE_AFTER) {
                    break;
                }
            }
        }
        self.drain(log);
    }

    /// Reads what was printed last. A descriptor that got out to another process may keep the
    /// pipe open and full; what is the step's own is no more than fits into the pipe.
    fn drain(&mut self, log: &mut Log<'_>) {
        for _ in 0..PIPE_SIZE.div_ceil(4096) {
            if !self.read(log) {
                return;
            }
        }
    }

    /// Begins the end, or, when a later request leaves less time, hastens it.
    fn stop(&mut self, cause: Outcome, now: Instant, grace: Duration) {
        let kill_at = now.checked_add(grace);
        match &mut self.end {
            None => {
                self.end = Some(End { cause: Some(cause), kill_at });
                descendants::signal_all(Signal::TERM);
            }
            Some(end) => {
                if let Some(at) = kill_at
                    && end.kill_at.is_none_or(|before| at < before)
                {
                    end.kill_at = kill_at;
                }
            }
        }
    }

    /// Waits for anything to happen, until `deadline`.
    fn wait(&self, deadline: Option<Instant>, log: &mut Log<'_>, watch: &Watch) {
        let pipe = if is_held_up(log) { None } else { self.pipe.as_ref() };
        let now = Instant::now();
        let left = deadline.map(|deadline| deadline.saturating_duration_since(now));
        let left = left.into_iter().chain(watch.longest_poll()).min();
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        let mut polled: Vec<PollFd<'_>> = watch
            .descriptors()
            .chain(pipe.map(AsFd::as_fd))
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
            .collect();
        let printer = log.printer().and_then(|printer| printer.waits_for());
        polled.extend(printer.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::OUT)));
        // An interrupted poll is as good as one that found something.
        let _ = poll(&mut polled, left.as_ref());
    }

    /// Moves what has been printed to the log, up to the size of the buffer; false if there was
    /// nothing.
    fn read(&mut self, log: &mut Log<'_>) -> bool {
        let Some(pipe) = &self.pipe else { return false };
        match rustix::io::read(pipe, &mut self.buffer[..]) {
            Ok(count @ 1..) => {
                log.feed(&self.buffer[..count]);
                true
            }
            Err(Errno::INTR) => true,
            Err(Errno::AGAIN) => false,
            Ok(0) | Err(_) => {
                self.pipe = None;
                false
            }
        }
    }

    fn reap(&mut self) {
        loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if pid == self.pid => self.status = Some(status),
                Ok(Some(_)) => {}
                Ok(None) => return,
                Err(Errno::INTR) => {}
                Err(_) => {
                    self.childless = true;
                    return;
                }
            }
        }
    }

    fn ended(self, spec: &AttemptSpec, folder: &AttemptFolder) -> Ended {
        let mut notes = Vec::new();
        if !self.childless {
            notes.push("Some of the step's processes could not be killed.".to_owned());
        }
        let begun = shell::commands_begun(folder).min(spec.commands.len());
        let outcome = match (self.end.and_then(|end| end.cause), self.status) {
            (Some(cause), _) => cause,
            (None, Some(status)) => own_end(status),
            (None, None) => Outcome::Signalled { signal: Signal::KILL.as_raw() },
        };
        let outcome = match outcome {
            Outcome::Exited { code } if code != 0 && begun == 0 => Outcome::SetupFailed {
                message: format!("the shell did not get to the first command (exit code {code})"),
            },
            outcome => outcome,
        };
        if outcome.is_success() && begun < spec.commands.len() {
            notes.push(format!(
                "Command {begun} of {} ended the shell; those after it were not run.",
                spec.commands.len()
            ));
        }
        let failed_command = match outcome.is_success() {
            true => None,
            false => begun.checked_sub(1),
        };
        Ended { outcome, failed_command, notes }
    }
}

/// Whether the step has to wait for whoever reads what is printed.
fn is_held_up(log: &mut Log<'_>) -> bool {
    log.printer().is_some_and(|printer| printer.is_full())
}

fn own_end(status: WaitStatus) -> Outcome {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Outcome::Exited { code },
        (None, Some(signal)) => Outcome::Signalled { signal },
        (None, None) => Outcome::Signalled { signal: 0 },
    }
}
