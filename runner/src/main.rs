//! `buildit-runner`: the program inside a step.

fn main() {}
