//! What an operator says of the provider.

use std::fmt;

use buildit_shared::permission::Role;
use url::{Host, Url};

/// A provider of OpenID Connect that people may sign in by.
#[derive(Clone)]
pub struct Settings {
    /// What the provider calls itself: `https://`, or `http://` of this machine.
    pub issuer: String,
    /// What it calls this installation.
    pub client_id: String,
    /// What proves to it that this is the one.
    pub client_secret: String,
    /// What people know it by.
    pub label: String,
    /// Whose addresses are admitted, by what is behind the `@`; without any all are.
    pub domains: Vec<String>,
    /// What becomes of people whom nobody has invited; nobody comes in without it.
    pub newcomers: Option<Newcomers>,
}

/// Where people come whom nobody has invited.
#[derive(Clone, Debug)]
pub struct Newcomers {
    /// The organization, by its name.
    pub organization: String,
    /// What they are there.
    pub role: Role,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("issuer", &self.issuer)
            .field("client_id", &self.client_id)
            .finish_non_exhaustive()
    }
}

impl Settings {
    /// What is wrong with the issuer's address, if something is.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub fn check_issuer(issuer: &str) -> Result<(), String> {
        let url: Url =
            issuer.parse().map_err(|_| format!("{issuer:?} is no address such as https://id.example.org"))?;
        if url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() {
            return Err(format!("{issuer:?} has more than a host and a path"));
        }
        match url.scheme() {
            "https" => Ok(()),
            "http" if is_local(&url) => Ok(()),
            _ => Err(format!("{issuer:?} is not https: others could say who somebody is")),
        }
    }

    /// Whether the provider is on this machine.
    pub(super) fn is_local(&self) -> bool {
        self.issuer.parse().is_ok_and(|url| is_local(&url))
    }

    /// Whether people with that address are admitted.
    pub(super) fn admits(&self, email: &str) -> bool {
        let domain = email.rsplit_once('@').map_or("", |(_, domain)| domain);
        self.domains.is_empty() || self.domains.iter().any(|admitted| admitted.eq_ignore_ascii_case(domain))
    }
}

fn is_local(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_provider_is_reached_by_https_or_on_this_machine() {
        for right in
            ["https://id.example.org", "https://id.example.org/realms/a/", "http://127.0.0.1:8080", "http://localhost"]
        {
            assert_eq!(Settings::check_issuer(right), Ok(()), "{right}");
        }
        for wrong in [
            "",
            "id.example.org",
            "http://id.example.org",
            "ftp://localhost",
            "https://id.example.org/?a",
            "https://me@id.example.org",
        ] {
            assert!(Settings::check_issuer(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_the_domains_of_the_operator_are_admitted() {
        let settings = |domains: &[&str]| Settings {
            issuer: String::new(),
            client_id: String::new(),
            client_secret: "hunter2".into(),
            label: String::new(),
            domains: domains.iter().map(|&domain| domain.to_owned()).collect(),
            newcomers: None,
        };
        assert!(settings(&[]).admits("a@b.example"));
        assert!(settings(&["c.example", "B.example"]).admits("a@b.EXAMPLE"));
        for other in ["a@sub.b.example", "a@b.example.org", "b.example", "a@b.example@evil.example"] {
            assert!(!settings(&["b.example"]).admits(other), "{other}");
        }
        assert!(!format!("{:?}", settings(&[])).contains("hunter2"));
    }
}
