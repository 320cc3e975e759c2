//! Attempts that an executor has before their step's turn.
//!
//! Each is a row from before its pod is made until its step's turn comes, which makes it the step's next attempt
//! (`advance`), or until nobody wants it any more. So a crash leaves no pod that nothing names, and a runner that asks for
//! its turn is told to go as soon as the row is gone.

use sqlx::PgPool;

use super::{advance, attempts::Attempt};
use crate::{
    domain::{AttemptStatus, RunStatus, StepStatus},
    ids::{AttemptId, OrganizationId, ProjectId, RunId, StepId},
};

/// What an attempt reserves where it runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// Thousandths of a core.
    pub cpu_millis: u64,
    /// Bytes.
    pub memory_bytes: u64,
}

/// How many attempts may wait before their turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Of one run; 0 for none at all.
    pub of_a_run: u32,
    /// Of all runs.
    pub in_all: u32,
}

/// What waits now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// So many attempts.
    pub attempts: i64,
    /// Thousandths of a core that they reserve.
    pub cpu_millis: i64,
    /// Bytes of memory that they reserve.
    pub memory_bytes: i64,
}

/// The next attempts of a run that might be started ahead, nearest first, each with an id that is new: steps whose turn comes
/// when others have succeeded. As many as `limits` leave room for.
pub async fn candidates(pool: &PgPool, run: RunId, limits: Limits) -> Result<Vec<Attempt>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"
        select s.id as "step_id: StepId", s.name as step, s.plan, r.project_id as "project_id: ProjectId",
               r.organization_id as "organization_id: OrganizationId", r.checkout_key, r.artifacts, r.fork
        from pipeline_steps s join pipeline_runs r on r.id = s.run_id
        where r.id = $1 and r.status = 'running' and r.cancel_requested_at is null
          and s.status = 'pending' and s.unmet > 0 and not exists (select from attempts_ahead h where h.step_id = s.id)
        order by s.unmet, s.step_order
        limit greatest(0, least($2 - (select count(*) from attempts_ahead where run_id = $1),
                                $3 - (select count(*) from attempts_ahead)))
        "#,
        run.uuid(),
        i64::from(limits.of_a_run),
        i64::from(limits.in_all),
    )
    .fetch_all(pool)
    .await?;
    let attempts = rows.into_iter().map(|row| Attempt {
        id: AttemptId::new(),
        number: 0,
        status: AttemptStatus::Pending,
        started: false,
        log_len: 0,
        step_id: row.step_id,
        step: row.step,
        step_status: StepStatus::Pending,
        plan: row.plan,
        run_id: run,
        project_id: row.project_id,
        organization_id: row.organization_id,
        checkout_key: row.checkout_key,
        artifacts: row.artifacts,
        cancelling: false,
        fork: row.fork,
        ahead: true,
    });
    Ok(attempts.collect())
}

/// Makes this the step's next attempt; false when its turn has come, another has been made, or there is no more room.
pub async fn reserve(pool: &PgPool, attempt: &Attempt, room: Room, limits: Limits) -> Result<bool, sqlx::Error> {
    let mut tx = pool.begin().await?;
    // With the run locked no step's turn comes meanwhile.
    let run = advance::lock(&mut tx, attempt.run_id).await?;
    if !run.is_some_and(|run| run.status == RunStatus::Running && !run.cancelling) {
        return Ok(false);
    }
    let reserved = sqlx::query!(
        r#"
        insert into attempts_ahead (attempt_id, step_id, run_id, cpu_millis, memory_bytes)
        select $1, s.id, s.run_id, $3, $4 from pipeline_steps s
        where s.id = $2 and s.status = 'pending' and s.unmet > 0
          and (select count(*) from attempts_ahead where run_id = s.run_id) < $5
          and (select count(*) from attempts_ahead) < $6
        on conflict (step_id) do nothing
        "#,
        attempt.id.uuid(),
        attempt.step_id.uuid(),
        i64::try_from(room.cpu_millis).unwrap_or(i64::MAX),
        i64::try_from(room.memory_bytes).unwrap_or(i64::MAX),
        i64::from(limits.of_a_run),
        i64::from(limits.in_all),
    )
    .execute(&mut *tx)
    .await?
    .rows_affected();
    tx.commit().await?;
    Ok(reserved == 1)
}

/// Gives up those that will have no turn, of one run or of all, and returns them: they are to be removed where they wait.
pub async fn give_up_unwanted(pool: &PgPool, run: Option<RunId>) -> Result<Vec<AttemptId>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"
        delete from attempts_ahead h using pipeline_steps s, pipeline_runs r
        where s.id = h.step_id and r.id = h.run_id and ($1::uuid is null or r.id = $1)
          and (s.status <> 'pending' or r.status <> 'running' or r.cancel_requested_at is not null)
        returning h.attempt_id as "id: AttemptId"
        "#,
        run.map(RunId::uuid)
    )
    .fetch_all(pool)
    .await
}

/// Gives up all of them, and returns them: others, whose turn has come, want the room.
pub async fn give_up_all(pool: &PgPool) -> Result<Vec<AttemptId>, sqlx::Error> {
    sqlx::query_scalar!(r#"delete from attempts_ahead returning attempt_id as "id: AttemptId""#).fetch_all(pool).await
}

/// Gives one up; false when its turn has come.
pub async fn give_up(pool: &PgPool, attempt: AttemptId) -> Result<bool, sqlx::Error> {
    let gone = sqlx::query!("delete from attempts_ahead where attempt_id = $1", attempt.uuid()).execute(pool).await?;
    Ok(gone.rows_affected() == 1)
}

/// What waits now, and what it reserves.
pub async fn waiting(pool: &PgPool) -> Result<Waiting, sqlx::Error> {
    sqlx::query_as!(
        Waiting,
        r#"select count(*) as "attempts!", coalesce(sum(cpu_millis), 0)::bigint as "cpu_millis!",
                  coalesce(sum(memory_bytes), 0)::bigint as "memory_bytes!" from attempts_ahead"#
    )
    .fetch_one(pool)
    .await
}
