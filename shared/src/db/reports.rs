//! What runners without a folder on the worker's machine leave in the database: that they began, and their last word.

use serde_json::Value;
use sqlx::PgPool;

use crate::ids::AttemptId;

/// What is known of an attempt.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Somebody began it, or saw to it that nobody does.
    pub begun: bool,
    /// A runner is the one who began it.
    pub running: bool,
    /// The runner's last word.
    pub report: Option<Value>,
}

/// What is known of this attempt; nothing when there is none of that id.
pub async fn of_attempt(pool: &PgPool, attempt: AttemptId) -> Result<Known, sqlx::Error> {
    let known = sqlx::query_as!(
        Known,
        r#"select begun_by is not null as "begun!", coalesce(begun_by <> 'stopped', false) as "running!", report
           from step_attempts where id = $1"#,
        attempt.uuid()
    )
    .fetch_optional(pool)
    .await?;
    Ok(known.unwrap_or_default())
}

/// Keeps the last word of the runner that began the attempt; the first one counts. False when it is not that runner's,
/// or the attempt has ended without it.
pub async fn keep(pool: &PgPool, attempt: AttemptId, runner: &str, report: &Value) -> Result<bool, sqlx::Error> {
    let kept = sqlx::query!(
        r#"
        update step_attempts set report = coalesce(report, $3)
        where id = $1 and begun_by = $2 and finished_at is null
        "#,
        attempt.uuid(),
        runner,
        report
    )
    .execute(pool)
    .await?;
    Ok(kept.rows_affected() == 1)
}
