//! `buildit-api`.
