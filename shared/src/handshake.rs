//! What a sign-in by a provider of OpenID Connect shows to others: values derived from the token in the browser's cookie, one for each
//! purpose, so that none of them is stored and none tells anything of another.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::secret::derived;

/// What the provider sends back with its answer, which ties that to the browser.
pub fn state(token: &str) -> String {
    encoded(mac(token, "buildit sign-in state v1"))
}

/// Whether the state is this token's; takes the same time wherever it differs.
pub fn check_state(token: &str, shown: &str) -> bool {
    let shown = URL_SAFE_NO_PAD.decode(shown);
    shown.is_ok_and(|shown| mac(token, "buildit sign-in state v1").verify_slice(&shown).is_ok())
}

/// What the provider writes into the identity that it vouches for, which ties that to the sign-in.
pub fn nonce(token: &str) -> String {
    encoded(mac(token, "buildit sign-in nonce v1"))
}

/// What is shown to the provider with the code, so that nobody else can use that (RFC 7636).
pub fn verifier(token: &str) -> String {
    encoded(mac(token, "buildit sign-in verifier v1"))
}

fn mac(token: &str, purpose: &str) -> Hmac<Sha256> {
    derived(token.as_bytes(), purpose)
}

fn encoded(mac: Hmac<Sha256>) -> String {
    URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_is_of_one_token_and_one_purpose() {
        let values = [state("a"), nonce("a"), verifier("a"), state("b"), nonce("b"), verifier("b")];
        for (i, value) in values.iter().enumerate() {
            assert_eq!(value.len(), 43, "a verifier has from 43 to 128 characters");
            assert!(!values[i + 1..].contains(value));
        }
        assert!(check_state("a", &state("a")));
        for other in [state("b"), nonce("a"), String::new(), state("a")[1..].to_owned()] {
            assert!(!check_state("a", &other));
        }
    }
}
