//! The program, run as a process on real folders.

#![allow(clippy::unwrap_used)]

mod attempt;
mod ends;
mod files;
mod logs;
mod packing;
mod plain;
mod pod;
mod shell;
mod unpacking;
