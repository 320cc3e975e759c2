//! NOTIFY and LISTEN between the processes.
//!
//! A notification only saves waiting: whoever listens also polls, and reads everything again after each (re)connect
//! ([`Signal::Resync`]). Notifications are sent after the commit, from the application and debounced: inside a
//! transaction they would hold a lock that serialises all commits of the database.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sqlx::{PgPool, postgres::PgListener};
use tokio::{sync::broadcast, time::Instant};
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use crate::ids::{AttemptId, JobId, RunId};

const CHANNEL: &str = "buildit";
/// At most one notification of the same words in that time; the last one is never left out.
const DEBOUNCE: Duration = Duration::from_millis(5);
/// How many signals a slow reader may be behind before it has to read everything again.
const BACKLOG: usize = 4096;

/// What one process tells the others.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Signal {
    /// Jobs became ready in this queue.
    Jobs(String),
    /// The end of this job was asked for.
    Cancel(JobId),
    /// The log of this attempt grew or ended.
    Log(AttemptId),
    /// This run or one of its steps changed.
    Run(RunId),
    /// Notifications may have been missed: read everything again.
    Resync,
}

impl Signal {
    fn payload(&self) -> String {
        match self {
            Self::Jobs(queue) => format!("jobs {queue}"),
            Self::Cancel(job) => format!("cancel {job}"),
            Self::Log(attempt) => format!("log {attempt}"),
            Self::Run(run) => format!("run {run}"),
            Self::Resync => "resync".into(),
        }
    }

    fn parse(payload: &str) -> Option<Self> {
        let (word, rest) = payload.split_once(' ')?;
        let id = || Uuid::parse_str(rest).ok();
        match word {
            "jobs" => Some(Self::Jobs(rest.to_owned())),
            "cancel" => id().map(|id| Self::Cancel(id.into())),
            "log" => id().map(|id| Self::Log(id.into())),
            "run" => id().map(|id| Self::Run(id.into())),
            _ => None,
        }
    }
}

/// Sends notifications, at most one of a kind every few milliseconds.
#[derive(Clone, Debug)]
pub struct Notifier {
    pool: PgPool,
    /// Signals sent lately: whether another one came meanwhile.
    recent: Arc<Mutex<HashMap<Signal, bool>>>,
}

impl Notifier {
    /// A notifier that sends by connections of `pool`.
    pub fn new(pool: PgPool) -> Self {
        Self { pool, recent: Arc::default() }
    }

    /// Jobs became ready in `queue`.
    pub fn jobs(&self, queue: &str) {
        self.send(Signal::Jobs(queue.to_owned()));
    }

    /// Tells every process; after the commit of what it tells about. Returns at once.
    pub fn send(&self, signal: Signal) {
        match self.recent().entry(signal.clone()) {
            Entry::Occupied(mut again) => {
                again.insert(true);
                return;
            }
            Entry::Vacant(first) => first.insert(false),
        };
        let this = self.clone();
        tokio::spawn(async move {
            loop {
                let sent = Instant::now();
                this.notify(&signal).await;
                tokio::time::sleep_until(sent + DEBOUNCE).await;
                let mut recent = this.recent();
                match recent.get_mut(&signal) {
                    Some(again) if *again => *again = false,
                    _ => {
                        recent.remove(&signal);
                        return;
                    }
                }
            }
        });
    }

    async fn notify(&self, signal: &Signal) {
        let sent = sqlx::query!("select pg_notify($1, $2)", CHANNEL, signal.payload()).execute(&self.pool).await;
        if let Err(error) = sent {
            tracing::debug!(%error, ?signal, "notification not sent; polls will find it");
        }
    }

    fn recent(&self) -> std::sync::MutexGuard<'_, HashMap<Signal, bool>> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The signals of all processes, as this one hears them.
#[derive(Clone, Debug)]
pub struct Signals {
    sender: broadcast::Sender<Signal>,
    _listener: Arc<AbortOnDropHandle<()>>,
}

impl Signals {
    /// Listens on a connection of its own for as long as the value lives; a broken one is made anew.
    pub fn listen(database_url: &str) -> Self {
        let (sender, _) = broadcast::channel(BACKLOG);
        let listener = tokio::spawn(listen(database_url.to_owned(), sender.clone()));
        Self { sender, _listener: Arc::new(AbortOnDropHandle::new(listener)) }
    }

    /// The signals from now on. Subscribe first, then read the database: nothing falls between.
    pub fn subscribe(&self) -> Subscription {
        Subscription(self.sender.subscribe())
    }
}

/// A reader of signals.
#[derive(Debug)]
pub struct Subscription(broadcast::Receiver<Signal>);

impl Subscription {
    /// The next signal; one that came too late to keep up with the others becomes [`Signal::Resync`].
    pub async fn next(&mut self) -> Signal {
        match self.0.recv().await {
            Ok(signal) => signal,
            Err(broadcast::error::RecvError::Lagged(_)) => Signal::Resync,
            // The listener ended with the process; nothing more will come.
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }
}

async fn listen(url: String, sender: broadcast::Sender<Signal>) {
    let mut pause = Duration::from_millis(50);
    loop {
        match session(&url, &sender, &mut pause).await {
            Ok(never) => match never {},
            Err(error) => tracing::warn!(%error, "listening for notifications broke off; trying again"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(2));
    }
}

async fn session(
    url: &str,
    sender: &broadcast::Sender<Signal>,
    pause: &mut Duration,
) -> Result<std::convert::Infallible, sqlx::Error> {
    let mut listener = PgListener::connect(url).await?;
    // A silent reconnect would hide what was missed: break off instead and begin anew with a Resync.
    listener.eager_reconnect(false);
    listener.listen(CHANNEL).await?;
    *pause = Duration::from_millis(50);
    let _ = sender.send(Signal::Resync);
    loop {
        let Some(notification) = listener.try_recv().await? else {
            return Err(sqlx::Error::PoolClosed);
        };
        if let Some(signal) = Signal::parse(notification.payload()) {
            // No subscriber at this moment is no error.
            let _ = sender.send(signal);
        }
    }
}
