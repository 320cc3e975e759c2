//! What forges send: who says so, and what happened. Nothing of a message is believed before it is known to come from the forge.

mod github;
mod gitlab;

use axum::http::HeaderMap;
use buildit_shared::{db::forge_hooks::Forge, pipeline::MrAction};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

/// What happened at a forge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A ref is at another commit than before.
    Push {
        /// In full.
        git_ref: String,
        /// The commit; zeros if the ref is gone.
        after: String,
    },
    /// Something happened to a merge request.
    MergeRequest {
        /// In its project.
        number: i32,
        /// What happened.
        action: MrAction,
        /// The branch to be merged.
        branch: String,
        /// Its commit.
        commit: String,
        /// It comes from another repository than it goes to.
        fork: bool,
        /// Where the forge keeps it in the repository it goes to.
        git_ref: String,
    },
    /// Nothing that starts or ends a run.
    Other,
}

/// Why a message cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("this is no message of {forge} as it is documented: {error}")]
pub(crate) struct Unreadable {
    forge: &'static str,
    error: serde_json::Error,
}

/// Whether the message was sent by who knows the secret. Takes the same time wherever it differs.
pub(crate) fn is_authentic(forge: Forge, secret: &str, headers: &HeaderMap, body: &[u8]) -> bool {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    match forge {
        Forge::Github => header("x-hub-signature-256")
            .and_then(|value| value.strip_prefix("sha256="))
            .is_some_and(|digits| is_signature(secret, body, digits)),
        Forge::Gitea => header("x-gitea-signature")
            .or_else(|| header("x-forgejo-signature"))
            .is_some_and(|digits| is_signature(secret, body, digits)),
        // It sends the secret itself. Of hashes, where they differ tells nothing.
        Forge::Gitlab => header("x-gitlab-token").is_some_and(|token| Sha256::digest(token) == Sha256::digest(secret)),
    }
}

fn is_signature(secret: &str, body: &[u8], digits: &str) -> bool {
    let Ok(shown) = hex::decode(digits) else { return false };
    Hmac::<Sha256>::new_from_slice(secret.as_bytes())
        .is_ok_and(|mac| mac.chain_update(body).verify_slice(&shown).is_ok())
}

/// What the forge calls this delivery; the same one again has the same. Without a name it is called by what it says.
pub(crate) fn delivery(forge: Forge, headers: &HeaderMap, body: &[u8]) -> String {
    let names: &[&str] = match forge {
        Forge::Github => &["x-github-delivery"],
        Forge::Gitea => &["x-gitea-delivery", "x-forgejo-delivery"],
        Forge::Gitlab => &["idempotency-key", "x-gitlab-event-uuid"],
    };
    let named = names.iter().find_map(|name| headers.get(*name)?.to_str().ok());
    let id = named.filter(|id| (1..=100).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic()));
    match id {
        Some(id) => format!("{}/{id}", forge.name()),
        None => format!("{}/{}", forge.name(), hex::encode(Sha256::digest(body))),
    }
}

/// What the message says.
///
/// # Errors
/// When it lacks what it should have.
pub(crate) fn event(forge: Forge, headers: &HeaderMap, body: &[u8]) -> Result<Event, Unreadable> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let event = match forge {
        Forge::Github => github::event(header("x-github-event"), body),
        Forge::Gitea => github::event(
            if header("x-gitea-event").is_empty() { header("x-forgejo-event") } else { header("x-gitea-event") },
            body,
        ),
        Forge::Gitlab => gitlab::event(body),
    };
    event.map_err(|error| Unreadable { forge: forge.name(), error })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn githubs_own_example_of_a_signature_is_right_and_others_are_not() {
        // From its documentation.
        let (secret, body) = ("It's a Secret to Everybody", b"Hello, World!");
        let right = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        let shown =
            |value: &str| is_authentic(Forge::Github, secret, &headers(&[("x-hub-signature-256", value)]), body);
        assert!(shown(&format!("sha256={right}")));
        for wrong in [right, "sha256=", "sha256=zz", &format!("sha256={}", &right[2..]), &format!("sha1={right}")] {
            assert!(!shown(wrong), "{wrong}");
        }
        assert!(is_authentic(Forge::Gitea, secret, &headers(&[("x-gitea-signature", right)]), body));
        assert!(!is_authentic(Forge::Gitea, "another", &headers(&[("x-gitea-signature", right)]), body));
        assert!(!is_authentic(Forge::Gitea, secret, &HeaderMap::new(), body));
    }

    #[test]
    fn gitlab_shows_the_secret_itself() {
        assert!(is_authentic(Forge::Gitlab, "secret", &headers(&[("x-gitlab-token", "secret")]), b""));
        assert!(!is_authentic(Forge::Gitlab, "secret", &headers(&[("x-gitlab-token", "secre")]), b""));
    }

    #[test]
    fn a_delivery_without_a_name_is_called_by_what_it_says() {
        let named = delivery(Forge::Github, &headers(&[("x-github-delivery", "72d3162e")]), b"a");
        assert_eq!(named, "github/72d3162e");
        let unnamed = |body: &[u8]| delivery(Forge::Gitlab, &HeaderMap::new(), body);
        assert_eq!(unnamed(b"a"), unnamed(b"a"));
        assert_ne!(unnamed(b"a"), unnamed(b"b"));
    }
}
