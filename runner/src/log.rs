//! The log file: masked, capped, hashed; and, in a pod, printed.

use std::fs::File;
use std::io::{self, Write};

use sha2::{Digest, Sha256};

use crate::mask::Masker;
use crate::pod::Printer;
use crate::times::Times;

/// Writes each byte as soon as it is known not to belong to a secret.
#[derive(Debug)]
pub(crate) struct Log<'p> {
    file: File,
    /// Gets what the file gets.
    printer: Option<&'p mut Printer>,
    masker: Masker,
    hash: Sha256,
    masked: Vec<u8>,
    len: u64,
    limit: u64,
    dropped: u64,
    times: Times,
    /// The first failure to write; from then on everything is dropped.
    failure: Option<io::Error>,
}

/// A finished log.
#[derive(Debug)]
pub(crate) struct LogSummary {
    pub(crate) len: u64,
    pub(crate) sha256: String,
    pub(crate) truncated: bool,
    /// Bytes, and milliseconds since the log's begin, as in [`Report::log_times`](crate::Report::log_times).
    pub(crate) times: Vec<(u64, u64)>,
    /// What people should know about it.
    pub(crate) note: Option<String>,
}

impl<'p> Log<'p> {
    /// A log in `file`, which is empty, of at most `limit` bytes and the marker that says so.
    pub(crate) fn new(file: File, printer: Option<&'p mut Printer>, masker: Masker, limit: u64) -> Log<'p> {
        let hash = Sha256::new();
        let times = Times::new();
        Log { file, printer, masker, hash, masked: Vec::new(), len: 0, limit, dropped: 0, times, failure: None }
    }

    /// What is printed, if anything is.
    pub(crate) fn printer(&mut self) -> Option<&mut Printer> {
        self.printer.as_deref_mut()
    }

    /// Takes in what the step printed. Never fails: a step is not held up by its log.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        if self.is_closed() {
            self.dropped += bytes.len() as u64;
            return;
        }
        self.times.note(self.len, bytes);
        let mut masked = std::mem::take(&mut self.masked);
        self.masker.feed(bytes, &mut masked);
        self.append(&masked);
        masked.clear();
        self.masked = masked;
    }

    /// The commands have ended: nothing more comes.
    pub(crate) fn commands_ended(&mut self) {
        self.times.end(self.len);
    }

    /// Writes what the masker holds back and sums up.
    pub(crate) fn finish(mut self) -> LogSummary {
        if !self.is_closed() {
            let mut rest = Vec::new();
            self.masker.finish(&mut rest);
            self.append(&rest);
        }
        let note = match &self.failure {
            Some(error) => {
                Some(format!("The log could not be written ({error}); {} bytes of it are missing.", self.dropped))
            }
            None if self.dropped > 0 => Some(format!(
                "The log is longer than its limit of {} bytes; the last {} bytes are missing.",
                self.limit, self.dropped
            )),
            None => None,
        };
        LogSummary {
            len: self.len,
            sha256: hex::encode(self.hash.finalize()),
            truncated: self.dropped > 0,
            times: self.times.all(),
            note,
        }
    }

    fn is_closed(&self) -> bool {
        self.dropped > 0
    }

    fn append(&mut self, masked: &[u8]) {
        let room = usize::try_from(self.limit - self.len).unwrap_or(usize::MAX);
        let kept = &masked[..masked.len().min(room)];
        let written = self.write(kept);
        if written < masked.len() {
            self.dropped += (masked.len() - written) as u64;
            let marker =
                format!("\n[buildit] The log has reached its limit of {} bytes; the rest is dropped.\n", self.limit);
            if self.failure.is_none() {
                self.write(marker.as_bytes());
            }
        }
    }

    /// Writes `bytes` as far as possible; length and hash follow what is in the file.
    fn write(&mut self, bytes: &[u8]) -> usize {
        let mut written = 0;
        while written < bytes.len() {
            match self.file.write(&bytes[written..]) {
                Ok(0) => {
                    self.failure = Some(io::ErrorKind::WriteZero.into());
                    break;
                }
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.failure = Some(error);
                    break;
                }
            }
        }
        if let Some(printer) = &mut self.printer {
            printer.log(self.len, &bytes[..written]);
        }
        self.hash.update(&bytes[..written]);
        self.len += written as u64;
        written
    }
}
