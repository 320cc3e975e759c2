//! Log chunks on their way to the stored object.

use sqlx::PgPool;

use crate::{
    ids::{AttemptId, JobId},
    queue::Claim,
};

/// Appends `bytes`, which begin at byte `start` of the log, in one statement: the lease must hold and the log end exactly
/// at `stored`. A `start` beyond it leaves a gap.
///
/// Returns false when it does not: the claim is lost, or the stored length went back with a crash of the database.
/// The caller reads [`stored_len`] and goes on from there, or finds its claim lost.
pub async fn append(
    pool: &PgPool,
    claim: &Claim,
    attempt: AttemptId,
    stored: u64,
    start: u64,
    bytes: &[u8],
) -> Result<bool, sqlx::Error> {
    let [stored, start] = [stored, start].map(|offset| i64::try_from(offset).unwrap_or(i64::MAX));
    let appended = sqlx::query!(
        r#"
        with mine as (
            select from jobs where id = $1 and lease = $2 and state = 'running' for share
        ),
        grown as (
            update step_attempts set log_len = $5::bigint + length($6::bytea)
            where id = $3 and log_len = $4 and $5 >= log_len and exists (select from mine)
            returning id
        )
        insert into step_log_chunks (attempt_id, start, bytes) select id, $5, $6 from grown
        "#,
        claim.job.id.uuid(),
        claim.lease(),
        attempt.uuid(),
        stored,
        start,
        bytes,
    )
    .execute(pool)
    .await?
    .rows_affected();
    Ok(appended == 1)
}

/// Bytes of this attempt's log that are stored; `None` once the lease does not hold any more.
pub async fn stored_len(pool: &PgPool, job: JobId, lease: i64, attempt: AttemptId) -> Result<Option<u64>, sqlx::Error> {
    let len = sqlx::query_scalar!(
        r#"select a.log_len from step_attempts a, jobs j
           where a.id = $3 and j.id = $1 and j.lease = $2 and j.state = 'running'"#,
        job.uuid(),
        lease,
        attempt.uuid(),
    )
    .fetch_optional(pool)
    .await?;
    Ok(len.and_then(|len| u64::try_from(len).ok()))
}

/// Chunks of an attempt from `offset` on, up to about `limit` bytes; the first may begin before `offset`.
pub async fn chunks(
    pool: &PgPool,
    attempt: AttemptId,
    offset: u64,
    limit: i64,
) -> Result<Vec<(u64, Vec<u8>)>, sqlx::Error> {
    let offset = i64::try_from(offset).unwrap_or(i64::MAX);
    let rows = sqlx::query!(
        r#"
        select start, bytes from (
            select start, bytes, coalesce(sum(length(bytes)) over (order by start rows unbounded preceding) - length(bytes), 0) as before
            from step_log_chunks
            where attempt_id = $1
              -- The chunk that holds the offset, and those behind it.
              and start >= coalesce((select max(start) from step_log_chunks where attempt_id = $1 and start <= $2), 0)
            order by start
            limit 256
        ) c where before < $3 order by start
        "#,
        attempt.uuid(),
        offset,
        limit
    )
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(|row| (u64::try_from(row.start).unwrap_or(0), row.bytes)).collect())
}

/// Deletes chunks of attempts whose whole log has been an object for a while; readers have moved over.
pub async fn prune_chunks(pool: &PgPool) -> Result<u64, sqlx::Error> {
    let deleted = sqlx::query!(
        r#"
        delete from step_log_chunks where attempt_id in (
            select a.id from step_attempts a
            where a.log_ref is not null and a.finished_at < now() - interval '2 minutes'
              and a.finished_at > now() - interval '2 days'
              and exists (select from step_log_chunks c where c.attempt_id = a.id)
            limit 100)
        "#
    )
    .execute(pool)
    .await?;
    Ok(deleted.rows_affected())
}
