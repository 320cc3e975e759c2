//! What becomes of output.

use std::fs;

use buildit_runner::Outcome;
use sha2::{Digest, Sha256};

use crate::attempt::Attempt;

#[test]
fn output_and_errors_are_interleaved_as_they_were_written() {
    let left = Attempt::of(&["for i in 1 2 3; do echo out $i; echo err $i >&2; done"]).run();
    assert!(left.log.ends_with("\nout 1\nerr 1\nout 2\nerr 2\nout 3\nerr 3\n"));
}

#[test]
fn the_report_fits_the_log() {
    let left = Attempt::of(&["seq 1 20000", "printf end"]).run();
    assert_eq!(left.report.log_len, left.log.len() as u64);
    assert_eq!(left.report.log_sha256, hex::encode(Sha256::digest(left.log.as_bytes())));
    assert!(left.log.ends_with("\n20000\n$ printf end\nend"));
}

#[test]
fn the_report_tells_when_each_command_began_and_the_last_ended() {
    let left = Attempt::of(&["seq 1 2000", "sleep 0.3", "echo end; sleep 0.2"]).run();
    let times = &left.report.log_times;
    assert!(times.is_sorted_by_key(|(byte, _)| *byte) && times.is_sorted_by_key(|(_, ms)| *ms), "{times:?}");
    let at = |line: &str| {
        let byte = left.log.find(line).unwrap() as u64;
        times.iter().rev().find(|(from, _)| *from <= byte).unwrap().1
    };
    let (slept, echoed, ended) = (at("$ sleep 0.3"), at("$ echo end"), times.last().unwrap());
    assert!(echoed - slept >= 280 && ended.1 - echoed >= 180, "{times:?}");
    assert_eq!(ended.0, left.report.log_len);
    assert!(ended.1 <= left.report.ended_at_ms - left.report.started_at_ms, "{times:?}");
}

#[test]
fn a_part_of_a_line_is_shown_at_once() {
    let attempt = Attempt::of(&["printf 'Password: '; while [ ! -e go ]; do sleep 0.01; done"]);
    let mut runner = attempt.start();
    attempt.wait_for_log("\nPassword: ");
    fs::write(attempt.workspace("go"), "").unwrap();
    runner.wait().unwrap();
}

#[test]
fn secrets_are_hidden_also_in_pieces_and_in_base64() {
    let attempt = Attempt::of(&[
        "printf s3cr; sleep 0.02; printf etpass; echo",
        "echo \"$TOKEN\"",
        "printf '%s' \"user:$TOKEN\" | base64",
        "echo s3cretpass in the command",
        "printf s3cr",
    ])
    .with(|spec| {
        spec.secrets = vec!["s3cretpass".into()];
        spec.environment.insert("TOKEN".into(), "s3cretpass".into());
    });
    let left = attempt.run();
    assert!(left.log.contains("\n***\n$ echo \"$TOKEN\"\n***\n"), "{}", left.log);
    assert!(left.log.contains("$ echo *** in the command\n*** in the command\n"), "{}", left.log);
    assert!(!left.log.contains("s3cretpass"));
    assert!(left.log.ends_with("\ns3cr"));
    use base64::Engine;
    let encoded = base64::engine::general_purpose::STANDARD.encode("s3cretpass");
    assert!(!left.log.contains(&encoded[4..12]), "{}", left.log);
}

#[test]
fn a_secret_too_short_to_hide_keeps_the_step_from_running() {
    let left = Attempt::of(&["echo no"]).with(|spec| spec.secrets = vec!["abc".into()]).run();
    let Outcome::SetupFailed { message } = left.report.outcome else { panic!("{:?}", left.report) };
    assert!(message.contains("fewer than 4 bytes"), "{message}");
    assert_eq!(left.log, "");
}

#[test]
fn beyond_the_limit_output_is_dropped_and_the_step_goes_on() {
    let attempt = Attempt::of(&["seq 1 1000000", "touch reached"]).with(|spec| spec.log_limit_bytes = 1000);
    let left = attempt.run();
    assert!(left.report.outcome.is_success() && left.report.log_truncated);
    assert!(attempt.workspace("reached").exists());
    let (kept, marker) = left.log.split_at(1000);
    assert!(kept.starts_with("$ seq 1 1000000\n1\n2\n"));
    assert_eq!(marker, "\n[buildit] The log has reached its limit of 1000 bytes; the rest is dropped.\n");
    assert_eq!(left.report.log_len, left.log.len() as u64);
    assert_eq!(left.report.log_sha256, hex::encode(Sha256::digest(left.log.as_bytes())));
    assert!(left.report.notes[0].starts_with("The log is longer than its limit of 1000 bytes; the last "));
}

#[test]
fn a_log_just_as_long_as_its_limit_is_whole() {
    let whole = "$ printf abc\nabc";
    let run = |limit| Attempt::of(&["printf abc"]).with(|spec| spec.log_limit_bytes = limit).run();
    let left = run(whole.len() as u64);
    assert_eq!((left.log.as_str(), left.report.log_truncated), (whole, false));
    assert!(run(whole.len() as u64 - 1).report.log_truncated);
}
