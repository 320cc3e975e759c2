//! The queue, the fleet and the advance of runs against a real database.

mod claims;
mod deaths;
mod fleet;
mod graph;
mod groups;
mod model;
mod retries;
mod wake;
