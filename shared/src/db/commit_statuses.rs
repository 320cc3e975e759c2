//! How the runs of a commit stand, for its forge: what is to be sent, and what the forge took.
//!
//! A status belongs to a commit and a context, which is a pipeline's: the newest run of it counts. Each change raises the
//! version and has a job of its own; a job sends its version, and only while nobody else may be sending.

use std::time::Duration;

use sqlx::{PgConnection, PgExecutor, PgPool};

use super::{forge_hooks::Forge, forge_statuses};
use crate::{
    domain::RunStatus,
    ids::{CommitStatusId, JobId, ProjectId, RunId},
    jobs::ReportStatus,
    queue::{NewJob, enqueue},
    vault::{self, Sealed, Vault},
};

/// Notes how a run stands now, if its project's forge wants to know; returns the job that tells it. One that is skipped is
/// news only where the forge was told of it before.
pub(super) async fn announce(db: &mut PgConnection, run: RunId) -> Result<Option<NewJob>, sqlx::Error> {
    let changed = sqlx::query!(
        r#"
        insert into commit_statuses as s (id, organization_id, project_id, commit_sha, context, run_id, run_number, status,
                                          reason)
        select $2, r.organization_id, r.project_id, r.commit_sha,
               'buildit/' || l.name || case when r.mr_number is not null then '/mr' else '' end, r.id, r.number, r.status,
               r.reason
        from pipeline_runs r
        join forge_statuses f on f.project_id = r.project_id
        join pipelines l on l.id = r.pipeline_id
        where r.id = $1 and r.commit_sha is not null
          and (r.status <> 'skipped' or exists (select from commit_statuses where run_id = $1))
        on conflict on constraint one_status_per_context do update
        set run_id = excluded.run_id, run_number = excluded.run_number, status = excluded.status,
            reason = excluded.reason, changed_at = now(), version = s.version + 1
        where s.run_number <= excluded.run_number
          and (s.run_id, s.status, s.reason) is distinct from (excluded.run_id, excluded.status, excluded.reason)
        returning id as "id: CommitStatusId", version
        "#,
        run.uuid(),
        CommitStatusId::new().uuid(),
    )
    .fetch_optional(db)
    .await?;
    Ok(changed.map(|changed| job(changed.id, changed.version)))
}

fn job(status_id: CommitStatusId, version: i32) -> NewJob {
    NewJob::new(&ReportStatus { status_id, version }).unique(format!("ReportStatus/{status_id}/{version}"))
}

/// Has the newest sent once more: one that is older may have come after it.
pub async fn send_again(pool: &PgPool, status: CommitStatusId) -> Result<(), sqlx::Error> {
    let mut tx = pool.begin().await?;
    let version = sqlx::query_scalar!(
        "update commit_statuses set version = version + 1 where id = $1 returning version",
        status.uuid()
    )
    .fetch_optional(&mut *tx)
    .await?;
    if let Some(version) = version {
        enqueue(&mut *tx, &[job(status, version)]).await?;
    }
    tx.commit().await
}

/// What is to be sent where.
#[derive(Clone, Debug)]
pub struct ToSend {
    /// Whose API it is.
    pub forge: Forge,
    /// The API's address.
    pub api_url: String,
    /// The repository's name there.
    pub repository: String,
    /// The commit.
    pub commit_sha: String,
    /// What tells its statuses apart.
    pub context: String,
    /// The run.
    pub run_id: RunId,
    /// Its number in its pipeline.
    pub run_number: i32,
    /// How it stood.
    pub status: RunStatus,
    /// Why.
    pub reason: Option<String>,
    project: ProjectId,
    key_id: String,
    sealed: Vec<u8>,
}

impl ToSend {
    /// The token to send it with.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn token(&self, vault: &Vault) -> Result<String, vault::Error> {
        let sealed = Sealed { key_id: self.key_id.clone(), bytes: self.sealed.clone() };
        vault.open_text(&forge_statuses::place(self.project, &self.api_url, &self.repository), &sealed)
    }
}

/// Whether this version may be sent now.
#[derive(Debug)]
pub enum Begun {
    /// By whoever asked, and nobody else for so long.
    Send(Box<ToSend>),
    /// Somebody may be sending another one.
    Busy,
    /// It was sent, there is a newer one, or nobody wants it any more.
    Over,
}

/// Begins to send a version, for as long as a request can take. Only whoever holds the job with that lease can.
pub async fn begin(
    pool: &PgPool,
    args: &ReportStatus,
    job: JobId,
    lease: i64,
    takes: Duration,
) -> Result<Begun, sqlx::Error> {
    let begun = sqlx::query_as!(
        ToSend,
        r#"
        with begun as (
            update commit_statuses set sending_until = now() + $5::bigint * interval '1 millisecond'
            where id = $1 and version = $2 and sent_version < $2 and (sending_until is null or sending_until < now())
              and exists (select from jobs where id = $3 and lease = $4 and state = 'running')
            returning *
        )
        select f.forge as "forge: Forge", f.api_url, f.repository, f.key_id, f.sealed, f.project_id as "project: ProjectId",
               b.commit_sha as "commit_sha!", b.context as "context!", b.run_id as "run_id!: RunId",
               b.run_number as "run_number!", b.status as "status!: RunStatus", b.reason
        from begun b join forge_statuses f on f.project_id = b.project_id
        "#,
        args.status_id.uuid(),
        args.version,
        job.uuid(),
        lease,
        i64::try_from(takes.as_millis()).unwrap_or(i64::MAX)
    )
    .fetch_optional(pool)
    .await?;
    if let Some(send) = begun {
        return Ok(Begun::Send(Box::new(send)));
    }
    let waits = sqlx::query_scalar!(
        r#"
        select exists (
            select from commit_statuses s join forge_statuses f on f.project_id = s.project_id
            where s.id = $1 and s.version = $2 and s.sent_version < $2
        ) as "waits!"
        "#,
        args.status_id.uuid(),
        args.version
    )
    .fetch_one(pool)
    .await?;
    Ok(if waits { Begun::Busy } else { Begun::Over })
}

/// Notes that the forge took a version.
pub async fn note_sent(db: impl PgExecutor<'_>, args: &ReportStatus) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "update commit_statuses
         set sent_version = greatest(sent_version, $2), sending_until = null, error = null where id = $1",
        args.status_id.uuid(),
        args.version
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Notes why it did not.
pub async fn note_failed(db: impl PgExecutor<'_>, args: &ReportStatus, error: &str) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "update commit_statuses set sending_until = null, error = $2 where id = $1",
        args.status_id.uuid(),
        error
    )
    .execute(db)
    .await?;
    Ok(())
}

/// What a forge was last told, or not told.
#[derive(Clone, Debug)]
pub struct CommitStatus {
    /// The commit.
    pub commit_sha: String,
    /// What tells its statuses apart.
    pub context: String,
    /// The run.
    pub run_id: RunId,
    /// How it stood.
    pub status: RunStatus,
    /// When.
    pub changed_at: jiff_sqlx::Timestamp,
    /// Whether the forge took it.
    pub sent: bool,
    /// Why the last try did not work.
    pub error: Option<String>,
}

/// A project's statuses, the newest first.
pub async fn newest(db: impl PgExecutor<'_>, project: ProjectId, limit: i64) -> Result<Vec<CommitStatus>, sqlx::Error> {
    sqlx::query_as!(
        CommitStatus,
        r#"
        select commit_sha, context, run_id as "run_id: RunId", status as "status: RunStatus",
               changed_at as "changed_at: jiff_sqlx::Timestamp", sent_version = version as "sent!", error
        from commit_statuses where project_id = $1 order by changed_at desc limit $2
        "#,
        project.uuid(),
        limit
    )
    .fetch_all(db)
    .await
}

/// Forgets statuses that are older than that.
pub async fn prune(pool: &PgPool, days: i32) -> Result<(), sqlx::Error> {
    sqlx::query!("delete from commit_statuses where changed_at < now() - make_interval(days => $1)", days)
        .execute(pool)
        .await?;
    Ok(())
}
