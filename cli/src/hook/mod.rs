//! `buildit hook`: pushes become deliveries, and none is lost.
//!
//! A push is written to the spool beside the repository before anything is sent, under an id that is
//! made once; the server answers a repeated delivery with the run that the first one made. So the
//! push may end at any moment, the server may be away, and two deliverers may meet.

mod deliver;
mod install;
mod key;
mod post_receive;
mod pre_receive;
mod repository;
mod spool;
mod transport;
mod update;

use std::path::Path;

use crate::arguments::Hook;
use crate::exit::{Exit, Problem};

pub(crate) fn run(command: Hook) -> Result<Exit, Problem> {
    match command {
        Hook::Install(arguments) => install::run(arguments),
        Hook::PostReceive => Ok(post_receive::run()),
        Hook::PreReceive => Ok(pre_receive::run()),
        Hook::Deliver(arguments) => deliver::run(&arguments),
    }
}

/// Whether pushes to the bare repository at `path` wait to be announced.
pub(crate) fn keeps_pushes(path: &Path) -> std::io::Result<bool> {
    let spool = repository::Repository::bare(path).spool();
    if !spool.is_dir() {
        return Ok(false);
    }
    Ok(!spool::Spool::open(spool)?.is_empty()?)
}

/// Says a line to the person who pushes; git shows it behind `remote:`.
fn say(text: &str) {
    eprintln!("BuildIt: {}", printable(text));
}

/// Answers and names come from elsewhere and must not command the pusher's terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}
