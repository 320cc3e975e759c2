//! The log on standard output.

use std::io::Read;
use std::time::{Duration, Instant};

use buildit_runner::pod::{Frame, FrameReader};
use sha2::{Digest, Sha256};

use super::place::Pod;
use crate::attempt::until;

#[test]
fn progress_and_long_lines_come_at_once_and_whole() {
    let pod = Pod::of(&[
        "head -c 100000 /dev/zero | tr '\\0' x",
        "printf ' 10%%'; while [ ! -e go ]; do sleep 0.01; done; printf '\\r100%%\\n\\n'",
    ]);
    let running = pod.start();
    running.wait_for_log("\n 10%");
    std::fs::write(pod.workspace("go"), "").unwrap();
    let left = running.end();
    assert!(left.printed.ends_with("\r100%\n\n"));
    assert_eq!(pod.known().objects["log"], left.printed.as_bytes());
}

#[test]
fn secrets_are_hidden_in_what_is_printed_too() {
    let pod = Pod::of(&["printf s3cr; sleep 0.02; echo etpass"]).with(|attempt| {
        attempt.secrets = vec!["s3cretpass".into()];
    });
    let left = pod.run();
    assert!(left.printed.ends_with("\n***\n"), "{}", left.printed);
}

/// The most memory a process has had, in bytes.
fn peak(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse().ok());
    peak.map_or(0, |kilobytes: u64| kilobytes * 1024)
}

#[test]
fn a_hundred_megabytes_arrive_once_in_order_and_in_little_memory() {
    let pod = Pod::of(&["seq 1 12700000", "echo end"]);
    let (mut runner, began) = (pod.start_unread(), Instant::now());
    let mut out = runner.stdout.take().unwrap();
    let (mut reader, mut buffer) = (FrameReader::new(), vec![0; 64 * 1024]);
    let (mut hash, mut at, mut report, mut memory) = (Sha256::new(), 0, None, 0);
    while let Ok(count @ 1..) = out.read(&mut buffer) {
        for frame in reader.feed(&buffer[..count]) {
            match frame {
                Frame::Log { offset, bytes } => {
                    assert_eq!(offset, at);
                    at += bytes.len() as u64;
                    hash.update(&bytes);
                    if at >> 22 != offset >> 22 {
                        memory = peak(runner.id()).max(memory);
                    }
                }
                Frame::End(last) => report = Some(last),
            }
        }
    }
    assert!(runner.wait().unwrap().success());
    let report = report.unwrap();
    assert!(at > 100_000_000);
    assert_eq!((report.log_len, report.log_sha256), (at, hex::encode(hash.finalize())));
    assert_eq!(pod.known().objects["log"].len() as u64, at);
    println!("{} MB in {:?} with {} MB of memory", at / 1_000_000, began.elapsed(), memory / 1_000_000);
    assert!(memory < 40_000_000, "{memory}");
}

#[test]
fn a_slow_reader_holds_the_step_up_and_a_stop_still_works() {
    let fill = "x=$(head -c 1000 /dev/zero | tr '\\0' x); while :; do echo $x; echo . >>written; done";
    let pod = Pod::of(&[fill]).with(|attempt| attempt.grace_ms = 100);
    let mut runner = pod.start_unread();
    let written = || std::fs::metadata(pod.workspace("written")).map_or(0, |file| file.len());
    // Nobody reads: the step comes to a standstill.
    until(|| written() > 100);
    let mut last = (0, Instant::now());
    until(|| {
        if written() != last.0 {
            last = (written(), Instant::now());
        }
        last.1.elapsed() > Duration::from_secs(1)
    });
    let pid = rustix::process::Pid::from_child(&runner);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    until(|| pod.known().report.is_some());
    // What waited is all there once somebody reads.
    let mut all = Vec::new();
    runner.stdout.take().unwrap().read_to_end(&mut all).unwrap();
    runner.wait().unwrap();
    let mut log = Vec::new();
    for frame in FrameReader::new().feed(&all) {
        if let Frame::Log { offset, bytes } = frame {
            assert_eq!(offset, log.len() as u64);
            log.extend(bytes);
        }
    }
    assert_eq!(pod.known().objects["log"], log);
}

#[test]
fn a_reader_that_went_away_harms_nothing() {
    let pod = Pod::of(&["while [ ! -e go ]; do sleep 0.01; done; seq 1 100000"]);
    let mut runner = pod.start_unread();
    until(|| pod.workspace("").exists());
    drop(runner.stdout.take());
    std::fs::write(pod.workspace("go"), "").unwrap();
    assert!(runner.wait().unwrap().success());
    assert!(pod.known().objects["log"].ends_with(b"\n100000\n"));
}
