//! The runner as a pod's, with an API and a storage that fail as they are told.

mod begin;
mod fetch;
mod log;
mod place;
mod server;
mod stops;
mod upload;
