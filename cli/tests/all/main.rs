//! The command line as people and git use it: real processes, real repositories.

#![allow(clippy::unwrap_used)]

mod config;
mod hook;
mod run;
mod server;
mod support;
mod validate;
