//! A PostgreSQL server of our own, for a machine that has none.
//!
//! What it promises:
//! - Nothing needs to be installed: the server's programs are fetched once into the cache folder.
//! - What a client was told is committed is on disk: `fsync` and `synchronous_commit` stay on.
//! - It listens on 127.0.0.1 only, behind a random password in a file that its owner alone can read.
//! - A server whose starter was killed goes on, and the next start adopts it. It is recognised by the
//!   folder it works in, never by its process id alone.
//! - It starts as root too: PostgreSQL refuses that, so the server gets a user id of its own, and the
//!   data folder may lie below folders that are closed to that user.

mod account;
mod binaries;
mod cluster;
mod files;
mod process;
mod server;
mod watchdog;

pub use binaries::VERSION;
pub use server::{Lifetime, Postgres};

/// Receives one line about what takes long, to be shown to whoever waits.
pub type Tell<'a> = &'a (dyn Fn(&str) + Sync);
