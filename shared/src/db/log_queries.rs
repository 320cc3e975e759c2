//! Reading logs: chunks while an attempt runs, one object afterwards.

use sqlx::PgExecutor;
use uuid::Uuid;

use super::Scope;
use crate::{
    domain::{AttemptStatus, StepStatus},
    ids::{AttemptId, RunId, StepId},
};

/// Whose log it is.
#[derive(Clone, Debug)]
pub struct LogStep {
    /// The step.
    pub id: StepId,
    /// Its name.
    pub name: String,
}

/// Where a step's log stands.
#[derive(Clone, Debug)]
pub struct LogState {
    /// Where the step stands.
    pub step: StepStatus,
    /// The attempt that was asked for, if there is such a one yet.
    pub attempt: Option<LogAttempt>,
}

/// Where an attempt's log stands.
#[derive(Clone, Debug)]
pub struct LogAttempt {
    /// The attempt.
    pub id: AttemptId,
    /// Its number within its step, from 1.
    pub number: i32,
    /// Where it stands.
    pub status: AttemptStatus,
    /// Bytes stored in chunks.
    pub length: i64,
    /// The object that holds the whole log, once there is one.
    pub object: Option<String>,
    /// Whether the step has a later attempt.
    pub is_followed: bool,
}

impl LogAttempt {
    /// Nothing more will be added to its log.
    pub fn is_ended(&self) -> bool {
        !matches!(self.status, AttemptStatus::Pending | AttemptStatus::Running)
    }
}

/// The step of a run with that id or name.
pub async fn find_step(
    db: impl PgExecutor<'_>,
    scope: Scope,
    run: RunId,
    id_or_name: &str,
) -> Result<Option<LogStep>, sqlx::Error> {
    sqlx::query_as!(
        LogStep,
        r#"
        select s.id as "id: StepId", s.name
        from pipeline_runs r join pipeline_steps s on s.run_id = r.id
        where r.organization_id = $1 and ($2::uuid is null or r.project_id = $2) and r.id = $3
          and (s.id = $4 or s.name = $5)
        -- A step may be named like the id of another; ids win.
        order by (s.id = $4) desc nulls last limit 1
        "#,
        scope.organization.uuid(),
        scope.project_uuid(),
        run.uuid(),
        Uuid::parse_str(id_or_name).ok(),
        id_or_name
    )
    .fetch_optional(db)
    .await
}

/// When what of an attempt's log was printed: from which byte on, and milliseconds since the epoch, in order. Of an
/// attempt that has reported by its runner's clock, the last being the end of its commands; else when it arrived.
pub async fn times(db: impl PgExecutor<'_>, attempt: AttemptId) -> Result<Vec<(u64, i64)>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"
        select t.byte as "byte!", t.ms as "ms!" from (
            select (note ->> 0)::bigint as byte, (a.report ->> 'started_at_ms')::bigint + (note ->> 1)::bigint as ms
            from step_attempts a cross join jsonb_array_elements(a.report -> 'log_times') note
            where a.id = $1
            union all
            select c.start, (extract(epoch from c.written_at) * 1000)::bigint
            from step_attempts a join step_log_chunks c on c.attempt_id = a.id
            where a.id = $1 and a.report is null
        ) t
        order by t.byte, t.ms
        "#,
        attempt.uuid(),
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| (u64::try_from(row.byte).unwrap_or(0), row.ms)).collect())
}

/// Where the log of a step stands: of its attempt `number`, or of its last one.
pub async fn state(
    db: impl PgExecutor<'_>,
    step: StepId,
    number: Option<i32>,
) -> Result<Option<LogState>, sqlx::Error> {
    let row = sqlx::query!(
        r#"
        select s.status as "step: StepStatus", a.id as "id?: AttemptId", a.number as "number?",
               a.status as "status?: AttemptStatus", a.log_len as "log_len?", a.log_ref,
               exists (select from step_attempts l where l.step_id = s.id and l.number > a.number) as "is_followed!"
        from pipeline_steps s
        left join lateral (
            select * from step_attempts a where a.step_id = s.id and ($2::int is null or a.number = $2)
            order by a.number desc limit 1
        ) a on true
        where s.id = $1
        "#,
        step.uuid(),
        number
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| LogState {
        step: row.step,
        attempt: match (row.id, row.number, row.status, row.log_len) {
            (Some(id), Some(number), Some(status), Some(length)) => {
                Some(LogAttempt { id, number, status, length, object: row.log_ref, is_followed: row.is_followed })
            }
            _ => None,
        },
    }))
}
