//! Queues and workers, as an operator sees them.

use sqlx::PgExecutor;

use super::Scope;
use crate::ids::WorkerId;

/// A queue.
#[derive(Clone, Debug)]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// Jobs that can be claimed now.
    pub ready: i64,
    /// Jobs that wait for their time.
    pub scheduled: i64,
    /// Jobs that a worker has.
    pub running: i64,
    /// How long the oldest ready job has been due, in seconds.
    pub oldest_seconds: Option<f64>,
    /// Jobs that ended in the last minute, however they did.
    pub ended_last_minute: i64,
    /// How many workers claim from it.
    pub workers: i64,
    /// Since when nothing is claimed from it.
    pub paused_at: Option<jiff_sqlx::Timestamp>,
    /// Who paused it.
    pub paused_by: Option<String>,
    /// Why.
    pub paused_reason: Option<String>,
}

/// A worker process.
#[derive(Clone, Debug)]
pub struct Worker {
    /// Its id, new for every process.
    pub id: WorkerId,
    /// Its machine.
    pub host: String,
    /// Its process id on that machine.
    pub pid: i32,
    /// Its program's version.
    pub version: String,
    /// The queues it claims from,
    pub queues: Vec<String>,
    /// and how many jobs of each it runs at once.
    pub slots: Vec<i32>,
    /// `alive`, `draining`, `stopped` or `dead`.
    pub state: String,
    /// Jobs it has.
    pub jobs: i64,
    /// When it gave its last sign of life.
    pub beat_at: jiff_sqlx::Timestamp,
    /// When it began.
    pub started_at: jiff_sqlx::Timestamp,
    /// When it ended.
    pub ended_at: Option<jiff_sqlx::Timestamp>,
    /// Since when an operator wants it to claim nothing,
    pub drained_at: Option<jiff_sqlx::Timestamp>,
    /// and who.
    pub drained_by: Option<String>,
}

/// All queues that have jobs, had some a minute ago, are paused or are served by a worker, by name. Jobs are counted that are
/// in `scope`, or all without one.
pub async fn queues(db: impl PgExecutor<'_>, scope: Option<Scope>) -> Result<Vec<Queue>, sqlx::Error> {
    sqlx::query_as!(
        Queue,
        r#"
        with live as (
            select queue as name, count(*) filter (where state = 'ready') as ready,
                   count(*) filter (where state = 'scheduled') as scheduled,
                   count(*) filter (where state = 'running') as running,
                   extract(epoch from now() - min(run_at) filter (where state = 'ready'))::float8 as oldest
            from jobs
            where ($1::uuid is null or organization_id = $1) and ($2::uuid is null or project_id = $2)
            group by queue
        ),
        ended as (
            select queue as name, count(*) as ended from job_history
            where ended_at > now() - interval '1 minute'
              and ($1::uuid is null or organization_id = $1) and ($2::uuid is null or project_id = $2)
            group by queue
        ),
        served as (
            select name, count(*) as workers from workers, unnest(queues) as name
            where state = 'alive' group by name
        )
        select name as "name!", coalesce(ready, 0) as "ready!", coalesce(scheduled, 0) as "scheduled!",
               coalesce(running, 0) as "running!", greatest(oldest, 0) as oldest_seconds,
               coalesce(ended, 0) as "ended_last_minute!", coalesce(workers, 0) as "workers!",
               paused_at as "paused_at?: jiff_sqlx::Timestamp", paused_by as "paused_by?", paused_reason as "paused_reason?"
        from live full join ended using (name) full join served using (name)
             full join (select * from queues where paused_at is not null) q using (name)
        order by name
        "#,
        scope.map(|scope| scope.organization.uuid()),
        scope.and_then(|scope| scope.project_uuid())
    )
    .fetch_all(db)
    .await
}

/// Nothing is claimed from the queue from now on; what runs goes on.
pub async fn pause(db: impl PgExecutor<'_>, queue: &str, by: &str, reason: Option<&str>) -> Result<(), sqlx::Error> {
    sqlx::query!(
        r#"
        insert into queues (name, paused_at, paused_by, paused_reason) values ($1, now(), $2, $3)
        on conflict (name) do update
        set paused_at = coalesce(queues.paused_at, now()), paused_by = $2, paused_reason = $3
        "#,
        queue,
        by,
        reason
    )
    .execute(db)
    .await?;
    Ok(())
}

/// The queue is claimed from again; `false` if it was not paused. The caller then tells its workers.
pub async fn resume(db: impl PgExecutor<'_>, queue: &str) -> Result<bool, sqlx::Error> {
    let resumed = sqlx::query!("delete from queues where name = $1 and paused_at is not null", queue)
        .execute(db)
        .await?
        .rows_affected();
    Ok(resumed > 0)
}

/// Workers, newest first, those older than `before`; `at_work` leaves out those that ended.
pub async fn workers(
    db: impl PgExecutor<'_>,
    at_work: bool,
    before: Option<WorkerId>,
    limit: i64,
) -> Result<Vec<Worker>, sqlx::Error> {
    sqlx::query_as!(
        Worker,
        r#"
        select w.id as "id: WorkerId", host, pid, version, queues, slots, w.state::text as "state!",
               (select count(*) from jobs j where j.worker_id = w.id and j.state = 'running') as "jobs!",
               beat_at as "beat_at: jiff_sqlx::Timestamp", started_at as "started_at: jiff_sqlx::Timestamp",
               ended_at as "ended_at: jiff_sqlx::Timestamp", drained_at as "drained_at: jiff_sqlx::Timestamp", drained_by
        from workers w
        where (not $1 or w.state in ('alive', 'draining')) and ($2::uuid is null or w.id < $2)
        order by w.id desc limit $3
        "#,
        at_work,
        before.map(WorkerId::uuid),
        limit
    )
    .fetch_all(db)
    .await
}

/// From now on it claims nothing, hands over what it holds at its next beat, and stays. `false` if it is not at work.
pub async fn drain(db: impl PgExecutor<'_>, id: WorkerId, by: &str) -> Result<bool, sqlx::Error> {
    let drained = sqlx::query!(
        r#"
        update workers
        set state = 'draining', drained_at = coalesce(drained_at, now()), drained_by = coalesce(drained_by, $2)
        where id = $1 and state in ('alive', 'draining')
        "#,
        id.uuid(),
        by
    )
    .execute(db)
    .await?;
    Ok(drained.rows_affected() > 0)
}

/// It claims again from its next beat on, unless it stops. `false` if it was not drained.
pub async fn undrain(db: impl PgExecutor<'_>, id: WorkerId) -> Result<bool, sqlx::Error> {
    let undrained = sqlx::query!(
        r#"
        update workers set drained_at = null, drained_by = null
        where id = $1 and drained_at is not null and state in ('alive', 'draining')
        "#,
        id.uuid()
    )
    .execute(db)
    .await?;
    Ok(undrained.rows_affected() > 0)
}

/// A worker's machine, for people.
pub async fn host(db: impl PgExecutor<'_>, id: WorkerId) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar!("select host from workers where id = $1", id.uuid()).fetch_optional(db).await
}

/// How many jobs of a kind are in a state.
#[derive(Clone, Debug)]
pub struct Depth {
    /// The queue.
    pub queue: String,
    /// The kind.
    pub kind: String,
    /// `scheduled`, `ready` or `running`.
    pub state: String,
    /// How many.
    pub jobs: i64,
    /// How long the oldest of them has been due, in seconds.
    pub oldest_seconds: f64,
}

/// Live jobs by queue, kind and state.
pub async fn depths(db: impl PgExecutor<'_>) -> Result<Vec<Depth>, sqlx::Error> {
    sqlx::query_as!(
        Depth,
        r#"
        select queue, kind, state::text as "state!", count(*) as "jobs!",
               greatest(extract(epoch from now() - min(run_at)), 0)::float8 as "oldest_seconds!"
        from jobs group by queue, kind, state order by queue, kind, state
        "#
    )
    .fetch_all(db)
    .await
}

/// How many jobs of a kind ended so in the last minute.
#[derive(Clone, Debug)]
pub struct EndRate {
    /// The kind.
    pub kind: String,
    /// `succeeded`, `dead`, `discarded` or `cancelled`.
    pub end: String,
    /// How many.
    pub jobs: i64,
}

/// Jobs that ended in the last minute.
pub async fn ends_of_the_last_minute(db: impl PgExecutor<'_>) -> Result<Vec<EndRate>, sqlx::Error> {
    sqlx::query_as!(
        EndRate,
        r#"
        select kind, ended_as::text as "end!", count(*) as "jobs!" from job_history
        where ended_at > now() - interval '1 minute' group by kind, ended_as order by kind, ended_as
        "#
    )
    .fetch_all(db)
    .await
}

/// How many workers are at work, by state.
pub async fn workers_at_work(db: impl PgExecutor<'_>) -> Result<(i64, i64), sqlx::Error> {
    let row = sqlx::query!(
        r#"
        select count(*) filter (where state = 'alive') as "alive!", count(*) filter (where state = 'draining') as "draining!"
        from workers where state in ('alive', 'draining')
        "#
    )
    .fetch_one(db)
    .await?;
    Ok((row.alive, row.draining))
}

/// Bytes of logs of steps at work, which have not become objects yet.
pub async fn open_log_bytes(db: impl PgExecutor<'_>) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!(
        r#"
        select coalesce(sum(a.log_len), 0)::bigint as "bytes!"
        from jobs j join step_attempts a on a.id = (j.args ->> 'attempt_id')::uuid
        where j.kind = 'RunStep' and a.log_ref is null
        "#
    )
    .fetch_one(db)
    .await
}

/// A job that a worker has.
#[derive(Clone, Debug)]
pub struct HeldJob {
    /// The worker.
    pub worker_id: WorkerId,
    /// The kind.
    pub kind: String,
    /// The project, the run's number and the step, as far as it is about such.
    pub what: Option<String>,
}

/// What these workers have at the moment, as far as it is in `scope`, or all without one.
pub async fn held_jobs(
    db: impl PgExecutor<'_>,
    scope: Option<Scope>,
    workers: &[WorkerId],
) -> Result<Vec<HeldJob>, sqlx::Error> {
    let workers: Vec<_> = workers.iter().map(|id| id.uuid()).collect();
    sqlx::query_as!(
        HeldJob,
        r#"
        select j.worker_id as "worker_id!: WorkerId", j.kind,
               p.name || coalesce(' #' || r.number, '') || coalesce(' ' || s.name, '') as what
        from jobs j left join pipeline_runs r on r.id = j.run_id left join projects p on p.id = r.project_id
             left join pipeline_steps s on s.id = j.step_id
        where j.state = 'running' and j.worker_id = any($1)
          and ($2::uuid is null or j.organization_id = $2) and ($3::uuid is null or j.project_id = $3)
        order by j.claimed_at
        "#,
        &workers,
        scope.map(|scope| scope.organization.uuid()),
        scope.and_then(|scope| scope.project_uuid())
    )
    .fetch_all(db)
    .await
}
