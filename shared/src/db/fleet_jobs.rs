//! Reading the queue: live jobs and those that ended, in one list.

use serde_json::Value;
use sqlx::PgExecutor;
use uuid::Uuid;

use super::Scope;
use crate::ids::{JobId, OrganizationId, ProjectId, RunId, StepId, WorkerId};

/// The states of a job that has not ended.
pub const LIVE: [&str; 3] = ["scheduled", "ready", "running"];
/// The ends of a job that call for a look.
pub const UNSUCCESSFUL: [&str; 3] = ["dead", "discarded", "cancelled"];
/// The end of most jobs.
pub const SUCCEEDED: &str = "succeeded";

/// How many of the jobs that succeeded a text is looked for in.
pub const SEARCHED: i64 = 10_000;

/// Which jobs a list shows.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only those in one of these states; all if empty.
    pub states: Vec<String>,
    /// Only those of this kind.
    pub kind: Option<String>,
    /// Only those of this queue.
    pub queue: Option<String>,
    /// Only those of this project.
    pub project: Option<ProjectId>,
    /// Only those of this organization, and of this project of it.
    pub scope: Option<Scope>,
    /// Only those whose arguments or error have this text in them, or whose id it is. Of those that succeeded only the
    /// newest [`SEARCHED`] are looked through, since all of them would take seconds.
    pub text: Option<String>,
}

/// A job, as its readers see it.
#[derive(Clone, Debug)]
pub struct JobRow {
    /// Its id.
    pub id: JobId,
    /// Name of its kind.
    pub kind: String,
    /// Its queue.
    pub queue: String,
    /// One of [`LIVE`], [`UNSUCCESSFUL`] or [`SUCCEEDED`].
    pub state: String,
    /// Higher goes first.
    pub priority: i16,
    /// Claims that counted.
    pub attempt: i32,
    /// Claims that may fail before it is dead.
    pub max_attempts: i32,
    /// Workers that died in a row while they held it.
    pub deaths: i16,
    /// Who has it or had it last.
    pub worker_id: Option<WorkerId>,
    /// Whether its end was asked for.
    pub cancel_requested: bool,
    /// Its arguments.
    pub args: Value,
    /// Whose it is.
    pub organization_id: Option<OrganizationId>,
    /// The project it is about.
    pub project_id: Option<ProjectId>,
    /// The run it is about.
    pub run_id: Option<RunId>,
    /// The step it is about.
    pub step_id: Option<StepId>,
    /// When it was enqueued.
    pub enqueued_at: jiff_sqlx::Timestamp,
    /// When it is due; only before its end.
    pub run_at: Option<jiff_sqlx::Timestamp>,
    /// When it was claimed last.
    pub claimed_at: Option<jiff_sqlx::Timestamp>,
    /// When it ended.
    pub ended_at: Option<jiff_sqlx::Timestamp>,
    /// What it ended of.
    pub error: Option<String>,
}

/// An attempt that did not succeed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// When.
    pub happened_at: jiff_sqlx::Timestamp,
    /// The attempt's number.
    pub attempt: i32,
    /// `failed` or `worker_died`.
    pub kind: String,
    /// Who had it.
    pub worker_id: Option<WorkerId>,
    /// The machine of that worker.
    pub host: Option<String>,
    /// When it was claimed.
    pub claimed_at: Option<jiff_sqlx::Timestamp>,
    /// What went wrong.
    pub error: String,
}

/// Jobs, newest first, those older than `before`.
pub async fn list(
    db: impl PgExecutor<'_>,
    filter: &Filter,
    before: Option<JobId>,
    limit: i64,
) -> Result<Vec<JobRow>, sqlx::Error> {
    let any = |states: &[&str]| filter.states.is_empty() || filter.states.iter().any(|s| states.contains(&s.as_str()));
    sqlx::query_as!(
        JobRow,
        r#"
        select id as "id!: JobId", kind as "kind!", queue as "queue!", state as "state!", priority as "priority!",
               attempt as "attempt!", max_attempts as "max_attempts!", deaths as "deaths!", worker_id as "worker_id: WorkerId",
               cancel_requested as "cancel_requested!", args as "args!", organization_id as "organization_id: OrganizationId",
               project_id as "project_id: ProjectId", run_id as "run_id: RunId", step_id as "step_id: StepId",
               enqueued_at as "enqueued_at!: jiff_sqlx::Timestamp", run_at as "run_at: jiff_sqlx::Timestamp",
               claimed_at as "claimed_at: jiff_sqlx::Timestamp", ended_at as "ended_at: jiff_sqlx::Timestamp", error
        from (
            (select id, kind, queue, state::text, priority, attempt, max_attempts, deaths, worker_id, cancel_requested, args,
                    organization_id, project_id, run_id, step_id, enqueued_at, run_at, claimed_at,
                    null::timestamptz as ended_at, null::text as error
             from jobs
             where $1 and (cardinality($4::text[]) = 0 or state::text = any($4)) and ($5::text is null or kind = $5)
               and ($6::text is null or queue = $6) and ($7::uuid is null or project_id = $7)
               and ($8::text is null or id::text = $8 or strpos(lower(args::text), lower($8)) > 0)
               and ($9::uuid is null or id < $9)
               and ($11::uuid is null or organization_id = $11) and ($12::uuid is null or project_id = $12)
             order by id desc limit $10)
            union all
            -- Apart from those that succeeded: an index of their own finds the few among the many.
            (select id, kind, queue, ended_as::text, priority, attempt, max_attempts, deaths, worker_id, false, args,
                    organization_id, project_id, run_id, step_id, enqueued_at, null, claimed_at, ended_at, error
             from job_history
             where $2 and ended_as <> 'succeeded' and (cardinality($4::text[]) = 0 or ended_as::text = any($4))
               and ($5::text is null or kind = $5) and ($6::text is null or queue = $6)
               and ($7::uuid is null or project_id = $7)
               and ($8::text is null or id::text = $8 or strpos(lower(args::text), lower($8)) > 0
                    or strpos(lower(error), lower($8)) > 0)
               and ($9::uuid is null or id < $9)
               and ($11::uuid is null or organization_id = $11) and ($12::uuid is null or project_id = $12)
             order by id desc limit $10)
            union all
            (select id, kind, queue, ended_as::text, priority, attempt, max_attempts, deaths, worker_id, false, args,
                    organization_id, project_id, run_id, step_id, enqueued_at, null, claimed_at, ended_at, error
             from job_history
             where $3 and ended_as = 'succeeded' and ($5::text is null or kind = $5) and ($6::text is null or queue = $6)
               and ($7::uuid is null or project_id = $7)
               and ($8::text is null or strpos(lower(args::text), lower($8)) > 0 or id = $14)
               and ($8::text is null or id = $14 or id >= coalesce(
                   (select id from job_history where $8::text is not null order by id desc offset $13 limit 1),
                   '00000000-0000-0000-0000-000000000000'))
               and ($9::uuid is null or id < $9)
               and ($11::uuid is null or organization_id = $11) and ($12::uuid is null or project_id = $12)
             order by id desc limit $10)
        ) j
        order by id desc limit $10
        "#,
        any(&LIVE),
        any(&UNSUCCESSFUL),
        any(&[SUCCEEDED]),
        &filter.states,
        filter.kind,
        filter.queue,
        filter.project.map(ProjectId::uuid),
        filter.text,
        before.map(JobId::uuid),
        limit,
        filter.scope.map(|scope| scope.organization.uuid()),
        filter.scope.and_then(|scope| scope.project_uuid()),
        SEARCHED,
        filter.text.as_deref().and_then(|text| Uuid::parse_str(text).ok())
    )
    .fetch_all(db)
    .await
}

/// The job with that id.
pub async fn find(db: impl PgExecutor<'_>, id: JobId) -> Result<Option<JobRow>, sqlx::Error> {
    sqlx::query_as!(
        JobRow,
        r#"
        select id as "id!: JobId", kind as "kind!", queue as "queue!", state as "state!", priority as "priority!",
               attempt as "attempt!", max_attempts as "max_attempts!", deaths as "deaths!", worker_id as "worker_id: WorkerId",
               cancel_requested as "cancel_requested!", args as "args!", organization_id as "organization_id: OrganizationId",
               project_id as "project_id: ProjectId", run_id as "run_id: RunId", step_id as "step_id: StepId",
               enqueued_at as "enqueued_at!: jiff_sqlx::Timestamp", run_at as "run_at: jiff_sqlx::Timestamp",
               claimed_at as "claimed_at: jiff_sqlx::Timestamp", ended_at as "ended_at: jiff_sqlx::Timestamp", error
        from (
            select id, kind, queue, state::text, priority, attempt, max_attempts, deaths, worker_id, cancel_requested, args,
                   organization_id, project_id, run_id, step_id, enqueued_at, run_at, claimed_at,
                   null::timestamptz as ended_at, null::text as error
            from jobs where id = $1
            union all
            select id, kind, queue, ended_as::text, priority, attempt, max_attempts, deaths, worker_id, false, args,
                   organization_id, project_id, run_id, step_id, enqueued_at, null, claimed_at, ended_at, error
            from job_history where id = $1
        ) j
        limit 1
        "#,
        id.uuid()
    )
    .fetch_optional(db)
    .await
}

/// A job's attempts that did not succeed, oldest first; at most the last 200.
pub async fn failures(db: impl PgExecutor<'_>, id: JobId) -> Result<Vec<Failure>, sqlx::Error> {
    sqlx::query_as!(
        Failure,
        r#"
        select happened_at as "happened_at: jiff_sqlx::Timestamp", attempt, kind::text as "kind!",
               worker_id as "worker_id: WorkerId", host as "host?", claimed_at as "claimed_at: jiff_sqlx::Timestamp", error
        from (
            select e.*, w.host from job_errors e left join workers w on w.id = e.worker_id
            where e.job_id = $1 order by e.happened_at desc limit 200
        ) e
        order by happened_at
        "#,
        id.uuid()
    )
    .fetch_all(db)
    .await
}

/// Which of a filter's jobs a change concerns, newest first.
pub async fn ids(db: impl PgExecutor<'_>, filter: &Filter, limit: i64) -> Result<Vec<Uuid>, sqlx::Error> {
    Ok(list(db, filter, None, limit).await?.into_iter().map(|job| job.id.uuid()).collect())
}
