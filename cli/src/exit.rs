//! How a command ends.

use std::process::ExitCode;

use buildit_shared::domain::RunStatus;

/// What the exit code says, see `buildit --help`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It worked.
    Success,
    /// What was asked for failed.
    Failure,
    /// The command line or the configuration is wrong.
    Usage,
    /// The database or the server cannot be reached.
    Unreachable,
    /// The run was cancelled.
    Cancelled,
    /// The run ended in an error, which is not its own doing.
    Error,
    /// No filter of the run matched.
    Skipped,
    /// Ctrl-C ended the command.
    Interrupted,
}

impl Exit {
    pub(crate) fn code(self) -> u8 {
        match self {
            Exit::Success => 0,
            Exit::Failure => 1,
            Exit::Usage => 2,
            Exit::Unreachable => 3,
            Exit::Cancelled => 4,
            Exit::Error => 5,
            Exit::Skipped => 6,
            Exit::Interrupted => 130,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}

impl From<RunStatus> for Exit {
    fn from(ended: RunStatus) -> Exit {
        match ended {
            RunStatus::Success => Exit::Success,
            RunStatus::Cancelled => Exit::Cancelled,
            RunStatus::Error => Exit::Error,
            RunStatus::Skipped => Exit::Skipped,
            RunStatus::Pending | RunStatus::Running | RunStatus::Failure => Exit::Failure,
        }
    }
}

/// An error and the exit code that it leads to, [`Exit::Failure`] where nothing else is said.
#[derive(Debug)]
pub struct Problem {
    /// The exit code.
    pub exit: Exit,
    /// What to tell.
    pub error: anyhow::Error,
}

impl Problem {
    pub(crate) fn usage(error: impl Into<anyhow::Error>) -> Problem {
        Problem { exit: Exit::Usage, error: error.into() }
    }

    pub(crate) fn unreachable(error: impl Into<anyhow::Error>) -> Problem {
        Problem { exit: Exit::Unreachable, error: error.into() }
    }
}

impl<E: Into<anyhow::Error>> From<E> for Problem {
    fn from(error: E) -> Problem {
        Problem { exit: Exit::Failure, error: error.into() }
    }
}
