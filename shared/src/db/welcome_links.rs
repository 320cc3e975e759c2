//! Links with which the owner of an account chooses its password. Each serves once, and only the newest of an account.

use sqlx::{PgConnection, PgExecutor};

use crate::{
    ids::{LinkId, UserId},
    token,
};

/// What every link's token begins with.
const PREFIX: &str = "biw_";

/// Whose password a link lets its holder choose.
#[derive(Clone, Debug)]
pub struct Welcome {
    /// The account.
    pub user_id: UserId,
    /// Its address.
    pub email: String,
    /// What its owner is called.
    pub name: String,
}

/// A new link's token, which serves for a day; those made before serve no more.
pub async fn create(db: &mut PgConnection, user: UserId) -> Result<String, sqlx::Error> {
    sqlx::query!("delete from welcome_links where user_id = $1", user.uuid()).execute(&mut *db).await?;
    let plain = token::generate(PREFIX)?;
    sqlx::query!(
        "insert into welcome_links (id, user_id, hash, expires_at) values ($1, $2, $3, now() + interval '1 day')",
        LinkId::new().uuid(),
        user.uuid(),
        &token::hash(&plain)[..]
    )
    .execute(db)
    .await?;
    Ok(plain)
}

/// Whom the link with this token is for; none if it is unknown, used or too old.
pub async fn find(db: impl PgExecutor<'_>, plain: &str) -> Result<Option<Welcome>, sqlx::Error> {
    sqlx::query_as!(
        Welcome,
        r#"
        select user_id as "user_id: UserId", email, name
        from welcome_links join users on users.id = user_id where hash = $1 and expires_at > now()
        "#,
        &token::hash(plain)[..]
    )
    .fetch_optional(db)
    .await
}

/// Uses the link up; `false` if somebody was faster.
pub async fn use_up(db: impl PgExecutor<'_>, plain: &str) -> Result<bool, sqlx::Error> {
    let used =
        sqlx::query!("delete from welcome_links where hash = $1 and expires_at > now()", &token::hash(plain)[..])
            .execute(db)
            .await?;
    Ok(used.rows_affected() > 0)
}
