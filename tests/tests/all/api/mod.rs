//! The HTTP API against a real database.

mod artifacts;
mod attempts;
mod audit;
mod audited;
mod basics;
mod borders;
mod fleet;
mod grants;
mod keys;
mod logs;
mod members;
mod oidc;
mod openapi;
mod projects;
mod reports;
mod runs;
mod secrets;
mod sessions;
mod uploads;
