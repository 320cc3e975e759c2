//! Secrets that a person or a program shows: 256 random bits behind a prefix that tells what they are. Only their SHA-256
//! is stored; a slow hash would add nothing.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rand::{TryRng, rngs::SysRng};
use sha2::{Digest, Sha256};

/// A new one, which begins with `prefix`.
///
/// # Errors
/// When the system has no random bits to give.
pub fn generate(prefix: &str) -> Result<String, sqlx::Error> {
    let mut bits = [0; 32];
    SysRng.try_fill_bytes(&mut bits).map_err(|error| sqlx::Error::Io(std::io::Error::other(error)))?;
    Ok(format!("{prefix}{}", URL_SAFE_NO_PAD.encode(bits)))
}

/// What is stored of it.
pub fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}
