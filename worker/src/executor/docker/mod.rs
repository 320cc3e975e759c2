//! Steps as containers of a Docker engine on this machine: one for each attempt, named by it.
//!
//! A container's first process is the runner, and all that it and executors know of each other is in files, as with the
//! local executor: the attempt's folder and its marker are mounted into the container, and nothing else of the machine.
//! A container that comes late, or is started again, finds the marker and runs nothing. The log is followed from its
//! file, and as long as the runner holds its lock nobody has to ask the engine for anything. The engine tells what the
//! files do not: why a container ended without a report, and that nothing in it can change any more.
//!
//! The workspace and the home are volumes without names, which go with the container.

mod container;
mod credentials;
mod engine;
mod place;
mod pull;
mod settings;
mod start;
mod sweep;
mod wait;

use std::{path::PathBuf, sync::Arc, time::Duration};

use futures::{
    FutureExt,
    future::BoxFuture,
    stream::{BoxStream, StreamExt},
};

pub use settings::{Pull, Settings};

use super::{End, Error, Executor, Handle, Launch, LogStream, Notice, State, Swept, local};
use engine::{Container, Engine};
use local::{Watcher, blocking, is_locked, read_report};
use place::Place;
use pull::{Pulls, Said};

/// Runs attempts as containers of one engine. Clones are the same executor.
#[derive(Clone, Debug)]
pub struct DockerExecutor {
    inner: Inner,
}

#[derive(Clone, Debug)]
struct Inner {
    engine: Engine,
    place: Place,
    settings: Arc<Settings>,
    durable: bool,
    watcher: Option<Arc<Watcher>>,
    pulls: Pulls,
}

impl DockerExecutor {
    /// Keeps attempts below `root`, an absolute path, made if missing, and runs them as `settings` say. Other executors
    /// of the same engine need other folders. The engine may be away.
    pub fn new(root: PathBuf, settings: Settings) -> Self {
        let engine = Engine::new(settings.address());
        let place = Place::new(root);
        let settings = Arc::new(settings);
        let inner =
            Inner { engine, place, settings, durable: true, watcher: Watcher::start(), pulls: Pulls::default() };
        Self { inner }
    }

    /// For attempts that nobody asks for after a power cut: saves a flush of the disk per attempt.
    #[must_use]
    pub fn ephemeral(self) -> Self {
        Self { inner: Inner { durable: false, ..self.inner } }
    }
}

/// Makes sure that the engine answers.
///
/// # Errors
/// [`Error::Away`] when it does not.
pub async fn ping(settings: &Settings) -> Result<(), Error> {
    Engine::new(settings.address()).client().await.map(drop)
}

impl Inner {
    async fn state(&self, handle: &Handle) -> Result<State, Error> {
        let folder = self.place.folder(handle)?;
        if let Some(report) = read_report(&folder, handle)? {
            return Ok(State::Ended(report));
        }
        // The lock before the marker: a runner that begins in between is seen as running.
        let locked = is_locked(&folder)?;
        let begun = self.place.has_begun(handle)?;
        let alive = if begun { State::Running } else { State::Starting };
        if locked {
            return Ok(alive);
        }
        if !begun && self.pulls.get(handle).is_some() {
            return Ok(State::Starting);
        }
        let container = self.engine.container(handle.attempt_id()).await?;
        if container == Container::Running {
            return Ok(alive);
        }
        // What was written just before the container ended.
        if let Some(report) = read_report(&folder, handle)? {
            return Ok(State::Ended(report));
        }
        if let Container::Exited { code, oom, error } = container {
            return Ok(match self.without_report(handle, code, oom, &error).await {
                End::Failed { reason, .. } | End::Lost { reason } => State::Lost { reason },
                End::Reported(report) => State::Ended(report),
            });
        }
        if self.place.has_begun(handle)? {
            let gone = State::Lost { reason: "its container is gone: it was removed by somebody else".into() };
            return Ok(if folder.path().exists() { gone } else { State::Absent { begun: true } });
        }
        Ok(State::Absent { begun: false })
    }

    async fn stop(&self, handle: &Handle, grace: Duration) -> Result<(), Error> {
        let folder = self.place.folder(handle)?;
        // Each turn but the last loses a race against somebody's start or clean.
        loop {
            let pulls = self.pulls.get(handle).is_some();
            match self.state(handle).await? {
                State::Ended(_) | State::Lost { .. } | State::Absent { begun: true } => return Ok(()),
                State::Starting | State::Running if !pulls => {
                    let text = grace.as_millis().to_string();
                    let asked = local::if_there(folder.write_whole(&folder.stop(), text.as_bytes()));
                    if local::Tried::tried(asked, || "the stop cannot be asked for".to_owned())?.is_some() {
                        return Ok(());
                    }
                }
                State::Absent { begun: false } | State::Starting | State::Running => {
                    let unbegun = self.forbid(handle).await?;
                    self.pulls.end(handle);
                    if unbegun {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Sees to it that nobody begins the attempt any more; false when somebody has.
    async fn forbid(&self, handle: &Handle) -> Result<bool, Error> {
        let (place, handle, durable) = (self.place.clone(), handle.clone(), self.durable);
        blocking(move || place.forbid(&handle, durable)).await
    }

    async fn confirm_ended(&self, handle: &Handle) -> Result<(), Error> {
        let folder = self.place.folder(handle)?;
        self.forbid(handle).await?;
        match self.engine.container(handle.attempt_id()).await? {
            Container::Running => Err(Error::StillRunning),
            _ if is_locked(&folder)? => Err(Error::StillRunning),
            _ => Ok(()),
        }
    }

    fn follow(&self, handle: Handle, from: u64) -> LogStream {
        let folder = match self.place.folder(&handle) {
            Ok(folder) => folder,
            Err(error) => return futures::stream::iter([Err(error)]).boxed(),
        };
        let inner = self.clone();
        let state = move || {
            let (inner, handle) = (inner.clone(), handle.clone());
            async move { inner.state(&handle).await }.boxed()
        };
        local::follow(folder, self.watcher.clone(), from, Box::new(state))
    }
}

impl Executor for DockerExecutor {
    fn start<'a>(&'a self, launch: &'a Launch) -> BoxFuture<'a, Result<Handle, Error>> {
        Box::pin(self.inner.start(launch))
    }

    fn state<'a>(&'a self, handle: &'a Handle) -> BoxFuture<'a, Result<State, Error>> {
        Box::pin(self.inner.state(handle))
    }

    fn follow(&self, handle: &Handle, from: u64) -> LogStream {
        self.inner.follow(handle.clone(), from)
    }

    fn notices(&self, handle: &Handle) -> BoxStream<'static, Notice> {
        wait::notices(self.inner.clone(), handle.clone())
    }

    fn wait<'a>(&'a self, handle: &'a Handle) -> BoxFuture<'a, Result<End, Error>> {
        Box::pin(self.inner.wait(handle))
    }

    fn stop<'a>(&'a self, handle: &'a Handle, grace: Duration) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(self.inner.stop(handle, grace))
    }

    fn confirm_ended<'a>(&'a self, handle: &'a Handle) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(self.inner.confirm_ended(handle))
    }

    fn clean<'a>(&'a self, handle: &'a Handle) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(self.inner.clean(handle))
    }

    fn sweep<'a>(
        &'a self,
        keep: &'a (dyn Fn(&str) -> bool + Send + Sync),
        older_than: Duration,
    ) -> BoxFuture<'a, Result<Swept, Error>> {
        Box::pin(self.inner.sweep(keep, older_than))
    }

    fn files(&self, handle: &Handle) -> Option<PathBuf> {
        Some(self.inner.place.attempt(handle.attempt_id()).path().to_owned())
    }
}
