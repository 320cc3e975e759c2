//! Secrets of an organization, of its projects and of their environments. Values come in sealed and leave for steps alone.

use std::collections::{BTreeMap, BTreeSet};

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

/// Whose secret it is: all projects', one's own, or that of one of its environments.
#[derive(Clone, Debug)]
pub struct Owner {
    /// The tenant.
    pub organization: OrganizationId,
    /// The project, if it is one's own.
    pub project: Option<ProjectId>,
    /// The environment of that project, if it is for the steps that deploy there.
    pub environment: Option<String>,
}

impl Owner {
    /// What a value is sealed for.
    fn place(&self, name: &str) -> Vec<u8> {
        let project = self.project.map_or(Uuid::nil(), ProjectId::uuid);
        // Neither has a slash in it.
        let name = self.environment.as_ref().map_or(name.to_owned(), |environment| format!("{environment}/{name}"));
        [self.organization.uuid().as_bytes(), project.as_bytes(), name.as_bytes()].concat()
    }
}

/// A secret, as far as it can be shown.
#[derive(Clone, Debug)]
pub struct Secret {
    /// The environment that it is for, if it is for one alone.
    pub environment: Option<String>,
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
    owner: &Owner,
    name: &str,
    value: &str,
    by: &str,
) -> Result<bool, Error> {
    let sealed = vault.seal(&owner.place(name), value.as_bytes());
    let sealed = sealed.map_err(|error| Error::Vault { name: name.to_owned(), error })?;
    let new = sqlx::query_scalar!(
        r#"
        insert into secrets (id, organization_id, project_id, environment, name, key_id, sealed, set_by)
        values ($1, $2, $3, $4, $5, $6, $7, $8)
        on conflict on constraint secrets_name_is_unique do update
        set key_id = excluded.key_id, sealed = excluded.sealed, set_by = excluded.set_by, set_at = now()
        returning id = $1 as "new!"
        "#,
        Uuid::now_v7(),
        owner.organization.uuid(),
        owner.project.map(ProjectId::uuid),
        owner.environment,
        name,
        sealed.key_id,
        sealed.bytes,
        by
    )
    .fetch_one(db)
    .await?;
    Ok(new)
}

/// The secrets of an organization, of a project with those of all its environments behind its own, or of one environment, by
/// name; those after `after`, an environment (empty where there is none) and a name.
pub async fn list(
    db: impl PgExecutor<'_>,
    owner: &Owner,
    after: Option<(&str, &str)>,
    limit: i64,
) -> Result<Vec<Secret>, sqlx::Error> {
    let (environment, name) = after.unwrap_or_default();
    sqlx::query_as!(
        Secret,
        r#"
        select environment, name, set_by, set_at as "set_at: jiff_sqlx::Timestamp",
               created_at as "created_at: jiff_sqlx::Timestamp"
        from secrets
        where organization_id = $1 and project_id is not distinct from $2 and ($3::text is null or environment = $3)
          and (coalesce(environment, ''), name) > ($4, $5)
        order by coalesce(environment, ''), name limit $6
        "#,
        owner.organization.uuid(),
        owner.project.map(ProjectId::uuid),
        owner.environment,
        environment,
        name,
        limit
    )
    .fetch_all(db)
    .await
}

/// The environments that a project has secrets for or has deployed to, by name.
pub async fn environments(db: impl PgExecutor<'_>, project: ProjectId) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"
        select environment as "environment!" from secrets where project_id = $1 and environment is not null
        union
        select environment from deployments where project_id = $1 and desired_status = 'active'
        order by 1 limit 200
        "#,
        project.uuid()
    )
    .fetch_all(db)
    .await
}

/// Deletes a secret; `false` if there is none.
pub async fn delete(db: impl PgExecutor<'_>, owner: &Owner, name: &str) -> Result<bool, sqlx::Error> {
    let deleted = sqlx::query!(
        r#"
        delete from secrets
        where organization_id = $1 and project_id is not distinct from $2 and environment is not distinct from $3
          and name = $4
        "#,
        owner.organization.uuid(),
        owner.project.map(ProjectId::uuid),
        owner.environment,
        name
    )
    .execute(db)
    .await?;
    Ok(deleted.rows_affected() > 0)
}

/// Which secrets there are for the steps of a project, and for which of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// To each name the environments; `None` is any step.
    of: BTreeMap<String, BTreeSet<Option<String>>>,
}

impl Names {
    /// Whether a step that deploys to `environment`, if to any, gets this one.
    pub fn has(&self, environment: Option<&str>, name: &str) -> bool {
        let is_for = |it: &Option<String>| it.is_none() || it.as_deref() == environment;
        self.of.get(name).is_some_and(|environments| environments.iter().any(is_for))
    }

    /// The environments that have one of this name.
    pub fn environments(&self, name: &str) -> impl Iterator<Item = &str> {
        self.of.get(name).into_iter().flatten().flatten().map(String::as_str)
    }
}

impl FromIterator<(Option<String>, String)> for Names {
    fn from_iter<T: IntoIterator<Item = (Option<String>, String)>>(rows: T) -> Self {
        let mut names = Self::default();
        for (environment, name) in rows {
            names.of.entry(name).or_default().insert(environment);
        }
        names
    }
}

/// All secrets that a project's steps can have.
pub async fn names(db: impl PgExecutor<'_>, project: ProjectId) -> Result<Names, sqlx::Error> {
    let rows = sqlx::query!(
        r#"
        select s.environment, s.name from projects p
        join secrets s on s.organization_id = p.organization_id and (s.project_id is null or s.project_id = p.id)
        where p.id = $1
        "#,
        project.uuid()
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| (row.environment, row.name)).collect())
}

/// What is stored.
struct Row {
    id: Uuid,
    organization: OrganizationId,
    project: Option<ProjectId>,
    environment: Option<String>,
    name: String,
    key_id: String,
    sealed: Vec<u8>,
}

impl Row {
    fn place(&self) -> Vec<u8> {
        let environment = self.environment.clone();
        Owner { organization: self.organization, project: self.project, environment }.place(&self.name)
    }

    fn broken(&self, error: vault::Error) -> Error {
        Error::Vault { name: self.name.clone(), error }
    }

    fn sealed(&self) -> Sealed {
        Sealed { key_id: self.key_id.clone(), bytes: self.sealed.clone() }
    }
}

/// The values of these secrets for a step of a project that deploys to `environment`, if to any: the environment's own go
/// before the project's, and those before the organization's. One that is not set is left out.
pub async fn values(
    db: impl PgExecutor<'_>,
    vault: &Vault,
    project: ProjectId,
    environment: Option<&str>,
    names: &[String],
) -> Result<BTreeMap<String, String>, Error> {
    // What comes later takes the others' place.
    let rows = sqlx::query_as!(
        Row,
        r#"
        select s.id, s.organization_id as "organization: OrganizationId", s.project_id as "project: ProjectId",
               s.environment, s.name, s.key_id, s.sealed
        from projects p
        join secrets s on s.organization_id = p.organization_id and (s.project_id is null or s.project_id = p.id)
        where p.id = $1 and s.name = any($2) and (s.environment is null or s.environment = $3)
        order by s.project_id is not null, s.environment is not null
        "#,
        project.uuid(),
        names,
        environment
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
        select id, organization_id as "organization: OrganizationId", project_id as "project: ProjectId", environment,
               name, key_id, sealed
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
