//! A worker's life: join, claim, work; on shutdown claim no more, let the handlers come to a stop, hand over, leave.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use apalis::prelude::{Monitor, WorkerBuilder};
use buildit_shared::queue::{Claim, Notifier, Profile, Signals, Slots};
use sqlx::PgPool;
use tokio::{
    sync::{Notify, mpsc::unbounded_channel, watch},
    task::JoinError,
};
use tokio_util::sync::CancellationToken;

use crate::{
    backend::QueueBackend,
    claimer::{Channels, Claimer, Hint, dispatch},
    drive::drive,
    health::Health,
    heartbeat::Heartbeat,
    registry::Registry,
};

/// What a worker needs to be told.
#[derive(Clone, Debug)]
pub struct Options {
    /// A direct connection (no transaction pooler): the fleet lives on session locks and LISTEN.
    pub database_url: String,
    /// The pool its handlers use.
    pub pool: PgPool,
    /// What the other processes say.
    pub signals: Signals,
    /// Name of the machine or pod.
    pub host: String,
    /// Concurrency of each queue.
    pub slots: BTreeMap<&'static str, usize>,
}

/// Why a worker ended other than by its shutdown.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A part of it panicked.
    #[error("a part of the worker ended unexpectedly: {0}")]
    Part(#[from] JoinError),
    /// apalis gave up.
    #[error("the job runtime ended unexpectedly: {0}")]
    Runtime(String),
}

/// Works until `shutdown`. Handlers see that by `stopping` (a child of it, given to them by whoever made the registry)
/// and return; the outside work they watched goes on and is adopted by the next worker.
pub async fn run(options: Options, registry: Registry, shutdown: CancellationToken) -> Result<(), Error> {
    run_watched(options, registry, Health::default(), shutdown).await
}

/// The same, and `health` tells how it is.
pub async fn run_watched(
    options: Options,
    registry: Registry,
    health: Health,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let slots =
        Slots::new(registry.queues().into_iter().map(|queue| (queue, options.slots.get(queue).copied().unwrap_or(4))));
    let (senders, receivers): (BTreeMap<_, _>, Vec<_>) = registry
        .queues()
        .into_iter()
        .map(|queue| {
            let (sender, receiver) = unbounded_channel();
            ((queue, sender), (queue, receiver))
        })
        .unzip();
    let channels: Channels = Arc::new(senders);
    let member = health.member();
    let (hint_sender, hint) = watch::channel(Hint::default());
    let backlog = Arc::new(Notify::new());
    let notifier = Notifier::new(options.pool.clone());
    let finished = CancellationToken::new();

    let heartbeat = tokio::spawn(
        Heartbeat {
            database_url: options.database_url.clone(),
            pool: options.pool.clone(),
            profile: Profile { host: options.host.clone(), kinds: registry.kinds(), slots },
            notifier,
            health,
            hint: hint_sender,
            backlog: Arc::clone(&backlog),
            draining: shutdown.clone(),
            finished: finished.clone(),
        }
        .run(),
    );
    let claimer = tokio::spawn(
        Claimer {
            pool: options.pool.clone(),
            member,
            hint,
            backlog,
            signals: options.signals.clone(),
            channels: Arc::clone(&channels),
            stopping: shutdown.clone(),
        }
        .run(),
    );

    let mut monitor = Monitor::new().shutdown_timeout(Duration::from_secs(30));
    for (queue, receiver) in receivers {
        let backend = QueueBackend::new(receiver);
        let (pool, registry, channels) = (options.pool.clone(), registry.clone(), Arc::clone(&channels));
        monitor = monitor.register(move |_| {
            let (pool, registry, channels) = (pool.clone(), registry.clone(), Arc::clone(&channels));
            WorkerBuilder::new(queue).backend(backend.clone()).build(move |claim: Claim| {
                let (pool, registry, channels) = (pool.clone(), registry.clone(), Arc::clone(&channels));
                async move {
                    // A task of its own: handlers run on all cores, not on the one that polls this queue.
                    let work = tokio::spawn(async move {
                        if let Some(next) = drive(&pool, &registry, claim).await {
                            dispatch(&channels, next);
                        }
                    });
                    work.await
                }
            })
        });
    }
    let stop = shutdown.clone();
    let ran = monitor
        .run_with_signal(async move {
            stop.cancelled().await;
            Ok(())
        })
        .await;
    claimer.await?;
    // The channels with the claims nobody polled go first, the goodbye readies those.
    drop(channels);
    finished.cancel();
    heartbeat.await?;
    ran.map_err(|error| Error::Runtime(error.to_string()))
}
