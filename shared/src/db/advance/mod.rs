//! How a run moves on: planned, a step ended, the run ended. Each function works in the caller's transaction, which also
//! ends the job, and returns the jobs that follow.
//!
//! Every one of them locks the run row first, in a statement of its own. The statements after it have newer snapshots, so two
//! parents of a step that end at the same moment see each other: the second waits for the first, and whoever brings
//! `unmet` or `open_steps` to zero enqueues what follows.

mod attempt_end;
mod deploy;
mod job_death;
mod planning;
mod run_end;
mod start;

use sqlx::{Postgres, Transaction};

use crate::{
    domain::RunStatus,
    ids::{OrganizationId, PipelineId, ProjectId, RunId},
};

pub(super) use attempt_end::close_steps;
pub use attempt_end::{AttemptEnd, end_attempt};
pub use deploy::{BuiltImage, deploy};
pub use job_death::job_died;
pub use planning::{Advanced, NewStep, Planned, end_unplanned, note_commit, plan_run};
pub(super) use run_end::finish;
pub use run_end::{NewArtifact, end_run, outcome_of};
pub(super) use start::{activate, plan_again};

pub(crate) type Tx<'a> = Transaction<'a, Postgres>;

/// The run, locked until the transaction ends.
#[derive(Debug)]
pub(crate) struct Run {
    pub(in crate::db) id: RunId,
    pub(in crate::db) organization_id: OrganizationId,
    pub(in crate::db) project_id: ProjectId,
    pub(in crate::db) pipeline_id: PipelineId,
    pub(in crate::db) status: RunStatus,
    pub(in crate::db) generation: i32,
    pub(in crate::db) open_steps: i32,
    pub(in crate::db) cancelling: bool,
    pub(in crate::db) group: Option<String>,
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
