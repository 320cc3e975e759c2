//! Where the statuses of a project's commits are sent, and the token for it.

use sqlx::{PgExecutor, PgPool};

use super::{SealedError, forge_hooks::Forge};
use crate::{
    ids::ProjectId,
    vault::{Sealed, Vault},
};

/// Where they go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// Whose API it is.
    pub forge: Forge,
    /// The API's address, without a slash at the end.
    pub api_url: String,
    /// The repository's name there.
    pub repository: String,
}

/// Where a project's statuses go, without the token.
#[derive(Clone, Debug)]
pub struct ForgeStatuses {
    /// Whose API it is.
    pub forge: Forge,
    /// The API's address.
    pub api_url: String,
    /// The repository's name there.
    pub repository: String,
    /// Who set it.
    pub set_by: String,
    /// When.
    pub set_at: jiff_sqlx::Timestamp,
}

/// Sealed for this project, address and repository: the token goes nowhere else.
pub(super) fn place(project: ProjectId, api_url: &str, repository: &str) -> Vec<u8> {
    let texts = [api_url.as_bytes(), b"\n", repository.as_bytes()].concat();
    [&b"forge statuses"[..], project.uuid().as_bytes(), &texts].concat()
}

/// Has a project's statuses sent there, and nowhere else.
pub async fn set(
    db: impl PgExecutor<'_>,
    vault: &Vault,
    project: ProjectId,
    to: &Destination,
    token: &str,
    by: &str,
) -> Result<(), SealedError> {
    let sealed = vault.seal(&place(project, &to.api_url, &to.repository), token.as_bytes())?;
    sqlx::query!(
        r#"
        insert into forge_statuses (project_id, organization_id, forge, api_url, repository, key_id, sealed, set_by)
        select id, organization_id, $2, $3, $4, $5, $6, $7 from projects where id = $1
        on conflict (project_id) do update
        set forge = excluded.forge, api_url = excluded.api_url, repository = excluded.repository,
            key_id = excluded.key_id, sealed = excluded.sealed, set_by = excluded.set_by, set_at = now()
        "#,
        project.uuid(),
        to.forge as Forge,
        to.api_url,
        to.repository,
        sealed.key_id,
        sealed.bytes,
        by
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Where a project's statuses go.
pub async fn find(db: impl PgExecutor<'_>, project: ProjectId) -> Result<Option<ForgeStatuses>, sqlx::Error> {
    sqlx::query_as!(
        ForgeStatuses,
        r#"
        select forge as "forge: Forge", api_url, repository, set_by, set_at as "set_at: jiff_sqlx::Timestamp"
        from forge_statuses where project_id = $1
        "#,
        project.uuid()
    )
    .fetch_optional(db)
    .await
}

/// Has none sent any more; `false` if none were.
pub async fn delete(db: impl PgExecutor<'_>, project: ProjectId) -> Result<bool, sqlx::Error> {
    let deleted = sqlx::query!("delete from forge_statuses where project_id = $1", project.uuid()).execute(db).await?;
    Ok(deleted.rows_affected() > 0)
}

/// Seals anew, under the vault's first key, up to `most` tokens that are sealed under others; tells how many.
pub async fn rotate(pool: &PgPool, vault: &Vault, most: i64) -> Result<usize, SealedError> {
    let mut tx = pool.begin().await?;
    let rows = sqlx::query!(
        r#"
        select project_id as "project: ProjectId", api_url, repository, key_id, sealed from forge_statuses
        where key_id <> $1 order by project_id limit $2 for update
        "#,
        vault.key_id(),
        most
    )
    .fetch_all(&mut *tx)
    .await?;
    let count = rows.len();
    for row in rows {
        let old = Sealed { key_id: row.key_id, bytes: row.sealed };
        let sealed = vault.seal_anew(&place(row.project, &row.api_url, &row.repository), &old)?;
        sqlx::query!(
            "update forge_statuses set key_id = $2, sealed = $3 where project_id = $1",
            row.project.uuid(),
            sealed.key_id,
            sealed.bytes
        )
        .execute(&mut *tx)
        .await?;
    }
    tx.commit().await?;
    Ok(count)
}
