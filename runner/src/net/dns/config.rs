//! What `/etc/resolv.conf` and `/etc/hosts` say.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

/// The port of name servers; the file cannot name another.
const PORT: u16 = 53;

/// As many as resolv.conf(5) promises to use.
const MOST_SERVERS: usize = 3;

/// How names are looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Config {
    /// Asked in this order.
    pub(super) servers: Vec<SocketAddr>,
    /// Appended to names that are not complete.
    pub(super) search: Vec<String>,
    /// A name with fewer dots is tried with `search` first.
    pub(super) ndots: usize,
    /// How long to wait for one server.
    pub(super) timeout: Duration,
    /// How often all servers are asked.
    pub(super) rounds: u32,
}

impl Config {
    /// Reads resolv.conf(5). What is not understood is passed over, as everybody does.
    pub(super) fn parse(text: &str) -> Config {
        let mut config =
            Config { servers: Vec::new(), search: Vec::new(), ndots: 1, timeout: Duration::from_secs(3), rounds: 2 };
        for line in text.lines() {
            let mut words = line.split(['#', ';']).next().unwrap_or_default().split_whitespace();
            match words.next() {
                Some("nameserver") if config.servers.len() < MOST_SERVERS => {
                    // The interface of a link-local address is not told apart.
                    let address = words.next().and_then(|word| word.split('%').next()?.parse().ok());
                    config.servers.extend(address.map(|address: IpAddr| SocketAddr::new(address, PORT)));
                }
                Some("search" | "domain") => {
                    config.search = words.map(|word| word.trim_matches('.').to_owned()).collect();
                    config.search.retain(|domain| !domain.is_empty());
                }
                Some("options") => words.for_each(|option| config.option(option)),
                _ => {}
            }
        }
        if config.servers.is_empty() {
            config.servers.push(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), PORT));
        }
        config
    }

    fn option(&mut self, option: &str) {
        let Some((name, value)) = option.split_once(':') else { return };
        let Ok(value) = value.parse::<u32>() else { return };
        match name {
            "ndots" => self.ndots = value.min(15) as usize,
            "timeout" => self.timeout = Duration::from_secs(u64::from(value.clamp(1, 10))),
            "attempts" => self.rounds = value.clamp(1, 5),
            _ => {}
        }
    }

    /// The complete names that `host` may mean, in the order to try them.
    pub(super) fn candidates(&self, host: &str) -> Vec<String> {
        if let Some(complete) = host.strip_suffix('.') {
            return vec![complete.to_owned()];
        }
        let mut names: Vec<String> = self.search.iter().map(|domain| format!("{host}.{domain}")).collect();
        let dots = host.bytes().filter(|&byte| byte == b'.').count();
        let at = if dots >= self.ndots { 0 } else { names.len() };
        names.insert(at, host.to_owned());
        names
    }
}

/// The addresses that hosts(5) has for `host`; those of `localhost` are known without it.
pub(super) fn in_hosts(text: &str, host: &str) -> Vec<IpAddr> {
    let host = host.strip_suffix('.').unwrap_or(host);
    let mut found = Vec::new();
    for line in text.lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        let Some(Ok(address)) = words.next().map(str::parse) else { continue };
        if words.any(|name| name.eq_ignore_ascii_case(host)) && !found.contains(&address) {
            found.push(address);
        }
    }
    if found.is_empty() && host.eq_ignore_ascii_case("localhost") {
        return vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pods_file_is_read() {
        let config = Config::parse(
            "# from the kubelet\nsearch ci.svc.cluster.local svc.cluster.local cluster.local\n\
             nameserver 10.96.0.10\nnameserver fd00::a%eth0\noptions ndots:5 timeout:2 edns0 attempts:x\n",
        );
        assert_eq!(config.servers, ["10.96.0.10:53".parse().unwrap(), "[fd00::a]:53".parse().unwrap()]);
        assert_eq!((config.ndots, config.timeout, config.rounds), (5, Duration::from_secs(2), 2));
        let names = config.candidates("api.buildit");
        assert_eq!(names[0], "api.buildit.ci.svc.cluster.local");
        assert_eq!(names[3], "api.buildit");
        assert_eq!(config.candidates("api.buildit."), ["api.buildit"]);
        assert_eq!(config.candidates("a.b.c.d.e.f")[0], "a.b.c.d.e.f");
    }

    #[test]
    fn without_a_file_this_machine_is_asked() {
        let config = Config::parse("");
        assert_eq!(config.servers, ["127.0.0.1:53".parse().unwrap()]);
        assert_eq!(config.candidates("storage"), ["storage"]);
    }

    #[test]
    fn hosts_are_found_under_each_of_their_names() {
        let hosts = "127.0.0.1 localhost\n10.0.0.1\tStorage.example storage # old: 10.0.0.9 gone\nfd00::1 storage\n";
        let found = |host| in_hosts(hosts, host);
        assert_eq!(found("STORAGE"), ["10.0.0.1".parse::<IpAddr>().unwrap(), "fd00::1".parse().unwrap()]);
        assert_eq!(found("storage.example."), ["10.0.0.1".parse::<IpAddr>().unwrap()]);
        assert_eq!(found("gone"), [] as [IpAddr; 0]);
        assert_eq!(in_hosts("", "localhost").len(), 2);
    }
}
