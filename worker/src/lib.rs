//! Claims jobs and does the work.
//!
//! `heartbeat` keeps this process in the fleet and rescues others' jobs, `health` says how it is, `claimer` claims for free slots, `backend`
//! hands claims to apalis, `drive` runs a handler and settles what it returns, `registry` lists the handlers, one file
//! each under `jobs`. Only `executor` acts on the outside.

mod backend;
mod claimer;
mod clock;
#[doc(hidden)]
pub mod crash;
mod drive;
mod egress;
pub mod executor;
mod git;
mod health;
mod heartbeat;
mod housekeeping;
pub mod jobs;
mod leftovers;
mod mirrors;
pub mod registry;
mod run;

pub use clock::keep_time;
pub use egress::{Egress, Network, Refused};
pub use git::{Recent, Repositories};
pub use health::{Health, serve_health};
pub use housekeeping::{Keep, keep_house};
pub use leftovers::{SweepError, sweep_objects, sweep_uploads};
pub use mirrors::sweep as sweep_mirrors;
pub use registry::{Handler, Registry};
pub use run::{Error, Options, run, run_watched};
