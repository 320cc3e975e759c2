//! What runners store by themselves: promised first, so that the sum is bounded, then uploaded, then complete for good.

use sqlx::{PgExecutor, PgPool};

use crate::{
    ids::{AttemptId, RunId},
    storage::{Checksum, keys::Staged, uploads::Content},
};

/// An attempt, as far as its runner's uploads are concerned.
#[derive(Clone, Debug)]
pub struct Uploader {
    /// The attempt.
    pub attempt_id: AttemptId,
    /// Its run.
    pub run_id: RunId,
    /// Its step's name.
    pub step: String,
    /// Its number within the step, from 1.
    pub number: i32,
    /// Whether it has ended.
    pub ended: bool,
    /// Which runner began it.
    pub begun_by: Option<String>,
    /// Whether its step hands anything on.
    pub has_outputs: bool,
    /// Names of the run's artifacts.
    pub artifacts: Vec<String>,
}

impl Uploader {
    /// Whether the pipeline has such a thing to store.
    pub fn may_store(&self, staged: &Staged) -> bool {
        match staged {
            Staged::Log => true,
            Staged::Outputs => self.has_outputs,
            Staged::Artifact(name) => self.artifacts.contains(name),
        }
    }

    /// Where it is stored.
    pub fn key(&self, staged: &Staged) -> String {
        staged.key(self.run_id, &self.step, self.number, self.attempt_id)
    }
}

/// Reads it; `None` when its run was deleted.
pub async fn uploader(pool: &PgPool, id: AttemptId) -> Result<Option<Uploader>, sqlx::Error> {
    sqlx::query_as!(
        Uploader,
        r#"
        select a.id as "attempt_id: AttemptId", a.run_id as "run_id: RunId", s.name as step, a.number,
               a.finished_at is not null as "ended!", a.begun_by,
               coalesce(jsonb_array_length(s.plan -> 'outputs') > 0, false) as "has_outputs!",
               array(select artifact ->> 'name' from jsonb_array_elements(r.artifacts) artifact) as "artifacts!"
        from step_attempts a join pipeline_steps s on s.id = a.step_id join pipeline_runs r on r.id = a.run_id
        where a.id = $1
        "#,
        id.uuid()
    )
    .fetch_optional(pool)
    .await
}

/// An upload of a runner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upload {
    /// What it becomes.
    pub content: Content,
    /// The store's id, once it has given one.
    pub id: Option<String>,
    /// The object is whole.
    pub complete: bool,
}

/// What became of a promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Promised {
    /// It stands. `replaced` is an upload of other bytes that nobody will complete.
    Stands {
        /// The upload.
        upload: Upload,
        /// The store's id of what it takes the place of.
        replaced: Option<String>,
    },
    /// There is a complete object of other bytes, which nothing changes.
    Immutable,
    /// All that the attempt stores would be longer than `limit`.
    TooMuch,
    /// The attempt has ended.
    Ended,
}

/// Notes what a runner is about to store. The same promise again finds what there is.
pub async fn promise(
    pool: &PgPool,
    attempt: AttemptId,
    staged: &Staged,
    content: &Content,
    limit: u64,
) -> Result<Promised, sqlx::Error> {
    let mut tx = pool.begin().await?;
    // One at a time, so that two together do not exceed the limit.
    let open = sqlx::query_scalar!(
        r#"select true as "open!" from step_attempts where id = $1 and finished_at is null for no key update"#,
        attempt.uuid()
    )
    .fetch_optional(&mut *tx)
    .await?;
    if open.is_none() {
        return Ok(Promised::Ended);
    }
    let there = find(&mut *tx, attempt, staged).await?;
    match there {
        Some(upload) if upload.content == *content => return Ok(Promised::Stands { upload, replaced: None }),
        Some(upload) if upload.complete => return Ok(Promised::Immutable),
        _ => {}
    }
    let size = i64::try_from(content.size).unwrap_or(i64::MAX);
    let others = sqlx::query_scalar!(
        r#"select coalesce(sum(size), 0)::bigint as "sum!" from attempt_uploads where attempt_id = $1 and name <> $2"#,
        attempt.uuid(),
        staged.to_string()
    )
    .fetch_one(&mut *tx)
    .await?;
    if others.saturating_add(size) > i64::try_from(limit).unwrap_or(i64::MAX) {
        return Ok(Promised::TooMuch);
    }
    sqlx::query!(
        r#"
        insert into attempt_uploads (attempt_id, name, size, sha256) values ($1, $2, $3, $4)
        on conflict (attempt_id, name)
        do update set size = excluded.size, sha256 = excluded.sha256, upload = null, created_at = now()
        "#,
        attempt.uuid(),
        staged.to_string(),
        size,
        content.checksum.to_string()
    )
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    let upload = Upload { content: content.clone(), id: None, complete: false };
    Ok(Promised::Stands { upload, replaced: there.and_then(|there| there.id) })
}

/// The upload of that name.
pub async fn find(db: impl PgExecutor<'_>, attempt: AttemptId, staged: &Staged) -> Result<Option<Upload>, sqlx::Error> {
    let row = sqlx::query!(
        r#"select size, sha256, upload, completed_at is not null as "complete!"
           from attempt_uploads where attempt_id = $1 and name = $2"#,
        attempt.uuid(),
        staged.to_string()
    )
    .fetch_optional(db)
    .await?;
    row.map(|row| {
        let checksum: Checksum = row.sha256.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
        let content = Content { size: u64::try_from(row.size).unwrap_or(0), checksum };
        Ok(Upload { content, id: row.upload, complete: row.complete })
    })
    .transpose()
}

/// Notes the id that the store gave, in place of `before`. False when another was noted meanwhile.
pub async fn opened(
    pool: &PgPool,
    attempt: AttemptId,
    staged: &Staged,
    before: &Upload,
    id: &str,
) -> Result<bool, sqlx::Error> {
    let noted = sqlx::query!(
        r#"
        update attempt_uploads set upload = $3
        where attempt_id = $1 and name = $2 and completed_at is null and upload is not distinct from $4 and sha256 = $5
        "#,
        attempt.uuid(),
        staged.to_string(),
        id,
        before.id,
        before.content.checksum.to_string()
    )
    .execute(pool)
    .await?;
    Ok(noted.rows_affected() == 1)
}

/// Notes an object that was stored without a promise before. False where the attempt has ended, or has another one complete.
pub async fn stored(
    pool: &PgPool,
    attempt: AttemptId,
    staged: &Staged,
    content: &Content,
) -> Result<bool, sqlx::Error> {
    let noted = sqlx::query!(
        r#"
        insert into attempt_uploads (attempt_id, name, size, sha256, completed_at)
        select id, $2, $3, $4, now() from step_attempts where id = $1 and finished_at is null
        on conflict (attempt_id, name)
        do update set size = excluded.size, sha256 = excluded.sha256, upload = null, completed_at = now()
        where attempt_uploads.completed_at is null or attempt_uploads.sha256 = excluded.sha256
        "#,
        attempt.uuid(),
        staged.to_string(),
        i64::try_from(content.size).unwrap_or(i64::MAX),
        content.checksum.to_string()
    )
    .execute(pool)
    .await?;
    Ok(noted.rows_affected() == 1)
}

/// Notes that the object is whole.
pub async fn completed(
    pool: &PgPool,
    attempt: AttemptId,
    staged: &Staged,
    content: &Content,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        r#"
        update attempt_uploads set completed_at = coalesce(completed_at, now())
        where attempt_id = $1 and name = $2 and sha256 = $3
        "#,
        attempt.uuid(),
        staged.to_string(),
        content.checksum.to_string()
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// An upload that nobody will complete.
#[derive(Clone, Debug)]
pub struct Abandoned {
    /// The attempt that began it.
    pub attempt: AttemptId,
    /// Its name there.
    pub name: String,
    /// The object that it would have become.
    pub key: String,
    /// The store's id.
    pub id: Option<String>,
}

/// Up to a hundred uploads of attempts that ended a while ago.
pub async fn abandoned(pool: &PgPool) -> Result<Vec<Abandoned>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"
        select u.name, u.upload, a.id as "attempt: AttemptId", a.run_id as "run: RunId", s.name as step, a.number
        from attempt_uploads u join step_attempts a on a.id = u.attempt_id join pipeline_steps s on s.id = a.step_id
        where u.completed_at is null and a.finished_at < now() - interval '10 minutes'
        order by u.created_at limit 100
        "#
    )
    .fetch_all(pool)
    .await?;
    let abandoned = rows.into_iter().filter_map(|row| {
        let staged: Staged = row.name.parse().ok()?;
        let key = staged.key(row.run, &row.step, row.number, row.attempt);
        Some(Abandoned { attempt: row.attempt, name: row.name, key, id: row.upload })
    });
    Ok(abandoned.collect())
}

/// It was given up.
pub async fn forget(pool: &PgPool, upload: &Abandoned) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "delete from attempt_uploads where attempt_id = $1 and name = $2 and completed_at is null",
        upload.attempt.uuid(),
        upload.name
    )
    .execute(pool)
    .await?;
    Ok(())
}
