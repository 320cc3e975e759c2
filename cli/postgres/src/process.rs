//! A server process, ours or one that an earlier process left behind.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, Signal};
use tokio::process::Child;

/// How often a process is asked whether it has ended.
const ASK: Duration = Duration::from_millis(5);

const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// Held by a descriptor: a number that the system has given to another process is never signalled.
#[derive(Debug)]
pub(crate) struct Process {
    pid: Pid,
    descriptor: OwnedFd,
    child: Option<Child>,
}

impl Process {
    /// The process with this number, if there is one now.
    pub(crate) fn open(pid: Pid) -> Result<Option<Process>> {
        match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
            Ok(descriptor) => Ok(Some(Process { pid, descriptor, child: None })),
            Err(rustix::io::Errno::SRCH | rustix::io::Errno::INVAL) => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot look at process {pid}")),
        }
    }

    /// Keeps the child, so that it is reaped when it ends.
    pub(crate) fn of_child(child: Child) -> Result<Process> {
        let pid = child.id().and_then(|id| Pid::from_raw(id.cast_signed())).context("the server has ended at once")?;
        let mut process = Process::open(pid)?.context("the server has ended at once")?;
        process.child = Some(child);
        Ok(process)
    }

    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// A process that has ended in the meantime is no error.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        match rustix::process::pidfd_send_signal(&self.descriptor, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("cannot signal PostgreSQL, process {}", self.pid)),
        }
    }

    /// Returns when the process has ended, `false` if it still runs after `limit`.
    pub(crate) async fn ended(&mut self, limit: Duration) -> Result<bool> {
        let begun = Instant::now();
        // The descriptor becomes readable at the end, of a process that is not our child too.
        while !self.is_readable()? {
            if begun.elapsed() >= limit {
                return Ok(false);
            }
            tokio::time::sleep(ASK).await;
        }
        if let Some(child) = &mut self.child {
            // Only reaped: how the server ended stands in its log.
            drop(child.wait().await);
        }
        Ok(true)
    }

    fn is_readable(&self) -> Result<bool> {
        let mut polled = [PollFd::new(&self.descriptor, PollFlags::IN)];
        // Ctrl-C may come again while everything stops.
        let ready = rustix::io::retry_on_intr(|| rustix::event::poll(&mut polled, Some(&NOW)))?;
        Ok(ready > 0)
    }
}
