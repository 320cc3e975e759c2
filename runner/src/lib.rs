//! `buildit-runner`.
