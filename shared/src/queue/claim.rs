//! Claiming jobs, and the claim itself: the only thing that can end its job.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::Value;
use sqlx::{Postgres, Transaction};
use tokio_util::sync::CancellationToken;

use super::{
    Error, Member, NewJob,
    ended::{self, Ended, JobError},
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
    pub(super) slot: Mutex<Option<Slot>>,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.member.forget(self.job.id, self.lease);
    }
}

/// A claimed row; a macro of `query_as!` makes it, so its fields mirror the columns.
pub(super) struct Row {
    pub(super) id: JobId,
    pub(super) kind: String,
    pub(super) queue: String,
    pub(super) args: Value,
    pub(super) attempt: i32,
    pub(super) max_attempts: i32,
    pub(super) organization_id: Option<OrganizationId>,
    pub(super) project_id: Option<ProjectId>,
    pub(super) run_id: Option<RunId>,
    pub(super) step_id: Option<StepId>,
    pub(super) cancel_requested: bool,
}

impl Claim {
    pub(super) fn of(announced: &Announced, row: Row, slot: Slot) -> Self {
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
            select id as "id!: JobId", kind as "kind!", queue as "queue!", args as "args!", attempt as "attempt!",
                   max_attempts as "max_attempts!", organization_id as "organization_id: OrganizationId",
                   project_id as "project_id: ProjectId", run_id as "run_id: RunId", step_id as "step_id: StepId",
                   cancel_requested as "cancel_requested!"
            from take_jobs($1, $2, $3, $4, $5)
            "#,
            &queues,
            &counts,
            &member.kinds,
            announced.lease,
            member.id.uuid(),
        )
        .fetch_all(&member.pool)
        .await?;
        let mut claims = Vec::with_capacity(rows.len());
        for row in rows {
            if let Some(slot) = free.get_mut(row.queue.as_str()).and_then(Vec::pop) {
                claims.push(Self::of(&announced, row, slot));
            }
        }
        free.into_values().flatten().for_each(Slot::put_back);
        Ok(claims)
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

    /// Cancelled once somebody else is to go on with this job: an operator drains the worker.
    pub fn hand_over(&self) -> &CancellationToken {
        &self.signals.hand_over
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
