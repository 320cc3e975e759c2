//! A worker as a process that can be killed, frozen and waited for.

use std::{
    fs,
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::{Child, ExitStatus},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::PATIENCE;

/// A worker process; killed when dropped.
#[derive(Debug)]
pub struct Worker {
    process: Mutex<Child>,
    /// What it logs.
    pub log: PathBuf,
}

impl Worker {
    /// That process, which logs there.
    pub(super) fn new(process: Child, log: PathBuf) -> Self {
        Self { process: Mutex::new(process), log }
    }

    /// `kill -9`.
    pub fn kill(&self) {
        let mut process = self.lock();
        let _ = process.kill();
        let _ = process.wait();
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.lock());
        kill_process(pid, signal).expect("the worker is there");
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.lock().id()
    }

    /// Waits until it has ended.
    pub async fn ended(&self) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.lock().try_wait().expect("a process of ours") {
                return status;
            }
            assert!(begun.elapsed() < PATIENCE, "the worker did not end; its log: {}", self.said());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until it was killed.
    pub async fn killed(&self) {
        let status = self.ended().await;
        assert_eq!(status.signal(), Some(9), "it ended otherwise: {}", self.said());
    }

    /// Waits until it is stopped by a signal.
    pub async fn frozen(&self) {
        let stat = format!("/proc/{}/stat", self.pid());
        let begun = Instant::now();
        while !fs::read_to_string(&stat)
            .is_ok_and(|stat| stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" T")))
        {
            assert!(begun.elapsed() < PATIENCE, "the worker did not freeze; its log: {}", self.said());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// What it has logged.
    pub fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, Child> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.kill();
    }
}
