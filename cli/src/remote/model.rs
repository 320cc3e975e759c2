//! What the server tells about runs, as far as these commands look at it.

use buildit_shared::domain::{AttemptStatus, RunStatus, StepStatus};
use jiff::Timestamp;
use serde::Deserialize;

/// A run; without steps where it comes from a list.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Run {
    pub(super) id: String,
    pub(super) number: i32,
    pub(super) project: String,
    pub(super) pipeline: String,
    pub(super) status: RunStatus,
    pub(super) trigger: String,
    #[serde(rename = "ref")]
    pub(super) git_ref: String,
    pub(super) branch: Option<String>,
    pub(super) commit_sha: Option<String>,
    pub(super) commit_message: Option<String>,
    pub(super) reason: Option<String>,
    pub(super) created_at: Timestamp,
    pub(super) duration_ms: Option<i64>,
    pub(super) url: String,
    #[serde(default)]
    pub(super) steps: Vec<Step>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Step {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) status: StepStatus,
    pub(super) exit_code: Option<i32>,
    pub(super) reason: Option<String>,
    pub(super) duration_ms: Option<i64>,
    pub(super) attempts: Vec<Attempt>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Attempt {
    pub(super) number: i32,
    pub(super) status: AttemptStatus,
    pub(super) reason: Option<String>,
}

impl Run {
    /// For people: `#3 of web`, with the pipeline where that is not the usual one.
    pub(super) fn title(&self) -> String {
        match self.pipeline.as_str() {
            "default" => format!("#{} of {}", self.number, self.project),
            pipeline => format!("#{} of {} ({pipeline})", self.number, self.project),
        }
    }

    /// The branch or the tag, or else the ref as it is.
    pub(super) fn short_ref(&self) -> &str {
        self.branch.as_deref().unwrap_or_else(|| self.git_ref.trim_start_matches("refs/tags/"))
    }

    /// The commit's first digits.
    pub(super) fn short_sha(&self) -> &str {
        self.commit_sha.as_deref().and_then(|sha| sha.get(..7)).unwrap_or_default()
    }
}

impl Step {
    /// Its own doing, or ours.
    pub(super) fn has_failed(&self) -> bool {
        matches!(self.status, StepStatus::Failure | StepStatus::Error)
    }

    /// The number of the attempt whose log is the first that was not over by now.
    pub(super) fn next_attempt(&self) -> i32 {
        self.attempts.last().map_or(1, |last| last.number + i32::from(last.is_ended()))
    }
}

impl Attempt {
    pub(super) fn is_ended(&self) -> bool {
        !matches!(self.status, AttemptStatus::Pending | AttemptStatus::Running)
    }
}
