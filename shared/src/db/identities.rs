//! Who people are at a provider of OpenID Connect: an issuer and what it calls them, which is never their address.

use sqlx::PgExecutor;

use crate::ids::{IdentityId, UserId};

/// What an account is linked with.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Its id.
    pub id: IdentityId,
    /// Who vouches for them.
    pub issuer: String,
    /// The address that it vouched for as the two were linked.
    pub email: String,
    /// When they were linked.
    pub created_at: jiff_sqlx::Timestamp,
    /// When they last signed in by it.
    pub last_used_at: jiff_sqlx::Timestamp,
}

/// An account.
#[derive(Clone, Debug)]
pub struct Account {
    /// Its id.
    pub id: UserId,
    /// Its address.
    pub email: String,
}

/// The account that is linked with that subject of that issuer; it is noted that it was used.
pub async fn used(db: impl PgExecutor<'_>, issuer: &str, subject: &str) -> Result<Option<Account>, sqlx::Error> {
    sqlx::query_as!(
        Account,
        r#"
        update user_identities i set last_used_at = now() from users u
        where i.issuer = $1 and i.subject = $2 and u.id = i.user_id
        returning u.id as "id: UserId", u.email
        "#,
        issuer,
        subject
    )
    .fetch_optional(db)
    .await
}

/// Links an account; `false` if it is linked with another subject of that issuer, or the subject with another account.
pub async fn link(
    db: impl PgExecutor<'_>,
    user: UserId,
    issuer: &str,
    subject: &str,
    email: &str,
) -> Result<bool, sqlx::Error> {
    let linked = sqlx::query!(
        r#"
        insert into user_identities (id, user_id, issuer, subject, email) values ($1, $2, $3, $4, $5)
        on conflict do nothing
        "#,
        IdentityId::new().uuid(),
        user.uuid(),
        issuer,
        subject,
        email
    )
    .execute(db)
    .await?;
    Ok(linked.rows_affected() > 0)
}

/// What an account is linked with, oldest first, those after `after`.
pub async fn list(
    db: impl PgExecutor<'_>,
    user: UserId,
    after: Option<IdentityId>,
    limit: i64,
) -> Result<Vec<Identity>, sqlx::Error> {
    sqlx::query_as!(
        Identity,
        r#"
        select id as "id: IdentityId", issuer, email, created_at as "created_at: jiff_sqlx::Timestamp",
               last_used_at as "last_used_at: jiff_sqlx::Timestamp"
        from user_identities where user_id = $1 and ($2::uuid is null or id > $2) order by id limit $3
        "#,
        user.uuid(),
        after.map(IdentityId::uuid),
        limit
    )
    .fetch_all(db)
    .await
}

/// Takes a link of somebody's away: the issuer, or none if there is none.
pub async fn unlink(db: impl PgExecutor<'_>, user: UserId, id: IdentityId) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar!(
        "delete from user_identities where id = $1 and user_id = $2 returning issuer",
        id.uuid(),
        user.uuid()
    )
    .fetch_optional(db)
    .await
}
