//! Steps as containers of a real Docker engine.

// The executors' contract, which the worker's own tests check against those that need no server.
mod commands;
#[path = "../../../../worker/tests/executor/conformance.rs"]
mod conformance;
mod contract;
mod crashes;
mod engine;
mod fleet;
mod proxy;
mod runs;
