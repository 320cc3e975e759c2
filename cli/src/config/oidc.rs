//! `[oidc]`: the provider of OpenID Connect that people may sign in by.

use anyhow::anyhow;
use buildit_api::{Newcomers, OidcSettings as Provider};
use buildit_shared::permission::Role;
use serde::{Deserialize, Serialize};

use super::storage::Secret;
use crate::exit::Problem;

/// The provider; none without an issuer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct OidcSettings {
    /// What the provider calls itself, such as `https://id.example.org`; its `/.well-known/openid-configuration` tells the rest.
    pub(crate) issuer: Option<String>,
    /// What it calls this installation.
    pub(crate) client_id: Option<String>,
    /// What proves to it that this is the one.
    pub(crate) client_secret: Option<Secret>,
    /// What people know it by.
    pub(crate) label: String,
    /// Only addresses at these domains are admitted; all without any.
    pub(crate) domains: Vec<String>,
    /// The organization that people come into whom nobody has invited; nobody does without it.
    pub(crate) organization: Option<String>,
    /// What they are there.
    pub(crate) role: Role,
}

impl Default for OidcSettings {
    fn default() -> Self {
        Self {
            issuer: None,
            client_id: None,
            client_secret: None,
            label: "single sign-on".into(),
            domains: Vec::new(),
            organization: None,
            role: Role::Viewer,
        }
    }
}

impl OidcSettings {
    /// The provider, if one is set up.
    ///
    /// # Errors
    /// When what is needed is missing, or cannot be.
    pub(crate) fn provider(&self) -> Result<Option<Provider>, Problem> {
        let wrong = |message: String| Err(Problem::usage(anyhow!("[oidc]: {message}")));
        let Some(issuer) = self.issuer.clone() else {
            if *self != Self::default() {
                return wrong("no `issuer` is given, so nobody could sign in by it".into());
            }
            return Ok(None);
        };
        if let Err(message) = Provider::check_issuer(&issuer) {
            return wrong(format!("`issuer`: {message}"));
        }
        let (Some(client_id), Some(client_secret)) = (self.client_id.clone(), &self.client_secret) else {
            return wrong(
                "give the `client_id` and the `client_secret` that the provider has for this installation".into(),
            );
        };
        if self.label.trim().is_empty() {
            return wrong("`label` is what people read on the button; it cannot be empty".into());
        }
        if let Some(domain) = self.domains.iter().find(|domain| domain.is_empty() || domain.contains('@')) {
            return wrong(format!("`domains`: {domain:?} is no domain such as \"example.org\""));
        }
        if self.role == Role::Owner {
            return wrong("`role`: nobody becomes an owner by signing in; an owner makes owners".into());
        }
        let role = self.role;
        Ok(Some(Provider {
            issuer,
            client_id,
            client_secret: client_secret.plain().to_owned(),
            label: self.label.trim().to_owned(),
            domains: self.domains.clone(),
            newcomers: self.organization.clone().map(|organization| Newcomers { organization, role }),
        }))
    }
}
