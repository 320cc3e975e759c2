//! Rescue: a dead worker's jobs go on elsewhere. Every worker may do it; there is no leader to freeze.
//!
//! No wall clock decides. A rescuer judges a worker only by how long it has itself seen its beat stand still, by its
//! own monotonic clock, and starts anew whenever its own connection broke: after a database outage nobody is dead at
//! first sight.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use sqlx::{PgExecutor, Postgres, Transaction};

use super::{Error, Job, member::Peer};
use crate::{
    db::advance,
    ids::{JobId, OrganizationId, ProjectId, RunId, StepId, WorkerId},
};

/// A beat that stood still for so long is a dead worker's, even if its lock is held (a frozen machine).
pub const SILENCE: Duration = Duration::from_secs(15);
/// A lock that is gone shortens it to this. Longer than a worker takes to notice and stop acting (see the heartbeat).
pub const GRACE: Duration = Duration::from_millis(2500);
/// Workers that died in a row while they held a job, without progress in between, before the job is given up. Enough that
/// a job which only happened to be on machines that were going down is not blamed.
pub const POISON: i16 = 6;

/// What this rescuer has seen of the others.
#[derive(Debug, Default)]
pub struct Watch {
    seen: HashMap<WorkerId, Seen>,
}

#[derive(Debug)]
struct Seen {
    beat: i64,
    since: Instant,
}

/// A worker that stood still for too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dead {
    /// Which.
    pub worker: WorkerId,
    /// The beat it stood still at: if it has moved since, it is not dead.
    pub beat: i64,
}

impl Watch {
    /// Forgets everything: what was seen before the own connection broke proves nothing.
    pub fn reset(&mut self) {
        self.seen.clear();
    }

    /// Takes in what a beat at `now` saw and names the dead. The second value tells whether somebody is under
    /// suspicion: look again soon.
    pub fn look(&mut self, me: WorkerId, peers: &[Peer], now: Instant) -> (Vec<Dead>, bool) {
        self.seen.retain(|id, _| peers.iter().any(|peer| peer.id == *id));
        let mut dead = Vec::new();
        let mut suspicion = false;
        for peer in peers.iter().filter(|peer| peer.id != me) {
            let seen = self.seen.entry(peer.id).or_insert(Seen { beat: peer.beat, since: now });
            if seen.beat != peer.beat {
                *seen = Seen { beat: peer.beat, since: now };
            }
            let still = now.saturating_duration_since(seen.since);
            if still >= SILENCE || (!peer.locked && still >= GRACE) {
                dead.push(Dead { worker: peer.id, beat: peer.beat });
            } else {
                suspicion |= !peer.locked;
            }
        }
        (dead, suspicion)
    }
}

/// What became of a dead worker's jobs.
#[derive(Debug, Default)]
pub struct Rescued {
    /// How many are ready again.
    pub readied: usize,
    /// Jobs that killed every worker that took them; they left the queue as dead in this transaction, and what their
    /// death means for their run is for the caller to write in it.
    pub poisoned: Vec<Job>,
}

/// Declares a worker dead and frees what it held, in the caller's transaction. Nothing happens if its beat has moved.
pub async fn rescue(tx: &mut Transaction<'_, Postgres>, dead: Dead) -> Result<Option<Rescued>, Error> {
    let declared = sqlx::query!(
        "update workers set state = 'dead', ended_at = now() where id = $1 and beat = $2 and state in ('alive', 'draining')",
        dead.worker.uuid(),
        dead.beat,
    )
    .execute(&mut **tx)
    .await?
    .rows_affected();
    if declared == 0 {
        return Ok(None);
    }
    free_jobs_of_the_dead(tx).await.map(Some)
}

/// Whether [`free_jobs_of_the_dead`] has anything to free: the look that costs an idle worker one statement.
pub async fn any_orphan(db: impl PgExecutor<'_>) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"
        select exists (
            select from jobs j
            where j.state = 'running'
              and not exists (select from workers w where w.id = j.worker_id and w.state in ('alive', 'draining'))
        ) as "any!"
        "#
    )
    .fetch_one(db)
    .await
}

/// Frees all jobs whose worker is not at work any more: those of a worker just declared dead, and those that a claim
/// took at the very moment its worker was declared dead by somebody else.
pub async fn free_jobs_of_the_dead(tx: &mut Transaction<'_, Postgres>) -> Result<Rescued, Error> {
    // Runs that a burial may end are locked before any job is, as everywhere: otherwise a cancel and this could wait
    // for each other.
    let doomed = sqlx::query_scalar!(
        r#"
        select distinct run_id as "run_id!: RunId" from jobs j
        where state = 'running' and deaths >= $1 and run_id is not null
          and not exists (select from workers w where w.id = j.worker_id and w.state in ('alive', 'draining'))
        order by 1
        "#,
        POISON - 1
    )
    .fetch_all(&mut **tx)
    .await?;
    for run in doomed {
        advance::lock(tx, run).await?;
    }
    let rows = sqlx::query!(
        r#"
        with orphaned as (
            select j.id, j.attempt, j.worker_id, j.claimed_at,
                   -- Progress since the last death: log bytes stored and states reached.
                   coalesce((select a.log_len * 4 + (a.started_at is not null)::int * 2 + (a.first_command_at is not null)::int
                             from step_attempts a where a.step_id = j.step_id and a.job_id = j.id order by a.number desc limit 1), 0) as mark
            from jobs j
            where j.state = 'running'
              and not exists (select from workers w where w.id = j.worker_id and w.state in ('alive', 'draining'))
            for update of j skip locked
        ),
        kept as (
            insert into job_errors (job_id, attempt, kind, worker_id, claimed_at, error)
            select id, attempt, 'worker_died', worker_id, claimed_at, 'the worker that held this job died' from orphaned
        )
        update jobs j
        set state = 'ready', lease = null, worker_id = null, claimed_at = null,
            -- The worker's death is not the job's failure; it is counted apart.
            attempt = greatest(j.attempt - 1, 0),
            deaths = case when o.mark = j.death_mark then j.deaths + 1 else 1 end,
            death_mark = o.mark
        from orphaned o where j.id = o.id
        returning j.id as "id: JobId", j.deaths, j.queue
        "#
    )
    .fetch_all(&mut **tx)
    .await?;
    let poisoned: Vec<_> = rows.iter().filter(|row| row.deaths >= POISON).map(|row| row.id.uuid()).collect();
    let readied = rows.len() - poisoned.len();
    if poisoned.is_empty() {
        return Ok(Rescued { readied, poisoned: Vec::new() });
    }
    let poisoned = sqlx::query_as!(
        Job,
        r#"
        with ended as (
            delete from jobs where id = any($1) returning *
        ),
        archived as (
            insert into job_history (id, kind, queue, ended_as, priority, args, attempt, max_attempts, deaths, unique_key,
                   organization_id, project_id, run_id, step_id, enqueued_at, error)
            select id, kind, queue, 'dead', priority, args, attempt, max_attempts, deaths, unique_key,
                   organization_id, project_id, run_id, step_id, enqueued_at,
                   deaths || ' workers in a row died while they held this job'
            from ended
        )
        select id as "id: JobId", kind, queue, args, attempt, max_attempts,
               organization_id as "organization_id: OrganizationId", project_id as "project_id: ProjectId",
               run_id as "run_id: RunId", step_id as "step_id: StepId"
        from ended
        "#,
        &poisoned
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(Rescued { readied, poisoned })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(id: WorkerId, beat: i64, locked: bool) -> Peer {
        Peer { id, beat, locked }
    }

    #[test]
    fn a_worker_whose_lock_is_held_has_fifteen_seconds_of_silence() {
        let (me, other, start) = (WorkerId::new(), WorkerId::new(), Instant::now());
        let mut watch = Watch::default();
        let at = |s: f32| start + Duration::from_secs_f32(s);
        assert_eq!(watch.look(me, &[peer(other, 1, true)], at(0.0)), (vec![], false));
        assert_eq!(watch.look(me, &[peer(other, 1, true)], at(14.9)), (vec![], false));
        let dead = Dead { worker: other, beat: 1 };
        assert_eq!(watch.look(me, &[peer(other, 1, true)], at(15.0)).0, vec![dead]);
    }

    #[test]
    fn a_lock_that_is_gone_shortens_the_wait_but_a_beat_still_saves() {
        let (me, other, start) = (WorkerId::new(), WorkerId::new(), Instant::now());
        let mut watch = Watch::default();
        let at = |s: f32| start + Duration::from_secs_f32(s);
        assert_eq!(watch.look(me, &[peer(other, 1, false)], at(0.0)), (vec![], true));
        assert_eq!(watch.look(me, &[peer(other, 2, false)], at(2.0)), (vec![], true));
        assert_eq!(watch.look(me, &[peer(other, 2, false)], at(4.0)), (vec![], true));
        let dead = Dead { worker: other, beat: 2 };
        assert_eq!(watch.look(me, &[peer(other, 2, false)], at(4.6)).0, vec![dead]);
    }

    #[test]
    fn after_the_own_connection_broke_nobody_is_dead_at_first_sight() {
        let (me, other, start) = (WorkerId::new(), WorkerId::new(), Instant::now());
        let mut watch = Watch::default();
        watch.look(me, &[peer(other, 1, false)], start);
        watch.reset();
        let later = start + Duration::from_secs(30);
        assert_eq!(watch.look(me, &[peer(other, 1, false)], later), (vec![], true));
    }

    #[test]
    fn nobody_judges_itself() {
        let (me, start) = (WorkerId::new(), Instant::now());
        let mut watch = Watch::default();
        watch.look(me, &[peer(me, 1, false)], start);
        assert_eq!(watch.look(me, &[peer(me, 1, false)], start + SILENCE), (vec![], false));
    }
}
