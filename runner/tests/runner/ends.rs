//! How attempts end, and what must not outlive them.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use buildit_runner::Outcome;
use rustix::process::{Pid, Signal, kill_process};

use crate::attempt::{Attempt, is_alive, until};

fn signal(child: &std::process::Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// The pids that a step has written to a file of its workspace.
fn pids(attempt: &Attempt) -> Vec<String> {
    let pids = fs::read_to_string(attempt.workspace("pids")).unwrap();
    pids.lines().map(str::to_owned).collect()
}

/// Commands that leave processes behind: in the background, as an orphan, in another session, with
/// closed output.
const LEAVE_PROCESSES: &str = "sleep 600 & echo $! >>pids
(sleep 600 & echo $! >>pids)
setsid sh -c 'echo $$ >>pids; exec sleep 600' >/dev/null 2>&1 &
while [ $(wc -l <pids) -lt 3 ]; do sleep 0.01; done";

#[test]
fn nothing_is_left_of_a_step_that_ended() {
    let attempt = Attempt::of(&[LEAVE_PROCESSES, "echo done"]);
    let left = attempt.run();
    assert!(left.report.outcome.is_success());
    assert!(left.log.ends_with("done\n"));
    assert!(pids(&attempt).iter().all(|pid| !is_alive(pid)));
}

#[test]
fn a_timeout_counts_from_the_first_command_and_ends_all_processes() {
    let attempt = Attempt::of(&[LEAVE_PROCESSES, "trap '' TERM; echo deaf; while :; do sleep 1; done"]).with(|spec| {
        spec.timeout_ms = 700;
        spec.grace_ms = 100;
    });
    let left = attempt.run();
    assert_eq!((left.report.outcome, left.report.failed_command), (Outcome::TimedOut, Some(1)));
    let took = left.report.ended_at_ms - left.report.first_command_at_ms.unwrap();
    assert!((800..5000).contains(&took), "{took} ms");
    assert!(pids(&attempt).iter().all(|pid| !is_alive(pid)));
}

#[test]
fn a_stop_lets_processes_say_goodbye() {
    let attempt = Attempt::of(&["sh -c 'trap \"echo bye; exit\" TERM; echo up; while :; do sleep 0.01; done'"]);
    let mut runner = attempt.start();
    attempt.wait_for_log("\nup");
    attempt.folder().write_whole(&attempt.folder().stop(), b"60000").unwrap();
    assert!(runner.wait().unwrap().success());
    let left = attempt.left();
    assert_eq!(left.report.outcome, Outcome::Stopped);
    assert!(left.log.ends_with("bye\n"), "{}", left.log);
}

#[test]
fn term_to_the_runner_is_a_stop() {
    let attempt = Attempt::of(&["echo up; sleep 600"]);
    let mut runner = attempt.start();
    attempt.wait_for_log("\nup");
    signal(&runner, Signal::TERM);
    assert!(runner.wait().unwrap().success());
    assert_eq!(attempt.left().report.outcome, Outcome::Stopped);
}

#[test]
fn a_stop_that_was_there_first_lets_nothing_run() {
    let attempt = Attempt::of(&["echo no"]);
    fs::create_dir_all(attempt.folder().path()).unwrap();
    fs::write(attempt.folder().stop(), "0").unwrap();
    let left = attempt.run();
    assert_eq!((left.report.outcome, left.log.as_str()), (Outcome::Stopped, ""));
    assert_eq!(left.report.first_command_at_ms, None);
    assert!(!attempt.workspace("").exists());
}

#[test]
fn the_shell_dies_with_its_runner() {
    let attempt = Attempt::of(&["echo $$ >>pids; echo up; while :; do sleep 1; done"]);
    let mut runner = attempt.start();
    attempt.wait_for_log("\nup");
    signal(&runner, Signal::KILL);
    runner.wait().unwrap();
    until(|| !is_alive(&pids(&attempt)[0]));
    assert!(!attempt.folder().result().exists());
}

#[test]
fn an_attempt_begins_once() {
    let attempt = Attempt::of(&["echo x"]);
    attempt.run();
    fs::remove_dir_all(attempt.folder().path()).unwrap();
    assert_eq!(attempt.run_to().code(), Some(4));
    assert!(!attempt.folder().result().exists());
    assert!(!attempt.workspace("").exists());
}

#[test]
fn of_two_runners_one_gives_way() {
    let attempt = Attempt::of(&["while [ ! -e go ]; do sleep 0.01; done"]);
    let mut first = attempt.start();
    until(|| attempt.workspace("").exists());
    assert_eq!(attempt.run_to().code(), Some(3));
    fs::write(attempt.workspace("go"), "").unwrap();
    assert!(first.wait().unwrap().success());
    assert!(attempt.left().report.outcome.is_success());
}

#[test]
fn a_spec_of_another_time_is_refused_before_it_begins() {
    let attempt = Attempt::of(&["true"]).with(|spec| spec.version = 99);
    assert_eq!(attempt.run_to().code(), Some(1));
    assert!(!attempt.layout().has_begun(&attempt.spec.attempt_id).unwrap());
}

#[test]
fn no_secret_is_ever_in_a_file_of_the_attempt() {
    let attempt = Attempt::of(&["grep -rsF \"$TOKEN\" .. | wc -l; echo looked"]).with(|spec| {
        spec.environment.insert("TOKEN".into(), "hunter2-hunter2".into());
        spec.secrets = vec!["hunter2-hunter2".into()];
    });
    let left = attempt.run();
    assert!(left.log.ends_with("\n0\nlooked\n"), "{}", left.log);
}

#[test]
fn a_descriptor_that_got_out_holds_nothing_up() {
    // The process outside keeps the step's output open through /proc.
    let attempt = Attempt::of(&["echo $$ >>pids; echo up; while [ ! -e go ]; do sleep 0.01; done; echo end"]);
    let mut runner = attempt.start();
    attempt.wait_for_log("\nup");
    let output = fs::OpenOptions::new().write(true).open(format!("/proc/{}/fd/1", pids(&attempt)[0])).unwrap();
    fs::write(attempt.workspace("go"), "").unwrap();
    let began = Instant::now();
    assert!(runner.wait().unwrap().success());
    assert!(began.elapsed() < Duration::from_secs(10));
    assert!(attempt.left().log.ends_with("end\n"));
    drop(output);
}

#[test]
fn many_short_lived_orphans_leave_no_zombies() {
    let attempt = Attempt::of(&["for i in 1 2 3 4 5 6 7 8 9; do (: & (sleep 0.01 &)); done; sleep 0.2; \
         ps -o stat= --ppid $PPID | grep -c Z; true"]);
    let left = attempt.run();
    assert!(left.log.ends_with("\n0\n"), "{}", left.log);
}

#[test]
fn wrong_arguments_are_told() {
    let status = Command::new(env!("CARGO_BIN_EXE_buildit-runner")).args(["run", "/", "../x"]).status().unwrap();
    assert_eq!(status.code(), Some(2));
}
