//! Where the time of an attempt goes, as the metric `buildit_step_phase_seconds`.
//!
//! From the id's own time and the runner's clock, so that also an adopted attempt is measured; where clocks differ by
//! more than a phase takes, the phase counts as nothing.

use std::time::{SystemTime, UNIX_EPOCH};

use buildit_runner::Report;
use buildit_shared::db::attempts::Attempt;

/// Records an attempt whose end is committed now: `start` until its runner ran (claim, pod or process, image), `prepare`
/// until its first command (begin, checkout, inputs), `commands` until all is stored, `report` until now. What one that was
/// started ahead of its turn did meanwhile took nobody's time.
pub(super) fn record(attempt: &Attempt, report: &Report) {
    let made = attempt.id.uuid().get_timestamp().map(|made| {
        let (seconds, nanoseconds) = made.to_unix();
        seconds * 1000 + u64::from(nanoseconds) / 1_000_000
    });
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok().and_then(|now| u64::try_from(now.as_millis()).ok());
    let first_command = report.first_command_at_ms;
    let phases = [
        ("start", made, Some(report.started_at_ms)),
        ("prepare", Some(report.started_at_ms), first_command),
        ("commands", first_command, Some(report.ended_at_ms)),
        ("report", Some(report.ended_at_ms), now),
    ];
    for (phase, from, to) in phases.into_iter().skip(if attempt.ahead { 2 } else { 0 }) {
        if let (Some(from), Some(to)) = (from, to) {
            let seconds = to.saturating_sub(from) as f64 / 1000.0;
            metrics::histogram!("buildit_step_phase_seconds", "phase" => phase).record(seconds);
        }
    }
}
