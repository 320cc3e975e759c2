//! Enqueueing: part of the caller's transaction, so that a job exists exactly when its cause does.

use std::time::Duration;

use serde_json::Value;
use uuid::Uuid;

use super::listen::{CHANNEL, Wake};
use crate::{
    ids::{JobId, OrganizationId, ProjectId, RunId, StepId},
    jobs::JobArgs,
};

/// A job to enqueue.
#[derive(Clone, Debug)]
pub struct NewJob {
    pub(super) id: JobId,
    pub(super) kind: String,
    pub(super) queue: String,
    pub(super) args: Value,
    pub(super) max_attempts: i32,
    priority: i16,
    delay: Duration,
    unique_key: Option<String>,
    organization_id: Option<OrganizationId>,
    project_id: Option<ProjectId>,
    run_id: Option<RunId>,
    step_id: Option<StepId>,
}

impl NewJob {
    /// A job with these arguments, due now.
    pub fn new<A: JobArgs>(args: &A) -> Self {
        // Arguments are plain structs of ids and numbers: they always serialize.
        let mut value = serde_json::to_value(args).unwrap_or_default();
        if let Value::Object(fields) = &mut value {
            fields.insert("v".into(), A::VERSION.into());
        }
        Self {
            id: JobId::new(),
            kind: A::KIND.into(),
            queue: A::QUEUE.into(),
            args: value,
            max_attempts: A::MAX_ATTEMPTS,
            priority: 0,
            delay: Duration::ZERO,
            unique_key: None,
            organization_id: None,
            project_id: None,
            run_id: None,
            step_id: None,
        }
    }

    /// The id it will have; unless its unique key is taken by a live job.
    pub fn id(&self) -> JobId {
        self.id
    }

    /// The queue it will wait in.
    pub fn queue(&self) -> &str {
        &self.queue
    }

    /// With an id made before, for a row that refers to it.
    pub fn with_id(self, id: JobId) -> Self {
        Self { id, ..self }
    }

    /// Higher goes first; 0 without this.
    pub fn priority(self, priority: i16) -> Self {
        Self { priority, ..self }
    }

    /// Not to be claimed before that much time has passed.
    pub fn after(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }

    /// Does nothing when a live job has the same key.
    pub fn unique(self, key: impl Into<String>) -> Self {
        Self { unique_key: Some(key.into()), ..self }
    }

    /// Claims that may fail before it is dead, other than its kind says.
    pub fn max_attempts(self, max_attempts: i32) -> Self {
        Self { max_attempts, ..self }
    }

    /// Whose it is, where it belongs to no run.
    pub fn about(self, organization: OrganizationId, project: ProjectId) -> Self {
        Self { organization_id: Some(organization), project_id: Some(project), ..self }
    }

    /// Whose it is: what the fleet's pages filter by.
    pub fn of(self, organization: OrganizationId, project: ProjectId, run: RunId, step: Option<StepId>) -> Self {
        Self {
            organization_id: Some(organization),
            project_id: Some(project),
            run_id: Some(run),
            step_id: step,
            ..self
        }
    }
}

/// New jobs as the columns of an `unnest`.
#[derive(Default)]
pub(super) struct Columns {
    pub(super) ids: Vec<Uuid>,
    pub(super) kinds: Vec<String>,
    pub(super) queues: Vec<String>,
    pub(super) args: Vec<Value>,
    pub(super) max_attempts: Vec<i32>,
    pub(super) priorities: Vec<i16>,
    pub(super) delays_ms: Vec<i64>,
    pub(super) unique_keys: Vec<Option<String>>,
    pub(super) organizations: Vec<Option<Uuid>>,
    pub(super) projects: Vec<Option<Uuid>>,
    pub(super) runs: Vec<Option<Uuid>>,
    pub(super) steps: Vec<Option<Uuid>>,
}

impl Columns {
    pub(super) fn of(jobs: &[NewJob]) -> Self {
        let mut columns = Self::default();
        for job in jobs {
            columns.ids.push(job.id.uuid());
            columns.kinds.push(job.kind.clone());
            columns.queues.push(job.queue.clone());
            columns.args.push(job.args.clone());
            columns.max_attempts.push(job.max_attempts);
            columns.priorities.push(job.priority);
            columns.delays_ms.push(i64::try_from(job.delay.as_millis()).unwrap_or(i64::MAX));
            columns.unique_keys.push(job.unique_key.clone());
            columns.organizations.push(job.organization_id.map(OrganizationId::uuid));
            columns.projects.push(job.project_id.map(ProjectId::uuid));
            columns.runs.push(job.run_id.map(RunId::uuid));
            columns.steps.push(job.step_id.map(StepId::uuid));
        }
        columns
    }
}

/// Enqueues `jobs` in the caller's transaction and returns how many are new; the others' unique keys are taken.
///
/// The caller tells the workers after its commit ([`super::Notifier`]); without that a poll finds them within a second.
pub async fn enqueue(db: impl sqlx::PgExecutor<'_>, jobs: &[NewJob]) -> Result<u64, sqlx::Error> {
    insert(db, jobs, None).await
}

/// As [`enqueue`], in a transaction that tells the workers by its commit.
pub async fn enqueue_and_wake(db: impl sqlx::PgExecutor<'_>, jobs: &[NewJob], wake: &Wake) -> Result<u64, sqlx::Error> {
    insert(db, jobs, wake.payload()).await
}

/// As [`enqueue`], for one job that is wanted now: one of its unique key that waits for a later time is brought forward.
pub async fn enqueue_now(db: &mut sqlx::PgConnection, job: &NewJob) -> Result<(), sqlx::Error> {
    enqueue(&mut *db, std::slice::from_ref(job)).await?;
    sqlx::query!(
        "update jobs set state = 'ready', run_at = now() where unique_key = $1 and state = 'scheduled'",
        job.unique_key
    )
    .execute(db)
    .await?;
    Ok(())
}

async fn insert(
    db: impl sqlx::PgExecutor<'_>,
    jobs: &[NewJob],
    notification: Option<String>,
) -> Result<u64, sqlx::Error> {
    let c = Columns::of(jobs);
    let new = sqlx::query_scalar!(
        r#"
        with fresh as (
        insert into jobs (id, kind, queue, args, max_attempts, priority, run_at, unique_key,
                          organization_id, project_id, run_id, step_id, state)
        select u.id, u.kind, u.queue, u.args, u.max_attempts, u.priority,
               now() + u.delay_ms * interval '1 millisecond', u.unique_key,
               u.organization_id, u.project_id, u.run_id, u.step_id,
               case when u.delay_ms > 0 then 'scheduled'::job_state else 'ready' end
        from unnest($1::uuid[], $2::text[], $3::text[], $4::jsonb[], $5::int[], $6::smallint[], $7::bigint[],
                    $8::text[], $9::uuid[], $10::uuid[], $11::uuid[], $12::uuid[])
             as u (id, kind, queue, args, max_attempts, priority, delay_ms,
                   unique_key, organization_id, project_id, run_id, step_id)
        on conflict (unique_key) where unique_key is not null do nothing
        returning id
        )
        -- Strict: without a payload nothing is notified.
        select count(*) as "new!" from fresh, pg_notify($13, $14)
        "#,
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
        CHANNEL,
        notification,
    )
    .fetch_one(db)
    .await?;
    Ok(new.unsigned_abs())
}
