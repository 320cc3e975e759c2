//! Wrong passwords of late, counted so that nobody tries many.

use sha2::{Digest, Sha256};
use sqlx::PgExecutor;

/// What attempts are counted for: an account, an address.
#[derive(Clone, Copy, Debug)]
pub struct Subject([u8; 32]);

impl Subject {
    /// The one of that name.
    pub fn of(name: &str) -> Self {
        Self(Sha256::digest(name.as_bytes()).into())
    }
}

/// Counts an attempt as a failure before it is looked at, so that attempts at the same time all count. Returns how many there
/// were in the quarter of an hour that began with the first.
pub async fn note(db: impl PgExecutor<'_>, subject: Subject) -> Result<i32, sqlx::Error> {
    sqlx::query_scalar!(
        r#"
        insert into sign_in_failures (subject, failures, since) values ($1, 1, now())
        on conflict (subject) do update set
            failures = case when sign_in_failures.since < now() - interval '15 minutes' then 1
                            else sign_in_failures.failures + 1 end,
            since = case when sign_in_failures.since < now() - interval '15 minutes' then now()
                         else sign_in_failures.since end
        returning failures
        "#,
        &subject.0[..]
    )
    .fetch_one(db)
    .await
}

/// Takes back an attempt that was no failure.
pub async fn take_back(db: impl PgExecutor<'_>, subject: Subject) -> Result<(), sqlx::Error> {
    sqlx::query!("update sign_in_failures set failures = greatest(failures - 1, 0) where subject = $1", &subject.0[..])
        .execute(db)
        .await?;
    Ok(())
}
