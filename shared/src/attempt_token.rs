//! Tokens that a runner shows for its attempt, and for nothing else. They are derived from the installation's secret: none
//! is stored, and every worker makes the same one again.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::{ids::AttemptId, secret::derived};

const PREFIX: &str = "bia_";

/// Makes and checks tokens.
#[derive(Clone)]
pub struct AttemptTokens {
    key: Hmac<Sha256>,
}

impl std::fmt::Debug for AttemptTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AttemptTokens")
    }
}

impl AttemptTokens {
    /// Those of the installation with this secret.
    pub fn new(secret: &[u8]) -> Self {
        Self { key: derived(secret, "buildit attempt tokens v1") }
    }

    /// The token of an attempt, `bia_…`; good as long as the attempt has not ended.
    pub fn token(&self, attempt: AttemptId) -> String {
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(self.mac(attempt).finalize().into_bytes()))
    }

    /// Whether that is the token of this attempt; takes the same time wherever it differs.
    pub fn check(&self, attempt: AttemptId, token: &str) -> bool {
        let mac = token.strip_prefix(PREFIX).and_then(|mac| URL_SAFE_NO_PAD.decode(mac).ok());
        mac.is_some_and(|mac| self.mac(attempt).verify_slice(&mac).is_ok())
    }

    fn mac(&self, attempt: AttemptId) -> Hmac<Sha256> {
        self.key.clone().chain_update("attempt").chain_update(attempt.uuid().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_opens_its_attempt_at_its_installation_alone() {
        let (tokens, attempt) = (AttemptTokens::new(b"secret"), AttemptId::new());
        let token = tokens.token(attempt);
        assert!(token.starts_with("bia_") && token.len() == 47, "{token}");
        assert!(AttemptTokens::new(b"secret").check(attempt, &token));
        assert!(!AttemptTokens::new(b"other").check(attempt, &token));
        assert!(!tokens.check(AttemptId::new(), &token));
        for wrong in ["", "bia_", &token[4..], &token[..46], &format!("{token}A"), &token.replace("bia_", "bi_")] {
            assert!(!tokens.check(attempt, wrong), "{wrong:?}");
        }
    }
}
