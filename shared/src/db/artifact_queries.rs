//! Reading artifacts: named sets of files that a run left behind. Expired ones are not seen any more.

use sqlx::PgExecutor;

use crate::ids::{ArtifactId, RunId};

/// A named set of files.
#[derive(Clone, Debug)]
pub struct Artifact {
    /// Its name, unique in its run.
    pub name: String,
    /// How many files it has.
    pub files: i64,
    /// Their length in bytes, together.
    pub size: i64,
    /// When the first of them goes.
    pub expires_at: Option<jiff_sqlx::Timestamp>,
    /// When it was published.
    pub created_at: jiff_sqlx::Timestamp,
}

/// One file of an artifact.
#[derive(Clone, Debug)]
pub struct File {
    /// Its id.
    pub id: ArtifactId,
    /// Its path within the artifact.
    pub path: String,
    /// Its media type.
    pub content_type: String,
    /// Its length in bytes.
    pub size: i64,
    /// The SHA-256 of its bytes, in hexadecimal.
    pub sha256: String,
    /// The object that holds it.
    pub storage_key: String,
    /// When it goes.
    pub expires_at: Option<jiff_sqlx::Timestamp>,
    /// When it was published.
    pub created_at: jiff_sqlx::Timestamp,
}

/// A run's artifacts by name, those after `after`.
pub async fn list(
    db: impl PgExecutor<'_>,
    run: RunId,
    after: Option<&str>,
    limit: i64,
) -> Result<Vec<Artifact>, sqlx::Error> {
    sqlx::query_as!(
        Artifact,
        r#"
        select name, count(*) as "files!", sum(size)::bigint as "size!",
               min(expires_at) as "expires_at: jiff_sqlx::Timestamp",
               min(created_at) as "created_at!: jiff_sqlx::Timestamp"
        from artifacts
        where run_id = $1 and (expires_at is null or expires_at > now()) and ($2::text is null or name > $2)
        group by name order by name limit $3
        "#,
        run.uuid(),
        after,
        limit
    )
    .fetch_all(db)
    .await
}

/// The files of an artifact by path, those after `after`.
pub async fn files(
    db: impl PgExecutor<'_>,
    run: RunId,
    name: &str,
    after: Option<&str>,
    limit: i64,
) -> Result<Vec<File>, sqlx::Error> {
    sqlx::query_as!(
        File,
        r#"
        select id as "id: ArtifactId", path, content_type, size, sha256, storage_key,
               expires_at as "expires_at: jiff_sqlx::Timestamp", created_at as "created_at: jiff_sqlx::Timestamp"
        from artifacts
        where run_id = $1 and name = $2 and (expires_at is null or expires_at > now())
          and ($3::text is null or path > $3)
        order by path limit $4
        "#,
        run.uuid(),
        name,
        after,
        limit
    )
    .fetch_all(db)
    .await
}

/// One file of an artifact.
pub async fn file(db: impl PgExecutor<'_>, run: RunId, name: &str, path: &str) -> Result<Option<File>, sqlx::Error> {
    sqlx::query_as!(
        File,
        r#"
        select id as "id: ArtifactId", path, content_type, size, sha256, storage_key,
               expires_at as "expires_at: jiff_sqlx::Timestamp", created_at as "created_at: jiff_sqlx::Timestamp"
        from artifacts
        where run_id = $1 and name = $2 and path = $3 and (expires_at is null or expires_at > now())
        "#,
        run.uuid(),
        name,
        path
    )
    .fetch_optional(db)
    .await
}
