//! What the files say about an attempt.

use std::fs;
use std::io::Read;
use std::time::Duration;

use buildit_runner::Report;
use buildit_runner::layout::{AttemptFolder, boot_id};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::changes::{Interest, Watcher};
use super::{End, Error, Handle, LocalExecutor, State, Tried, if_there, open_plain};

/// Bytes of a report; a step may have written one itself.
const REPORT_LIMIT: u64 = 16 << 20;

impl LocalExecutor {
    pub(super) fn state_now(&self, handle: &Handle) -> Result<State, Error> {
        let folder = self.folder(handle)?;
        if let Some(report) = read_report(&folder, handle)? {
            return Ok(State::Ended(report));
        }
        // The lock before the marker: a runner that begins in between is seen as running.
        let locked = is_locked(&folder)?;
        let begun =
            self.layout.has_begun(handle.attempt_id()).tried(|| "the marker cannot be looked for".to_owned())?;
        if locked {
            return Ok(if begun { State::Running } else { State::Starting });
        }
        // The report may have been written just before the lock was let go.
        if let Some(report) = read_report(&folder, handle)? {
            return Ok(State::Ended(report));
        }
        if !begun || !folder.path().exists() {
            return Ok(State::Absent { begun });
        }
        Ok(State::Lost { reason: loss(&folder) })
    }

    pub(super) async fn wait_for_end(&self, handle: &Handle) -> Result<End, Error> {
        let mut changes = Watcher::changes(self.watcher.as_ref(), &self.folder(handle)?, Interest::End);
        loop {
            let of = handle.clone();
            match self.blocking(move |executor| executor.state_now(&of)).await? {
                State::Ended(report) => return Ok(End::Reported(report)),
                State::Lost { reason } => return Ok(End::Lost { reason }),
                State::Absent { begun: true } => {
                    let reason = "The attempt's folder is gone.".to_owned();
                    return Ok(End::Lost { reason });
                }
                State::Absent { begun: false } => return Err(Error::NotStarted),
                State::Starting | State::Running => changes.next().await,
            }
        }
    }

    pub(super) fn stop_now(&self, handle: &Handle, grace: Duration) -> Result<(), Error> {
        let folder = self.folder(handle)?;
        let ask = || {
            let text = grace.as_millis().to_string();
            if_there(folder.write_whole(&folder.stop(), text.as_bytes()))
                .tried(|| "the stop cannot be asked for".to_owned())
        };
        // Each turn but the last loses a race against somebody's start or clean.
        loop {
            match self.state_now(handle)? {
                State::Ended(_) | State::Lost { .. } | State::Absent { begun: true } => {
                    return Ok(());
                }
                State::Starting | State::Running => {
                    if ask()?.is_some() {
                        return Ok(());
                    }
                }
                State::Absent { begun: false } => {
                    self.create_layout()?;
                    let fenced = self.layout.begin(handle.attempt_id(), self.durable);
                    if fenced.tried(|| "the marker cannot be made".to_owned())? {
                        return Ok(());
                    }
                }
            }
        }
    }
}

/// The runner's last word, if it is there.
pub(in crate::executor) fn read_report(folder: &AttemptFolder, handle: &Handle) -> Result<Option<Box<Report>>, Error> {
    let what = || "the report cannot be read".to_owned();
    let Some(file) = if_there(open_plain(&folder.result())).tried(what)? else {
        return Ok(None);
    };
    let mut text = Vec::new();
    file.take(REPORT_LIMIT).read_to_end(&mut text).tried(what)?;
    // One that a power cut left half written is none.
    let report: Option<Report> = serde_json::from_slice(&text).ok();
    Ok(report.filter(|report| report.attempt_id == handle.attempt_id()).map(Box::new))
}

/// Whether a runner lives. Takes the lock for a moment, in the mode in which those
/// who only look don't get in each other's way.
pub(in crate::executor) fn is_locked(folder: &AttemptFolder) -> Result<bool, Error> {
    let what = || "the lock cannot be probed".to_owned();
    let Some(lock) = if_there(open_plain(&folder.lock())).tried(what)? else {
        return Ok(false);
    };
    match flock(&lock, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(false),
        Err(Errno::WOULDBLOCK) => Ok(true),
        Err(error) => Err(error).tried(what),
    }
}

/// Why an attempt is lost, as far as can be told.
fn loss(folder: &AttemptFolder) -> String {
    let lock = fs::read_to_string(folder.lock()).unwrap_or_default();
    let boot = lock.lines().nth(1).unwrap_or_default();
    if !boot.is_empty() && boot_id().is_ok_and(|now| now != boot) {
        return "The machine was restarted while the step ran.".to_owned();
    }
    let said = fs::read_to_string(folder.runner_errors()).unwrap_or_default();
    match said.lines().next_back() {
        Some(last) => format!("The step's runner ended without a report: {last}"),
        None => "The step's runner was killed.".to_owned(),
    }
}
