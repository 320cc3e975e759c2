//! Addresses that are their own permission: whoever has one sees what it is for, and nothing else. They are derived from the
//! installation's secret, so none is stored.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::{
    ids::{PipelineId, RunId},
    secret::derived,
};

/// Makes and checks the unguessable part of such addresses.
#[derive(Clone)]
pub struct LinkTokens {
    key: Hmac<Sha256>,
}

/// What an address is for.
#[derive(Clone, Copy, Debug)]
pub enum Link<'a> {
    /// The status of a pipeline: its badge and its feed. Good for ever.
    Status(PipelineId),
    /// The files of an artifact.
    Artifact {
        /// Whose it is.
        run: RunId,
        /// Its name.
        name: &'a str,
        /// Until when, in seconds since 1970; whoever checks looks at the clock.
        expires: i64,
    },
}

impl std::fmt::Debug for LinkTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LinkTokens")
    }
}

impl LinkTokens {
    /// Those of the installation with this secret.
    pub fn new(secret: &[u8]) -> Self {
        Self { key: derived(secret, "buildit page links v1") }
    }

    /// The token for an address.
    pub fn token(&self, link: Link<'_>) -> String {
        URL_SAFE_NO_PAD.encode(self.mac(link).finalize().into_bytes())
    }

    /// Whether that is the token for this address; takes the same time wherever it differs.
    pub fn check(&self, link: Link<'_>, token: &str) -> bool {
        URL_SAFE_NO_PAD.decode(token).is_ok_and(|token| self.mac(link).verify_slice(&token).is_ok())
    }

    fn mac(&self, link: Link<'_>) -> Hmac<Sha256> {
        let key = self.key.clone();
        match link {
            Link::Status(pipeline) => key.chain_update("status").chain_update(pipeline.uuid().as_bytes()),
            // The name is last: nothing behind it could be taken for a part of it.
            Link::Artifact { run, name, expires } => key
                .chain_update("artifact")
                .chain_update(run.uuid().as_bytes())
                .chain_update(expires.to_be_bytes())
                .chain_update(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_opens_one_address_at_its_installation_alone() {
        let tokens = LinkTokens::new(b"secret");
        let (run, pipeline) = (RunId::new(), PipelineId::new());
        let link = Link::Artifact { run, name: "report", expires: 1000 };
        let token = tokens.token(link);
        assert!(tokens.check(link, &token) && !LinkTokens::new(b"other").check(link, &token));
        for other in [
            Link::Artifact { run, name: "report", expires: 1001 },
            Link::Artifact { run, name: "repor", expires: 1000 },
            Link::Artifact { run: RunId::new(), name: "report", expires: 1000 },
            Link::Status(pipeline),
        ] {
            assert!(!tokens.check(other, &token), "{other:?}");
        }
        assert!(tokens.check(Link::Status(pipeline), &tokens.token(Link::Status(pipeline))));
        assert!(!tokens.check(link, ""));
    }
}
