//! `buildit`: the one program to install.

fn main() {}
