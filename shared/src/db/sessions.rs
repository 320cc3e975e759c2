//! People signed in on a browser: 256 random bits in a cookie, of which only the SHA-256 is stored.
//!
//! A session ends a month after it began, and after a week without use.

use sqlx::{PgExecutor, PgPool};

use crate::{
    ids::{OrganizationId, SessionId, UserId},
    permission::Role,
    token,
};

/// What every session's token begins with, so that scanners for leaked secrets can recognise one.
const PREFIX: &str = "bis_";

/// A session as it was just made: the only time that its token is known.
#[derive(Clone, Debug)]
pub struct Created {
    /// For the cookie; never stored.
    pub token: String,
    /// Its id.
    pub id: SessionId,
    /// When it ends at the latest.
    pub expires_at: jiff_sqlx::Timestamp,
}

/// Who is signed in.
#[derive(Clone, Debug)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// Whose it is.
    pub user_id: UserId,
    /// Their address.
    pub email: String,
    /// What they are called.
    pub name: String,
    /// They operate the installation.
    pub operator: bool,
    /// The organization that the session looks at, and what they are there; none for a member of none.
    pub organization: Option<Membership>,
    /// They have been granted something on a project there, and it counts; see [`super::project_grants`].
    pub has_grants: bool,
}

/// What somebody is in an organization.
#[derive(Clone, Debug)]
pub struct Membership {
    /// The organization.
    pub id: OrganizationId,
    /// Its name.
    pub name: String,
    /// Their role.
    pub role: Role,
}

/// A session's row, for the one whose it is.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Its id.
    pub id: SessionId,
    /// The browser, as it calls itself.
    pub user_agent: String,
    /// Where it was as it signed in.
    pub address: Option<String>,
    /// When it began.
    pub created_at: jiff_sqlx::Timestamp,
    /// When it was last used, to the minute.
    pub last_used_at: jiff_sqlx::Timestamp,
    /// When it ends at the latest.
    pub expires_at: jiff_sqlx::Timestamp,
}

/// Begins a session. It looks at the organization that its user has been in for the longest time.
pub async fn create(
    db: impl PgExecutor<'_>,
    user: UserId,
    user_agent: &str,
    address: Option<&str>,
) -> Result<Created, sqlx::Error> {
    let plain = token::generate(PREFIX)?;
    let row = sqlx::query!(
        r#"
        insert into sessions (id, user_id, hash, user_agent, address, expires_at, organization_id)
        values ($1, $2, $3, $4, $5, now() + interval '30 days',
                (select organization_id from org_memberships where user_id = $2 order by created_at limit 1))
        returning id as "id: SessionId", expires_at as "expires_at: jiff_sqlx::Timestamp"
        "#,
        SessionId::new().uuid(),
        user.uuid(),
        &token::hash(&plain)[..],
        user_agent,
        address
    )
    .fetch_one(db)
    .await?;
    Ok(Created { token: plain, id: row.id, expires_at: row.expires_at })
}

/// Whose session has this token; nobody's if it is unknown, ended or unused for long. Who has left the organization that it
/// looks at sees another one of theirs.
pub async fn authenticate(pool: &PgPool, plain: &str) -> Result<Option<Session>, sqlx::Error> {
    if !plain.starts_with(PREFIX) {
        return Ok(None);
    }
    let row = sqlx::query!(
        r#"
        select s.id as "id: SessionId", s.user_id as "user_id: UserId", u.email, u.name, u.operator,
               o.id as "organization_id?: OrganizationId", o.name as "organization_name?", o.role as "role?: Role",
               coalesce(o.has_grants, false) as "has_grants!",
               s.last_used_at < now() - interval '1 minute' as "stale!"
        from sessions s
        join users u on u.id = s.user_id
        left join lateral (
            select o.id, o.name, m.role,
                   m.role in ('developer', 'viewer') and exists (
                       select 1 from project_grants g
                       where g.organization_id = m.organization_id and g.user_id = m.user_id) as has_grants
            from org_memberships m join organizations o on o.id = m.organization_id
            where m.user_id = s.user_id
            order by m.organization_id is distinct from s.organization_id, m.created_at
            limit 1
        ) o on true
        where s.hash = $1 and s.revoked_at is null and s.expires_at > now()
          and s.last_used_at > now() - interval '7 days'
        "#,
        &token::hash(plain)[..]
    )
    .fetch_optional(pool)
    .await?;
    let Some(row) = row else { return Ok(None) };
    if row.stale {
        // At most one write a minute for each session, whatever the number of requests.
        sqlx::query!(
            "update sessions set last_used_at = now() where id = $1 and last_used_at < now() - interval '1 minute'",
            row.id.uuid()
        )
        .execute(pool)
        .await?;
    }
    let organization = match (row.organization_id, row.organization_name, row.role) {
        (Some(id), Some(name), Some(role)) => Some(Membership { id, name, role }),
        _ => None,
    };
    Ok(Some(Session {
        id: row.id,
        user_id: row.user_id,
        email: row.email,
        name: row.name,
        operator: row.operator,
        organization,
        has_grants: row.has_grants,
    }))
}

/// Somebody's sessions that have not ended, newest first, from `before` on.
pub async fn list(
    db: impl PgExecutor<'_>,
    user: UserId,
    before: Option<SessionId>,
    limit: i64,
) -> Result<Vec<Listed>, sqlx::Error> {
    sqlx::query_as!(
        Listed,
        r#"
        select id as "id: SessionId", user_agent, address, created_at as "created_at: jiff_sqlx::Timestamp",
               last_used_at as "last_used_at: jiff_sqlx::Timestamp", expires_at as "expires_at: jiff_sqlx::Timestamp"
        from sessions
        where user_id = $1 and revoked_at is null and expires_at > now() and last_used_at > now() - interval '7 days'
          and ($2::uuid is null or id < $2)
        order by id desc limit $3
        "#,
        user.uuid(),
        before.map(SessionId::uuid),
        limit
    )
    .fetch_all(db)
    .await
}

/// Ends one of somebody's sessions; `false` if there is none.
pub async fn revoke(db: impl PgExecutor<'_>, user: UserId, id: SessionId) -> Result<bool, sqlx::Error> {
    let revoked = sqlx::query!(
        "update sessions set revoked_at = coalesce(revoked_at, now()) where id = $1 and user_id = $2",
        id.uuid(),
        user.uuid()
    )
    .execute(db)
    .await?;
    Ok(revoked.rows_affected() > 0)
}

/// Ends all of somebody's sessions but one.
pub async fn revoke_all_but(db: impl PgExecutor<'_>, user: UserId, kept: Option<SessionId>) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "update sessions set revoked_at = now() where user_id = $1 and id is distinct from $2 and revoked_at is null",
        user.uuid(),
        kept.map(SessionId::uuid)
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Has the session look at another organization, by its id or name; `false` if its user is no member there.
pub async fn switch(db: impl PgExecutor<'_>, id: SessionId, organization: &str) -> Result<bool, sqlx::Error> {
    let switched = sqlx::query!(
        r#"
        update sessions s set organization_id = o.id
        from organizations o join org_memberships m on m.organization_id = o.id
        where s.id = $1 and m.user_id = s.user_id and (o.name = $2 or o.id::text = $2)
        "#,
        id.uuid(),
        organization
    )
    .execute(db)
    .await?;
    Ok(switched.rows_affected() > 0)
}

/// Deletes what let people in and does no more: ended sessions, links, invitations, counts of failures.
pub async fn prune(db: &PgPool) -> Result<(), sqlx::Error> {
    sqlx::query!(
        r#"
        delete from sessions
        where expires_at < now() or revoked_at < now() or last_used_at < now() - interval '7 days'
        "#
    )
    .execute(db)
    .await?;
    sqlx::query!("delete from welcome_links where expires_at < now()").execute(db).await?;
    sqlx::query!("delete from provider_sign_ins where expires_at < now()").execute(db).await?;
    sqlx::query!("delete from invitations where expires_at < now()").execute(db).await?;
    sqlx::query!("delete from sign_in_failures where since < now() - interval '15 minutes'").execute(db).await?;
    Ok(())
}
