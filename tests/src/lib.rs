//! `buildit-tests`.
