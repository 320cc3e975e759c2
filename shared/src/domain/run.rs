//! A run: `pending → running → success | failure | cancelled | error`, or `skipped`.

use serde::{Deserialize, Serialize};

use super::StepStatus;

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, sqlx::Type)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "run_status", rename_all = "snake_case")]
pub enum RunStatus {
    /// Not planned yet.
    Pending,
    /// Steps are at work, or artifacts are being published.
    Running,
    /// All that had to succeed did, and the artifacts are published.
    Success,
    /// A step failed by the user's doing.
    Failure,
    /// Somebody asked for it.
    Cancelled,
    /// Our doing or the cluster's, or a pipeline file that does not parse.
    Error,
    /// No filter matched.
    Skipped,
}

impl RunStatus {
    /// Nothing more will happen in it, unless somebody retries it.
    pub fn is_ended(self) -> bool {
        !matches!(self, Self::Pending | Self::Running)
    }

    /// The name used in the database, in JSON and on pages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Cancelled => "cancelled",
            Self::Error => "error",
            Self::Skipped => "skipped",
        }
    }
}

/// What started a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, sqlx::Type)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "run_trigger", rename_all = "snake_case")]
pub enum RunTrigger {
    /// A hook in a repository or a forge.
    Push,
    /// A merge request.
    Mr,
    /// The clock.
    Schedule,
    /// A program.
    Api,
    /// A person at a page.
    Manual,
}

/// How a run ends whose steps ended so; each comes with its `allow_failure`.
///
/// A step that may fail counts as having succeeded. An error outweighs a failure: the operator must look first.
pub fn outcome(steps: impl IntoIterator<Item = (StepStatus, bool)>) -> RunStatus {
    let mut result = RunStatus::Success;
    for (status, allow_failure) in steps {
        match status {
            StepStatus::Error => return RunStatus::Error,
            StepStatus::Cancelled => result = RunStatus::Cancelled,
            StepStatus::Failure if !allow_failure && result == RunStatus::Success => {
                result = RunStatus::Failure;
            }
            _ => {}
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_ends_as_the_worst_of_its_steps_says() {
        use StepStatus::*;
        let end = |steps: &[(StepStatus, bool)]| outcome(steps.iter().copied());
        assert_eq!(end(&[]), RunStatus::Success);
        assert_eq!(end(&[(Success, false), (Skipped, false)]), RunStatus::Success);
        assert_eq!(end(&[(Failure, true), (Success, false)]), RunStatus::Success);
        assert_eq!(end(&[(Failure, false), (Skipped, false)]), RunStatus::Failure);
        assert_eq!(end(&[(Failure, false), (Cancelled, false)]), RunStatus::Cancelled);
        assert_eq!(end(&[(Failure, false), (Error, true)]), RunStatus::Error);
    }
}
