//! API keys: 256 random bits that are shown once. Only their SHA-256 is stored.

use jiff::Timestamp;
use sqlx::{PgExecutor, PgPool};

use super::Scope;
use crate::{
    ids::{ApiKeyId, OrganizationId, ProjectId, UserId},
    permission::Permission,
    token,
};

/// What every key begins with, so that scanners for leaked secrets can recognise one.
pub const KEY_PREFIX: &str = "bi_";
/// Characters of a key that are kept to recognise it by.
const SHOWN: usize = 11;

/// A key to make.
#[derive(Clone, Debug)]
pub struct NewKey<'a> {
    /// Whose it is.
    pub organization_id: OrganizationId,
    /// What it is for.
    pub name: &'a str,
    /// What it may do.
    pub permissions: &'a [Permission],
    /// The one project it sees, if it is bound to one.
    pub project_id: Option<ProjectId>,
    /// Who made it.
    pub created_by: Option<UserId>,
    /// From when on it is refused.
    pub expires_at: Option<Timestamp>,
}

/// A key as it was just made: the only time that its text is known.
#[derive(Clone, Debug)]
pub struct Created {
    /// The key; never stored.
    pub plain: String,
    /// Its row.
    pub key: ApiKey,
}

/// A key's row.
#[derive(Clone, Debug)]
pub struct ApiKey {
    /// Its id.
    pub id: ApiKeyId,
    /// What it is for.
    pub name: String,
    /// The first characters of the key.
    pub prefix: String,
    /// What it may do, by name.
    pub permissions: Vec<String>,
    /// The one project it sees, if it is bound to one.
    pub project_id: Option<ProjectId>,
    /// When it was made.
    pub created_at: jiff_sqlx::Timestamp,
    /// When it was last used, to the minute.
    pub last_used_at: Option<jiff_sqlx::Timestamp>,
    /// From when on it is refused.
    pub expires_at: Option<jiff_sqlx::Timestamp>,
    /// Since when it is refused.
    pub revoked_at: Option<jiff_sqlx::Timestamp>,
}

/// Whom a key lets in.
#[derive(Clone, Debug)]
pub struct Principal {
    /// The key.
    pub key_id: ApiKeyId,
    /// The key's name.
    pub name: String,
    /// Whose it is.
    pub organization_id: OrganizationId,
    /// The one project it sees, if it is bound to one.
    pub project_id: Option<ProjectId>,
    /// What it may do; names that this program does not know give nothing.
    pub permissions: Vec<Permission>,
}

/// Makes a key.
pub async fn create(db: impl PgExecutor<'_>, new: NewKey<'_>) -> Result<Created, sqlx::Error> {
    let plain = token::generate(KEY_PREFIX)?;
    let permissions: Vec<String> = new.permissions.iter().map(|permission| permission.name().to_owned()).collect();
    let key = sqlx::query_as!(
        ApiKey,
        r#"
        insert into api_keys (id, organization_id, name, prefix, hash, permissions, project_id, created_by, expires_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
        returning id as "id: ApiKeyId", name, prefix, permissions, project_id as "project_id: ProjectId",
                  created_at as "created_at: jiff_sqlx::Timestamp", last_used_at as "last_used_at: jiff_sqlx::Timestamp",
                  expires_at as "expires_at: jiff_sqlx::Timestamp", revoked_at as "revoked_at: jiff_sqlx::Timestamp"
        "#,
        ApiKeyId::new().uuid(),
        new.organization_id.uuid(),
        new.name,
        &plain[..SHOWN],
        &token::hash(&plain)[..],
        &permissions,
        new.project_id.map(ProjectId::uuid),
        new.created_by.map(UserId::uuid),
        new.expires_at.map(jiff_sqlx::Timestamp::from) as Option<jiff_sqlx::Timestamp>,
    )
    .fetch_one(db)
    .await?;
    Ok(Created { plain, key })
}

/// Whom `plain` lets in: nobody if it is unknown, revoked or expired.
pub async fn authenticate(pool: &PgPool, plain: &str) -> Result<Option<Principal>, sqlx::Error> {
    if !plain.starts_with(KEY_PREFIX) {
        return Ok(None);
    }
    let row = sqlx::query!(
        r#"
        select id as "id: ApiKeyId", name, organization_id as "organization_id: OrganizationId",
               project_id as "project_id: ProjectId", permissions,
               (last_used_at is null or last_used_at < now() - interval '1 minute') as "stale!"
        from api_keys
        where hash = $1 and revoked_at is null and (expires_at is null or expires_at > now())
        "#,
        &token::hash(plain)[..]
    )
    .fetch_optional(pool)
    .await?;
    let Some(row) = row else { return Ok(None) };
    if row.stale {
        // At most one write a minute for each key, whatever the number of requests.
        sqlx::query!(
            r#"
            update api_keys set last_used_at = now()
            where id = $1 and (last_used_at is null or last_used_at < now() - interval '1 minute')
            "#,
            row.id.uuid()
        )
        .execute(pool)
        .await?;
    }
    Ok(Some(Principal {
        key_id: row.id,
        name: row.name,
        organization_id: row.organization_id,
        project_id: row.project_id,
        permissions: row.permissions.iter().filter_map(|name| Permission::parse(name)).collect(),
    }))
}

/// An organization's keys, newest first, from `before` on.
pub async fn list(
    db: impl PgExecutor<'_>,
    scope: Scope,
    before: Option<ApiKeyId>,
    limit: i64,
) -> Result<Vec<ApiKey>, sqlx::Error> {
    sqlx::query_as!(
        ApiKey,
        r#"
        select id as "id: ApiKeyId", name, prefix, permissions, project_id as "project_id: ProjectId",
               created_at as "created_at: jiff_sqlx::Timestamp", last_used_at as "last_used_at: jiff_sqlx::Timestamp",
               expires_at as "expires_at: jiff_sqlx::Timestamp", revoked_at as "revoked_at: jiff_sqlx::Timestamp"
        from api_keys
        where organization_id = $1 and ($2::uuid is null or project_id = $2) and ($3::uuid is null or id < $3)
        order by id desc limit $4
        "#,
        scope.organization.uuid(),
        scope.project_uuid(),
        before.map(ApiKeyId::uuid),
        limit
    )
    .fetch_all(db)
    .await
}

/// Refuses a key from now on; `false` if there is none.
pub async fn revoke(db: impl PgExecutor<'_>, scope: Scope, id: ApiKeyId) -> Result<bool, sqlx::Error> {
    let revoked = sqlx::query!(
        r#"
        update api_keys set revoked_at = coalesce(revoked_at, now())
        where id = $1 and organization_id = $2 and ($3::uuid is null or project_id = $3)
        "#,
        id.uuid(),
        scope.organization.uuid(),
        scope.project_uuid()
    )
    .execute(db)
    .await?;
    Ok(revoked.rows_affected() > 0)
}
