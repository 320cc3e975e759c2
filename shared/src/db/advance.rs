//! How a run moves on: planned, a step ended, the run ended. Each function works in the caller's transaction, which also
//! ends the job, and returns the jobs that follow.
//!
//! Every one of them locks the run row first, in a statement of its own. The statements after it have newer snapshots, so two
//! parents of a step that end at the same moment see each other: the second waits for the first, and whoever brings
//! `unmet` or `open_steps` to zero enqueues what follows.

use std::collections::BTreeSet;

use serde_json::Value;
use sqlx::{Postgres, Transaction};

use super::create_run::plan_job;
use crate::{
    domain::{AttemptStatus, RunStatus, StepStatus, outcome},
    ids::{AttemptId, DeploymentId, JobId, OrganizationId, PipelineId, ProjectId, RunId, StepId},
    jobs::{JobArgs, RunPipeline, RunStep, UploadArtifacts},
    queue::{Job, NewJob},
};

/// Why a run of a group ended that wants only its newest one.
const SUPERSEDED: &str = "superseded by a newer run of its group";

pub(crate) type Tx<'a> = Transaction<'a, Postgres>;

/// The run, locked until the transaction ends.
#[derive(Debug)]
pub(crate) struct Run {
    pub(super) id: RunId,
    pub(super) organization_id: OrganizationId,
    pub(super) project_id: ProjectId,
    pub(super) pipeline_id: PipelineId,
    pub(super) status: RunStatus,
    pub(super) generation: i32,
    pub(super) open_steps: i32,
    pub(super) cancelling: bool,
    pub(super) group: Option<String>,
}

/// Locks the run's row, and before it, where the run has a concurrency group, that group: whoever ends a run of a group
/// also starts the next one, so without one order for both, two of them could wait for each other.
pub(crate) async fn lock(tx: &mut Tx<'_>, id: RunId) -> Result<Option<Run>, sqlx::Error> {
    sqlx::query_as!(
        Run,
        r#"
        with grouped as materialized (
            select pg_advisory_xact_lock(hashtextextended('group/' || pipeline_id || '/' || concurrency_group, 0))
            from pipeline_runs where id = $1 and concurrency_group is not null
        )
        select id as "id: RunId", organization_id as "organization_id: OrganizationId",
               project_id as "project_id: ProjectId", pipeline_id as "pipeline_id: PipelineId",
               status as "status: RunStatus", generation, open_steps,
               cancel_requested_at is not null as "cancelling!", concurrency_group as "group"
        from pipeline_runs
        where id = $1 and (select count(*) from grouped) >= 0       -- evaluated before any row is locked
        for update
        "#,
        id.uuid()
    )
    .fetch_optional(&mut **tx)
    .await
}

/// Locks a concurrency group until the transaction ends: runs of a group start and end one at a time.
async fn lock_group(tx: &mut Tx<'_>, pipeline: PipelineId, group: &str) -> Result<(), sqlx::Error> {
    sqlx::query!("select pg_advisory_xact_lock(hashtextextended($1, 0))", format!("group/{pipeline}/{group}"))
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// A step to be made.
#[derive(Clone, Debug)]
pub struct NewStep {
    /// Its name, unique in the run.
    pub name: String,
    /// Its image, variables resolved.
    pub image: String,
    /// The planned step.
    pub plan: Value,
    /// Positions of the steps it depends on.
    pub depends_on: Vec<usize>,
    /// Its failure is not the run's.
    pub allow_failure: bool,
    /// How often the user wants it tried again.
    pub retries: i32,
    /// Why a filter leaves it out.
    pub left_out: Option<String>,
}

/// A run as planned.
#[derive(Clone, Debug)]
pub struct Planned {
    /// The pinned commit.
    pub commit_sha: String,
    /// Its message.
    pub commit_message: String,
    /// Its author.
    pub commit_author: String,
    /// Object: the packed commit.
    pub checkout_key: String,
    /// The file's artifact declarations.
    pub artifacts: Value,
    /// The resolved concurrency group, and whether a newer run cancels an older one.
    pub concurrency: Option<(String, bool)>,
    /// The steps, in order.
    pub steps: Vec<NewStep>,
}

/// What became of the attempt to plan.
#[derive(Debug)]
pub struct Advanced {
    /// Jobs to enqueue in this transaction.
    pub jobs: Vec<NewJob>,
    /// Jobs of other workers whose end was asked for; to be told after the commit.
    pub cancelled: Vec<JobId>,
}

impl Advanced {
    fn with(jobs: Vec<NewJob>) -> Self {
        Self { jobs, cancelled: Vec::new() }
    }
}

/// Writes the plan of a pending run and starts it, unless another run of its concurrency group is active.
pub async fn plan_run(tx: &mut Tx<'_>, id: RunId, planned: &Planned) -> Result<Advanced, sqlx::Error> {
    let Some(mut run) = lock(tx, id).await?.filter(|run| run.status == RunStatus::Pending) else {
        return Ok(Advanced::with(Vec::new()));
    };
    if run.cancelling {
        finish(tx, &run, RunStatus::Cancelled, Some("cancelled before its first step")).await?;
        return Ok(Advanced::with(Vec::new()));
    }
    run.group = planned.concurrency.as_ref().map(|(group, _)| group.clone());
    if let Some((group, newest_only)) = &planned.concurrency {
        // Runs that are planned at the same moment see each other from here on.
        lock_group(tx, run.pipeline_id, group).await?;
        if *newest_only && is_superseded(tx, &run, group).await? {
            let jobs = finish(tx, &run, RunStatus::Cancelled, Some(SUPERSEDED)).await?;
            return Ok(Advanced::with(jobs));
        }
    }
    let open = insert_steps(tx, &run, &planned.steps).await?;
    sqlx::query!(
        r#"
        update pipeline_runs
        set commit_sha = $2, commit_message = $3, commit_author = $4, checkout_key = $5, artifacts = $6,
            concurrency_group = $7, open_steps = $8
        where id = $1
        "#,
        id.uuid(),
        planned.commit_sha,
        planned.commit_message,
        planned.commit_author,
        planned.checkout_key,
        planned.artifacts,
        run.group,
        open,
    )
    .execute(&mut **tx)
    .await?;
    if open == 0 {
        let reason = "no step's `when` matches what started this run";
        return finish(tx, &run, RunStatus::Skipped, Some(reason)).await.map(Advanced::with);
    }
    let mut cancelled = Vec::new();
    if let Some((group, true)) = &planned.concurrency {
        for older in older_in_group(tx, &run, group).await? {
            cancelled.extend(super::cancel::request(tx, older, SUPERSEDED).await?);
        }
    }
    let jobs = activate(tx, &run).await?;
    Ok(Advanced { jobs, cancelled })
}

/// A newer run of the group was planned first.
async fn is_superseded(tx: &mut Tx<'_>, run: &Run, group: &str) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select exists (
               select from pipeline_runs
               where pipeline_id = $1 and concurrency_group = $2 and status in ('pending', 'running') and id > $3
           ) as "superseded!""#,
        run.pipeline_id.uuid(),
        group,
        run.id.uuid()
    )
    .fetch_one(&mut **tx)
    .await
}

async fn older_in_group(tx: &mut Tx<'_>, run: &Run, group: &str) -> Result<Vec<RunId>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select id as "id: RunId" from pipeline_runs
           where pipeline_id = $1 and concurrency_group = $2 and status in ('pending', 'running') and id < $3
           order by id"#,
        run.pipeline_id.uuid(),
        group,
        run.id.uuid()
    )
    .fetch_all(&mut **tx)
    .await
}

/// The steps that `step` waits for. One that a filter left out holds nobody up, but what it would have waited for does.
fn waits_for(steps: &[NewStep], step: usize) -> BTreeSet<usize> {
    let (mut found, mut seen) = (BTreeSet::new(), BTreeSet::new());
    let mut open = steps[step].depends_on.clone();
    while let Some(on) = open.pop() {
        if steps[on].left_out.is_none() {
            found.insert(on);
        } else if seen.insert(on) {
            open.extend(&steps[on].depends_on);
        }
    }
    found
}

async fn insert_steps(tx: &mut Tx<'_>, run: &Run, steps: &[NewStep]) -> Result<i32, sqlx::Error> {
    let ids: Vec<StepId> = steps.iter().map(|_| StepId::new()).collect();
    let waits_for: Vec<BTreeSet<usize>> = (0..steps.len()).map(|step| waits_for(steps, step)).collect();
    let mut open = 0;
    for (order, (step, id)) in steps.iter().zip(&ids).enumerate() {
        let unmet = waits_for[order].len();
        let depends_on: Vec<String> = step.depends_on.iter().map(|&on| steps[on].name.clone()).collect();
        sqlx::query!(
            r#"
            insert into pipeline_steps (id, organization_id, project_id, run_id, name, step_order, image, plan, depends_on,
                                        unmet, allow_failure, left_out, retries_left, status, reason, finished_at)
            values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13,
                    case when $12 then 'skipped'::step_status else 'pending' end, $14, case when $12 then now() end)
            "#,
            id.uuid(),
            run.organization_id.uuid(),
            run.project_id.uuid(),
            run.id.uuid(),
            step.name,
            i32::try_from(order).unwrap_or(i32::MAX),
            step.image,
            step.plan,
            &depends_on,
            i32::try_from(unmet).unwrap_or(i32::MAX),
            step.allow_failure,
            step.left_out.is_some(),
            step.retries,
            step.left_out,
        )
        .execute(&mut **tx)
        .await?;
        open += i32::from(step.left_out.is_none());
    }
    let (from, to): (Vec<_>, Vec<_>) =
        waits_for.iter().zip(&ids).flat_map(|(on, id)| on.iter().map(|&on| (id.uuid(), ids[on].uuid()))).unzip();
    sqlx::query!(
        "insert into step_dependencies (step_id, depends_on_id) select * from unnest($1::uuid[], $2::uuid[])",
        &from,
        &to
    )
    .execute(&mut **tx)
    .await?;
    Ok(open)
}

/// Starts a pending run if no other run of its group is active, and returns the jobs of its first steps.
pub(super) async fn activate(tx: &mut Tx<'_>, run: &Run) -> Result<Vec<NewJob>, sqlx::Error> {
    if let Some(group) = &run.group {
        // Without this lock two could each find the other waiting.
        lock_group(tx, run.pipeline_id, group).await?;
        let ahead = sqlx::query_scalar!(
            "select number from pipeline_runs
             where pipeline_id = $1 and concurrency_group = $2 and status = 'running' and id <> $3",
            run.pipeline_id.uuid(),
            group,
            run.id.uuid()
        )
        .fetch_optional(&mut **tx)
        .await?;
        if let Some(number) = ahead {
            sqlx::query!(
                "update pipeline_runs set reason = $2 where id = $1",
                run.id.uuid(),
                format!("waits for run #{number} of its concurrency group")
            )
            .execute(&mut **tx)
            .await?;
            return Ok(Vec::new());
        }
    }
    let open = sqlx::query_scalar!(
        "update pipeline_runs set status = 'running', reason = null, started_at = coalesce(started_at, now())
         where id = $1 and status = 'pending' returning open_steps",
        run.id.uuid()
    )
    .fetch_optional(&mut **tx)
    .await?;
    match open {
        None => return Ok(Vec::new()),
        // A retry in which every step stands: only the publishing failed.
        Some(0) => return Ok(vec![publish_job(run)]),
        Some(_) => {}
    }
    let ready = sqlx::query_scalar!(
        r#"select id as "id: StepId" from pipeline_steps
           where run_id = $1 and status = 'pending' and unmet = 0 order by step_order"#,
        run.id.uuid()
    )
    .fetch_all(&mut **tx)
    .await?;
    start_steps(tx, run, &ready).await
}

/// Gives each of these steps its next attempt, and returns the attempts' jobs.
pub(super) async fn start_steps(tx: &mut Tx<'_>, run: &Run, steps: &[StepId]) -> Result<Vec<NewJob>, sqlx::Error> {
    let mut jobs = Vec::with_capacity(steps.len());
    for &step_id in steps {
        let attempt_id = AttemptId::new();
        let job = NewJob::new(&RunStep { run_id: run.id, step_id, attempt_id })
            .of(run.organization_id, run.project_id, run.id, Some(step_id))
            .unique(format!("RunStep/{attempt_id}"));
        sqlx::query!(
            r#"
            insert into step_attempts (id, organization_id, run_id, step_id, job_id, number)
            select $1, $2, $3, $4, $5, coalesce(max(number), 0) + 1 from step_attempts where step_id = $4
            "#,
            attempt_id.uuid(),
            run.organization_id.uuid(),
            run.id.uuid(),
            step_id.uuid(),
            job.id().uuid(),
        )
        .execute(&mut **tx)
        .await?;
        jobs.push(job);
    }
    Ok(jobs)
}

/// How an attempt ended.
#[derive(Clone, Debug)]
pub struct AttemptEnd {
    /// Not `pending` or `running`.
    pub status: AttemptStatus,
    /// Of the failed command, or 0.
    pub exit_code: Option<i32>,
    /// One sentence that says why and what to do.
    pub reason: Option<String>,
    /// Object: the whole log, under a key of this attempt alone.
    pub log_ref: Option<String>,
    /// Object: the same log, under the key of the step's last attempt.
    pub step_log_ref: Option<String>,
    /// The runner's last word.
    pub report: Option<Value>,
    /// When its first command began, milliseconds since the epoch.
    pub first_command_at_ms: Option<i64>,
    /// A lost attempt may be followed by another (`on_lost: retry`).
    pub retry_if_lost: bool,
}

/// Ends an attempt and moves its run on: another attempt, the steps that waited for this one, or the run's end.
pub async fn end_attempt(
    tx: &mut Tx<'_>,
    run_id: RunId,
    step_id: StepId,
    attempt_id: AttemptId,
    end: &AttemptEnd,
) -> Result<Vec<NewJob>, sqlx::Error> {
    let Some(run) = lock(tx, run_id).await? else { return Ok(Vec::new()) };
    let ended = sqlx::query!(
        r#"
        update step_attempts
        set status = $2, exit_code = $3, reason = $4, log_ref = $5, report = $6, finished_at = now(),
            first_command_at = to_timestamp($7::bigint / 1000.0)
        where id = $1 and status in ('pending', 'running')
        "#,
        attempt_id.uuid(),
        end.status as AttemptStatus,
        end.exit_code,
        end.reason,
        end.log_ref,
        end.report,
        end.first_command_at_ms,
    )
    .execute(&mut **tx)
    .await?
    .rows_affected();
    if ended == 0 {
        return Ok(Vec::new());
    }
    if !run.cancelling && uses_another_try(tx, step_id, end).await? {
        return start_steps(tx, &run, &[step_id]).await;
    }
    let status = match end.status {
        AttemptStatus::Success => StepStatus::Success,
        AttemptStatus::Failure => StepStatus::Failure,
        AttemptStatus::Cancelled => StepStatus::Cancelled,
        // A lost attempt without another try left.
        _ if run.cancelling => StepStatus::Cancelled,
        _ => StepStatus::Error,
    };
    end_step(tx, &run, step_id, status, end).await
}

async fn uses_another_try(tx: &mut Tx<'_>, step_id: StepId, end: &AttemptEnd) -> Result<bool, sqlx::Error> {
    let failed = end.status == AttemptStatus::Failure;
    let lost = end.status == AttemptStatus::Lost && end.retry_if_lost;
    if !failed && !lost {
        return Ok(false);
    }
    let used = sqlx::query!(
        r#"
        update pipeline_steps
        set retries_left = retries_left - $2::int, losses_left = losses_left - $3::int
        where id = $1 and retries_left >= $2::int and losses_left >= $3::int
        "#,
        step_id.uuid(),
        i32::from(failed),
        i32::from(lost),
    )
    .execute(&mut **tx)
    .await?;
    Ok(used.rows_affected() == 1)
}

async fn end_step(
    tx: &mut Tx<'_>,
    run: &Run,
    step_id: StepId,
    status: StepStatus,
    end: &AttemptEnd,
) -> Result<Vec<NewJob>, sqlx::Error> {
    let step = sqlx::query!(
        r#"
        update pipeline_steps
        set status = $2, exit_code = $3, reason = $4, log_ref = $5, finished_at = now(),
            started_at = coalesce(started_at, now())
        where id = $1 and status in ('pending', 'running')
        returning name, allow_failure
        "#,
        step_id.uuid(),
        status as StepStatus,
        end.exit_code,
        end.reason,
        end.step_log_ref,
    )
    .fetch_optional(&mut **tx)
    .await?;
    let Some(step) = step else { return Ok(Vec::new()) };
    let mut closed = 1;
    let mut ready = Vec::new();
    if status.lets_dependents_start(step.allow_failure) {
        ready = release_dependents(tx, step_id).await?;
    } else {
        closed += skip_dependents(tx, step_id, &step.name, status).await?;
    }
    let mut jobs = start_steps(tx, run, &ready).await?;
    jobs.extend(close_steps(tx, run, closed).await?);
    Ok(jobs)
}

async fn release_dependents(tx: &mut Tx<'_>, step_id: StepId) -> Result<Vec<StepId>, sqlx::Error> {
    let mut ready = sqlx::query!(
        r#"
        update pipeline_steps s set unmet = unmet - 1
        from step_dependencies d
        where d.depends_on_id = $1 and s.id = d.step_id and s.status = 'pending'
        returning s.id as "id: StepId", s.unmet, s.step_order
        "#,
        step_id.uuid()
    )
    .fetch_all(&mut **tx)
    .await?;
    ready.retain(|step| step.unmet == 0);
    ready.sort_unstable_by_key(|step| step.step_order);
    Ok(ready.into_iter().map(|step| step.id).collect())
}

async fn skip_dependents(tx: &mut Tx<'_>, step_id: StepId, name: &str, status: StepStatus) -> Result<i32, sqlx::Error> {
    let why = match status {
        StepStatus::Cancelled => "was cancelled",
        StepStatus::Error => "ended in an error",
        _ => "failed",
    };
    let skipped = sqlx::query!(
        r#"
        with recursive after (id) as (
            select step_id from step_dependencies where depends_on_id = $1
            union
            select d.step_id from step_dependencies d join after a on d.depends_on_id = a.id
        )
        update pipeline_steps set status = 'skipped', reason = $2, finished_at = now()
        where id in (select id from after) and status = 'pending'
        "#,
        step_id.uuid(),
        format!("not run because step `{name}` {why}")
    )
    .execute(&mut **tx)
    .await?;
    Ok(i32::try_from(skipped.rows_affected()).unwrap_or(i32::MAX))
}

/// Counts ended steps off; the last one leads to the publishing of what the run left.
pub(super) async fn close_steps(tx: &mut Tx<'_>, run: &Run, closed: i32) -> Result<Vec<NewJob>, sqlx::Error> {
    let open = sqlx::query_scalar!(
        "update pipeline_runs set open_steps = open_steps - $2 where id = $1 returning open_steps",
        run.id.uuid(),
        closed
    )
    .fetch_one(&mut **tx)
    .await?;
    if open > 0 {
        return Ok(Vec::new());
    }
    if run.status == RunStatus::Pending {
        // It never started: cancelled while it waited for its group. Nothing was staged.
        return finish(tx, run, RunStatus::Cancelled, None).await;
    }
    Ok(vec![publish_job(run)])
}

fn publish_job(run: &Run) -> NewJob {
    NewJob::new(&UploadArtifacts { run_id: run.id })
        .of(run.organization_id, run.project_id, run.id, None)
        .unique(format!("UploadArtifacts/{}/{}", run.id, run.generation))
}

/// A published file.
#[derive(Clone, Debug)]
pub struct NewArtifact {
    /// The artifact's name.
    pub name: String,
    /// The file's path within it.
    pub path: String,
    /// By its extension.
    pub content_type: String,
    /// Bytes.
    pub size: i64,
    /// Of its content, in hex.
    pub sha256: String,
    /// The object.
    pub storage_key: String,
    /// Milliseconds from now until it goes; never without.
    pub expires_in_ms: Option<i64>,
}

/// How a run whose steps have all ended will end.
pub async fn outcome_of(tx: &mut Tx<'_>, id: RunId) -> Result<RunStatus, sqlx::Error> {
    let steps = sqlx::query!(
        r#"select status as "status: StepStatus", allow_failure from pipeline_steps where run_id = $1"#,
        id.uuid()
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(outcome(steps.into_iter().map(|step| (step.status, step.allow_failure))))
}

/// Ends a run whose artifacts are stored: their rows, its deployments, its status, and the next run of its group.
pub async fn end_run(
    tx: &mut Tx<'_>,
    id: RunId,
    artifacts: &[NewArtifact],
    notes: &[String],
) -> Result<Vec<NewJob>, sqlx::Error> {
    let Some(run) = lock(tx, id).await?.filter(|run| run.status == RunStatus::Running && run.open_steps == 0) else {
        return Ok(Vec::new());
    };
    for artifact in artifacts {
        sqlx::query!(
            r#"
            insert into artifacts (id, organization_id, project_id, run_id, name, path, content_type, size, sha256,
                                   storage_key, expires_at)
            values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, now() + $11::bigint * interval '1 millisecond')
            on conflict (run_id, name, path) do update
            set content_type = excluded.content_type, size = excluded.size, sha256 = excluded.sha256,
                storage_key = excluded.storage_key, expires_at = excluded.expires_at, created_at = now()
            "#,
            crate::ids::ArtifactId::new().uuid(),
            run.organization_id.uuid(),
            run.project_id.uuid(),
            id.uuid(),
            artifact.name,
            artifact.path,
            artifact.content_type,
            artifact.size,
            artifact.sha256,
            artifact.storage_key,
            artifact.expires_in_ms,
        )
        .execute(&mut **tx)
        .await?;
    }
    sqlx::query!("update pipeline_runs set notes = $2 where id = $1", id.uuid(), notes).execute(&mut **tx).await?;
    let status = outcome_of(tx, id).await?;
    let reason = sqlx::query_scalar!(
        r#"select 'step `' || name || '`: ' || reason as "reason!" from pipeline_steps
           where run_id = $1 and reason is not null and not (allow_failure and status = 'failure')
             and status::text = $2
           order by step_order limit 1"#,
        id.uuid(),
        status.name()
    )
    .fetch_optional(&mut **tx)
    .await?;
    // Whoever asked for a cancel said why.
    let reason = reason.filter(|_| !(run.cancelling && status == RunStatus::Cancelled));
    finish(tx, &run, status, reason.as_deref()).await
}

/// Notes that an image was built and should run; once for each step.
pub async fn deploy(
    tx: &mut Tx<'_>,
    run_id: RunId,
    step: &str,
    environment: &str,
    image: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        r#"
        insert into deployments (id, organization_id, project_id, run_id, step_id, environment, image)
        select $1, organization_id, project_id, run_id, id, $4, $5 from pipeline_steps where run_id = $2 and name = $3
        on conflict (step_id) do nothing
        "#,
        DeploymentId::new().uuid(),
        run_id.uuid(),
        step,
        environment,
        image
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Ends a pending run that has no steps: nothing matched, or its file does not parse.
pub async fn end_unplanned(
    tx: &mut Tx<'_>,
    id: RunId,
    status: RunStatus,
    reason: &str,
    diagnostics: Option<&Value>,
) -> Result<Vec<NewJob>, sqlx::Error> {
    let Some(run) = lock(tx, id).await?.filter(|run| run.status == RunStatus::Pending) else {
        return Ok(Vec::new());
    };
    sqlx::query!("update pipeline_runs set diagnostics = $2 where id = $1", id.uuid(), diagnostics)
        .execute(&mut **tx)
        .await?;
    finish(tx, &run, if run.cancelling { RunStatus::Cancelled } else { status }, Some(reason)).await
}

/// Notes what a plan found out about its commit, for runs that end without steps too.
pub async fn note_commit(
    tx: &mut Tx<'_>,
    id: RunId,
    sha: &str,
    message: &str,
    author: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "update pipeline_runs set commit_sha = $2, commit_message = $3, commit_author = $4 where id = $1",
        id.uuid(),
        sha,
        message,
        author
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Ends the run and starts the one that waited for it; the next one starts in the transaction that ends the old one.
pub(super) async fn finish(
    tx: &mut Tx<'_>,
    run: &Run,
    status: RunStatus,
    reason: Option<&str>,
) -> Result<Vec<NewJob>, sqlx::Error> {
    sqlx::query!(
        r#"update pipeline_runs set status = $2, finished_at = now(),
                  -- Whoever asked for a cancel said why.
                  reason = coalesce($3, case when $2 = 'cancelled'::run_status then reason end),
                  started_at = coalesce(started_at, case when status = 'running' then now() end)
           where id = $1 and status in ('pending', 'running')"#,
        run.id.uuid(),
        status as RunStatus,
        reason
    )
    .execute(&mut **tx)
    .await?;
    let Some(group) = &run.group else { return Ok(Vec::new()) };
    // The same lock as in `activate`: taken before looking for who waits.
    lock_group(tx, run.pipeline_id, group).await?;
    let next = sqlx::query_scalar!(
        r#"select id as "id: RunId" from pipeline_runs
           where pipeline_id = $1 and concurrency_group = $2 and status = 'pending' and id <> $3
             and cancel_requested_at is null
           order by id limit 1"#,
        run.pipeline_id.uuid(),
        group,
        run.id.uuid()
    )
    .fetch_optional(&mut **tx)
    .await?;
    let Some(next) = next else { return Ok(Vec::new()) };
    match lock(tx, next).await?.filter(|next| next.status == RunStatus::Pending) {
        Some(next) => Box::pin(activate(tx, &next)).await,
        None => Ok(Vec::new()),
    }
}

/// What the death of a job means for its run, in the transaction in which the job leaves the queue.
pub async fn job_died(tx: &mut Tx<'_>, job: &Job, error: &str) -> Result<Vec<NewJob>, sqlx::Error> {
    let Some(run_id) = job.run_id else { return Ok(Vec::new()) };
    match job.kind.as_str() {
        RunPipeline::KIND => {
            let reason = format!("the run could not be planned: {error}");
            end_unplanned(tx, run_id, RunStatus::Error, &reason, None).await
        }
        RunStep::KIND => {
            let Ok(args) = job.args::<RunStep>() else { return Ok(Vec::new()) };
            let end = AttemptEnd {
                status: AttemptStatus::Error,
                exit_code: None,
                reason: Some(format!("BuildIt could not run this step: {error}; an operator can retry it")),
                log_ref: None,
                step_log_ref: None,
                report: None,
                first_command_at_ms: None,
                retry_if_lost: false,
            };
            end_attempt(tx, run_id, args.step_id, args.attempt_id, &end).await
        }
        UploadArtifacts::KIND => {
            let Some(run) = lock(tx, run_id).await? else { return Ok(Vec::new()) };
            let reason = format!("the artifacts could not be published: {error}");
            finish(tx, &run, RunStatus::Error, Some(&reason)).await
        }
        _ => Ok(Vec::new()),
    }
}

/// Plans the run anew: for one that ended before it had steps.
pub(super) fn plan_again(run: &Run, generation: i32) -> NewJob {
    plan_job(run.organization_id, run.project_id, run.id, generation)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(depends_on: &[usize], left_out: bool) -> NewStep {
        NewStep {
            name: "a".into(),
            image: String::new(),
            plan: Value::Null,
            depends_on: depends_on.to_vec(),
            allow_failure: false,
            retries: 0,
            left_out: left_out.then(|| "its `when`".into()),
        }
    }

    #[test]
    fn a_step_waits_for_what_a_left_out_one_would_have_waited_for() {
        let steps = [step(&[], false), step(&[0], true), step(&[1], true), step(&[2], false), step(&[0, 1], false)];
        assert_eq!(waits_for(&steps, 3), BTreeSet::from([0]));
        assert_eq!(waits_for(&steps, 4), BTreeSet::from([0]));
        assert_eq!(waits_for(&steps, 0), BTreeSet::new());
    }
}
