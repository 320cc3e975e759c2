//! SIGTERM, whenever it comes.

use std::time::{Duration, Instant};

use buildit_runner::Outcome;
use rustix::process::Signal;

use super::place::{Pod, archive};
use super::server::Fault::{Hang, Status};
use crate::attempt::until;

#[test]
fn before_its_turn_it_leaves_at_once() {
    let pod = Pod::of(&["touch ran"]);
    pod.server.fail("/begin", &[Hang]);
    let running = pod.start();
    until(|| pod.server.seen("/begin") == 1);
    let began = Instant::now();
    running.signal(Signal::TERM);
    let left = running.end();
    assert_eq!((left.exit, left.told), (Some(4), None));
    assert!(began.elapsed() < Duration::from_secs(2));
    assert!(!pod.workspace("ran").exists());
}

#[test]
fn while_it_fetches_it_breaks_off_and_reports() {
    let pod = Pod::of(&["touch ran"]).with_archives(vec![archive(&[("a", "a")])]);
    pod.server.fail("/archive-0", &[Hang]);
    let running = pod.start();
    until(|| pod.server.seen("/archive-0") == 1);
    running.signal(Signal::TERM);
    let left = running.end();
    assert_eq!(left.told.unwrap().outcome, Outcome::Stopped, "{}", left.errors);
    assert_eq!(pod.known().report.as_ref().unwrap().outcome, Outcome::Stopped);
    assert!(!pod.workspace("ran").exists());
}

#[test]
fn while_it_tries_to_fetch_too() {
    let pod = Pod::of(&["touch ran"]).with_archives(vec![archive(&[("a", "a")])]);
    pod.server.fail("/archive-0", &[Status(503); 1000]);
    let running = pod.start();
    until(|| pod.server.seen("/archive-0") == 3);
    running.signal(Signal::TERM);
    assert_eq!(running.end().told.unwrap().outcome, Outcome::Stopped);
}

#[test]
fn the_commands_are_let_go_and_the_log_is_kept() {
    let command = "sh -c 'trap \"echo bye; exit\" TERM; echo up; while :; do sleep 0.01; done'";
    let pod = Pod::of(&[command]);
    let running = pod.start();
    running.wait_for_log("\nup");
    running.signal(Signal::TERM);
    let left = running.end();
    assert_eq!((left.exit, left.told.unwrap().outcome), (Some(1), Outcome::Stopped));
    assert!(left.printed.ends_with("bye\n"), "{}", left.printed);
    assert_eq!(pod.known().objects["log"], left.printed.as_bytes());
    assert_eq!(pod.known().report.as_ref().unwrap().outcome, Outcome::Stopped);
}

#[test]
fn the_deaf_are_killed_after_the_grace() {
    let pod = Pod::of(&["trap '' TERM; echo up; while :; do sleep 1; done"]).with(|attempt| attempt.grace_ms = 100);
    let running = pod.start();
    running.wait_for_log("\nup");
    let began = Instant::now();
    running.signal(Signal::TERM);
    assert_eq!(running.end().told.unwrap().outcome, Outcome::Stopped);
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_stop_after_the_commands_changes_nothing() {
    let pod = Pod::of(&["echo x"]);
    pod.server.fail("objects/log", &[Status(503); 4]);
    let running = pod.start();
    until(|| pod.server.seen("objects/log") == 1);
    running.signal(Signal::TERM);
    let left = running.end();
    assert_eq!((left.exit, left.told.unwrap().outcome), (Some(0), Outcome::Exited { code: 0 }));
    assert_eq!(pod.known().objects["log"], left.printed.as_bytes());
}
