//! What an operator does with a job. A job of a run takes its run along, in the same transaction.

use sqlx::PgPool;

use super::{
    advance,
    audit::{self, Actor, Entry},
    cancel,
    fleet_jobs::{self, JobRow},
    retry::{self, Retried},
    unless_deadlocked,
};
use crate::{
    ids::JobId,
    jobs::{DeliverWebhook, JobArgs, RunPipeline, RunStep, UploadArtifacts},
    queue::{Job, Notifier, Signal, enqueue},
};

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Run it again, now: a job of a run retries what failed in the run.
    Retry,
    /// Take it out of the queue: a job of a run ends its step, or its run, as an error.
    Discard,
    /// Stop it: a job of a run cancels the run.
    Cancel,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is done, or will be as soon as the worker hears of it.
    Done,
    /// It cannot be done, for this reason.
    Refused(&'static str),
    /// There is no such job.
    NotFound,
}

/// Does it, notes it in the installation's audit log, and tells the workers.
pub async fn act(
    pool: &PgPool,
    notifier: &Notifier,
    action: Action,
    id: JobId,
    by: &Actor,
) -> Result<Outcome, sqlx::Error> {
    unless_deadlocked(|| act_once(pool, notifier, action, id, by)).await
}

async fn act_once(
    pool: &PgPool,
    notifier: &Notifier,
    action: Action,
    id: JobId,
    by: &Actor,
) -> Result<Outcome, sqlx::Error> {
    let Some(job) = fleet_jobs::find(pool, id).await? else { return Ok(Outcome::NotFound) };
    match action {
        Action::Retry => retry(pool, notifier, &job, by).await,
        Action::Discard => discard(pool, notifier, &job, by).await,
        Action::Cancel => cancel(pool, notifier, &job, by).await,
    }
}

fn note(action: &'static str, job: &JobRow) -> Entry {
    let entry = Entry::new(action, &job.kind).id(job.id).of_installation();
    match job.project_id {
        Some(project) => entry.project(project),
        None => entry,
    }
}

fn is_live(job: &JobRow) -> bool {
    fleet_jobs::LIVE.contains(&job.state.as_str())
}

async fn retry(pool: &PgPool, notifier: &Notifier, job: &JobRow, by: &Actor) -> Result<Outcome, sqlx::Error> {
    if is_live(job) {
        let mut tx = pool.begin().await?;
        let hurried = sqlx::query!(
            "update jobs set state = 'ready', run_at = now() where id = $1 and state = 'scheduled'",
            job.id.uuid()
        )
        .execute(&mut *tx)
        .await?
        .rows_affected();
        if hurried == 0 {
            return Ok(Outcome::Refused("it has not ended"));
        }
        audit::write(&mut *tx, by, note("job.retried", job)).await?;
        tx.commit().await?;
        notifier.jobs(&job.queue);
        return Ok(Outcome::Done);
    }
    if job.state == fleet_jobs::SUCCEEDED {
        return Ok(Outcome::Refused("it succeeded"));
    }
    let mut tx = pool.begin().await?;
    if let (Some(run), Some(organization)) = (job.run_id, job.organization_id) {
        let outcome = match retry::retry_run(&mut tx, organization, run, None).await? {
            Retried::Started => Outcome::Done,
            Retried::NotEnded => Outcome::Refused("its run has not ended"),
            // No step was named.
            Retried::NothingToRetry | Retried::NoSuchStep | Retried::NotThatStep(_) => {
                Outcome::Refused("nothing in its run failed")
            }
            Retried::InputsGone => Outcome::Refused(retry::INPUTS_GONE),
            Retried::NotFound => Outcome::Refused("its run was deleted"),
        };
        if outcome == Outcome::Done {
            audit::write(&mut *tx, by, note("job.retried", job)).await?;
        }
        tx.commit().await?;
        for queue in [RunPipeline::QUEUE, RunStep::QUEUE, UploadArtifacts::QUEUE] {
            notifier.jobs(queue);
        }
        notifier.send(Signal::Run(run));
        return Ok(outcome);
    }
    let again = sqlx::query!(
        r#"
        with ended as (
            delete from job_history where id = $1 and ended_as <> 'succeeded' returning *
        )
        insert into jobs (id, kind, queue, state, priority, args, max_attempts, unique_key, organization_id, project_id,
                          run_id, step_id, enqueued_at)
        select id, kind, queue, 'ready', priority, args, max_attempts, unique_key, organization_id, project_id,
               run_id, step_id, enqueued_at
        from ended
        on conflict (unique_key) where unique_key is not null do nothing
        "#,
        job.id.uuid()
    )
    .execute(&mut *tx)
    .await?
    .rows_affected();
    if again == 0 {
        return Ok(Outcome::Refused("another job does the same work now"));
    }
    audit::write(&mut *tx, by, note("job.retried", job)).await?;
    tx.commit().await?;
    notifier.jobs(&job.queue);
    Ok(Outcome::Done)
}

async fn discard(pool: &PgPool, notifier: &Notifier, job: &JobRow, by: &Actor) -> Result<Outcome, sqlx::Error> {
    if !is_live(job) {
        return Ok(Outcome::Refused("it has ended"));
    }
    let error = format!("discarded by {}", by.name);
    let mut tx = pool.begin().await?;
    // The run's row first, as everywhere: otherwise a cancel and this could wait for each other.
    if let Some(run) = job.run_id {
        advance::lock(&mut tx, run).await?;
    }
    let discarded = sqlx::query!(
        r#"
        with ended as (
            delete from jobs where id = $1 and state in ('ready', 'scheduled') returning *
        )
        insert into job_history (id, kind, queue, ended_as, priority, args, attempt, max_attempts, deaths, worker_id,
               unique_key, organization_id, project_id, run_id, step_id, enqueued_at, claimed_at, error)
        select id, kind, queue, 'discarded', priority, args, attempt, max_attempts, deaths, worker_id,
               unique_key, organization_id, project_id, run_id, step_id, enqueued_at, claimed_at, $2
        from ended
        "#,
        job.id.uuid(),
        error
    )
    .execute(&mut *tx)
    .await?
    .rows_affected();
    if discarded == 0 {
        return Ok(Outcome::Refused("a worker has it at the moment; cancel it instead"));
    }
    let ended = Job {
        id: job.id,
        kind: job.kind.clone(),
        queue: job.queue.clone(),
        args: job.args.clone(),
        attempt: job.attempt,
        max_attempts: job.max_attempts,
        organization_id: job.organization_id,
        project_id: job.project_id,
        run_id: job.run_id,
        step_id: job.step_id,
    };
    let follow_up = advance::job_died(&mut tx, &ended, &error).await?;
    enqueue(&mut *tx, &follow_up).await?;
    audit::write(&mut *tx, by, note("job.discarded", job)).await?;
    tx.commit().await?;
    for job in &follow_up {
        notifier.jobs(job.queue());
    }
    if let Some(run) = job.run_id {
        notifier.send(Signal::Run(run));
    }
    Ok(Outcome::Done)
}

async fn cancel(pool: &PgPool, notifier: &Notifier, job: &JobRow, by: &Actor) -> Result<Outcome, sqlx::Error> {
    if !is_live(job) {
        return Ok(Outcome::Refused("it has ended"));
    }
    let mut tx = pool.begin().await?;
    if let Some(run) = job.run_id {
        let told = cancel::request(&mut tx, run, &format!("cancelled by {}", by.name)).await?;
        audit::write(&mut *tx, by, note("job.cancelled", job)).await?;
        tx.commit().await?;
        for job in told {
            notifier.send(Signal::Cancel(job));
        }
        notifier.jobs(RunStep::QUEUE);
        notifier.jobs(UploadArtifacts::QUEUE);
        notifier.jobs(DeliverWebhook::QUEUE);
        notifier.send(Signal::Run(run));
        return Ok(Outcome::Done);
    }
    let dropped = sqlx::query!(
        r#"
        with ended as (
            delete from jobs where id = $1 and state in ('ready', 'scheduled') returning *
        )
        insert into job_history (id, kind, queue, ended_as, priority, args, attempt, max_attempts, deaths, unique_key,
               enqueued_at, error)
        select id, kind, queue, 'cancelled', priority, args, attempt, max_attempts, deaths, unique_key, enqueued_at, $2
        from ended
        "#,
        job.id.uuid(),
        format!("cancelled by {}", by.name)
    )
    .execute(&mut *tx)
    .await?
    .rows_affected();
    let told = sqlx::query!("update jobs set cancel_requested = true where id = $1", job.id.uuid())
        .execute(&mut *tx)
        .await?
        .rows_affected();
    if dropped + told == 0 {
        return Ok(Outcome::Refused("it has ended"));
    }
    audit::write(&mut *tx, by, note("job.cancelled", job)).await?;
    tx.commit().await?;
    notifier.send(Signal::Cancel(job.id));
    Ok(Outcome::Done)
}
