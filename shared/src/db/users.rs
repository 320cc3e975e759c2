//! People with an account. An address is one account, whatever the case of its letters.

use sqlx::PgExecutor;

use crate::ids::UserId;

/// What a sign-in needs.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The account.
    pub id: UserId,
    /// Its address.
    pub email: String,
    /// None until its owner has chosen a password.
    pub password_hash: Option<String>,
    /// It is linked with somebody at a provider of OpenID Connect.
    pub is_linked: bool,
}

impl Credentials {
    /// Whether its owner has some way to sign in, so that a link that others have seen must not open it.
    pub fn has_owner(&self) -> bool {
        self.password_hash.is_some() || self.is_linked
    }
}

/// The account of that address, made if there is none; an account keeps the name it has.
pub async fn ensure(db: impl PgExecutor<'_>, email: &str, name: &str) -> Result<UserId, sqlx::Error> {
    sqlx::query_scalar!(
        r#"
        insert into users (id, email, name) values ($1, $2, $3)
        on conflict (email) do update set email = excluded.email
        returning id as "id: UserId"
        "#,
        UserId::new().uuid(),
        email.to_lowercase(),
        name
    )
    .fetch_one(db)
    .await
}

/// Makes the account one of the installation's operators.
pub async fn make_operator(db: impl PgExecutor<'_>, user: UserId) -> Result<(), sqlx::Error> {
    sqlx::query!("update users set operator = true where id = $1", user.uuid()).execute(db).await?;
    Ok(())
}

/// How the account of that address signs in.
pub async fn credentials(db: impl PgExecutor<'_>, email: &str) -> Result<Option<Credentials>, sqlx::Error> {
    sqlx::query_as!(
        Credentials,
        r#"
        select id as "id: UserId", email, password_hash,
               exists (select 1 from user_identities where user_id = users.id) as "is_linked!"
        from users where email = $1
        "#,
        email.to_lowercase()
    )
    .fetch_optional(db)
    .await
}

/// Whether its owner has chosen a password.
pub async fn has_password(db: impl PgExecutor<'_>, user: UserId) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select exists (select 1 from users where id = $1 and password_hash is not null) as "has!""#,
        user.uuid()
    )
    .fetch_one(db)
    .await
}

/// Sets the password whose hash that is.
pub async fn set_password(db: impl PgExecutor<'_>, user: UserId, hash: &str) -> Result<(), sqlx::Error> {
    sqlx::query!("update users set password_hash = $2 where id = $1", user.uuid(), hash).execute(db).await?;
    Ok(())
}
