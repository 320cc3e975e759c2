//! What the pages show of many things at once: projects and pipelines with their last runs, durations, and what waits for what.

use sqlx::PgExecutor;

use super::{Scope, create_run::plan_key};
use crate::{
    domain::RunStatus,
    ids::{PipelineId, ProjectId, RunId, StepId},
};

/// How many of the last runs' statuses come along.
pub const RECENT: i64 = 12;

/// A project or a pipeline with its last run.
#[derive(Clone, Debug)]
pub struct Overview {
    /// Its name.
    pub name: String,
    /// A project's repository, a pipeline's file.
    pub source: String,
    /// Its last run's id; `None` for all of the run's fields where there was none.
    pub run_id: Option<RunId>,
    /// That run's number.
    pub number: Option<i32>,
    /// Where that run stands.
    pub status: Option<RunStatus>,
    /// The branch it is of.
    pub branch: Option<String>,
    /// The ref it is of.
    pub git_ref: Option<String>,
    /// Its commit's message.
    pub commit_message: Option<String>,
    /// When it was made.
    pub created_at: Option<jiff_sqlx::Timestamp>,
    /// The statuses of the last [`RECENT`] runs, oldest first.
    pub recent: Vec<String>,
}

/// Projects by name, those after `after` and with `part` in their name.
pub async fn projects(
    db: impl PgExecutor<'_>,
    scope: Scope,
    part: Option<&str>,
    after: Option<&str>,
    limit: i64,
) -> Result<Vec<Overview>, sqlx::Error> {
    sqlx::query_as!(
        Overview,
        r#"
        select p.name, p.repository as source, r.id as "run_id?: RunId", r.number as "number?",
               r.status as "status?: RunStatus", r.branch, r.git_ref as "git_ref?", r.commit_message,
               r.created_at as "created_at?: jiff_sqlx::Timestamp",
               array(select h.status::text from (
                         select id, status from pipeline_runs where project_id = p.id order by id desc limit $6
                     ) h order by h.id) as "recent!"
        from (
            select * from projects
            where organization_id = $1 and ($2::uuid is null or id = $2) and ($3::text is null or name > $3)
              and ($4::text is null or strpos(name, $4) > 0)
            order by name limit $5
        ) p
        left join lateral (select * from pipeline_runs where project_id = p.id order by id desc limit 1) r on true
        order by p.name
        "#,
        scope.organization.uuid(),
        scope.project_uuid(),
        after,
        part,
        limit,
        RECENT
    )
    .fetch_all(db)
    .await
}

/// A project's pipelines by name.
pub async fn pipelines(db: impl PgExecutor<'_>, project: ProjectId, limit: i64) -> Result<Vec<Overview>, sqlx::Error> {
    sqlx::query_as!(
        Overview,
        r#"
        select l.name, coalesce(l.file, 'stored in BuildIt') as "source!", r.id as "run_id?: RunId", r.number as "number?",
               r.status as "status?: RunStatus", r.branch, r.git_ref as "git_ref?", r.commit_message,
               r.created_at as "created_at?: jiff_sqlx::Timestamp",
               array(select h.status::text from (
                         select number, status from pipeline_runs where pipeline_id = l.id order by number desc limit $3
                     ) h order by h.number) as "recent!"
        from pipelines l
        left join lateral (select * from pipeline_runs where pipeline_id = l.id order by number desc limit 1) r on true
        where l.project_id = $1
        order by l.name limit $2
        "#,
        project.uuid(),
        limit,
        RECENT
    )
    .fetch_all(db)
    .await
}

/// How long a run took.
#[derive(Clone, Copy, Debug)]
pub struct Took {
    /// The run.
    pub id: RunId,
    /// Its number in its pipeline.
    pub number: i32,
    /// How it ended.
    pub status: RunStatus,
    /// In milliseconds.
    pub milliseconds: i64,
}

/// The last runs of a pipeline that ended as a success or a failure, oldest first.
pub async fn durations(db: impl PgExecutor<'_>, pipeline: PipelineId, limit: i64) -> Result<Vec<Took>, sqlx::Error> {
    let mut rows = sqlx::query_as!(
        Took,
        r#"
        select id as "id: RunId", number, status as "status: RunStatus",
               (extract(epoch from finished_at - started_at) * 1000)::bigint as "milliseconds!"
        from pipeline_runs
        where pipeline_id = $1 and status in ('success', 'failure') and started_at is not null
        order by number desc limit $2
        "#,
        pipeline.uuid(),
        limit
    )
    .fetch_all(db)
    .await?;
    rows.reverse();
    Ok(rows)
}

/// A job of a run that no worker has taken yet.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// The step it is for; none for the run's planning.
    pub step_id: Option<StepId>,
    /// The queue it waits in.
    pub queue: String,
    /// When it is due.
    pub run_at: jiff_sqlx::Timestamp,
    /// Whether it is due.
    pub is_due: bool,
    /// How many jobs go before it, counted up to 1000.
    pub ahead: i64,
    /// Who paused the queue.
    pub paused_by: Option<String>,
    /// Why.
    pub paused_reason: Option<String>,
    /// Whether a worker claims from the queue at all.
    pub is_served: bool,
}

/// The jobs of a run, in its generation, that wait in a queue.
pub async fn waiting(db: impl PgExecutor<'_>, run: RunId, generation: i32) -> Result<Vec<Waiting>, sqlx::Error> {
    sqlx::query_as!(
        Waiting,
        r#"
        select m.step_id as "step_id: StepId", j.queue, j.run_at as "run_at: jiff_sqlx::Timestamp",
               j.state = 'ready' as "is_due!",
               (select count(*) from (
                    select from jobs b where b.queue = j.queue and b.state = 'ready' and (b.priority > j.priority
                        or (b.priority = j.priority and (b.run_at, b.id) < (j.run_at, j.id))) limit 1000
                ) before) as "ahead!",
               q.paused_by as "paused_by?", q.paused_reason as "paused_reason?",
               exists (select from workers w where w.state = 'alive' and j.queue = any(w.queues)) as "is_served!"
        from (
            select job_id, step_id from step_attempts where run_id = $1 and finished_at is null
            union all
            select id, null from jobs where unique_key = $2
        ) m
        join jobs j on j.id = m.job_id
        left join queues q on q.name = j.queue and q.paused_at is not null
        where j.state <> 'running'
        "#,
        run.uuid(),
        plan_key(run, generation)
    )
    .fetch_all(db)
    .await
}

/// The number of the run that a run has to wait for, since both are of one concurrency group.
pub async fn group_holder(db: impl PgExecutor<'_>, run: RunId) -> Result<Option<i32>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"
        select o.number from pipeline_runs r
        join pipeline_runs o on o.pipeline_id = r.pipeline_id and o.concurrency_group = r.concurrency_group
             and o.status = 'running' and o.id <> r.id
        where r.id = $1 and r.status = 'pending'
        "#,
        run.uuid()
    )
    .fetch_optional(db)
    .await
}

/// A step's commands as its file has them, in order.
pub async fn commands(db: impl PgExecutor<'_>, step: StepId) -> Result<Vec<String>, sqlx::Error> {
    let row = sqlx::query_scalar!(
        r#"
        select array(select jsonb_array_elements(coalesce(plan -> 'commands', '[]')) ->> 'source') as "commands!: Vec<Option<String>>"
        from pipeline_steps where id = $1
        "#,
        step.uuid()
    )
    .fetch_optional(db)
    .await?;
    Ok(row.unwrap_or_default().into_iter().flatten().collect())
}

/// How a pipeline stands, for other places.
#[derive(Clone, Debug)]
pub struct LastRuns {
    /// The project's name.
    pub project: String,
    /// The pipeline's name.
    pub pipeline: String,
    /// Whether a run of it has not ended.
    pub is_at_work: bool,
    /// The last run of the default branch that came to a success, a failure or an error.
    pub last_ended: Option<LastRun>,
}

/// A run that ended.
#[derive(Clone, Debug)]
pub struct LastRun {
    /// The run.
    pub id: RunId,
    /// Its number in its pipeline.
    pub number: i32,
    /// How it ended.
    pub status: RunStatus,
    /// When.
    pub finished_at: jiff_sqlx::Timestamp,
}

/// How a pipeline stands. It is for whoever has the address, so it is bound to no organization.
pub async fn last_runs(db: impl PgExecutor<'_>, pipeline: PipelineId) -> Result<Option<LastRuns>, sqlx::Error> {
    let row = sqlx::query!(
        r#"
        select p.name as project, l.name as pipeline,
               exists (select from pipeline_runs where pipeline_id = l.id and status in ('pending', 'running')) as "is_at_work!",
               r.id as "id?: RunId", r.number as "number?", r.status as "status?: RunStatus",
               r.finished_at as "finished_at?: jiff_sqlx::Timestamp"
        from pipelines l join projects p on p.id = l.project_id
        left join lateral (
            select id, number, status, finished_at from pipeline_runs
            where pipeline_id = l.id and status in ('success', 'failure', 'error') and branch = p.default_branch
            order by number desc limit 1
        ) r on true
        where l.id = $1
        "#,
        pipeline.uuid()
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| LastRuns {
        project: row.project,
        pipeline: row.pipeline,
        is_at_work: row.is_at_work,
        last_ended: match (row.id, row.number, row.status, row.finished_at) {
            (Some(id), Some(number), Some(status), Some(finished_at)) => {
                Some(LastRun { id, number, status, finished_at })
            }
            _ => None,
        },
    }))
}
