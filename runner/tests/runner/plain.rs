//! Commands where there is no shell.

use buildit_runner::Outcome;
use rustix::process::{Pid, Signal, kill_process};

use crate::attempt::{Attempt, Left, is_alive, until};

/// Starts the runner where `/bin/sh` is nothing that can be run, in a mount namespace of its own.
const WITHOUT_SHELL: [&str; 8] = [
    "unshare",
    "--map-root-user",
    "--mount",
    "sh",
    "-c",
    "mount --bind /dev/null \"$(readlink -f /bin/sh)\" && exec \"$@\"",
    "sh",
    env!("CARGO_BIN_EXE_buildit-runner"),
];

fn run(attempt: &Attempt) -> Left {
    assert!(attempt.start_by(&WITHOUT_SHELL).wait().unwrap().success());
    attempt.left()
}

#[test]
fn programs_run_in_order_and_are_echoed() {
    let attempt = Attempt::of(&["printf '%s|' \"$WHO\" ${WHO} \"a b\"", "# nothing to do", "/bin/pwd", "tee made"]);
    let left = run(&attempt.with(|spec| drop(spec.environment.insert("WHO".into(), "x y".into()))));
    let workspace = attempt_workspace(&left);
    assert_eq!(left.report.outcome, Outcome::Exited { code: 0 }, "{}", left.log);
    let expected = format!(
        "$ printf '%s|' \"$WHO\" ${{WHO}} \"a b\"\nx y|x|y|a b|$ # nothing to do\n$ /bin/pwd\n{workspace}\n$ tee made\n"
    );
    assert_eq!(left.log, expected);
}

fn attempt_workspace(left: &Left) -> &str {
    left.log.lines().find(|line| line.ends_with("/workspace")).unwrap_or_default()
}

#[test]
fn the_first_that_fails_is_the_last() {
    for (command, code) in [
        ("ls /nowhere-at-all", 2),
        ("no-such-program", 127),
        ("/etc/passwd", 126),
        ("timeout --signal=KILL 0.01 sleep 9", 137),
    ] {
        let left = run(&Attempt::of(&["true", command, "touch after"]));
        assert_eq!(left.report.outcome, Outcome::Exited { code }, "{}", left.log);
        assert_eq!(left.report.failed_command, Some(1));
        assert!(!left.log.contains("touch"), "{}", left.log);
    }
}

#[test]
fn what_takes_a_shell_keeps_all_from_running_and_shows_no_secret() {
    let attempt = Attempt::of(&["touch ran", "login --key s3cretpass | cat"]).with(|spec| {
        spec.secrets = vec!["s3cretpass".into()];
    });
    let left = run(&attempt);
    let message = "Command 2 (`login --key *** | cat`) needs a shell for the pipe `|`, and the image has no /bin/sh. \
                   Use an image with a shell, or make it one program with its arguments.";
    assert_eq!(left.report.outcome, Outcome::SetupFailed { message: message.to_owned() });
    assert!(!attempt.workspace("ran").exists());
    assert_eq!(left.log, "");
}

#[test]
fn a_timeout_and_a_stop_end_them() {
    let timed_out = run(&Attempt::of(&["sleep 600"]).with(|spec| spec.timeout_ms = 100));
    assert_eq!(timed_out.report.outcome, Outcome::TimedOut);

    let attempt = Attempt::of(&["tail --pid=1 -f /dev/null"]);
    let mut runner = attempt.start_by(&WITHOUT_SHELL);
    attempt.wait_for_log("$ tail");
    kill_process(Pid::from_child(&runner), Signal::TERM).unwrap();
    assert!(runner.wait().unwrap().success());
    assert_eq!(attempt.left().report.outcome, Outcome::Stopped);
}

#[test]
fn commands_die_with_their_runner() {
    let attempt = Attempt::of(&["tail -f /dev/null"]);
    let mut runner = attempt.start_by(&WITHOUT_SHELL);
    attempt.wait_for_log("$ tail");
    let children = format!("/proc/{0}/task/{0}/children", runner.id());
    let in_between = std::fs::read_to_string(children).unwrap();
    kill_process(Pid::from_child(&runner), Signal::KILL).unwrap();
    runner.wait().unwrap();
    until(|| !is_alive(&in_between));
}
