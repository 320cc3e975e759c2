//! An executor without processes, for tests of what drives executors.
//!
//! It keeps the contract in memory. Its commands are its script: `echo TEXT`, `true`, `false`,
//! `exit CODE`, `sleep SECONDS`, `hold NAME` (until [`FakeExecutor::release`]) and `lose` (the
//! runner dies without a word), several separated by `; `. Anything else fails like a command that
//! is not found. Nothing is staged.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use buildit_runner::{AttemptSpec, Outcome, Report};
use futures::future::BoxFuture;
use futures::{StreamExt, stream};
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio_util::bytes::Bytes;

use super::{End, Error, Executor, Handle, Launch, LogChunk, LogStream, MAX_CHUNK, State, Swept};

/// Clones are the same executor, as seen by another process.
#[derive(Debug, Clone, Default)]
pub struct FakeExecutor {
    world: Arc<World>,
}

#[derive(Debug, Default)]
struct World {
    known: Mutex<Known>,
    released: watch::Sender<HashSet<String>>,
}

#[derive(Debug, Default)]
struct Known {
    begun: HashSet<String>,
    here: HashMap<String, watch::Sender<Attempt>>,
    commands_run: usize,
}

/// What is known of an attempt that is here.
#[derive(Debug, Default)]
struct Attempt {
    log: Vec<u8>,
    stop: bool,
    end: Option<End>,
}

/// How one command ended.
enum Ran {
    Code(i32),
    Lost,
}

impl FakeExecutor {
    /// Lets pass each `hold NAME`, those to come as well.
    pub fn release(&self, name: &str) {
        self.world.released.send_modify(|released| {
            released.insert(name.to_owned());
        });
    }

    /// How many commands have been begun, in all attempts.
    pub fn commands_run(&self) -> usize {
        self.known().commands_run
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.world.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, spec: &AttemptSpec) -> Handle {
        let mut known = self.known();
        if known.begun.insert(spec.attempt_id.clone()) {
            let attempt = watch::Sender::new(Attempt::default());
            known.here.insert(spec.attempt_id.clone(), attempt.clone());
            tokio::spawn(self.clone().carry_out(spec.clone(), attempt));
        }
        Handle::new(&spec.attempt_id)
    }

    async fn carry_out(self, spec: AttemptSpec, attempt: watch::Sender<Attempt>) {
        let started_at_ms = now_ms();
        let mut command = 0;
        let mut stop = attempt.subscribe();
        let ended = tokio::select! {
            biased;
            // Both ends of the channel are here: it does not close.
            _ = stop.wait_for(|attempt| attempt.stop) => Some(Outcome::Stopped),
            () = tokio::time::sleep(Duration::from_millis(spec.timeout_ms)) => Some(Outcome::TimedOut),
            outcome = self.run_all(&spec, &attempt, &mut command) => outcome,
        };
        attempt.send_modify(|attempt| {
            let Some(outcome) = ended else {
                attempt.end = Some(End::Lost { reason: "The step's runner was killed.".to_owned() });
                return;
            };
            attempt.end = Some(End::Reported(Box::new(Report {
                attempt_id: spec.attempt_id,
                failed_command: (!outcome.is_success()).then_some(command),
                outcome,
                started_at_ms,
                first_command_at_ms: Some(started_at_ms),
                ended_at_ms: now_ms(),
                log_len: attempt.log.len() as u64,
                log_sha256: hex::encode(Sha256::digest(&attempt.log)),
                log_truncated: false,
                log_times: Vec::new(),
                oom_killed: false,
                stopped_by: None,
                outputs: None,
                artifacts: Vec::new(),
                notes: Vec::new(),
            })));
        });
    }

    /// `None` when the runner is lost.
    async fn run_all(
        &self,
        spec: &AttemptSpec,
        attempt: &watch::Sender<Attempt>,
        current: &mut usize,
    ) -> Option<Outcome> {
        for (index, command) in spec.commands.iter().enumerate() {
            *current = index;
            self.known().commands_run += 1;
            print(attempt, &format!("$ {command}\n"));
            for word in command.split("; ") {
                match self.run(word, attempt).await {
                    Ran::Code(0) => {}
                    Ran::Code(code) => return Some(Outcome::Exited { code }),
                    Ran::Lost => return None,
                }
            }
        }
        Some(Outcome::Exited { code: 0 })
    }

    async fn run(&self, command: &str, attempt: &watch::Sender<Attempt>) -> Ran {
        match command.split_once(' ').unwrap_or((command, "")) {
            ("true", "") => {}
            ("false", "") => return Ran::Code(1),
            ("lose", "") => return Ran::Lost,
            ("echo", text) => print(attempt, &format!("{text}\n")),
            ("exit", code) => return Ran::Code(code.parse().unwrap_or(2)),
            ("sleep", seconds) => tokio::time::sleep(Duration::from_secs_f64(seconds.parse().unwrap_or(0.0))).await,
            ("hold", name) => {
                let mut released = self.world.released.subscribe();
                // The sender lives as long as this executor.
                let _ = released.wait_for(|released| released.contains(name)).await;
            }
            (unknown, _) => {
                print(attempt, &format!("{unknown}: not found\n"));
                return Ran::Code(127);
            }
        }
        Ran::Code(0)
    }

    fn attempt(&self, handle: &Handle) -> Option<watch::Sender<Attempt>> {
        self.known().here.get(handle.attempt_id()).cloned()
    }

    fn state_now(&self, handle: &Handle) -> State {
        let known = self.known();
        let Some(attempt) = known.here.get(handle.attempt_id()) else {
            return State::Absent { begun: known.begun.contains(handle.attempt_id()) };
        };
        match &attempt.borrow().end {
            None => State::Running,
            Some(End::Reported(report)) => State::Ended(report.clone()),
            Some(End::Lost { reason } | End::Failed { reason, .. }) => State::Lost { reason: reason.clone() },
        }
    }

    fn stop_now(&self, handle: &Handle) {
        let mut known = self.known();
        known.begun.insert(handle.attempt_id().to_owned());
        if let Some(attempt) = known.here.get(handle.attempt_id()) {
            attempt.send_modify(|attempt| attempt.stop = true);
        }
    }

    fn clean_now(&self, handle: &Handle) -> Result<(), Error> {
        if self.state_now(handle) == State::Running {
            return Err(Error::StillRunning);
        }
        let mut known = self.known();
        known.begun.insert(handle.attempt_id().to_owned());
        known.here.remove(handle.attempt_id());
        Ok(())
    }

    async fn wait_for_end(&self, handle: &Handle) -> Result<End, Error> {
        let Some(attempt) = self.attempt(handle) else {
            return match self.state_now(handle) {
                State::Absent { begun: false } => Err(Error::NotStarted),
                _ => Ok(End::Lost { reason: "The attempt's folder is gone.".to_owned() }),
            };
        };
        let mut attempt = attempt.subscribe();
        match attempt.wait_for(|attempt| attempt.end.is_some()).await.map(|attempt| attempt.end.clone()) {
            Ok(Some(end)) => Ok(end),
            Ok(None) | Err(_) => Err(Error::NotStarted),
        }
    }

    /// All attempts are young here unless any age will do.
    fn sweep_now(&self, keep: &dyn Fn(&str) -> bool, older_than: Duration) -> Result<Swept, Error> {
        let mut swept = Swept::default();
        let ids: Vec<String> = self.known().here.keys().cloned().collect();
        for id in ids.into_iter().filter(|id| older_than.is_zero() && !keep(id)) {
            let handle = Handle::new(&id);
            if self.state_now(&handle) == State::Running {
                self.stop_now(&handle);
                swept.stopped.push(id);
            } else {
                self.clean_now(&handle)?;
                swept.cleaned.push(id);
            }
        }
        Ok(swept)
    }
}

impl Executor for FakeExecutor {
    fn start<'a>(&'a self, launch: &'a Launch) -> BoxFuture<'a, Result<Handle, Error>> {
        Box::pin(async { Ok(self.begin(&launch.spec)) })
    }

    fn state<'a>(&'a self, handle: &'a Handle) -> BoxFuture<'a, Result<State, Error>> {
        Box::pin(async { Ok(self.state_now(handle)) })
    }

    fn follow(&self, handle: &Handle, from: u64) -> LogStream {
        let Some(attempt) = self.attempt(handle) else { return stream::iter([Err(Error::NotStarted)]).boxed() };
        let from = usize::try_from(from).unwrap_or(usize::MAX);
        stream::unfold((attempt.subscribe(), from), |(mut attempt, at)| async move {
            let grown = |attempt: &Attempt| attempt.log.len() > at || attempt.end.is_some();
            let chunk = {
                let now = attempt.wait_for(|attempt| grown(attempt)).await.ok()?;
                let rest = now.log.get(at..).unwrap_or_default();
                Bytes::copy_from_slice(&rest[..rest.len().min(MAX_CHUNK)])
            };
            let (start, at) = (at as u64, at + chunk.len());
            (!chunk.is_empty()).then_some((Ok(LogChunk { start, bytes: chunk }), (attempt, at)))
        })
        .boxed()
    }

    fn wait<'a>(&'a self, handle: &'a Handle) -> BoxFuture<'a, Result<End, Error>> {
        Box::pin(self.wait_for_end(handle))
    }

    fn stop<'a>(&'a self, handle: &'a Handle, _grace: Duration) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async {
            self.stop_now(handle);
            Ok(())
        })
    }

    fn confirm_ended<'a>(&'a self, handle: &'a Handle) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async {
            match self.state_now(handle) {
                State::Running => Err(Error::StillRunning),
                _ => Ok(()),
            }
        })
    }

    fn clean<'a>(&'a self, handle: &'a Handle) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async { self.clean_now(handle) })
    }

    fn sweep<'a>(
        &'a self,
        keep: &'a (dyn Fn(&str) -> bool + Send + Sync),
        older_than: Duration,
    ) -> BoxFuture<'a, Result<Swept, Error>> {
        Box::pin(async move { self.sweep_now(keep, older_than) })
    }

    fn files(&self, _handle: &Handle) -> Option<PathBuf> {
        None
    }
}

fn print(attempt: &watch::Sender<Attempt>, text: &str) {
    attempt.send_modify(|attempt| attempt.log.extend_from_slice(text.as_bytes()));
}

fn now_ms() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
}
