//! The state machines of a run and a step: pure, no I/O.
//!
//! The database stores these states; only the transitions here lead from one to the next.

mod again;
mod run;
mod step;

pub use again::{EndedStep, NotAgain, from_step, unsuccessful};
pub use run::{RunStatus, RunTrigger, outcome};
pub use step::{AttemptStatus, StepStatus};
