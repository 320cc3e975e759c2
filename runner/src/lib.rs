//! The contract between a step's runner and whoever starts it.
//!
//! A step's attempt is one life of the program `buildit-runner`. Its starter writes an
//! [`AttemptSpec`] into the attempt's folder and starts the program; the program runs the commands
//! and leaves a masked log, what the step staged, and a [`Report`] as its last word. [`Layout`]
//! names each file of that folder and says who writes it when. Nothing else passes between the
//! two, so that either may die and the other goes on.

pub mod attempt;
mod commands;
pub mod contained;
mod descendants;
pub mod layout;
mod log;
pub mod mask;
mod memory;
mod net;
pub mod pack;
pub mod pod;
mod prepare;
pub mod report;
pub mod spec;
mod stage;
mod times;
pub mod unpack;
mod watch;

pub use layout::Layout;
pub use report::{Outcome, Report, Staged, StagedArtifact};
pub use spec::{ArtifactSpec, AttemptSpec, StepUser};
