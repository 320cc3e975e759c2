//! The tests of the whole system, in one program: each one more would link everything again.

// A test's helpers fail like the test itself; clippy's own exception covers only the functions marked as tests.
#![allow(clippy::unwrap_used)]

mod account;
mod api;
mod crash;
mod flow;
mod hook;
mod queue;
mod remote;
mod up;
