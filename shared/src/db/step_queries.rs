//! Reading steps and their attempts.

use sqlx::PgExecutor;

use crate::{
    domain::{AttemptStatus, StepStatus},
    ids::{AttemptId, RunId, StepId},
};

/// A step, as its readers see it.
#[derive(Clone, Debug)]
pub struct Step {
    /// Its id.
    pub id: StepId,
    /// Its name, unique in its run.
    pub name: String,
    /// Its image.
    pub image: String,
    /// Where it stands.
    pub status: StepStatus,
    /// The steps it waits for.
    pub depends_on: Vec<String>,
    /// Whether its failure leaves the run a success.
    pub allow_failure: bool,
    /// Its commands' exit code.
    pub exit_code: Option<i32>,
    /// Why it ended so, and what to do.
    pub reason: Option<String>,
    /// The stored log of its last attempt.
    pub log_ref: Option<String>,
    /// When it began.
    pub started_at: Option<jiff_sqlx::Timestamp>,
    /// When it ended.
    pub finished_at: Option<jiff_sqlx::Timestamp>,
}

/// An attempt, as its readers see it.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// Its id.
    pub id: AttemptId,
    /// Its step.
    pub step_id: StepId,
    /// Its number within its step, from 1.
    pub number: i32,
    /// Where it stands.
    pub status: AttemptStatus,
    /// Its commands' exit code.
    pub exit_code: Option<i32>,
    /// Why it ended so.
    pub reason: Option<String>,
    /// Bytes of log so far.
    pub log_len: i64,
    /// Its stored log.
    pub log_ref: Option<String>,
    /// When it was made.
    pub created_at: jiff_sqlx::Timestamp,
    /// When it was handed to the executor.
    pub started_at: Option<jiff_sqlx::Timestamp>,
    /// When its first command began.
    pub first_command_at: Option<jiff_sqlx::Timestamp>,
    /// When it ended.
    pub finished_at: Option<jiff_sqlx::Timestamp>,
}

/// A run's steps in their order.
pub async fn steps(db: impl PgExecutor<'_>, run: RunId) -> Result<Vec<Step>, sqlx::Error> {
    sqlx::query_as!(
        Step,
        r#"
        select id as "id: StepId", name, image, status as "status: StepStatus", depends_on, allow_failure, exit_code,
               reason, log_ref, started_at as "started_at: jiff_sqlx::Timestamp",
               finished_at as "finished_at: jiff_sqlx::Timestamp"
        from pipeline_steps where run_id = $1 order by step_order
        "#,
        run.uuid()
    )
    .fetch_all(db)
    .await
}

/// All attempts at a run's steps, in their order.
pub async fn attempts(db: impl PgExecutor<'_>, run: RunId) -> Result<Vec<Attempt>, sqlx::Error> {
    sqlx::query_as!(
        Attempt,
        r#"
        select id as "id: AttemptId", step_id as "step_id: StepId", number, status as "status: AttemptStatus", exit_code,
               reason, log_len, log_ref, created_at as "created_at: jiff_sqlx::Timestamp",
               started_at as "started_at: jiff_sqlx::Timestamp",
               first_command_at as "first_command_at: jiff_sqlx::Timestamp",
               finished_at as "finished_at: jiff_sqlx::Timestamp"
        from step_attempts where run_id = $1 order by step_id, number
        "#,
        run.uuid()
    )
    .fetch_all(db)
    .await
}
