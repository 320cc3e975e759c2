//! `buildit`: the one program to install.

use std::process::ExitCode;

use buildit::Arguments;
use clap::Parser;

fn main() -> ExitCode {
    match buildit::run(Arguments::parse()) {
        Ok(exit) => exit.into(),
        Err(problem) => {
            eprintln!("buildit: {:#}", problem.error);
            problem.exit.into()
        }
    }
}
