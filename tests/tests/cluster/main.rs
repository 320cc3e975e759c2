//! Tests against the real servers of `./dev cluster up`; `./dev cluster env` names them.

// A test's helpers fail like the test itself; clippy's own exception covers only the functions marked as tests.
#![allow(clippy::unwrap_used)]

mod chart;
// The executors' contract, which the worker's own tests check against those that need no server.
#[path = "../../../worker/tests/executor/conformance.rs"]
mod conformance;
mod docker;
mod gitea;
mod gitea_sign_in;
mod installed;
mod kubernetes;
mod storage;
