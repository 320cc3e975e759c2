//! `buildit-worker`.
