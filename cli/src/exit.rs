//! How a command ends.

use std::process::ExitCode;

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
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(match exit {
            Exit::Success => 0,
            Exit::Failure => 1,
            Exit::Usage => 2,
            Exit::Unreachable => 3,
        })
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
