//! The processes below the runner.
//!
//! The runner is a subreaper: whatever loses its parent becomes the runner's child, so that no
//! process of the step gets out of its tree, and when the runner has no children left, nothing of
//! the step is left.

use std::collections::HashMap;
use std::fs;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// Makes the calling process the parent of orphans below it.
pub(crate) fn adopt_orphans() -> rustix::io::Result<()> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
}

/// Sends `signal` to everything below this process and returns how many processes got it. A
/// process that is forked meanwhile may be missed; call again until none is left.
pub(crate) fn signal_all(signal: Signal) -> usize {
    let parents = parents();
    let own = rustix::process::getpid();
    let mut signalled = 0;
    for (&pid, &parent) in &parents {
        if !is_below(pid, own, &parents) {
            continue;
        }
        // The descriptor pins the process; only then is it certain that the number still means
        // the one that was found.
        let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else {
            continue;
        };
        let still_there = parent_of(pid).is_some_and(|now| now == parent || now == own);
        if still_there && pidfd_send_signal(&process, signal).is_ok() {
            signalled += 1;
        }
    }
    signalled
}

fn is_below(pid: Pid, ancestor: Pid, parents: &HashMap<Pid, Pid>) -> bool {
    let mut at = pid;
    // A pid that was used anew meanwhile could close a circle.
    for _ in 0..parents.len() {
        match parents.get(&at) {
            Some(&parent) if parent == ancestor => return true,
            Some(&parent) => at = parent,
            None => return false,
        }
    }
    false
}

fn parents() -> HashMap<Pid, Pid> {
    let Ok(processes) = fs::read_dir("/proc") else {
        return HashMap::new();
    };
    processes
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(Pid::from_raw)
        .filter_map(|pid| Some((pid, parent_of(pid)?)))
        .collect()
}

fn parent_of(pid: Pid) -> Option<Pid> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; what follows it is "state parent …".
    let after_name = stat.iter().rposition(|&byte| byte == b')')? + 1;
    let rest = std::str::from_utf8(&stat[after_name..]).ok()?;
    Pid::from_raw(rest.split_whitespace().nth(1)?.parse().ok()?)
}
