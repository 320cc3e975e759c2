//! The pipeline file: from its bytes to the steps of a run, without any input or output.
//!
//! [`parse`] reads a file into the one [`Pipeline`] definition or says everything that is wrong
//! with it; [`filters`] decides whether an event starts a run; [`plan()`] resolves variables and
//! leaves secrets as references until [`PlannedStep::render`]. Nothing here panics, whatever the
//! bytes.
//!
//! A format (YAML) turns text into a tree of located values; decoding and checks work on
//! that tree and are the same for every format.

mod check;
mod clock;
mod decode;
pub mod definition;
pub mod diagnostics;
mod fields;
pub mod filters;
mod given;
mod graph;
mod lexer;
mod node;
pub mod plan;
mod scope;
mod shell;
#[cfg(test)]
mod tests;
mod triggers;
mod units;
mod values;
pub mod variables;
mod yaml;

pub use definition::{
    Artifact, Concurrency, EventKind, MrAction, MrTrigger, OnLost, Pipeline, Publish, PushTrigger, Resources, Schedule,
    Step, Triggers, When,
};
pub use diagnostics::{Diagnostic, Rule, render};
pub use filters::Event;
pub use given::{GivenVariables, check_given};
pub use plan::{Context, MissingSecrets, Plan, PlanError, PlannedCommand, PlannedStep, Rendered, plan};
pub use units::is_plain_name;
pub use variables::Template;

use diagnostics::Report;
use node::Span;

/// The largest pipeline file, in bytes.
pub const MOST_BYTES: usize = 1 << 20;

/// Reads a pipeline file; `file` is its name in the diagnostics.
///
/// # Errors
/// Every problem of the file, in its order. Broken YAML syntax hides what comes after it.
pub fn parse(file: &str, source: &str) -> Result<Pipeline, Vec<Diagnostic>> {
    let source = source.strip_prefix('\u{feff}').unwrap_or(source);
    if source.len() > MOST_BYTES {
        let mut report = Report::new(file, "");
        let message = "the file is larger than 1 MiB";
        report.add(Rule::FileTooLarge, Span::at(0), message);
        return Err(report.finish());
    }
    let mut report = Report::new(file, source);
    let pipeline = yaml::read(&mut report).and_then(|root| decode::pipeline(&root, &mut report));
    match pipeline {
        Some(pipeline) if report.is_empty() => Ok(pipeline),
        _ => Err(report.finish()),
    }
}

/// As [`parse`], for a file that may not be text at all.
///
/// # Errors
/// As [`parse`]; bytes that are not UTF-8 are one more problem, and hide the others.
pub fn parse_bytes(file: &str, source: &[u8]) -> Result<Pipeline, Vec<Diagnostic>> {
    match std::str::from_utf8(source) {
        Ok(source) => parse(file, source),
        Err(error) => {
            let start = source.len().min(MOST_BYTES);
            let text = String::from_utf8_lossy(&source[..start]);
            let mut report = Report::new(file, &text);
            // Up to the first invalid byte the lossy text is the same.
            let at = Span::at(error.valid_up_to());
            report.add(Rule::NotUtf8, at, "the file is not UTF-8 text");
            Err(report.finish())
        }
    }
}
