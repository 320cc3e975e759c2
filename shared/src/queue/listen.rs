//! NOTIFY and LISTEN between the processes.
//!
//! A notification only saves waiting: whoever listens also polls, and reads everything again after each (re)connect
//! ([`Signal::Resync`]). Notifications come from the application, debounced, and as a rule after the commit: inside a
//! transaction they hold a lock that serialises the commits of all who notify. Where every millisecond counts, the
//! transaction carries one itself, at most once in the time of a debounce ([`Wake`]).

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sqlx::{
    PgPool,
    postgres::{PgConnectOptions, PgListener, PgPoolOptions},
};
use tokio::{sync::broadcast, time::Instant};
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use crate::ids::{AttemptId, JobId, RunId};

pub(super) const CHANNEL: &str = "buildit";
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
    /// The runner of this attempt has said its last word.
    Report(AttemptId),
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
            Self::Report(attempt) => format!("report {attempt}"),
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
            "report" => id().map(|id| Self::Report(id.into())),
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

    /// For a transaction that makes jobs of `queue` ready; see [`Wake`].
    pub fn wake(&self, queue: &str) -> Wake {
        let signal = Signal::Jobs(queue.to_owned());
        let carries = match self.recent().entry(signal.clone()) {
            Entry::Occupied(_) => false,
            Entry::Vacant(first) => {
                first.insert(false);
                true
            }
        };
        if carries {
            let (this, signal) = (self.clone(), signal.clone());
            tokio::spawn(async move { this.debounce(&signal, Instant::now()).await });
        }
        Wake { notifier: self.clone(), signal, carries }
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
            let sent = Instant::now();
            this.notify(&signal).await;
            this.debounce(&signal, sent).await;
        });
    }

    /// Sends again for those who asked while the signal was held back, until nobody does.
    async fn debounce(&self, signal: &Signal, mut sent: Instant) {
        loop {
            tokio::time::sleep_until(sent + DEBOUNCE).await;
            match self.recent().get_mut(signal) {
                Some(again) if *again => *again = false,
                _ => break,
            }
            sent = Instant::now();
            self.notify(signal).await;
        }
        self.recent().remove(signal);
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

/// The word that jobs are ready, on its way inside the transaction that makes them so: out with the commit itself, and
/// not at all when that fails. Only the first of a few milliseconds travels so; others are sent after their commits.
#[derive(Debug)]
#[must_use = "tell it of the commit"]
pub struct Wake {
    notifier: Notifier,
    signal: Signal,
    carries: bool,
}

impl Wake {
    /// What the transaction has to notify with, if it is to.
    pub(super) fn payload(&self) -> Option<String> {
        self.carries.then(|| self.signal.payload())
    }

    /// To be called after the commit.
    pub fn committed(self) {
        if !self.carries {
            self.notifier.send(self.signal);
        }
    }
}

/// The signals of all processes, as this one hears them.
#[derive(Clone, Debug)]
pub struct Signals {
    sender: broadcast::Sender<Signal>,
    /// The one connection.
    pool: PgPool,
    _listener: Arc<AbortOnDropHandle<()>>,
}

impl Signals {
    /// Listens on a connection of its own until [`Signals::pool`] is closed or the value dropped; a broken one is made anew.
    ///
    /// # Errors
    /// When the URL is none of Postgres.
    pub fn listen(database_url: &str) -> Result<Self, sqlx::Error> {
        let options: PgConnectOptions = database_url.parse()?;
        // It lives for as long as it works.
        let pool = PgPoolOptions::new().max_connections(1).max_lifetime(None).idle_timeout(None);
        let pool = pool.connect_lazy_with(options.application_name("buildit-signals"));
        let (sender, _) = broadcast::channel(BACKLOG);
        let listener = tokio::spawn(listen(pool.clone(), sender.clone()));
        Ok(Self { sender, pool, _listener: Arc::new(AbortOnDropHandle::new(listener)) })
    }

    /// What it listens by, to be closed before the server goes.
    pub fn pool(&self) -> &PgPool {
        &self.pool
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
            // Nobody listens any more; nothing more will come.
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }
}

async fn listen(pool: PgPool, sender: broadcast::Sender<Signal>) {
    let mut pause = Duration::from_millis(50);
    loop {
        match session(&pool, &sender, &mut pause).await {
            Ok(never) => match never {},
            Err(_) if pool.is_closed() => return,
            Err(error) => tracing::warn!(%error, "listening for notifications broke off; trying again"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(2));
    }
}

async fn session(
    pool: &PgPool,
    sender: &broadcast::Sender<Signal>,
    pause: &mut Duration,
) -> Result<std::convert::Infallible, sqlx::Error> {
    let mut listener = PgListener::connect_with(pool).await?;
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
