//! Keys of the objects that runs leave: for their steps, for their end, and for people.

use std::{fmt, str::FromStr};

use crate::ids::{AttemptId, RunId};

/// A run's packed commit.
pub fn checkout(run: RunId) -> String {
    format!("checkouts/{run}.tar.zst")
}

/// Below it is all that a run's steps leave for each other and for the run's end.
pub fn staged(run: RunId) -> String {
    format!("staged/{run}")
}

/// Below it are a run's published files.
pub fn artifacts(run: RunId) -> String {
    format!("artifacts/{run}")
}

/// Below it are a run's logs.
pub fn logs(run: RunId) -> String {
    format!("logs/pipelines/{run}")
}

/// What an attempt hands to the steps that depend on its own.
pub fn outputs(run: RunId, attempt: AttemptId) -> String {
    format!("{}/{attempt}/outputs.tar.zst", staged(run))
}

/// What an attempt staged of an artifact.
pub fn artifact(run: RunId, attempt: AttemptId, name: &str) -> String {
    format!("{}/{attempt}/artifacts/{name}.tar.zst", staged(run))
}

/// A published file.
pub fn published(run: RunId, artifact: &str, path: &str) -> String {
    format!("{}/{artifact}/{path}", artifacts(run))
}

/// The log of one attempt; immutable.
pub fn attempt_log(run: RunId, step: &str, number: i32) -> String {
    format!("{}/{step}.{number}.log", logs(run))
}

/// The log of a step's last attempt.
pub fn log(run: RunId, step: &str) -> String {
    format!("{}/{step}.log", logs(run))
}

/// What a runner may store for its attempt, as `log`, `outputs` or `artifacts/NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Staged {
    /// The whole masked log.
    Log,
    /// The outputs, packed together.
    Outputs,
    /// What matched an artifact's path, packed.
    Artifact(String),
}

/// Names nothing that a runner may store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an attempt stores `log`, `outputs` and `artifacts/NAME`, nothing else")]
pub struct NothingStaged;

impl Staged {
    /// The key of that object of an attempt: its run, step, number and id.
    pub fn key(&self, run: RunId, step: &str, number: i32, attempt: AttemptId) -> String {
        match self {
            Self::Log => attempt_log(run, step, number),
            Self::Outputs => outputs(run, attempt),
            Self::Artifact(name) => artifact(run, attempt, name),
        }
    }
}

impl fmt::Display for Staged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Log => f.write_str("log"),
            Self::Outputs => f.write_str("outputs"),
            Self::Artifact(name) => write!(f, "artifacts/{name}"),
        }
    }
}

impl FromStr for Staged {
    type Err = NothingStaged;

    fn from_str(text: &str) -> Result<Self, NothingStaged> {
        match text {
            "log" => Ok(Self::Log),
            "outputs" => Ok(Self::Outputs),
            _ => match text.strip_prefix("artifacts/") {
                Some(name) if !name.is_empty() && !name.contains('/') => Ok(Self::Artifact(name.to_owned())),
                _ => Err(NothingStaged),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_staged_objects_are_read_as_they_are_written() {
        for staged in [Staged::Log, Staged::Outputs, Staged::Artifact("results".into())] {
            assert_eq!(staged.to_string().parse(), Ok(staged));
        }
        for wrong in ["", "logs", "artifacts", "artifacts/", "artifacts/a/b", "outputs/x"] {
            assert_eq!(wrong.parse::<Staged>(), Err(NothingStaged), "{wrong:?}");
        }
    }
}
