//! A resolver of our own: the runner is linked statically, and there libc cannot look up names.
//!
//! It does what libc does with the files every image has: `/etc/hosts`, then the name servers of
//! `/etc/resolv.conf` with its search list, IPv4 and IPv6 at once, by UDP and, for long
//! answers, TCP.

mod config;
mod query;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ureq::config::Config as HttpConfig;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

use config::{Config, in_hosts};
use query::{Answer, ask};

/// How long an answer is used again: each request asks, and a step's requests come in bursts.
const REMEMBERED_FOR: Duration = Duration::from_secs(5);

/// How long a look-up may take.
const LONGEST: Duration = Duration::from_secs(15);

/// How many addresses of a host are tried.
const MOST_ADDRESSES: usize = 16;

/// Looks names up by the files of this machine.
#[derive(Debug)]
pub(super) struct StubResolver {
    hosts: PathBuf,
    resolv_conf: PathBuf,
    known: Mutex<HashMap<String, (Instant, Vec<IpAddr>)>>,
}

impl StubResolver {
    pub(super) fn new() -> StubResolver {
        StubResolver { hosts: "/etc/hosts".into(), resolv_conf: "/etc/resolv.conf".into(), known: Mutex::default() }
    }

    fn addresses(&self, host: &str, deadline: Instant) -> io::Result<Vec<IpAddr>> {
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if let Ok(address) = host.parse() {
            return Ok(vec![address]);
        }
        let now = Instant::now();
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, addresses)) = known().get(host)
            && now.duration_since(*at) < REMEMBERED_FOR
        {
            return Ok(addresses.clone());
        }
        // Both may be missing in a small image.
        let hosts = std::fs::read_to_string(&self.hosts).unwrap_or_default();
        let mut addresses = in_hosts(&hosts, host);
        if addresses.is_empty() {
            let config = std::fs::read_to_string(&self.resolv_conf).unwrap_or_default();
            addresses = look_up(&Config::parse(&config), host, deadline)?;
        }
        known().insert(host.to_owned(), (now, addresses.clone()));
        Ok(addresses)
    }
}

impl Resolver for StubResolver {
    fn resolve(&self, uri: &Uri, _: &HttpConfig, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let host = uri.host().ok_or(ureq::Error::HostNotFound)?;
        let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
        let deadline = Instant::now() + LONGEST.min(*timeout.after);
        let addresses = self.addresses(host, deadline)?;
        let mut resolved = self.empty();
        for address in addresses.into_iter().take(MOST_ADDRESSES) {
            resolved.push(SocketAddr::new(address, port));
        }
        Ok(resolved)
    }
}

/// Asks the name servers. An error is what was wrong last; "not found" only if the servers say so.
fn look_up(config: &Config, host: &str, deadline: Instant) -> io::Result<Vec<IpAddr>> {
    let mut trouble = None;
    for name in config.candidates(host) {
        match look_up_complete(config, &name, deadline) {
            Ok(Answer::Addresses(addresses)) => return Ok(addresses),
            Ok(Answer::Nothing) => {}
            Err(error) => trouble = Some(error),
        }
    }
    Err(match trouble {
        Some(error) => io::Error::new(error.kind(), format!("{host} cannot be looked up: {error}")),
        None => io::Error::new(io::ErrorKind::NotFound, format!("there is no host {host}")),
    })
}

fn look_up_complete(config: &Config, name: &str, deadline: Instant) -> io::Result<Answer> {
    let mut trouble = io::Error::from(io::ErrorKind::TimedOut);
    for _ in 0..config.rounds {
        for &server in &config.servers {
            let now = Instant::now();
            if now >= deadline {
                return Err(trouble);
            }
            match ask(server, name, deadline.min(now + config.timeout)) {
                Ok(answer) => return Ok(answer),
                Err(error) => trouble = error,
            }
        }
    }
    Err(trouble)
}
