//! Steps as containers of a real Docker engine.

mod commands;
mod contract;
mod crashes;
mod engine;
mod fleet;
mod proxy;
mod runs;
