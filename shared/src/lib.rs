//! What the API and the workers agree on: ids, states, jobs, the database, storage and configuration.

pub mod attempt_token;
pub mod csrf;
pub mod db;
pub mod domain;
pub mod handshake;
pub mod ids;
pub mod jobs;
pub mod link_token;
pub mod password;
pub mod permission;
pub mod pipeline;
pub mod queue;
mod secret;
pub mod storage;
pub mod token;
pub mod vault;
pub mod webhook;
