//! A step: `pending → running → success | failure | cancelled | error`, or `skipped`; and its attempts.

use serde::{Deserialize, Serialize};

/// Where a step stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, sqlx::Type)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "step_status", rename_all = "snake_case")]
pub enum StepStatus {
    /// Waits for what it depends on, or for a worker.
    Pending,
    /// An attempt is at work.
    Running,
    /// Its commands succeeded.
    Success,
    /// The user's doing: exit code, timeout, out of memory.
    Failure,
    /// With its run.
    Cancelled,
    /// Our doing or the cluster's.
    Error,
    /// A filter left it out, or what it depends on did not succeed.
    Skipped,
}

impl StepStatus {
    /// Nothing more will happen to it, unless somebody retries it.
    pub fn is_ended(self) -> bool {
        !matches!(self, Self::Pending | Self::Running)
    }

    /// Whether steps that depend on it may start.
    pub fn lets_dependents_start(self, allow_failure: bool) -> bool {
        match self {
            Self::Success => true,
            Self::Failure => allow_failure,
            _ => false,
        }
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

/// Where an attempt stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, sqlx::Type)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "attempt_status", rename_all = "snake_case")]
pub enum AttemptStatus {
    /// Its job waits.
    Pending,
    /// Handed to the executor.
    Running,
    /// Its commands succeeded.
    Success,
    /// The user's doing.
    Failure,
    /// Stopped on request.
    Cancelled,
    /// Our doing or the cluster's.
    Error,
    /// Its pod, node or runner went away.
    Lost,
}
