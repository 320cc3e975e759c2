//! Which forge sends what happens to a project's repository, and the secret by which it is known.

use serde::{Deserialize, Serialize};
use sqlx::{PgExecutor, PgPool};

use super::SealedError;
use crate::{
    ids::{OrganizationId, ProjectId},
    vault::{self, Sealed, Vault},
};

/// A kind of forge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, sqlx::Type)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "forge_kind", rename_all = "snake_case")]
pub enum Forge {
    /// GitHub.
    Github,
    /// GitLab.
    Gitlab,
    /// Gitea, and Forgejo.
    Gitea,
}

impl Forge {
    /// The name used in the database and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Github => "github",
            Self::Gitlab => "gitlab",
            Self::Gitea => "gitea",
        }
    }
}

/// A project's hook, for the forge that calls it.
#[derive(Clone, Debug)]
pub struct ForgeHook {
    /// Whose it is.
    pub organization_id: OrganizationId,
    /// The project.
    pub project_id: ProjectId,
    /// Which kind of messages it gets.
    pub forge: Forge,
    key_id: String,
    sealed: Vec<u8>,
}

impl ForgeHook {
    /// What the forge knows.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn secret(&self, vault: &Vault) -> Result<String, vault::Error> {
        let sealed = Sealed { key_id: self.key_id.clone(), bytes: self.sealed.clone() };
        vault.open_text(&place(self.project_id), &sealed)
    }
}

fn place(project: ProjectId) -> Vec<u8> {
    [&b"forge hook"[..], project.uuid().as_bytes()].concat()
}

/// Sets a project's hook, in the place of the one it had.
pub async fn set(
    db: impl PgExecutor<'_>,
    vault: &Vault,
    project: ProjectId,
    forge: Forge,
    secret: &str,
) -> Result<(), SealedError> {
    let sealed = vault.seal(&place(project), secret.as_bytes())?;
    sqlx::query!(
        r#"
        insert into forge_hooks (project_id, organization_id, forge, key_id, sealed)
        select id, organization_id, $2, $3, $4 from projects where id = $1
        on conflict (project_id) do update
        set forge = excluded.forge, key_id = excluded.key_id, sealed = excluded.sealed, created_at = now()
        "#,
        project.uuid(),
        forge as Forge,
        sealed.key_id,
        sealed.bytes
    )
    .execute(db)
    .await?;
    Ok(())
}

/// A project's hook.
pub async fn find(db: impl PgExecutor<'_>, project: ProjectId) -> Result<Option<ForgeHook>, sqlx::Error> {
    sqlx::query_as!(
        ForgeHook,
        r#"
        select organization_id as "organization_id: OrganizationId", project_id as "project_id: ProjectId",
               forge as "forge: Forge", key_id, sealed
        from forge_hooks where project_id = $1
        "#,
        project.uuid()
    )
    .fetch_optional(db)
    .await
}

/// Deletes a project's hook; `false` if it has none.
pub async fn delete(db: impl PgExecutor<'_>, project: ProjectId) -> Result<bool, sqlx::Error> {
    let deleted = sqlx::query!("delete from forge_hooks where project_id = $1", project.uuid()).execute(db).await?;
    Ok(deleted.rows_affected() > 0)
}

/// Seals anew, under the vault's first key, up to `most` hooks' secrets that are sealed under others; tells how many.
pub async fn rotate(pool: &PgPool, vault: &Vault, most: i64) -> Result<usize, SealedError> {
    let mut tx = pool.begin().await?;
    let rows = sqlx::query!(
        r#"
        select project_id as "project: ProjectId", key_id, sealed from forge_hooks
        where key_id <> $1 order by project_id limit $2 for update
        "#,
        vault.key_id(),
        most
    )
    .fetch_all(&mut *tx)
    .await?;
    let count = rows.len();
    for row in rows {
        let sealed = vault.seal_anew(&place(row.project), &Sealed { key_id: row.key_id, bytes: row.sealed })?;
        sqlx::query!(
            "update forge_hooks set key_id = $2, sealed = $3 where project_id = $1",
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
