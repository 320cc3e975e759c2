//! A worker's membership in the fleet: its row, its advisory lock, its beat, and the leases it knows of.
//!
//! Promises: a claim whose reply was lost is handed back by the next beat, nothing burned; and a worker that cannot
//! prove it is alive stops acting on the outside ([`Member::may_act`]) before anybody may declare it dead.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde::Deserialize;
use sqlx::{PgConnection, PgPool};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Error, Notifier, Slots};
use crate::ids::{JobId, WorkerId};

/// First key of the advisory locks that workers hold; the second is the worker's number. ("wrkr" in ASCII.)
pub(super) const LOCK_SPACE: i32 = 0x7772_6b72;

/// For so long after an answered beat was sent a worker may believe that nobody declared it dead.
const BELIEF: Duration = Duration::from_secs(10);

fn boot_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// Who a worker is and what it takes.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Name of the machine or pod.
    pub host: String,
    /// Kinds of jobs it has handlers for; others are left for newer workers.
    pub kinds: Vec<String>,
    /// Concurrency of each queue.
    pub slots: Slots,
}

/// One incarnation of a worker. A process that was declared dead registers again and gets a new one.
#[derive(Debug)]
pub struct Member {
    pub(super) id: WorkerId,
    pub(super) pool: PgPool,
    pub(super) kinds: Vec<String>,
    pub(super) slots: Slots,
    pub(super) notifier: Notifier,
    /// Key of its advisory lock.
    number: i32,
    leases: Mutex<Leases>,
    /// When the last beat that was answered had been sent, by the boot-time clock, which goes on through suspension;
    /// `None` while effects on the outside are forbidden.
    acting: watch::Sender<Option<Duration>>,
    lost: CancellationToken,
    draining: AtomicBool,
    /// As the last beat said.
    drained: AtomicBool,
}

#[derive(Debug, Default)]
struct Leases {
    /// Leases of claims whose reply is not here yet.
    in_flight: HashSet<i64>,
    held: HashMap<(JobId, i64), Signals>,
}

/// What somebody who works on a claim listens to.
#[derive(Clone, Debug)]
pub(super) struct Signals {
    pub(super) lost: CancellationToken,
    pub(super) cancelled: CancellationToken,
    pub(super) hand_over: CancellationToken,
}

/// Registers this process as a worker: one row with a fresh id. `lock` is the direct connection of its advisory lock.
pub async fn register(
    pool: &PgPool,
    lock: &mut PgConnection,
    profile: &Profile,
    notifier: Notifier,
) -> Result<Arc<Member>, Error> {
    let id = WorkerId::new();
    let (queues, slots): (Vec<String>, Vec<i32>) =
        profile.slots.sizes().map(|(queue, n)| (queue.to_owned(), i32::try_from(n).unwrap_or(i32::MAX))).unzip();
    let number = sqlx::query_scalar!(
        "insert into workers (id, host, pid, version, queues, slots) values ($1, $2, $3, $4, $5, $6) returning number",
        id.uuid(),
        profile.host,
        i32::try_from(std::process::id()).unwrap_or(0),
        env!("CARGO_PKG_VERSION"),
        &queues,
        &slots,
    )
    .fetch_one(&mut *lock)
    .await?;
    let member = Member {
        id,
        pool: pool.clone(),
        kinds: profile.kinds.clone(),
        slots: profile.slots.clone(),
        notifier,
        number,
        leases: Mutex::default(),
        acting: watch::Sender::new(Some(boot_time())),
        lost: CancellationToken::new(),
        draining: AtomicBool::new(false),
        drained: AtomicBool::new(false),
    };
    member.lock(lock).await?;
    Ok(Arc::new(member))
}

impl Member {
    /// This incarnation's id.
    pub fn id(&self) -> WorkerId {
        self.id
    }

    /// Its slots.
    pub fn slots(&self) -> &Slots {
        &self.slots
    }

    /// Tells the fleet about new work.
    pub fn notifier(&self) -> &Notifier {
        &self.notifier
    }

    /// Takes the advisory lock that proves this process alive; true when this connection holds it now.
    ///
    /// After a broken connection the server may still think the old session alive; the next beat tries again.
    pub async fn lock(&self, lock: &mut PgConnection) -> Result<bool, Error> {
        let held = sqlx::query_scalar!(
            r#"
            select pg_try_advisory_lock($1, $2) as "held!"
            where not exists (          -- taken twice by one session it would have to be let go twice
                select from pg_locks
                where locktype = 'advisory' and pid = pg_backend_pid() and objsubid = 2
                  and classid = $1::int::oid and objid = $2::int::oid)
            "#,
            LOCK_SPACE,
            self.number
        )
        .fetch_optional(lock)
        .await?;
        Ok(held.unwrap_or(true))
    }

    /// Now, by the clock that [`Member::acknowledged`] wants.
    pub fn now(&self) -> Duration {
        boot_time()
    }

    /// A beat sent at `sent` was answered: effects on the outside are allowed for a while.
    pub fn acknowledged(&self, sent: Duration) {
        self.acting.send_replace(Some(sent));
    }

    /// Whether effects on the outside are allowed now. Also false just after a pause of the whole process or machine.
    pub fn acting(&self) -> bool {
        self.acting.borrow().is_some_and(|sent| boot_time().saturating_sub(sent) < BELIEF)
    }

    /// Forbids effects on the outside until the next answered beat.
    pub fn stop_acting(&self) {
        self.acting.send_replace(None);
    }

    /// Waits until effects on the outside are allowed.
    pub async fn may_act(&self) {
        let mut acting = self.acting.subscribe();
        // The sender lives as long as `self`, so there is always a next value.
        while !self.acting() && acting.changed().await.is_ok() {}
    }

    /// From now on it claims nothing.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Whether it claims nothing, for good or until an operator says otherwise.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire) || self.lost.is_cancelled() || self.is_drained()
    }

    /// Whether an operator wants it to claim nothing.
    pub fn is_drained(&self) -> bool {
        self.drained.load(Ordering::Acquire)
    }

    /// What a beat said an operator wants. Those who work on claims hand them over; so does who gets the reply of a claim
    /// that was on its way.
    fn set_drained(&self, drained: bool) {
        if self.drained.swap(drained, Ordering::AcqRel) != drained {
            tracing::info!(drained, "an operator decides whether this worker claims");
        }
        // Also when it is not new: a claim may have arrived since.
        if drained {
            self.leases().held.values().for_each(|signals| signals.hand_over.cancel());
        }
    }

    /// Others took over: every claim of this incarnation is lost.
    pub fn lose(&self) {
        self.lost.cancel();
    }

    /// How many jobs it holds.
    pub fn holding(&self) -> usize {
        self.leases().held.len()
    }

    /// Tells whoever works on that job that its cancellation was asked for.
    pub fn cancel(&self, job: JobId) {
        for ((id, _), signals) in &self.leases().held {
            if *id == job {
                signals.cancelled.cancel();
            }
        }
    }

    fn leases(&self) -> MutexGuard<'_, Leases> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Announces a claim with a fresh lease before it is sent. Dropping the announcement forgets it.
    pub(super) fn announce(self: &Arc<Self>) -> Announced {
        let lease = rand::random::<i64>();
        self.leases().in_flight.insert(lease);
        Announced { member: Arc::clone(self), lease }
    }

    pub(super) fn forget(&self, job: JobId, lease: i64) {
        self.leases().held.remove(&(job, lease));
    }
}

/// A claim on its way to the database.
pub(super) struct Announced {
    pub(super) member: Arc<Member>,
    pub(super) lease: i64,
}

impl Announced {
    /// The reply names this job: it is held from now on, with no moment in between in which it is neither.
    pub(super) fn arrived(&self, job: JobId) -> Signals {
        let signals = Signals {
            lost: self.member.lost.child_token(),
            cancelled: CancellationToken::new(),
            hand_over: CancellationToken::new(),
        };
        let mut leases = self.member.leases();
        leases.held.insert((job, self.lease), signals.clone());
        // Asked with the leases locked: whoever drains the worker later finds the claim among them.
        if self.member.is_drained() {
            signals.hand_over.cancel();
        }
        signals
    }
}

impl Drop for Announced {
    fn drop(&mut self) {
        self.member.leases().in_flight.remove(&self.lease);
    }
}

/// Another worker as a beat saw it.
#[derive(Clone, Debug, PartialEq)]
pub struct Peer {
    /// Its id.
    pub id: WorkerId,
    /// Its beat counter.
    pub beat: i64,
    /// Whether somebody holds its advisory lock.
    pub locked: bool,
}

/// What one beat learnt.
#[derive(Debug)]
pub struct Beat {
    /// This worker's row still says that it is alive.
    pub alive: bool,
    /// All workers at work, this one included.
    pub peers: Vec<Peer>,
    /// Milliseconds until the next scheduled job is due; zero or less when it is due already.
    pub next_due_ms: Option<i64>,
    /// There is ready work in one of this worker's queues.
    pub backlog: bool,
}

#[derive(Deserialize)]
struct HeldRow {
    id: JobId,
    lease: i64,
    cancel: bool,
}

/// Raises the beat counter and learns in the same statement who else is alive, what is due, and which leases the
/// database thinks this worker holds. Those it does not know of (a claim's reply was lost) are handed back.
pub async fn beat(member: &Arc<Member>, lock: &mut PgConnection) -> Result<Beat, Error> {
    let queues: Vec<String> = member.slots.sizes().map(|(queue, _)| queue.to_owned()).collect();
    let rows = sqlx::query!(
        r#"
        with beat as (
            update workers set beat = beat + 1, beat_at = now(),
                   state = case when $2 or drained_at is not null then 'draining'::worker_state else 'alive' end
            where id = $1 and state in ('alive', 'draining')
            returning id, beat, drained_at is not null as drained
        ),
        -- Look at the locks without ever taking one.
        locks as materialized (
            select objid from pg_locks
            where locktype = 'advisory' and classid = $3::int::oid and objsubid = 2 and granted
              and database = (select oid from pg_database where datname = current_database())
        )
        select w.id as "id: WorkerId",
               coalesce(b.beat, w.beat) as "beat!",
               l.objid is not null as "locked!",
               coalesce(b.drained, false) as "drained!",
               (select (extract(epoch from min(run_at) - now()) * 1000)::bigint from jobs
                where state = 'scheduled') as next_due_ms,
               exists (select from unnest($4::text[]) as q (name)
                       where exists (select from jobs where queue = q.name and state = 'ready')
                         and not exists (select from queues where name = q.name and paused_at is not null)
                      ) as "backlog!",
               case when w.id = $1 then
                   (select jsonb_agg(jsonb_build_object('id', id, 'lease', lease, 'cancel', cancel_requested))
                    from jobs where worker_id = $1 and state = 'running')
               end as held
        from workers w
             left join beat b on b.id = w.id
             left join locks l on l.objid = w.number::oid
        where w.state in ('alive', 'draining')
        "#,
        member.id.uuid(),
        member.draining.load(Ordering::Acquire),
        LOCK_SPACE,
        &queues,
    )
    .fetch_all(&mut *lock)
    .await?;

    let mut beat = Beat { alive: false, peers: Vec::new(), next_due_ms: None, backlog: false };
    let mut held = Vec::new();
    for row in rows {
        if row.id == member.id {
            beat.alive = true;
            member.set_drained(row.drained);
            beat.next_due_ms = row.next_due_ms;
            beat.backlog = row.backlog;
            held = row
                .held
                .map(serde_json::from_value::<Vec<HeldRow>>)
                .transpose()
                .map_err(|error| sqlx::Error::Decode(error.into()))?
                .unwrap_or_default();
        }
        beat.peers.push(Peer { id: row.id, beat: row.beat, locked: row.locked });
    }
    let stranded = member.compare(&held);
    hand_back(lock, &stranded).await?;
    Ok(beat)
}

impl Member {
    /// Compares what the database thinks is held with what is known *now*, after the reply: a claim that was in
    /// flight then has arrived or failed since, and one that started later is not in the reply. What is left was
    /// lost on the way.
    fn compare(&self, rows: &[HeldRow]) -> Vec<(JobId, i64)> {
        let leases = self.leases();
        let mut stranded = Vec::new();
        for row in rows {
            match leases.held.get(&(row.id, row.lease)) {
                Some(signals) if row.cancel => signals.cancelled.cancel(),
                Some(_) => {}
                None if leases.in_flight.contains(&row.lease) => {}
                None => stranded.push((row.id, row.lease)),
            }
        }
        stranded
    }
}

async fn hand_back(lock: &mut PgConnection, stranded: &[(JobId, i64)]) -> Result<(), Error> {
    if stranded.is_empty() {
        return Ok(());
    }
    let (ids, leases): (Vec<_>, Vec<_>) = stranded.iter().map(|(id, lease)| (id.uuid(), *lease)).unzip();
    let readied = sqlx::query!(
        r#"
        update jobs j
        set state = 'ready', lease = null, worker_id = null, claimed_at = null, attempt = greatest(attempt - 1, 0)
        from unnest($1::uuid[], $2::bigint[]) as s (id, lease)
        where j.id = s.id and j.lease = s.lease and j.state = 'running'
        "#,
        &ids,
        &leases
    )
    .execute(lock)
    .await?
    .rows_affected();
    if readied > 0 {
        tracing::warn!(readied, "handed back claims whose reply was lost");
    }
    Ok(())
}

/// The last word of a worker that stops: its row, then (with the connection) its lock. What it still holds is readied.
pub async fn goodbye(member: &Member, lock: &mut PgConnection) -> Result<(), Error> {
    sqlx::query!(
        r#"
        with gone as (
            update workers set state = 'stopped', ended_at = now()
            where id = $1 and state in ('alive', 'draining') returning id
        )
        update jobs
        set state = 'ready', lease = null, worker_id = null, claimed_at = null, attempt = greatest(attempt - 1, 0)
        from gone where worker_id = gone.id and jobs.state = 'running'
        "#,
        member.id.uuid()
    )
    .execute(lock)
    .await?;
    Ok(())
}
