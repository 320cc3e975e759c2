//! What a form shows, so that no other site can have a signed-in browser send it. It is derived from the session's own token,
//! which no page contains; nothing is stored.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::secret::derived;

/// The value of the form field for the session with this token.
pub fn token(session: &str) -> String {
    URL_SAFE_NO_PAD.encode(mac(session).finalize().into_bytes())
}

/// Whether the form showed the session's value; takes the same time wherever it differs.
pub fn check(session: &str, shown: &str) -> bool {
    URL_SAFE_NO_PAD.decode(shown).is_ok_and(|shown| mac(session).verify_slice(&shown).is_ok())
}

fn mac(session: &str) -> Hmac<Sha256> {
    derived(session.as_bytes(), "buildit form v1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_sessions_own_value_serves() {
        let shown = token("bis_one");
        assert!(check("bis_one", &shown));
        assert!(!check("bis_two", &shown));
        assert!(!check("bis_one", "") && !check("bis_one", "bis_one") && !check("bis_one", &shown[1..]));
    }
}
