//! The log on standard output.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::frames;
use crate::net::Patience;

/// Bytes that may wait to be written before no more output is read.
const MOST_PENDING: usize = 64 * 1024;

/// Bytes in one call to write.
const MOST_AT_ONCE: usize = 64 * 1024;

/// How soon it is noticed that patience has become short.
const LONGEST_POLL: Duration = Duration::from_millis(200);

/// Writes frames without ever waiting for the reader, unless asked to.
#[derive(Debug)]
pub(crate) struct Printer {
    out: OwnedFd,
    pending: Vec<u8>,
    written: usize,
    /// Nobody will ever read it.
    closed: bool,
}

impl Printer {
    /// `out` is made not to block, for all that share its open file.
    pub(crate) fn new(out: OwnedFd) -> io::Result<Printer> {
        rustix::io::ioctl_fionbio(&out, true)?;
        Ok(Printer { out, pending: Vec::new(), written: 0, closed: false })
    }

    /// A stretch of the log.
    pub(crate) fn log(&mut self, offset: u64, bytes: &[u8]) {
        if !self.closed {
            frames::write_log(offset, bytes, &mut self.pending);
            self.write();
        }
    }

    /// Another frame.
    pub(super) fn frame(&mut self, frame: &[u8]) {
        self.pending.extend_from_slice(frame);
        self.write();
    }

    /// What to poll for writing, if anything waits to be written.
    pub(crate) fn waits_for(&self) -> Option<BorrowedFd<'_>> {
        (!self.pending.is_empty()).then(|| self.out.as_fd())
    }

    /// Whether so much waits that the step has to wait too.
    pub(crate) fn is_full(&self) -> bool {
        self.pending.len() - self.written >= MOST_PENDING
    }

    /// Writes what can be written at once.
    pub(crate) fn write(&mut self) {
        while self.written < self.pending.len() {
            let rest = &self.pending[self.written..];
            match rustix::io::write(&self.out, &rest[..rest.len().min(MOST_AT_ONCE)]) {
                Ok(count) => self.written += count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    self.forget_written();
                    return;
                }
                Err(_) => {
                    self.closed = true;
                    break;
                }
            }
        }
        self.pending.clear();
        self.written = 0;
    }

    fn forget_written(&mut self) {
        if self.written >= MOST_PENDING {
            self.pending.drain(..self.written);
            self.written = 0;
        }
    }

    /// Writes all that waits, as far as `patience` goes; false if something is left.
    pub(super) fn flush(&mut self, patience: &Patience) -> bool {
        loop {
            self.write();
            let Some(out) = self.waits_for() else { return true };
            // A stop, which shortens the patience, does not wake the poll.
            let left = patience.left().min(LONGEST_POLL);
            if left.is_zero() {
                return false;
            }
            let _ = poll(&mut [PollFd::new(&out, PollFlags::OUT)], Timespec::try_from(left).ok().as_ref());
        }
    }
}
