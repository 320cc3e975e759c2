//! Workers die, and nobody notices: every run ends as if nothing had happened, each step's commands ran once, and no byte of
//! a log is lost or doubled.

mod at_random;
mod matrix;
mod paused;
mod scenario;
