//! Sign-ins by a provider of OpenID Connect that are on their way: each ends once, in the browser that began it, within ten
//! minutes. The browser's cookie has a token of 256 random bits; here is its SHA-256.

use sqlx::PgExecutor;

use crate::token;

/// What every token begins with.
const PREFIX: &str = "bio_";

/// Begins one, which leads to `next`, a path of ours: the token for the browser's cookie.
pub async fn begin(db: impl PgExecutor<'_>, next: &str) -> Result<String, sqlx::Error> {
    let plain = token::generate(PREFIX)?;
    sqlx::query!(
        "insert into provider_sign_ins (hash, next, expires_at) values ($1, $2, now() + interval '10 minutes')",
        &token::hash(&plain)[..],
        next
    )
    .execute(db)
    .await?;
    Ok(plain)
}

/// Ends the one with this token: where it leads to, or none if it was ended before, is too old or was never begun.
pub async fn end(db: impl PgExecutor<'_>, plain: &str) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar!(
        "delete from provider_sign_ins where hash = $1 and expires_at > now() returning next",
        &token::hash(plain)[..]
    )
    .fetch_optional(db)
    .await
}
