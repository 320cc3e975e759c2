//! The report, three ways: to the API, on standard output, and in the container's termination
//! message. Each of them is enough.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::api::Api;
use super::{Printer, Stop, complain, frames};
use crate::net::Patience;
use crate::report::{Outcome, Report};

/// Where Kubernetes reads a container's last words, as far as it was told nothing else.
const TERMINATION_LOG: &str = "/dev/termination-log";

/// Bytes of it that Kubernetes keeps, with some to spare.
const MOST_TERMINATION: usize = 4000;

/// Bytes of notes, and of the outcome's message, in it.
const MOST_WORDS: usize = 2048;

/// How long the API is asked to take the report: it is not the only way.
const REPORT_LIMIT: Duration = Duration::from_secs(10);

/// Longer than any pod may take.
const FOR_EVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// How long a reader of standard output is waited for after a stop.
const READER_LIMIT: Duration = Duration::from_secs(5);

/// Tells `report` to everybody.
pub(super) fn tell(report: &Report, api: &Api<'_>, printer: &mut Printer, stop: &Arc<Stop>) {
    let patience = Patience::new(REPORT_LIMIT, stop, REPORT_LIMIT);
    if let Err(error) = api.report(report, &patience) {
        complain(&format!("report: {error}"));
    }
    match frames::end_frame(report) {
        Ok(frame) => printer.frame(&frame),
        Err(error) => complain(&format!("report: {error}")),
    }
    if !printer.flush(&Patience::new(FOR_EVER, stop, READER_LIMIT)) {
        complain("nobody reads the last of the log");
    }
    let short = short(report);
    terminate(short.as_bytes());
}

/// Says in the termination message why nothing was run.
pub(super) fn nothing_run(why: &str) {
    complain(why);
    terminate(&why.as_bytes()[..why.floor_char_boundary(MOST_TERMINATION)]);
}

fn terminate(message: &[u8]) {
    let path = Path::new(TERMINATION_LOG);
    // Not made where it is missing: then nobody would read it.
    if let Ok(mut file) = OpenOptions::new().write(true).truncate(true).open(path) {
        let _ = file.write_all(message);
    }
}

/// The report as JSON of at most [`MOST_TERMINATION`] bytes: without the log's times; the notes are shortened first, then
/// the list of artifacts.
fn short(report: &Report) -> String {
    let mut report = Report { log_times: Vec::new(), ..report.clone() };
    let mut room = MOST_WORDS;
    report.notes.retain(|note| {
        let left = room.checked_sub(note.len());
        room = left.unwrap_or(room);
        left.is_some()
    });
    if let Outcome::SetupFailed { message } | Outcome::StagingFailed { message } = &mut report.outcome {
        message.truncate(message.floor_char_boundary(MOST_WORDS / 4));
    }
    loop {
        let text = serde_json::to_string(&report).unwrap_or_default();
        if text.len() <= MOST_TERMINATION {
            return text;
        }
        if report.notes.pop().is_none() && report.artifacts.pop().is_none() {
            // Only hostile names are left, and those are the step's own.
            return String::new();
        }
    }
}

#[cfg(test)]
mod tests;
