//! What webhooks say and how they are signed, by the Standard Webhooks convention.

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use rand::{TryRng, rngs::SysRng};
use sha2::Sha256;

use crate::domain::RunStatus;

/// What every signing secret begins with.
const PREFIX: &str = "whsec_";

/// Every event there is.
pub const EVENTS: [&str; 4] = ["build.success", "build.failure", "build.cancelled", "build.error"];

/// The event that the end of a run is; a skipped one is none.
pub fn event(status: RunStatus) -> Option<&'static str> {
    match status {
        RunStatus::Success => Some("build.success"),
        RunStatus::Failure => Some("build.failure"),
        RunStatus::Cancelled => Some("build.cancelled"),
        RunStatus::Error => Some("build.error"),
        RunStatus::Pending | RunStatus::Running | RunStatus::Skipped => None,
    }
}

/// A new signing secret, `whsec_…`, of 256 random bits.
///
/// # Errors
/// When the system has no random bits to give.
pub fn new_secret() -> Result<String, sqlx::Error> {
    let mut bits = [0; 32];
    SysRng.try_fill_bytes(&mut bits).map_err(|error| sqlx::Error::Io(std::io::Error::other(error)))?;
    Ok(format!("{PREFIX}{}", STANDARD.encode(bits)))
}

/// The header `webhook-signature` of a message with this id and body, sent at that second since 1970. None for what is no
/// signing secret.
pub fn signature(secret: &str, id: &str, second: i64, body: &str) -> Option<String> {
    let key = STANDARD.decode(secret.strip_prefix(PREFIX)?).ok()?;
    let mac = Hmac::<Sha256>::new_from_slice(&key).ok()?;
    let signed = mac.chain_update(format!("{id}.{second}.{body}")).finalize().into_bytes();
    Some(format!("v1,{}", STANDARD.encode(signed)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_that_of_the_convention() {
        // The example of the specification's own libraries.
        let signature = signature(
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            r#"{"test": 2432232314}"#,
        );
        assert_eq!(signature.as_deref(), Some("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="));
    }

    #[test]
    fn a_new_secret_signs_and_no_two_are_the_same() {
        let (one, two) = (new_secret().unwrap(), new_secret().unwrap());
        assert_ne!(one, two);
        assert_ne!(signature(&one, "a", 0, ""), signature(&two, "a", 0, ""));
        assert_eq!(signature("secret", "a", 0, ""), None);
    }
}
