//! `buildit`.
