//! Where a request came from.

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
};

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, header, request::Parts},
};

use buildit_shared::{
    db::audit::Actor,
    ids::{OrganizationId, UserId},
};

use crate::App;

/// Characters that are kept of what a program calls itself.
const LONGEST_NAME: usize = 200;

/// The other end of the connection; the server adds it to each request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// The program at the other end, as far as it can be known.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    /// Its address. Where proxies stand before us, the one that the first of them saw.
    pub(crate) address: Option<IpAddr>,
    /// What it calls itself.
    pub(crate) user_agent: String,
}

impl FromRequestParts<App> for Client {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Infallible> {
        Ok(Self::of(parts, app))
    }
}

impl Client {
    pub(super) fn of(parts: &Parts, app: &App) -> Self {
        let peer = parts.extensions.get::<Peer>().map(|peer| peer.0.ip().to_canonical());
        let address = match app.config.trusted_proxies {
            0 => peer,
            proxies => forwarded(&parts.headers, proxies.into()).or(peer),
        };
        let user_agent = parts.headers.get(header::USER_AGENT).and_then(|name| name.to_str().ok()).unwrap_or_default();
        Self { address, user_agent: user_agent.chars().take(LONGEST_NAME).collect() }
    }

    /// Somebody at this client, for the audit log.
    pub(crate) fn actor(&self, organization: Option<OrganizationId>, user: Option<UserId>, name: String) -> Actor {
        Actor { organization, user, key: None, name, address: self.address.map(|address| address.to_string()) }
    }
}

/// What the outermost of our own proxies saw. Each adds an address at the end; what stands before is the client's to invent.
fn forwarded(headers: &HeaderMap, proxies: usize) -> Option<IpAddr> {
    let all = headers.get_all("x-forwarded-for").iter().filter_map(|header| header.to_str().ok());
    let addresses: Vec<&str> = all.flat_map(|header| header.split(',')).map(str::trim).collect();
    let address: IpAddr = addresses.get(addresses.len().checked_sub(proxies)?)?.parse().ok()?;
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_our_own_proxies_added_counts() {
        let mut headers = HeaderMap::new();
        assert_eq!(forwarded(&headers, 1), None);
        headers.append("x-forwarded-for", "6.6.6.6, 1.2.3.4".parse().unwrap());
        headers.append("x-forwarded-for", "10.0.0.1".parse().unwrap());
        assert_eq!(forwarded(&headers, 1), "10.0.0.1".parse().ok());
        assert_eq!(forwarded(&headers, 2), "1.2.3.4".parse().ok());
        assert_eq!(forwarded(&headers, 4), None);
    }
}
