//! The database's rows against the model's.

use buildit_shared::ids::JobId;

use super::{Model, Place, QUEUES};

/// A job's row, as far as the model knows it.
#[derive(Debug, PartialEq, sqlx::FromRow)]
struct Row {
    id: JobId,
    queue: String,
    state: String,
    priority: i16,
    attempt: i32,
    deaths: i16,
    cancel_requested: bool,
    unique_key: Option<String>,
    worker: Option<uuid::Uuid>,
    errors: i64,
}

#[derive(Debug, PartialEq, sqlx::FromRow)]
pub(super) struct EndedRow {
    pub(super) id: JobId,
    pub(super) ended_as: String,
    pub(super) attempt: i32,
    pub(super) deaths: i16,
}

impl Model<'_> {
    /// Every row is what the model says.
    pub(super) async fn check(&self) {
        let rows: Vec<Row> = sqlx::query_as(
            "select id, queue, state::text, priority, attempt, deaths, cancel_requested, unique_key, worker_id as worker,
                    (select count(*) from job_errors e where e.job_id = jobs.id) as errors
             from jobs order by id",
        )
        .fetch_all(&self.queue.database.pool)
        .await
        .unwrap();
        let expected: Vec<_> = self
            .jobs
            .iter()
            .map(|(id, job)| Row {
                id: *id,
                queue: QUEUES[job.queue].into(),
                state: match job.place {
                    Place::Scheduled => "scheduled".into(),
                    Place::Ready => "ready".into(),
                    Place::Running { .. } => "running".into(),
                },
                priority: job.priority,
                attempt: job.attempt,
                deaths: job.deaths,
                cancel_requested: job.cancel,
                unique_key: job.key.map(|key| key.to_string()),
                worker: match job.place {
                    Place::Running { worker, .. } => Some(self.workers[worker].member.id().uuid()),
                    _ => None,
                },
                errors: job.errors as i64,
            })
            .collect();
        assert_eq!(rows, expected, "live jobs");
        let ended: Vec<EndedRow> =
            sqlx::query_as("select id, ended_as::text, attempt, deaths from job_history order by id")
                .fetch_all(&self.queue.database.pool)
                .await
                .unwrap();
        assert_eq!(ended.iter().collect::<Vec<_>>(), self.ended.values().collect::<Vec<_>>(), "ended jobs");
    }
}
