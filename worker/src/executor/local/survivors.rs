//! Ends what a killed runner left behind.
//!
//! The kernel kills a runner's shell with it, but not what the shell had started. Those processes
//! are found by the attempt's id in their environment or, if they have cleared it, by working
//! inside of the attempt's folder without a terminal (a person who looks around there has one).

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use buildit_runner::spec::ATTEMPT_ID_VARIABLE;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::state::is_locked;
use super::{Error, Handle, LocalExecutor};

/// How long processes may take to die after KILL.
const PATIENCE: Duration = Duration::from_secs(10);

impl LocalExecutor {
    pub(super) fn confirm_ended_now(&self, handle: &Handle) -> Result<(), Error> {
        let folder = self.folder(handle)?;
        let give_up = Instant::now() + PATIENCE;
        loop {
            // The lock first: as long as it is held, processes come and go.
            if is_locked(&folder)? {
                return Err(Error::StillRunning);
            }
            let survivors = survivors(handle, folder.path());
            if survivors.is_empty() {
                return Ok(());
            }
            for (_, process) in &survivors {
                // One that has ended meanwhile is none to kill.
                let _ = pidfd_send_signal(process, Signal::KILL);
            }
            if Instant::now() >= give_up {
                let pids = survivors.iter().map(|(pid, _)| pid.as_raw_nonzero().get()).collect();
                return Err(Error::Survivors { pids });
            }
            // They are awaited by looking again; that they are dying does not show any other way.
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn survivors(handle: &Handle, folder: &Path) -> Vec<(Pid, OwnedFd)> {
    let Ok(processes) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    processes
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(Pid::from_raw)
        .filter(|pid| *pid != rustix::process::getpid())
        .filter(|pid| belongs(*pid, handle, folder))
        .filter_map(|pid| Some((pid, pidfd_open(pid, PidfdFlags::empty()).ok()?)))
        // Only now is it certain that the number still means the process that was looked at.
        .filter(|(pid, _)| belongs(*pid, handle, folder))
        .collect()
}

/// Dead processes that nobody has reaped have neither environment nor working directory.
fn belongs(pid: Pid, handle: &Handle, folder: &Path) -> bool {
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    let mark = format!("{ATTEMPT_ID_VARIABLE}={}", handle.attempt_id());
    if environment.split(|&byte| byte == 0).any(|variable| variable == mark.as_bytes()) {
        return true;
    }
    let inside = fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(folder));
    inside && has_no_terminal(pid)
}

fn has_no_terminal(pid: Pid) -> bool {
    let stat = fs::read(format!("/proc/{pid}/stat")).unwrap_or_default();
    let Some(name_end) = stat.iter().rposition(|&byte| byte == b')') else {
        return false;
    };
    // After the name: state, parent, group, session, terminal.
    let rest = String::from_utf8_lossy(&stat[name_end + 1..]);
    rest.split_whitespace().nth(4) == Some("0")
}
