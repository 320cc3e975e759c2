//! Passwords: argon2id with the parameters that OWASP recommends, in the PHC form, which names them.
//!
//! Hashing takes 19 MiB and some ten milliseconds of a core on purpose, so only a few are hashed at once.

use std::sync::LazyLock;

use argon2::{
    Argon2,
    password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash},
};
use tokio::sync::Semaphore;

/// The fewest characters of a password.
pub const SHORTEST: usize = 10;
/// The most bytes of a password: a longer one would only cost time.
const LONGEST: usize = 1000;

static AT_ONCE: Semaphore = Semaphore::const_new(4);

/// What the password of an account that has none is compared with, so that it takes as long as any other.
static NOBODYS: LazyLock<Option<String>> = LazyLock::new(|| hash_now("nobody's password").ok());

/// Why a password was not hashed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be one; for its owner.
    #[error("{0}")]
    Refused(String),
    /// Our fault.
    #[error("a password could not be hashed: {0}")]
    Hashing(String),
}

/// The hash of a password that somebody chose for the account `email`.
///
/// # Errors
/// When it is too short, too long or the address itself.
pub async fn hash(password: String, email: &str) -> Result<String, Error> {
    if password.chars().count() < SHORTEST {
        return Err(Error::Refused(format!("a password has at least {SHORTEST} characters")));
    }
    if password.len() > LONGEST {
        return Err(Error::Refused(format!("a password has at most {LONGEST} bytes")));
    }
    if password.eq_ignore_ascii_case(email) {
        return Err(Error::Refused("the address of the account is no password".into()));
    }
    aside(move || hash_now(&password)).await.and_then(|hashed| hashed)
}

/// Whether `password` is the one that was hashed. Without a hash it is not, and that takes as long to tell.
///
/// # Errors
/// When the stored hash is none.
pub async fn verify(password: String, hash: Option<String>) -> Result<bool, Error> {
    if password.len() > LONGEST {
        return Ok(false);
    }
    aside(move || {
        let Some(compared) = hash.as_ref().or(NOBODYS.as_ref()) else { return Ok(false) };
        let parsed = PasswordHash::new(compared).map_err(|error| Error::Hashing(error.to_string()))?;
        Ok(Argon2::default().verify_password(password.as_bytes(), &parsed).is_ok() && hash.is_some())
    })
    .await?
}

fn hash_now(password: &str) -> Result<String, Error> {
    let hashed = Argon2::default().hash_password(password.as_bytes());
    hashed.map(|hashed| hashed.to_string()).map_err(|error| Error::Hashing(error.to_string()))
}

async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    let stopped = |error: &dyn std::fmt::Display| Error::Hashing(error.to_string());
    let _permit = AT_ONCE.acquire().await.map_err(|error| stopped(&error))?;
    tokio::task::spawn_blocking(work).await.map_err(|error| stopped(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_password_that_was_hashed_is_right() {
        let hashed = hash("correct horse".into(), "a@b.example").await.unwrap();
        assert!(hashed.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hashed}");
        assert!(verify("correct horse".into(), Some(hashed.clone())).await.unwrap());
        assert!(!verify("correct house".into(), Some(hashed.clone())).await.unwrap());
        assert!(!verify("nobody's password".into(), None).await.unwrap());
        assert_ne!(hashed, hash("correct horse".into(), "a@b.example").await.unwrap());
    }

    #[tokio::test]
    async fn what_anybody_would_try_is_no_password() {
        for bad in ["", "short", "ada@b.example", "ADA@b.example", &"x".repeat(1001)] {
            assert!(matches!(hash(bad.into(), "ada@b.example").await, Err(Error::Refused(_))), "{bad:?}");
        }
    }
}
