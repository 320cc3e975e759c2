//! `buildit-shared`.
