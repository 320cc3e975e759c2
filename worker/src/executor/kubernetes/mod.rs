//! Steps as pods: one for each attempt, named by it.
//!
//! The pod's first process is the runner. It wins its attempt's `begin` from BuildIt's API before anything else, so
//! that a pod which comes late, or twice, runs nothing; it stores log, outputs and artifacts itself, and reports to the
//! API. So a step's end is known without the kubelet, and what is lost with a pod is only what it had not finished.
//! What the kubelet knows is the second source: the termination message, the log's last line, the container's status.
//!
//! A pod is deleted once its end is committed, and never by force before: a forced delete proves nothing.

mod cluster;
mod logs;
mod pod;
mod runner;
mod settings;
mod start;
mod status;
mod sweep;
mod wait;
mod watch;

use std::{path::PathBuf, sync::Arc, time::Duration};

use buildit_runner::{Report, layout::is_attempt_id};
use buildit_shared::{
    attempt_token::AttemptTokens,
    db::{
        attempts::{self, Begin, Beginner},
        attempts_ahead::{Limits, Room},
        reports,
    },
    ids::AttemptId,
    pipeline::Resources,
    queue::{Signal, Signals},
};
use futures::{FutureExt, future::BoxFuture, stream::BoxStream};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::{Api, Client, api::DeleteParams};
use sqlx::PgPool;
use tokio::sync::OnceCell;

pub use settings::Settings;

use super::{End, Error, Executor, Handle, Launch, LogStream, Notice, State, Swept};
use runner::Parts;
use watch::Pods;

/// How often somebody who waits for a pod's change looks by himself.
const LOOK_AGAIN: Duration = Duration::from_secs(20);
/// Seconds for the runner to store the log and report after its commands were killed.
const UPLOAD_GRACE: Duration = Duration::from_secs(30);
/// How long a pod that vanished without the kubelet's word may still have processes.
const VANISHED: Duration = Duration::from_secs(60);

/// Runs attempts as pods of one namespace. Clones are the same executor.
#[derive(Clone, Debug)]
pub struct KubernetesExecutor {
    inner: Inner,
}

#[derive(Clone, Debug)]
struct Inner {
    api: Api<Pod>,
    secrets: Api<Secret>,
    maps: Api<ConfigMap>,
    parts: Arc<Parts>,
    runner_is_there: Arc<OnceCell<()>>,
    settings: Arc<Settings>,
    pods: Pods,
    pool: PgPool,
    tokens: AttemptTokens,
    signals: Signals,
}

/// What the database knows of an attempt.
struct Known {
    begun: bool,
    running: bool,
    report: Option<Box<Report>>,
}

impl KubernetesExecutor {
    /// Makes pods by `client`, as `settings` say. Begins and reports are kept in the database of `pool`; `signals` tell
    /// of reports; `tokens` are what runners show to the API.
    ///
    /// # Errors
    /// The programs for pods cannot be read.
    pub fn new(
        client: Client,
        settings: Settings,
        pool: PgPool,
        tokens: AttemptTokens,
        signals: Signals,
    ) -> std::io::Result<Self> {
        let parts = Arc::new(Parts::read(&settings.runner_folder()?)?);
        let api: Api<Pod> = Api::namespaced(client.clone(), &settings.namespace);
        let secrets = Api::namespaced(client.clone(), &settings.namespace);
        let maps = Api::namespaced(client, &settings.namespace);
        let runner_is_there = Arc::default();
        let pods = Pods::watch(api.clone(), &selector(&settings));
        let settings = Arc::new(settings);
        let inner = Inner { api, secrets, maps, parts, runner_is_there, settings, pods, pool, tokens, signals };
        Ok(Self { inner })
    }
}

/// The cluster of `KUBECONFIG`, or the one that this process runs in.
///
/// # Errors
/// Neither tells of one.
pub async fn connect() -> std::io::Result<Client> {
    let mut config = kube::Config::infer().await.map_err(std::io::Error::other)?;
    // A call that is not answered is tried again; streams have no limit on the time between two bytes.
    config.connect_timeout = Some(Duration::from_secs(5));
    Client::try_from(config).map_err(std::io::Error::other)
}

/// Chooses this installation's pods and Secrets.
fn selector(settings: &Settings) -> String {
    format!("{}={}", pod::INSTALLATION, settings.installation)
}

impl Inner {
    async fn known(&self, handle: &Handle) -> Result<Known, Error> {
        let known = reports::of_attempt(&self.pool, attempt_id(handle)?).await?;
        let report = known.report.and_then(|report| serde_json::from_value(report).ok());
        Ok(Known { begun: known.begun, running: known.running, report })
    }

    async fn report(&self, handle: &Handle) -> Result<Option<Box<Report>>, Error> {
        Ok(self.known(handle).await?.report)
    }

    /// Waits for the runner's report to the API.
    async fn reported(self, handle: Handle) -> Result<Box<Report>, Error> {
        let id = attempt_id(&handle)?;
        let mut signals = self.signals.subscribe();
        loop {
            if let Some(report) = self.report(&handle).await? {
                return Ok(report);
            }
            loop {
                match signals.next().await {
                    Signal::Report(reported) if reported == id => break,
                    Signal::Resync => break,
                    _ => {}
                }
            }
        }
    }

    /// The pod as it was last seen, or as the cluster says.
    async fn pod(&self, name: &str) -> Result<Option<Arc<Pod>>, Error> {
        match self.pods.get(name) {
            Some(pod) => Ok(Some(pod)),
            None => Ok(cluster::ask("the pod cannot be looked at", || self.api.get(name).boxed()).await?.map(Arc::new)),
        }
    }

    async fn state(&self, handle: &Handle) -> Result<State, Error> {
        let known = self.known(handle).await?;
        if let Some(report) = known.report {
            return Ok(State::Ended(report));
        }
        let name = handle.attempt_id();
        let pod = match self.pods.get(name) {
            Some(pod) => Some(pod),
            // A start finds out by itself when the pod is there and the watch has not told yet.
            None if self.pods.listed() && !known.begun => None,
            None => self.pod(name).await?,
        };
        let Some(pod) = pod else { return Ok(State::Absent { begun: known.begun }) };
        Ok(match status::look(&pod).end {
            Some(End::Reported(report)) => State::Ended(report),
            Some(End::Failed { reason, .. } | End::Lost { reason }) => State::Lost { reason },
            None if known.begun => State::Running,
            None => State::Starting,
        })
    }

    /// Sees to it that nobody begins the attempt any more; false when somebody has.
    async fn forbid(&self, handle: &Handle) -> Result<bool, Error> {
        match attempts::begin(&self.pool, attempt_id(handle)?, Beginner::Stopped).await? {
            Begin::Won => Ok(true),
            Begin::Taken | Begin::NotYet(_) | Begin::Over | Begin::Unknown => Ok(false),
        }
    }

    async fn stop(&self, handle: &Handle, grace: Duration) -> Result<(), Error> {
        let unbegun = self.forbid(handle).await?;
        let grace = if unbegun { Duration::ZERO } else { grace + UPLOAD_GRACE };
        self.delete(handle, grace).await
    }

    async fn delete(&self, handle: &Handle, grace: Duration) -> Result<(), Error> {
        let seconds = u32::try_from(grace.as_secs()).unwrap_or(u32::MAX);
        let how = DeleteParams { grace_period_seconds: Some(seconds), ..DeleteParams::default() };
        let name = handle.attempt_id();
        cluster::ask("the pod cannot be deleted", || self.api.delete(name, &how).boxed()).await?;
        Ok(())
    }

    async fn confirm_ended(&self, handle: &Handle) -> Result<(), Error> {
        let name = handle.attempt_id();
        if let Some(pod) = self.pod(name).await? {
            return if status::look(&pod).end.is_some() { Ok(()) } else { Err(Error::StillRunning) };
        }
        // Deleted gracefully the kubelet has said so before; by force nobody has, and its processes get a while.
        if self.pods.vanished(name, VANISHED) { Ok(()) } else { Err(Error::StillRunning) }
    }

    async fn clean(&self, handle: &Handle) -> Result<(), Error> {
        let known = self.known(handle).await?;
        if known.report.is_none()
            && let Some(pod) = self.pod(handle.attempt_id()).await?
        {
            let look = status::look(&pod);
            // The kubelet tells of a start a second late, the runner at once.
            let runs = known.running || !self.forbid(handle).await? && self.known(handle).await?.running;
            if look.end.is_none() && runs {
                return Err(Error::StillRunning);
            }
        }
        // It would go with its pod, by two requests of the cluster's garbage collector in place of this one.
        let secret = pod::secret_name(handle.attempt_id());
        let how = DeleteParams::default();
        cluster::ask("the step's Secret cannot be deleted", || self.secrets.delete(&secret, &how).boxed()).await?;
        self.delete(handle, Duration::ZERO).await
    }
}

fn attempt_id(handle: &Handle) -> Result<AttemptId, Error> {
    let bad = || Error::BadAttemptId(handle.attempt_id().to_owned());
    if !is_attempt_id(handle.attempt_id()) {
        return Err(bad());
    }
    handle.attempt_id().parse().map_err(|_| bad())
}

impl Executor for KubernetesExecutor {
    fn start<'a>(&'a self, launch: &'a Launch) -> BoxFuture<'a, Result<Handle, Error>> {
        Box::pin(self.inner.start(launch))
    }

    fn state<'a>(&'a self, handle: &'a Handle) -> BoxFuture<'a, Result<State, Error>> {
        Box::pin(self.inner.state(handle))
    }

    fn follow(&self, handle: &Handle, from: u64) -> LogStream {
        logs::follow(self.inner.clone(), handle.clone(), from)
    }

    fn notices(&self, handle: &Handle) -> BoxStream<'static, Notice> {
        wait::notices(self.inner.clone(), handle.clone())
    }

    fn ahead(&self) -> Limits {
        self.inner.settings.ahead()
    }

    fn room(&self, resources: Resources) -> Room {
        pod::room(&self.inner.settings, resources)
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

    fn files(&self, _handle: &Handle) -> Option<PathBuf> {
        None
    }
}
