//! What this worker knows of its pods: one watch for all of them.
//!
//! A watch that is too old is listed anew by kube's watcher. Whoever waits for a change also looks again now and then.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event},
    },
};
use tokio::sync::{broadcast, watch};
use tokio_util::task::AbortOnDropHandle;

/// Changes a slow reader may be behind before it looks at its pod anew.
const BACKLOG: usize = 1024;

/// The pods of this installation, as the watch last told.
#[derive(Clone, Debug)]
pub(super) struct Pods {
    seen: Arc<Mutex<HashMap<String, Arc<Pod>>>>,
    /// Since when pods are missed that somebody asked after.
    missed: Arc<Mutex<HashMap<String, Instant>>>,
    changed: broadcast::Sender<String>,
    listed: watch::Receiver<bool>,
    _watcher: Arc<AbortOnDropHandle<()>>,
}

impl Pods {
    /// Watches the pods that `selector` chooses for as long as the value lives.
    pub(super) fn watch(api: Api<Pod>, selector: &str) -> Self {
        let seen = Arc::<Mutex<HashMap<_, _>>>::default();
        let (changed, _) = broadcast::channel(BACKLOG);
        let (listed_sender, listed) = watch::channel(false);
        let config = watcher::Config::default().labels(selector);
        let watcher = tokio::spawn(follow(api, config, Arc::clone(&seen), changed.clone(), listed_sender));
        Self { seen, missed: Arc::default(), changed, listed, _watcher: Arc::new(AbortOnDropHandle::new(watcher)) }
    }

    /// The pod, as it was last seen; none before the first list is complete.
    pub(super) fn get(&self, name: &str) -> Option<Arc<Pod>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// Whether this pod, which is not there, has been missed for that long.
    pub(super) fn vanished(&self, name: &str, long: Duration) -> bool {
        let mut missed = self.missed.lock().unwrap_or_else(PoisonError::into_inner);
        let since = *missed.entry(name.to_owned()).or_insert_with(Instant::now);
        if since.elapsed() < long {
            return false;
        }
        missed.remove(name);
        true
    }

    /// Whether the watch has told of all pods once.
    pub(super) fn listed(&self) -> bool {
        *self.listed.borrow()
    }

    /// The changes of one pod from now on. Subscribe first, then look.
    pub(super) fn changes(&self, name: &str) -> Changes {
        Changes { name: name.to_owned(), receiver: self.changed.subscribe() }
    }
}

/// Tells when a pod may have changed.
#[derive(Debug)]
pub(super) struct Changes {
    name: String,
    receiver: broadcast::Receiver<String>,
}

impl Changes {
    /// Waits for the next change.
    pub(super) async fn next(&mut self) {
        loop {
            match self.receiver.recv().await {
                Ok(name) if name != self.name => {}
                Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
                // Too far behind to know: look.
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => return,
            }
        }
    }
}

async fn follow(
    api: Api<Pod>,
    config: watcher::Config,
    seen: Arc<Mutex<HashMap<String, Arc<Pod>>>>,
    changed: broadcast::Sender<String>,
    listed: watch::Sender<bool>,
) {
    let mut events = watcher::watcher(api, config).default_backoff().boxed();
    let mut fresh: HashMap<String, Arc<Pod>> = HashMap::new();
    let seen = || seen.lock().unwrap_or_else(PoisonError::into_inner);
    while let Some(event) = events.next().await {
        let names = match event {
            Ok(Event::Apply(pod)) => named(pod).map(|(name, pod)| {
                seen().insert(name.clone(), pod);
                vec![name]
            }),
            Ok(Event::Delete(pod)) => named(pod).map(|(name, _)| {
                seen().remove(&name);
                vec![name]
            }),
            Ok(Event::Init) => {
                fresh.clear();
                None
            }
            Ok(Event::InitApply(pod)) => {
                fresh.extend(named(pod));
                None
            }
            Ok(Event::InitDone) => {
                let before = std::mem::replace(&mut *seen(), std::mem::take(&mut fresh));
                listed.send_replace(true);
                let now = seen().keys().cloned().collect::<Vec<_>>();
                Some(before.into_keys().chain(now).collect())
            }
            Err(error) => {
                tracing::warn!(%error, "the watch of the pods broke off; trying again");
                None
            }
        };
        for name in names.into_iter().flatten() {
            // Nobody waiting is no error.
            let _ = changed.send(name);
        }
    }
}

fn named(pod: Pod) -> Option<(String, Arc<Pod>)> {
    Some((pod.metadata.name.clone()?, Arc::new(pod)))
}
