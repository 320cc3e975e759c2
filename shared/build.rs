//! The migrations are embedded in this crate: a changed or new one must build it anew.

fn main() {
    println!("cargo:rerun-if-changed=../migrations");
}
