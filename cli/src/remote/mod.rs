//! The commands that talk to a server, over its HTTP API and with an API key.
//!
//! What they promise: keys and secrets are read from a terminal or standard input, kept in a file for their owner alone, sent
//! in headers and bodies, and never shown; a stream that breaks off is taken up where it broke off; what goes wrong is said
//! with what, where, and what to do.

pub(crate) mod arguments;
mod ask;
pub(crate) mod completions;
mod credentials;
mod error;
mod events;
mod find;
mod here;
mod live;
mod login;
mod logs;
mod model;
mod print;
mod retry;
mod runs;
pub(crate) mod secrets;
mod server;
mod step_log;
mod stream;
mod trigger;
mod watch;

use crate::exit::{Exit, Problem};
use arguments::Remote;
use server::Server;

pub(crate) fn run(command: Remote) -> Result<Exit, Problem> {
    match command {
        Remote::Login(arguments) => login::login(&arguments),
        Remote::Logout(format) => login::logout(format),
        Remote::Trigger(arguments) => on_server(async |server| trigger::run(server, arguments).await),
        Remote::Runs(arguments) => on_server(async |server| runs::run(server, arguments).await),
        Remote::Watch(arguments) => on_server(async |server| watch::run(server, arguments).await),
        Remote::Logs(arguments) => on_server(async |server| logs::run(server, arguments).await),
        Remote::Cancel(arguments) => on_server(async |server| retry::cancel(server, &arguments).await),
        Remote::Retry(arguments) => on_server(async |server| retry::retry(server, &arguments).await),
        Remote::Rerun(arguments) => on_server(async |server| retry::rerun(server, &arguments).await),
    }
}

/// Does the work with the server that somebody logged in to.
fn on_server(work: impl AsyncFnOnce(&Server) -> Result<Exit, Problem>) -> Result<Exit, Problem> {
    let server = Server::new(credentials::load()?)?;
    runtime()?.block_on(work(&server))
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}
