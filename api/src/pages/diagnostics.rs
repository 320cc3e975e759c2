//! What is wrong with a pipeline's file, as pages show it.

use buildit_shared::pipeline;

use super::text::Sentence;

/// One thing that is wrong.
pub(super) struct Diagnostic {
    pub(super) message: Sentence,
    pub(super) place: String,
    /// The line, and below it where in it.
    pub(super) source: String,
    pub(super) help: Option<Sentence>,
}

impl From<pipeline::Diagnostic> for Diagnostic {
    fn from(found: pipeline::Diagnostic) -> Self {
        let pointer = " ".repeat(found.source_offset.min(500));
        Self {
            message: Sentence(found.message),
            place: format!("{}:{}:{}", found.file, found.line, found.column),
            source: format!("{}\n{pointer}^", found.source_line),
            help: found.help.map(Sentence),
        }
    }
}

/// Those that a run keeps.
pub(super) fn stored(value: &serde_json::Value) -> Vec<Diagnostic> {
    let found: Vec<pipeline::Diagnostic> = serde_json::from_value(value.clone()).unwrap_or_default();
    found.into_iter().map(Diagnostic::from).collect()
}
