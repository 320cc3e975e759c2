//! Workers as the product runs them, in this process, with handlers of the test.

use std::time::Duration;

use buildit_shared::{
    db::{self, Use},
    queue::Signals,
};
use buildit_worker::{Error, Options, Registry};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A worker at work.
#[derive(Debug)]
pub struct Running {
    shutdown: CancellationToken,
    ended: JoinHandle<Result<(), Error>>,
}

impl Running {
    /// A worker of the fleet in the database of that address, with two slots of each queue.
    pub async fn start(url: &str, host: &str, registry: Registry) -> Self {
        Self::start_until(url, host, registry, CancellationToken::new()).await
    }

    /// The same, until `shutdown`.
    pub async fn start_until(url: &str, host: &str, registry: Registry, shutdown: CancellationToken) -> Self {
        let options = Options {
            database_url: url.into(),
            pool: db::connect(url, Use::Worker, 5).await.expect("a pool"),
            signals: Signals::listen(url).expect("an address of Postgres"),
            host: host.into(),
            slots: registry.queues().into_iter().map(|queue| (queue, 2)).collect(),
        };
        let ended = tokio::spawn(buildit_worker::run(options, registry, shutdown.clone()));
        Self { shutdown, ended }
    }

    /// Asks it to stop, as SIGTERM does, and waits until it has.
    pub async fn stop(self) {
        self.shutdown.cancel();
        let ended = tokio::time::timeout(Duration::from_secs(30), self.ended).await.expect("it stops in time");
        ended.expect("no panic").expect("a clean end");
    }
}
