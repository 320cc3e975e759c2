//! Artifacts whose time is over.

use sqlx::PgPool;

use crate::ids::ArtifactId;

/// Up to a hundred expired files with their objects.
pub async fn expired(pool: &PgPool) -> Result<Vec<(ArtifactId, String)>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"select id as "id: ArtifactId", storage_key from artifacts where expires_at < now() order by expires_at limit 100"#
    )
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(|row| (row.id, row.storage_key)).collect())
}

/// Deletes their rows; one that was published anew meanwhile stays.
pub async fn delete(pool: &PgPool, ids: &[ArtifactId]) -> Result<(), sqlx::Error> {
    let ids: Vec<_> = ids.iter().map(|id| id.uuid()).collect();
    sqlx::query!("delete from artifacts where id = any($1) and expires_at < now()", &ids).execute(pool).await?;
    Ok(())
}
