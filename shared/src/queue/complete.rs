//! The successful end of a job: one statement ends it, enqueues what follows, and claims the next one for its free slot.

use std::sync::PoisonError;

use serde_json::Value;
use sqlx::{PgExecutor, Postgres, Transaction};
use uuid::Uuid;

use super::{Claim, Ended, Error, NewJob, claim::Row, enqueue::Columns, member::Announced, slots::Slot};
use crate::ids::{JobId, OrganizationId, ProjectId, RunId, StepId};

/// The next claim as it is asked for: its lease, announced, and the slot it will have.
struct Next {
    announced: Announced,
    slot: Slot,
}

impl Claim {
    /// Ends the job in `tx`, enqueues what follows from it, and commits. Where a slot is free the worker claims in the
    /// same statement what it just enqueued, or, when nothing follows, the next ready job: a hand-over costs one commit.
    ///
    /// # Errors
    /// [`Error::LeaseLost`]: nothing of `tx` was written.
    pub async fn complete(&self, mut tx: Transaction<'_, Postgres>, follow_up: &[NewJob]) -> Result<Ended, Error> {
        let next = self.plan_next(follow_up);
        let committed = async {
            let rows = self.end(&mut *tx, follow_up, next.as_ref()).await?;
            tx.commit().await?;
            Ok(rows)
        };
        let rows = committed.await;
        self.ended_or_kept(rows, follow_up, next)
    }

    /// As [`Claim::complete`], for a job that changes nothing else: the statement is its own transaction.
    pub async fn complete_alone(&self, follow_up: &[NewJob]) -> Result<Ended, Error> {
        let next = self.plan_next(follow_up);
        let rows = self.end(&self.member.pool, follow_up, next.as_ref()).await;
        self.ended_or_kept(rows, follow_up, next)
    }

    /// Where the job did not end, as far as is known, the slot that the next one would have had stays its own: whoever
    /// settles it still works on it.
    fn ended_or_kept(
        &self,
        rows: Result<Vec<Outcome>, Error>,
        follow_up: &[NewJob],
        next: Option<Next>,
    ) -> Result<Ended, Error> {
        match rows {
            Ok(rows) => Ok(self.ended(rows, follow_up, next)),
            Err(error) => {
                if let Some(next) = next.filter(|next| next.slot.queue() == self.job.queue) {
                    self.slot.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(next.slot);
                }
                Err(error)
            }
        }
    }

    /// A slot for the next job: this claim's own where the queue is the same, else one that is free.
    fn plan_next(&self, follow_up: &[NewJob]) -> Option<Next> {
        if self.member.is_draining() || !self.member.acting() {
            return None;
        }
        let first = follow_up.first();
        // An unknown kind is left for newer workers.
        if first.is_some_and(|job| !self.member.kinds.contains(&job.kind)) {
            return None;
        }
        let queue = first.map_or(self.job.queue.as_str(), NewJob::queue);
        let slot = if queue == self.job.queue {
            self.slot.lock().unwrap_or_else(PoisonError::into_inner).take()
        } else {
            self.member.slots.take(queue)
        }?;
        Some(Next { announced: self.member.announce(), slot })
    }

    async fn end(
        &self,
        db: impl PgExecutor<'_>,
        follow_up: &[NewJob],
        next: Option<&Next>,
    ) -> Result<Vec<Outcome>, Error> {
        let rows = if follow_up.is_empty() {
            self.end_and_claim(db, next).await?
        } else {
            self.end_and_enqueue(db, follow_up, next).await?
        };
        if rows.is_empty() { Err(Error::LeaseLost) } else { Ok(rows) }
    }

    async fn end_and_claim(&self, db: impl PgExecutor<'_>, next: Option<&Next>) -> Result<Vec<Outcome>, sqlx::Error> {
        sqlx::query_as!(
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
            )
            -- One row when the job ended; the next ready one of its queue, if there is one and a slot ($3) for it, is in it.
            select t.id as "id?: JobId", t.kind as "kind?", t.queue as "queue?", t.args as "args?",
                   t.attempt as "attempt?", t.max_attempts as "max_attempts?",
                   t.organization_id as "organization_id?: OrganizationId", t.project_id as "project_id?: ProjectId",
                   t.run_id as "run_id?: RunId", t.step_id as "step_id?: StepId",
                   t.cancel_requested as "cancel_requested?", t.id is not null as "claimed!"
            from ended left join lateral take_jobs(array[ended.queue], array[$3::int], $4, $5, $6) t on true
            "#,
            self.job.id.uuid(),
            self.lease,
            i32::from(next.is_some()),
            &self.member.kinds,
            next.map(|next| next.announced.lease),
            self.member.id.uuid(),
        )
        .fetch_all(db)
        .await
    }

    async fn end_and_enqueue(
        &self,
        db: impl PgExecutor<'_>,
        follow_up: &[NewJob],
        next: Option<&Next>,
    ) -> Result<Vec<Outcome>, sqlx::Error> {
        let c = Columns::of(follow_up);
        sqlx::query_as!(
            Outcome,
            r#"
            -- The fence, as above.
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
            -- What follows. The first is inserted already claimed if this worker may take it (as above) and nothing more
            -- urgent waits in its queue. Materialized: decided once for each row.
            incoming as materialized (
                select n.*, n.nth = 1 and n.delay_ms = 0 and $3::bigint is not null and n.kind = any($17)
                       and exists (select from workers where id = $4 and state = 'alive')
                       and not exists (select from queues where name = n.queue and paused_at is not null)
                       and not exists (select from jobs j where j.queue = n.queue and j.state = 'ready'
                                       and j.priority > n.priority) as taken
                from ended, unnest($5::uuid[], $6::text[], $7::text[], $8::jsonb[], $9::int[], $10::smallint[],
                                   $11::bigint[], $12::text[], $13::uuid[], $14::uuid[], $15::uuid[], $16::uuid[])
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
                       case when u.taken then $4::uuid end,
                       case when u.taken then now() end,
                       case when u.taken then 1 else 0 end
                from incoming u
                on conflict (unique_key) where unique_key is not null do nothing
                returning jobs.*
            )
            -- At least one row when the job ended.
            select f.id as "id?: JobId", f.kind as "kind?", f.queue as "queue?", f.args as "args?",
                   f.attempt as "attempt?", f.max_attempts as "max_attempts?",
                   f.organization_id as "organization_id?: OrganizationId", f.project_id as "project_id?: ProjectId",
                   f.run_id as "run_id?: RunId", f.step_id as "step_id?: StepId",
                   f.cancel_requested as "cancel_requested?", coalesce(f.state = 'running', false) as "claimed!"
            from ended left join fresh f on true
            "#,
            self.job.id.uuid(),
            self.lease,
            next.map(|next| next.announced.lease),
            self.member.id.uuid(),
            &c.ids,
            &c.kinds,
            &c.queues,
            &c.args,
            &c.max_attempts,
            &c.priorities,
            &c.delays_ms,
            &c.unique_keys as &[Option<String>],
            &c.organizations as &[Option<Uuid>],
            &c.projects as &[Option<Uuid>],
            &c.runs as &[Option<Uuid>],
            &c.steps as &[Option<Uuid>],
            &self.member.kinds,
        )
        .fetch_all(db)
        .await
    }

    fn ended(&self, rows: Vec<Outcome>, follow_up: &[NewJob], next: Option<Next>) -> Ended {
        let mut asked = next;
        let mut claimed = None;
        let mut waiting: Vec<&str> = Vec::new();
        for row in rows {
            if row.claimed {
                claimed =
                    row.claimed_row().zip(asked.take()).map(|(row, next)| Claim::of(&next.announced, row, next.slot));
            } else if let Some(id) = row.id {
                waiting.extend(follow_up.iter().find(|job| job.id() == id).map(NewJob::queue));
            }
        }
        for queue in waiting {
            self.member.notifier.jobs(queue);
        }
        if let Some(next) = asked.filter(|_| follow_up.is_empty()) {
            // The queue had nothing for it a moment ago: no reason to look again.
            next.slot.put_back();
        }
        Ended::new(claimed)
    }
}

/// A row of the ending statements: a job that waits or was claimed, or none, which only says that the job ended.
struct Outcome {
    id: Option<JobId>,
    kind: Option<String>,
    queue: Option<String>,
    args: Option<Value>,
    attempt: Option<i32>,
    max_attempts: Option<i32>,
    organization_id: Option<OrganizationId>,
    project_id: Option<ProjectId>,
    run_id: Option<RunId>,
    step_id: Option<StepId>,
    cancel_requested: Option<bool>,
    claimed: bool,
}

impl Outcome {
    fn claimed_row(self) -> Option<Row> {
        Some(Row {
            id: self.id?,
            kind: self.kind?,
            queue: self.queue?,
            args: self.args?,
            attempt: self.attempt?,
            max_attempts: self.max_attempts?,
            organization_id: self.organization_id,
            project_id: self.project_id,
            run_id: self.run_id,
            step_id: self.step_id,
            cancel_requested: self.cancel_requested?,
        })
    }
}
