//! Secrets of an organization and of its projects. Values come in sealed and leave for steps alone.

use std::collections::{BTreeMap, HashSet};

use sqlx::{PgExecutor, PgPool};
use uuid::Uuid;

use crate::{
    ids::{OrganizationId, ProjectId},
    vault::{self, Sealed, Vault},
};

/// The fewest bytes of a value: a shorter one could not be masked in a log.
pub const SHORTEST: usize = 4;
/// The most bytes of a value.
pub const LONGEST: usize = 48 << 10;

/// Whose secret it is: all projects', or one's own.
#[derive(Clone, Copy, Debug)]
pub struct Owner {
    /// The tenant.
    pub organization: OrganizationId,
    /// The project, if it is one's own.
    pub project: Option<ProjectId>,
}

impl Owner {
    /// What a value is sealed for.
    fn place(self, name: &str) -> Vec<u8> {
        let project = self.project.map_or(Uuid::nil(), ProjectId::uuid);
        [self.organization.uuid().as_bytes(), project.as_bytes(), name.as_bytes()].concat()
    }
}

/// A secret, as far as it can be shown.
#[derive(Clone, Debug)]
pub struct Secret {
    /// Its name.
    pub name: String,
    /// Who set it.
    pub set_by: String,
    /// When.
    pub set_at: jiff_sqlx::Timestamp,
    /// When there was first one of this name.
    pub created_at: jiff_sqlx::Timestamp,
}

/// Why a value cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    /// What is stored cannot be opened.
    #[error("the secret `{name}` cannot be opened: {error}")]
    Vault {
        /// Which one.
        name: String,
        /// Why.
        error: vault::Error,
    },
}

/// Whether a secret can be called that.
pub fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    name.len() <= 100
        && bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Sets a secret; true if there was none of this name.
pub async fn set(
    db: impl PgExecutor<'_>,
    vault: &Vault,
    owner: Owner,
    name: &str,
    value: &str,
    by: &str,
) -> Result<bool, Error> {
    let sealed = vault.seal(&owner.place(name), value.as_bytes());
    let sealed = sealed.map_err(|error| Error::Vault { name: name.to_owned(), error })?;
    let new = sqlx::query_scalar!(
        r#"
        insert into secrets (id, organization_id, project_id, name, key_id, sealed, set_by)
        values ($1, $2, $3, $4, $5, $6, $7)
        on conflict on constraint secrets_name_is_unique do update
        set key_id = excluded.key_id, sealed = excluded.sealed, set_by = excluded.set_by, set_at = now()
        returning id = $1 as "new!"
        "#,
        Uuid::now_v7(),
        owner.organization.uuid(),
        owner.project.map(ProjectId::uuid),
        name,
        sealed.key_id,
        sealed.bytes,
        by
    )
    .fetch_one(db)
    .await?;
    Ok(new)
}

/// The secrets of an organization, or of one project alone, by name, those after `after`.
pub async fn list(
    db: impl PgExecutor<'_>,
    owner: Owner,
    after: Option<&str>,
    limit: i64,
) -> Result<Vec<Secret>, sqlx::Error> {
    sqlx::query_as!(
        Secret,
        r#"
        select name, set_by, set_at as "set_at: jiff_sqlx::Timestamp", created_at as "created_at: jiff_sqlx::Timestamp"
        from secrets
        where organization_id = $1 and project_id is not distinct from $2 and ($3::text is null or name > $3)
        order by name limit $4
        "#,
        owner.organization.uuid(),
        owner.project.map(ProjectId::uuid),
        after,
        limit
    )
    .fetch_all(db)
    .await
}

/// Deletes a secret; `false` if there is none.
pub async fn delete(db: impl PgExecutor<'_>, owner: Owner, name: &str) -> Result<bool, sqlx::Error> {
    let deleted = sqlx::query!(
        "delete from secrets where organization_id = $1 and project_id is not distinct from $2 and name = $3",
        owner.organization.uuid(),
        owner.project.map(ProjectId::uuid),
        name
    )
    .execute(db)
    .await?;
    Ok(deleted.rows_affected() > 0)
}

/// The names of all secrets that a project's steps can have.
pub async fn names(db: impl PgExecutor<'_>, project: ProjectId) -> Result<HashSet<String>, sqlx::Error> {
    let names = sqlx::query_scalar!(
        r#"
        select s.name from projects p
        join secrets s on s.organization_id = p.organization_id and (s.project_id is null or s.project_id = p.id)
        where p.id = $1
        "#,
        project.uuid()
    )
    .fetch_all(db)
    .await?;
    Ok(names.into_iter().collect())
}

/// What is stored.
struct Row {
    id: Uuid,
    organization: OrganizationId,
    project: Option<ProjectId>,
    name: String,
    key_id: String,
    sealed: Vec<u8>,
}

impl Row {
    fn place(&self) -> Vec<u8> {
        Owner { organization: self.organization, project: self.project }.place(&self.name)
    }

    fn broken(&self, error: vault::Error) -> Error {
        Error::Vault { name: self.name.clone(), error }
    }

    fn sealed(&self) -> Sealed {
        Sealed { key_id: self.key_id.clone(), bytes: self.sealed.clone() }
    }
}

/// The values of these secrets for a step of a project, whose own go before the organization's. One that is not set is left
/// out.
pub async fn values(
    db: impl PgExecutor<'_>,
    vault: &Vault,
    project: ProjectId,
    names: &[String],
) -> Result<BTreeMap<String, String>, Error> {
    // The project's own come last, and take the others' place.
    let rows = sqlx::query_as!(
        Row,
        r#"
        select s.id, s.organization_id as "organization: OrganizationId", s.project_id as "project: ProjectId", s.name,
               s.key_id, s.sealed
        from projects p
        join secrets s on s.organization_id = p.organization_id and (s.project_id is null or s.project_id = p.id)
        where p.id = $1 and s.name = any($2)
        order by s.project_id is not null
        "#,
        project.uuid(),
        names
    )
    .fetch_all(db)
    .await?;
    let chosen: BTreeMap<String, Row> = rows.into_iter().map(|row| (row.name.clone(), row)).collect();
    let value = |(name, row): (String, Row)| {
        let text = vault.open_text(&row.place(), &row.sealed()).map_err(|error| row.broken(error))?;
        Ok((name, text))
    };
    chosen.into_iter().map(value).collect()
}

/// Seals anew, under the vault's first key, up to `most` secrets that are sealed under others; tells how many.
pub async fn rotate(pool: &PgPool, vault: &Vault, most: i64) -> Result<usize, Error> {
    let mut tx = pool.begin().await?;
    let rows = sqlx::query_as!(
        Row,
        r#"
        select id, organization_id as "organization: OrganizationId", project_id as "project: ProjectId", name, key_id,
               sealed
        from secrets where key_id <> $1 order by id limit $2 for update
        "#,
        vault.key_id(),
        most
    )
    .fetch_all(&mut *tx)
    .await?;
    for row in &rows {
        let sealed = vault.seal_anew(&row.place(), &row.sealed()).map_err(|error| row.broken(error))?;
        sqlx::query!("update secrets set key_id = $2, sealed = $3 where id = $1", row.id, sealed.key_id, sealed.bytes)
            .execute(&mut *tx)
            .await?;
    }
    tx.commit().await?;
    Ok(rows.len())
}
