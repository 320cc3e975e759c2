//! Steps as containers of a real Docker engine.

// The executors' contract, which the worker's own tests check against those that need no server.
#[path = "../../../../worker/tests/executor/conformance.rs"]
mod conformance;
mod contract;
mod engine;
