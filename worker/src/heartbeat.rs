//! Keeps this process in the fleet, on a direct connection of its own, and rescues the jobs of workers that left it.
//!
//! Each second one statement raises the beat counter, pings the connection that holds the advisory lock, and looks at
//! the others. When it is not answered within a second, the worker stops acting on the outside at once: that is before
//! anybody may declare it dead. A process that was declared dead (it was paused, say) lets everything go and joins anew
//! under a fresh id.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use buildit_shared::{
    db::advance,
    queue::{
        self, Member, Notifier, Profile, Signal, enqueue,
        rescue::{self, Dead, Watch},
    },
};
use sqlx::{Connection, PgConnection, PgPool};
use tokio::{
    sync::{Notify, watch},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{claimer::Hint, health::Health};

const BEAT: Duration = Duration::from_secs(1);
/// While somebody is under suspicion, so that a death is noticed soon after it is certain.
const BEAT_UNDER_SUSPICION: Duration = Duration::from_millis(250);
const PING_TIMEOUT: Duration = Duration::from_secs(1);
const REGISTER_TIMEOUT: Duration = Duration::from_secs(10);
/// Jobs whose worker was declared dead at the very moment it claimed them are looked for so often.
const SWEEP: Duration = Duration::from_secs(5);

pub(crate) struct Heartbeat {
    pub(crate) database_url: String,
    pub(crate) pool: PgPool,
    pub(crate) profile: Profile,
    pub(crate) notifier: Notifier,
    pub(crate) health: Health,
    pub(crate) hint: watch::Sender<Hint>,
    pub(crate) backlog: Arc<Notify>,
    /// The worker claims nothing any more.
    pub(crate) draining: CancellationToken,
    /// Every handler has returned: say goodbye.
    pub(crate) finished: CancellationToken,
}

impl Heartbeat {
    /// Beats until `finished`, through every outage of the database.
    pub(crate) async fn run(self) {
        let mut pause = Duration::from_millis(50);
        while !self.finished.is_cancelled() {
            self.health.turned();
            match self.incarnation().await {
                Ok(()) => pause = Duration::from_millis(50),
                Err(error) => {
                    tracing::warn!(%error, "not in the fleet; trying again");
                    pause = (pause * 2).min(Duration::from_secs(1));
                }
            }
            self.health.is_member(None);
            tokio::select! {
                () = self.finished.cancelled() => {}
                () = sleep(pause) => {}
            }
        }
    }

    /// From registration to goodbye, or until others declared this incarnation dead.
    async fn incarnation(&self) -> Result<(), queue::Error> {
        let mut connection = self.connect().await?;
        let register = queue::register(&self.pool, &mut connection, &self.profile, self.notifier.clone());
        let member = within(REGISTER_TIMEOUT, register).await?;
        tracing::info!(worker = %member.id(), "joined the fleet");
        self.health.is_member(Some(Arc::clone(&member)));
        let mut connection = Some(connection);
        let mut watch = Watch::default();
        let mut swept = Instant::now();
        let mut draining = self.draining.is_cancelled();
        loop {
            self.health.turned();
            if self.draining.is_cancelled() {
                member.drain();
            }
            if self.finished.is_cancelled() {
                return self.leave(&member, connection).await;
            }
            let interval = match self.beat(&member, &mut connection, &mut watch).await {
                Ok(Some(interval)) => interval,
                Ok(None) => {
                    tracing::error!(worker = %member.id(), "declared dead by another worker; joining anew");
                    member.stop_acting();
                    member.lose();
                    return Ok(());
                }
                Err(error) => {
                    member.stop_acting();
                    // What was seen before proves nothing about the time in which we were blind ourselves.
                    watch.reset();
                    connection = None;
                    tracing::warn!(%error, "no beat: this worker stops acting until the database answers");
                    Duration::from_millis(100)
                }
            };
            if swept.elapsed() >= SWEEP && connection.is_some() {
                swept = Instant::now();
                self.spawn_rescue(None);
            }
            tokio::select! {
                () = self.finished.cancelled() => {}
                () = self.draining.cancelled(), if !draining => draining = true,
                () = sleep(interval) => {}
            }
        }
    }

    /// One beat. `None` when this incarnation is not alive any more, else the time until the next.
    async fn beat(
        &self,
        member: &Arc<Member>,
        connection: &mut Option<PgConnection>,
        watch: &mut Watch,
    ) -> Result<Option<Duration>, queue::Error> {
        let live = match connection {
            Some(live) => live,
            None => connection.insert(self.connect().await?),
        };
        let sent = member.now();
        let beat = timed(queue::beat(member, live)).await?;
        if !beat.alive {
            return Ok(None);
        }
        member.acknowledged(sent);
        if beat.peers.iter().any(|peer| peer.id == member.id() && !peer.locked) {
            timed(member.lock(live)).await?;
        }
        let next_due = beat
            .next_due_ms
            .map(|ms| tokio::time::Instant::now() + Duration::from_millis(u64::try_from(ms).unwrap_or(0)));
        self.hint.send_replace(Hint { next_due });
        if beat.backlog {
            self.backlog.notify_one();
        }
        let (dead, suspicion) = watch.look(member.id(), &beat.peers, Instant::now());
        for dead in dead {
            self.spawn_rescue(Some(dead));
        }
        Ok(Some(if suspicion { BEAT_UNDER_SUSPICION } else { BEAT }))
    }

    async fn connect(&self) -> Result<PgConnection, queue::Error> {
        timed(async { Ok(PgConnection::connect(&self.database_url).await?) }).await
    }

    /// Goodbye first, then the lock goes with its connection.
    async fn leave(&self, member: &Member, connection: Option<PgConnection>) -> Result<(), queue::Error> {
        let mut connection = match connection {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        timed(queue::goodbye(member, &mut connection)).await?;
        for (queue, _) in member.slots().sizes() {
            self.notifier.jobs(queue);
        }
        tracing::info!(worker = %member.id(), "left the fleet");
        // A broken good-bye of the connection changes nothing: the server notices the closed socket.
        let _ = connection.close().await;
        Ok(())
    }

    /// Rescues beside the beat, which must not wait for it.
    fn spawn_rescue(&self, dead: Option<Dead>) {
        let (pool, notifier, queues) =
            (self.pool.clone(), self.notifier.clone(), self.profile.slots.sizes().map(|(queue, _)| queue).collect());
        tokio::spawn(async move {
            if let Err(error) = rescue(&pool, &notifier, dead, queues).await {
                tracing::warn!(%error, "a rescue did not work out; the next look tries again");
            }
        });
    }
}

async fn timed<T>(work: impl Future<Output = Result<T, queue::Error>>) -> Result<T, queue::Error> {
    within(PING_TIMEOUT, work).await
}

async fn within<T>(limit: Duration, work: impl Future<Output = Result<T, queue::Error>>) -> Result<T, queue::Error> {
    timeout(limit, work).await.unwrap_or(Err(queue::Error::Database(sqlx::Error::PoolTimedOut)))
}

async fn rescue(
    pool: &PgPool,
    notifier: &Notifier,
    dead: Option<Dead>,
    queues: Vec<&'static str>,
) -> Result<(), queue::Error> {
    if dead.is_none() && !rescue::any_orphan(pool).await? {
        return Ok(());
    }
    let mut tx = pool.begin().await?;
    let rescued = match dead {
        Some(dead) => match rescue::rescue(&mut tx, dead).await? {
            Some(rescued) => {
                tracing::warn!(worker = %dead.worker, jobs = rescued.readied, "a worker died; its jobs move on");
                rescued
            }
            None => return Ok(()),
        },
        None => rescue::free_jobs_of_the_dead(&mut tx).await?,
    };
    let mut follow_up = Vec::new();
    for job in &rescued.poisoned {
        tracing::error!(job = %job.id, kind = %job.kind, "dead: every worker that took this job died");
        let error = format!("{} workers in a row died while they held its job", rescue::POISON);
        follow_up.extend(advance::job_died(&mut tx, job, &error).await?);
    }
    enqueue(&mut *tx, &follow_up).await?;
    tx.commit().await?;
    if rescued.readied > 0 || !rescued.poisoned.is_empty() {
        for queue in queues {
            notifier.send(Signal::Jobs(queue.to_owned()));
        }
    }
    Ok(())
}
