//! The command line: every command of `buildit`, and how each ends.

mod arguments;
mod bench;
mod choice;
mod config;
mod exit;
mod hook;
mod migrate;
mod output;
mod remote;
mod run;
mod server;
mod validate;

pub use arguments::Arguments;
pub use exit::{Exit, Problem};

use arguments::{Command, Secrets};

/// Where a repository keeps its pipeline unless it says otherwise.
const PIPELINE_FILE: &str = ".platform.yaml";

/// Carries out a command.
///
/// # Errors
/// With the exit code and what to tell.
pub fn run(arguments: Arguments) -> Result<Exit, Problem> {
    match arguments.command {
        Command::Validate(validate) => validate::run(&validate),
        Command::Run(arguments) => run::run(arguments),
        Command::Hook(hook) => hook::run(hook),
        Command::Up(arguments) => server::run_up(&arguments),
        Command::Api(arguments) => server::run_api(&arguments),
        Command::Worker(arguments) => server::run_worker(&arguments),
        Command::Migrate(arguments) => migrate::run(&arguments),
        Command::Account(arguments) => server::run_account(&arguments),
        Command::Remote(command) => remote::run(command),
        Command::Secrets(Secrets::Rotate(arguments)) => server::rotate_secrets(&arguments),
        Command::Secrets(Secrets::List(of)) => remote::secrets::list(&of),
        Command::Secrets(Secrets::Set(secret)) => remote::secrets::set(&secret),
        Command::Secrets(Secrets::Delete(secret)) => remote::secrets::delete(&secret),
        Command::Completions(arguments) => remote::completions::run(&arguments),
        Command::Token(arguments) => server::run_token(&arguments),
        Command::Bench(bench) => bench::run(bench),
    }
}
