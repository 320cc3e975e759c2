//! What an attempt is to do: written by the starter, read once by the runner.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The format of [`AttemptSpec`] that this build writes and reads.
pub const SPEC_VERSION: u32 = 1;

/// The name of the variable that marks each process of an attempt with the attempt's id.
pub const ATTEMPT_ID_VARIABLE: &str = "BUILDIT_ATTEMPT_ID";

/// One attempt of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttemptSpec {
    /// [`SPEC_VERSION`]; a runner refuses any other.
    pub version: u32,
    /// The attempt's UUID. It names the attempt's folder.
    pub attempt_id: String,
    /// The step's name, for messages only.
    pub step: String,
    /// Shell commands, run in order by one shell, up to the first that fails. Without `/bin/sh` each
    /// has to be a program with arguments.
    pub commands: Vec<String>,
    /// What the log shows for each command, as its author wrote it; a command without one is shown itself.
    #[serde(default)]
    pub shown: Vec<String>,
    /// The complete environment of the commands. `PATH` (the runner's own) and `HOME` (a folder of
    /// the attempt) are added where they are missing, and [`ATTEMPT_ID_VARIABLE`] always.
    pub environment: BTreeMap<String, String>,
    /// Values that must never reach the log; each at least [`crate::mask::MIN_SECRET`] bytes.
    pub secrets: Vec<String>,
    /// The working directory. Relative paths start at the attempt's folder.
    pub workspace: PathBuf,
    /// A `tar.zst` that is unpacked into the workspace first.
    pub checkout: Option<PathBuf>,
    /// Outputs of the steps this one depends on, each a `tar.zst`, unpacked over the checkout in
    /// this order.
    pub inputs: Vec<PathBuf>,
    /// Paths and globs, relative to the workspace, staged together when the step succeeds.
    pub outputs: Vec<String>,
    /// What to stage however the step ends.
    pub artifacts: Vec<ArtifactSpec>,
    /// Milliseconds the commands may take, counted from the first one.
    pub timeout_ms: u64,
    /// Milliseconds between TERM and KILL at a timeout, or at a stop that names no grace.
    pub grace_ms: u64,
    /// Bytes of log that are kept; what comes after is counted and dropped.
    pub log_limit_bytes: u64,
    /// Whom the commands run as; `None` is the runner's own user. Needs a runner that is root.
    #[serde(default)]
    pub user: Option<StepUser>,
    /// Whether a power cut must not make it forgotten that the attempt began. Costs a flush of the
    /// disk; without it an attempt that is asked for again after a power cut may run again.
    pub durable: bool,
}

/// An artifact of the pipeline file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArtifactSpec {
    /// Its name, unique within the pipeline; it names the staged file.
    pub name: String,
    /// A path or glob relative to the workspace.
    pub path: String,
}

/// A user other than the runner's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepUser {
    /// The user id.
    pub uid: u32,
    /// The group id; supplementary groups are dropped.
    pub gid: u32,
}

impl AttemptSpec {
    /// An attempt with no commands, no environment and no files, an hour of time, ten seconds of
    /// grace and 200 MiB of log.
    pub fn new(attempt_id: impl Into<String>, step: impl Into<String>) -> AttemptSpec {
        AttemptSpec {
            version: SPEC_VERSION,
            attempt_id: attempt_id.into(),
            step: step.into(),
            commands: Vec::new(),
            shown: Vec::new(),
            environment: BTreeMap::new(),
            secrets: Vec::new(),
            workspace: PathBuf::from("workspace"),
            checkout: None,
            inputs: Vec::new(),
            outputs: Vec::new(),
            artifacts: Vec::new(),
            timeout_ms: 60 * 60 * 1000,
            grace_ms: 10_000,
            log_limit_bytes: 200 * 1024 * 1024,
            user: None,
            durable: true,
        }
    }
}
