//! The runner's last word.

use serde::{Deserialize, Serialize};

/// How an attempt ended. The file exists only once log, outputs and artifacts are complete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The attempt this is about.
    pub attempt_id: String,
    /// How the commands ended.
    pub outcome: Outcome,
    /// Index of the command that was under way when the commands ended without success.
    pub failed_command: Option<usize>,
    /// When the runner began, in milliseconds since the Unix epoch.
    pub started_at_ms: u64,
    /// When the shell was started, in milliseconds since the Unix epoch; `None` if it never was.
    pub first_command_at_ms: Option<u64>,
    /// When everything was complete, in milliseconds since the Unix epoch.
    pub ended_at_ms: u64,
    /// Length of the masked log in bytes.
    pub log_len: u64,
    /// SHA-256 of the masked log, in lower-case hex.
    pub log_sha256: String,
    /// Whether the log limit cut something off.
    pub log_truncated: bool,
    /// When what was printed: the byte of the log from which on, and milliseconds since
    /// `started_at_ms`, in order; the last is the end of the commands. About a thousand at most, the
    /// closer together the shorter the attempt.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub log_times: Vec<(u64, u64)>,
    /// Whether the kernel killed a process of the attempt's container for memory. Known in a
    /// container alone; which process it was is not.
    #[serde(default)]
    pub oom_killed: bool,
    /// Who asked for a stop that was not ours, where the executor can tell.
    #[serde(default)]
    pub stopped_by: Option<String>,
    /// The staged outputs; only of a success with outputs that matched something.
    pub outputs: Option<Staged>,
    /// One entry for each artifact of the attempt, in its order.
    pub artifacts: Vec<StagedArtifact>,
    /// Sentences for the people who read the run: what was skipped, dropped or not found.
    pub notes: Vec<String>,
}

/// How the commands ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Outcome {
    /// The shell ended by itself. 0 is success.
    Exited {
        /// Its exit code.
        code: i32,
    },
    /// A signal that was not ours ended the shell.
    Signalled {
        /// The signal's number.
        signal: i32,
    },
    /// The time was up.
    TimedOut,
    /// Somebody asked for the stop.
    Stopped,
    /// No command was run: the workspace could not be prepared.
    SetupFailed {
        /// Why, for people.
        message: String,
    },
    /// All commands succeeded, but the outputs could not be packed.
    StagingFailed {
        /// Why, for people.
        message: String,
    },
}

impl Outcome {
    /// Whether every command succeeded.
    pub fn is_success(&self) -> bool {
        matches!(self, Outcome::Exited { code: 0 })
    }
}

/// A packed file in the attempt's folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Staged {
    /// Its path, relative to the attempt's folder.
    pub file: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its SHA-256 in lower-case hex.
    pub sha256: String,
    /// How many files and links it holds; folders are not counted.
    pub files: u64,
}

/// What became of one artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagedArtifact {
    /// The artifact's name.
    pub name: String,
    /// Its path or glob, as the attempt gave it.
    pub path: String,
    /// The packed file; `None` when nothing matched.
    pub staged: Option<Staged>,
}

impl StagedArtifact {
    /// Whether anything matched.
    pub fn matched(&self) -> bool {
        self.staged.is_some()
    }
}
