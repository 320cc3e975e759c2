//! API keys: 256 random bits that are shown once. Only their SHA-256 is stored.

use jiff::Timestamp;
use sqlx::{PgExecutor, PgPool};

use super::Scope;
use crate::{
    ids::{ApiKeyId, OrganizationId, ProjectId, UserId},
    permission::{Permission, Role},
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
    /// The person whose own key it is; nobody's is the organization's.
    pub user_id: Option<UserId>,
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
    /// The person whose own key it is.
    pub user_id: Option<UserId>,
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
    /// The person whose own key it is.
    pub user_id: Option<UserId>,
    /// What it may do: names that this program does not know give nothing, and a person's key gives no more than they have.
    pub permissions: Vec<Permission>,
    /// The person has been granted something on a project there, and it counts; see [`super::project_grants`].
    pub has_grants: bool,
}

/// Makes a key.
pub async fn create(db: impl PgExecutor<'_>, new: NewKey<'_>) -> Result<Created, sqlx::Error> {
    let plain = token::generate(KEY_PREFIX)?;
    let permissions: Vec<String> = new.permissions.iter().map(|permission| permission.name().to_owned()).collect();
    let key = sqlx::query_as!(
        ApiKey,
        r#"
        insert into api_keys (id, organization_id, name, prefix, hash, permissions, project_id, created_by, expires_at, user_id)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
        returning id as "id: ApiKeyId", name, prefix, permissions, project_id as "project_id: ProjectId",
                  user_id as "user_id: UserId", created_at as "created_at: jiff_sqlx::Timestamp", last_used_at as "last_used_at: jiff_sqlx::Timestamp",
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
        new.user_id.map(UserId::uuid),
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
        select k.id as "id: ApiKeyId", k.name, k.organization_id as "organization_id: OrganizationId",
               k.project_id as "project_id: ProjectId", k.permissions, k.user_id as "user_id: UserId",
               m.role as "role?: Role", coalesce(u.operator, false) as "operator!",
               coalesce(m.role in ('developer', 'viewer') and exists (
                   select 1 from project_grants g
                   where g.organization_id = m.organization_id and g.user_id = m.user_id), false) as "has_grants!",
               (k.last_used_at is null or k.last_used_at < now() - interval '1 minute') as "stale!"
        from api_keys k
        left join users u on u.id = k.user_id
        left join org_memberships m on m.user_id = k.user_id and m.organization_id = k.organization_id
        where k.hash = $1 and k.revoked_at is null and (k.expires_at is null or k.expires_at > now())
          and (k.user_id is null or m.role is not null)
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
    let given = row.permissions.iter().filter_map(|name| Permission::parse(name));
    let permissions = match row.role {
        Some(role) => given.filter(|permission| role.allows(*permission, row.operator)).collect(),
        None => given.collect(),
    };
    Ok(Some(Principal {
        key_id: row.id,
        name: row.name,
        organization_id: row.organization_id,
        project_id: row.project_id,
        user_id: row.user_id,
        permissions,
        has_grants: row.has_grants,
    }))
}

/// An organization's keys, or one person's own, newest first, from `before` on.
pub async fn list(
    db: impl PgExecutor<'_>,
    scope: Scope,
    of: Option<UserId>,
    before: Option<ApiKeyId>,
    limit: i64,
) -> Result<Vec<ApiKey>, sqlx::Error> {
    sqlx::query_as!(
        ApiKey,
        r#"
        select id as "id: ApiKeyId", name, prefix, permissions, project_id as "project_id: ProjectId",
               user_id as "user_id: UserId", created_at as "created_at: jiff_sqlx::Timestamp", last_used_at as "last_used_at: jiff_sqlx::Timestamp",
               expires_at as "expires_at: jiff_sqlx::Timestamp", revoked_at as "revoked_at: jiff_sqlx::Timestamp"
        from api_keys
        where organization_id = $1 and ($2::uuid is null or project_id = $2) and ($3::uuid is null or id < $3)
          and ($4::uuid is null or user_id = $4)
        order by id desc limit $5
        "#,
        scope.organization.uuid(),
        scope.project_uuid(),
        before.map(ApiKeyId::uuid),
        of.map(UserId::uuid),
        limit
    )
    .fetch_all(db)
    .await
}

/// Refuses a key from now on, one person's own if one is given: its name, or none if there is none.
pub async fn revoke(
    db: impl PgExecutor<'_>,
    scope: Scope,
    of: Option<UserId>,
    id: ApiKeyId,
) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"
        update api_keys set revoked_at = coalesce(revoked_at, now())
        where id = $1 and organization_id = $2 and ($3::uuid is null or project_id = $3)
          and ($4::uuid is null or user_id = $4)
        returning name
        "#,
        id.uuid(),
        scope.organization.uuid(),
        scope.project_uuid(),
        of.map(UserId::uuid)
    )
    .fetch_optional(db)
    .await
}
