//! Claiming jobs, and the claim itself: the only thing that can end its job.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde_json::Value;
use sqlx::{PgExecutor, Postgres, Transaction};
use tokio_util::sync::CancellationToken;

use super::{
    Error, Member, NewJob,
    ended::{self, Ended, JobError},
    enqueue::Columns,
    member::{Announced, Signals},
    slots::Slot,
};
use crate::{
    ids::{JobId, OrganizationId, ProjectId, RunId, StepId},
    jobs::JobArgs,
};

/// A claimed job, as its row says.
#[derive(Clone, Debug)]
pub struct Job {
    /// Its id.
    pub id: JobId,
    /// Name of its kind.
    pub kind: String,
    /// The queue it waited in.
    pub queue: String,
    /// Its arguments with their version `v`.
    pub args: Value,
    /// This claim's number, from 1, handed-back ones not counted.
    pub attempt: i32,
    /// Claims that may fail before it is dead.
    pub max_attempts: i32,
    /// Whose it is.
    pub organization_id: Option<OrganizationId>,
    /// The project it is about.
    pub project_id: Option<ProjectId>,
    /// The run it is about.
    pub run_id: Option<RunId>,
    /// The step it is about.
    pub step_id: Option<StepId>,
}

impl Job {
    /// Its arguments, if this program knows their version.
    pub fn args<A: JobArgs>(&self) -> Result<A, JobError> {
        let version = self.args.get("v").and_then(Value::as_u64).unwrap_or(1);
        if version > u64::from(A::VERSION) {
            return Err(JobError::TooNew { kind: A::KIND, version });
        }
        A::deserialize(&self.args)
            .map_err(|error| JobError::fail(format!("the arguments of this {} job cannot be read: {error}", A::KIND)))
    }
}

/// A job that is this worker's, until it ends it, hands it back or loses it. Dropped without any of those it goes back
/// to the queue with the next beat.
#[derive(Debug)]
pub struct Claim {
    pub(super) member: Arc<Member>,
    /// The job.
    pub job: Job,
    pub(super) lease: i64,
    signals: Signals,
    slot: Mutex<Option<Slot>>,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.member.forget(self.job.id, self.lease);
    }
}

/// A claimed row; a macro of `query_as!` makes it, so its fields mirror the columns.
pub(super) struct Row {
    id: JobId,
    kind: String,
    queue: String,
    args: Value,
    attempt: i32,
    max_attempts: i32,
    organization_id: Option<OrganizationId>,
    project_id: Option<ProjectId>,
    run_id: Option<RunId>,
    step_id: Option<StepId>,
    cancel_requested: bool,
}

impl Claim {
    fn of(announced: &Announced, row: Row, slot: Slot) -> Self {
        let signals = announced.arrived(row.id);
        if row.cancel_requested {
            signals.cancelled.cancel();
        }
        Self {
            member: Arc::clone(&announced.member),
            job: Job {
                id: row.id,
                kind: row.kind,
                queue: row.queue,
                args: row.args,
                attempt: row.attempt,
                max_attempts: row.max_attempts,
                organization_id: row.organization_id,
                project_id: row.project_id,
                run_id: row.run_id,
                step_id: row.step_id,
            },
            lease: announced.lease,
            signals,
            slot: Mutex::new(Some(slot)),
        }
    }

    /// Claims ready jobs for these free slots, the most urgent first, in one statement that commits by itself.
    pub async fn take(member: &Arc<Member>, slots: Vec<Slot>) -> Result<Vec<Self>, Error> {
        let mut free: BTreeMap<&'static str, Vec<Slot>> = BTreeMap::new();
        for slot in slots {
            free.entry(slot.queue()).or_default().push(slot);
        }
        let queues: Vec<String> = free.keys().map(|queue| (*queue).to_owned()).collect();
        let counts: Vec<i32> = free.values().map(|slots| i32::try_from(slots.len()).unwrap_or(i32::MAX)).collect();
        if queues.is_empty() || member.is_draining() {
            return Ok(Vec::new());
        }
        let announced = member.announce();
        let rows = sqlx::query_as!(
            Row,
            r#"
            -- The queues this worker has free slots in, without those somebody paused.
            with wanted as (
                select w.queue, w.free from unnest($1::text[], $2::int[]) as w (queue, free)
                where not exists (select from queues q where q.name = w.queue and q.paused_at is not null)
            ),
            -- Of each queue as many rows as there are slots, so that every row locked here is also taken; rows that
            -- another worker is taking at this moment are passed over, not waited for. Materialized: locked once.
            due as materialized (
                select j.id from wanted w cross join lateral (
                    select id from jobs
                    where queue = w.queue and state = 'ready'       -- the partial index jobs_ready, in its order
                      and kind = any($3)                            -- an unknown kind is left for newer workers
                    order by priority desc, run_at, id
                    limit w.free
                    for update skip locked
                ) j
            )
            -- State and lease in one update. A worker that was declared dead takes nothing more.
            update jobs j
            set state = 'running', lease = $4, worker_id = w.id, claimed_at = now(), attempt = attempt + 1
            from due, workers w
            where j.id = due.id and w.id = $5 and w.state = 'alive'
            returning j.id as "id: JobId", kind, queue, args, attempt, max_attempts,
                      organization_id as "organization_id: OrganizationId", project_id as "project_id: ProjectId",
                      run_id as "run_id: RunId", step_id as "step_id: StepId", cancel_requested
            "#,
            &queues,
            &counts,
            &member.kinds,
            announced.lease,
            member.id.uuid(),
        )
        .fetch_all(&member.pool)
        .await?;
        Ok(rows
            .into_iter()
            .filter_map(|row| {
                let slot = free.get_mut(row.queue.as_str())?.pop()?;
                Some(Self::of(&announced, row, slot))
            })
            .collect())
    }

    /// The worker that holds it.
    pub fn member(&self) -> &Arc<Member> {
        &self.member
    }

    /// Cancelled once this claim is not ours any more.
    pub fn lost(&self) -> &CancellationToken {
        &self.signals.lost
    }

    /// Cancelled once somebody asked for the end of this job.
    pub fn cancelled(&self) -> &CancellationToken {
        &self.signals.cancelled
    }

    /// The lease, for statements that write only while it holds.
    pub fn lease(&self) -> i64 {
        self.lease
    }

    /// Waits until this worker may act on the outside; an error if the claim is lost meanwhile. To be asked before
    /// every effect that is not a database write.
    pub async fn may_act(&self) -> Result<(), Error> {
        tokio::select! {
            biased;
            () = self.signals.lost.cancelled() => Err(Error::LeaseLost),
            () = self.member.may_act() => Ok(()),
        }
    }

    /// Ends the job in `tx`, enqueues what follows from it, and commits. Where a slot is free the worker claims in the
    /// same statement what it just enqueued, or else the next ready job: a hand-over costs one commit.
    ///
    /// # Errors
    /// [`Error::LeaseLost`]: nothing of `tx` was written.
    pub async fn complete(&self, mut tx: Transaction<'_, Postgres>, follow_up: &[NewJob]) -> Result<Ended, Error> {
        let (announced, slot) = self.plan_next(follow_up);
        let rows = self.end(&mut *tx, follow_up, announced.as_ref(), slot.as_ref()).await?;
        tx.commit().await?;
        Ok(self.ended(rows, follow_up, announced, slot))
    }

    /// As [`Claim::complete`], for a job that changes nothing else: the statement is its own transaction.
    pub async fn complete_alone(&self, follow_up: &[NewJob]) -> Result<Ended, Error> {
        let (announced, slot) = self.plan_next(follow_up);
        let rows = self.end(&self.member.pool, follow_up, announced.as_ref(), slot.as_ref()).await?;
        Ok(self.ended(rows, follow_up, announced, slot))
    }

    /// A slot for the next job: this claim's own where the queue is the same, else one that is free.
    fn plan_next(&self, follow_up: &[NewJob]) -> (Option<Announced>, Option<Slot>) {
        if self.member.is_draining() || !self.member.acting() {
            return (None, None);
        }
        let queue = follow_up.first().map_or(self.job.queue.as_str(), NewJob::queue);
        let slot = if queue == self.job.queue {
            self.slot.lock().unwrap_or_else(PoisonError::into_inner).take()
        } else {
            self.member.slots.take(queue)
        };
        (slot.is_some().then(|| self.member.announce()), slot)
    }

    async fn end(
        &self,
        db: impl PgExecutor<'_>,
        follow_up: &[NewJob],
        next: Option<&Announced>,
        slot: Option<&Slot>,
    ) -> Result<Vec<Outcome>, Error> {
        let c = Columns::of(follow_up);
        let rows = sqlx::query_as!(
            Outcome,
            r#"
            -- The fence: no row unless this claim still holds the job. Everything below hangs on `ended`.
            with ended as (
                delete from jobs where id = $1 and lease = $2 and state = 'running' returning *
            ),
            archived as (
                insert into job_history (id, kind, queue, ended_as, priority, args, attempt, max_attempts, deaths,
                       worker_id, unique_key, organization_id, project_id, run_id, step_id, enqueued_at, claimed_at)
                select id, kind, queue, 'succeeded', priority, args, attempt, max_attempts, deaths,
                       worker_id, unique_key, organization_id, project_id, run_id, step_id, enqueued_at, claimed_at
                from ended
            ),
            -- May this worker take another job of queue $4? It has a slot (else $3 is null), nobody paused the queue,
            -- nobody declared the worker dead.
            able as (
                select from ended, workers w
                where $3::bigint is not null and w.id = $5 and w.state = 'alive'
                  and not exists (select from queues where name = $4 and paused_at is not null)
            ),
            -- What follows. The first of queue $4 is inserted already claimed, unless something more urgent waits there.
            incoming as materialized (
                select n.*, n.nth = 1 and n.delay_ms = 0 and n.queue = $4 and n.kind = any($18) and exists (select from able)
                       and not exists (select from jobs j where j.queue = n.queue and j.state = 'ready'
                                       and j.priority > n.priority) as taken
                from ended, unnest($6::uuid[], $7::text[], $8::text[], $9::jsonb[], $10::int[], $11::smallint[],
                                   $12::bigint[], $13::text[], $14::uuid[], $15::uuid[], $16::uuid[], $17::uuid[])
                     with ordinality
                     as n (id, kind, queue, args, max_attempts, priority, delay_ms, unique_key,
                           organization_id, project_id, run_id, step_id, nth)
            ),
            fresh as (
                insert into jobs (id, kind, queue, args, max_attempts, priority, run_at, unique_key,
                                  organization_id, project_id, run_id, step_id,
                                  state, lease, worker_id, claimed_at, attempt)
                select u.id, u.kind, u.queue, u.args, u.max_attempts, u.priority,
                       now() + u.delay_ms * interval '1 millisecond', u.unique_key,
                       u.organization_id, u.project_id, u.run_id, u.step_id,
                       case when u.taken then 'running'::job_state when u.delay_ms > 0 then 'scheduled' else 'ready' end,
                       case when u.taken then $3::bigint end,
                       case when u.taken then $5::uuid end,
                       case when u.taken then now() end,
                       case when u.taken then 1 else 0 end
                from incoming u
                on conflict (unique_key) where unique_key is not null do nothing
                returning jobs.*
            ),
            -- Nothing of its own to go on with: the next ready job of the queue, as a claim would take it.
            due as materialized (
                select id from jobs
                where queue = $4 and state = 'ready' and kind = any($18)
                  and exists (select from able) and not exists (select from fresh where state = 'running')
                order by priority desc, run_at, id
                limit 1
                for update skip locked
            ),
            taken as (
                update jobs j
                set state = 'running', lease = $3, worker_id = $5, claimed_at = now(), attempt = j.attempt + 1
                from due where j.id = due.id
                returning j.*
            )
            select null::uuid as "id?: JobId", '' as "kind!", '' as "queue!", '{}'::jsonb as "args!",
                   0 as "attempt!", 0 as "max_attempts!", null::uuid as "organization_id?: OrganizationId",
                   null::uuid as "project_id?: ProjectId", null::uuid as "run_id?: RunId",
                   null::uuid as "step_id?: StepId", false as "cancel_requested!", false as "claimed!"
            from ended
            union all
            select id, kind, queue, args, attempt, max_attempts, organization_id, project_id, run_id, step_id,
                   cancel_requested, state = 'running' from fresh
            union all
            select id, kind, queue, args, attempt, max_attempts, organization_id, project_id, run_id, step_id,
                   cancel_requested, true from taken
            "#,
            self.job.id.uuid(),
            self.lease,
            next.map(|announced| announced.lease),
            slot.map(Slot::queue),
            self.member.id.uuid(),
            &c.ids,
            &c.kinds,
            &c.queues,
            &c.args,
            &c.max_attempts,
            &c.priorities,
            &c.delays_ms,
            &c.unique_keys as &[Option<String>],
            &c.organizations as &[Option<uuid::Uuid>],
            &c.projects as &[Option<uuid::Uuid>],
            &c.runs as &[Option<uuid::Uuid>],
            &c.steps as &[Option<uuid::Uuid>],
            &self.member.kinds,
        )
        .fetch_all(db)
        .await?;
        if rows.is_empty() { Err(Error::LeaseLost) } else { Ok(rows) }
    }

    fn ended(
        &self,
        rows: Vec<Outcome>,
        follow_up: &[NewJob],
        announced: Option<Announced>,
        mut slot: Option<Slot>,
    ) -> Ended {
        let mut next = None;
        let mut waiting: Vec<&str> = Vec::new();
        for row in rows {
            let Some(id) = row.id else { continue };
            match (row.claimed, &announced) {
                (true, Some(announced)) => {
                    next = slot.take().map(|slot| Claim::of(announced, row.claimed_row(id), slot));
                }
                _ => waiting.extend(follow_up.iter().find(|job| job.id == id).map(NewJob::queue)),
            }
        }
        for queue in waiting {
            self.member.notifier.jobs(queue);
        }
        Ended::new(next)
    }

    /// Puts the job back for a later time and keeps the error; the attempt counts.
    pub async fn retry(&self, error: &str, delay: Duration) -> Result<Ended, Error> {
        ended::retry(self, error, delay).await
    }

    /// Puts the job back for a later time as if it had not been claimed.
    pub async fn snooze(&self, delay: Duration) -> Result<Ended, Error> {
        ended::snooze(self, delay).await
    }

    /// Ends the job as dead in `tx`, together with what its death means, and commits.
    pub async fn bury(&self, tx: Transaction<'_, Postgres>, error: &str, follow_up: &[NewJob]) -> Result<Ended, Error> {
        ended::bury(self, tx, error, follow_up).await
    }
}

/// A row of the ending statement: the first says that the job ended (and has no id), the others are jobs.
struct Outcome {
    id: Option<JobId>,
    kind: String,
    queue: String,
    args: Value,
    attempt: i32,
    max_attempts: i32,
    organization_id: Option<OrganizationId>,
    project_id: Option<ProjectId>,
    run_id: Option<RunId>,
    step_id: Option<StepId>,
    cancel_requested: bool,
    claimed: bool,
}

impl Outcome {
    fn claimed_row(self, id: JobId) -> Row {
        Row {
            id,
            kind: self.kind,
            queue: self.queue,
            args: self.args,
            attempt: self.attempt,
            max_attempts: self.max_attempts,
            organization_id: self.organization_id,
            project_id: self.project_id,
            run_id: self.run_id,
            step_id: self.step_id,
            cancel_requested: self.cancel_requested,
        }
    }
}
