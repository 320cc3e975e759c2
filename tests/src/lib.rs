//! What the tests of the whole system share.

pub mod api;
pub mod database;
pub mod installation;
