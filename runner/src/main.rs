//! `buildit-runner`: the program inside a step.
//!
//! `buildit-runner run ROOT ATTEMPT < SPEC` carries out an attempt whose folder is prepared. Exit codes:
//! 0 the report is written, 2 wrong arguments, 3 another process has the attempt, 4 it was begun
//! before, 1 anything else; standard error says more.
//!
//! `buildit-runner contained ROOT ATTEMPT USER` does so as the first process of a container; see
//! [`buildit_runner::contained`].
//!
//! `buildit-runner install DIR` and `buildit-runner pod SPEC_FILE` are a pod's; see
//! [`buildit_runner::pod`].

use std::path::Path;
use std::process::ExitCode;

use buildit_runner::Layout;
use buildit_runner::attempt::{self, AttemptError, BECOME_SHELL, RUN_PLAIN};
use buildit_runner::layout::is_attempt_id;
use buildit_runner::{contained, pod};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["run", root, attempt_id] if is_attempt_id(attempt_id) => told(attempt::run(&Layout::new(root), attempt_id)),
        ["contained", root, attempt_id, user] if is_attempt_id(attempt_id) => {
            told(contained::run(&Layout::new(root), attempt_id, user))
        }
        ["pod", spec_file] => ExitCode::from(pod::live(Path::new(spec_file))),
        ["install", folder] => match pod::install(Path::new(folder)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("buildit-runner: {folder}: {error}");
                ExitCode::FAILURE
            }
        },
        [BECOME_SHELL, parent] => match attempt::become_shell(parent) {
            Ok(never) => match never {},
            Err(error) => {
                eprintln!("/bin/sh cannot be started: {error}");
                ExitCode::from(127)
            }
        },
        [RUN_PLAIN, parent] => ExitCode::from(attempt::run_plain(parent)),
        ["--version"] => {
            println!("buildit-runner {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!(
                "usage: buildit-runner run ROOT ATTEMPT < SPEC | contained ROOT ATTEMPT USER | pod SPEC_FILE | install DIR"
            );
            ExitCode::from(2)
        }
    }
}

fn told(ended: Result<(), AttemptError>) -> ExitCode {
    let Err(error) = ended else {
        return ExitCode::SUCCESS;
    };
    eprintln!("buildit-runner: {error}");
    match error {
        AttemptError::Locked => ExitCode::from(3),
        AttemptError::BegunBefore => ExitCode::from(4),
        _ => ExitCode::FAILURE,
    }
}
