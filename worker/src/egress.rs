//! Requests to addresses that users name. They reach the internet and nothing of the installation's own network, unless the
//! operator allows it.
//!
//! A name is looked up here, and the connection goes to an address that was looked at: what the name means a moment later
//! does not matter. Redirects are not followed and no proxy is asked, since both would connect elsewhere.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use reqwest::{
    Client,
    dns::{Addrs, Name, Resolve, Resolving},
    redirect::Policy,
};
use url::{Host, Url};

const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// From the begin of a request to the end of its answer.
pub(crate) const LIMIT: Duration = Duration::from_secs(15);

/// Sends such requests.
#[derive(Clone, Debug)]
pub struct Egress {
    client: Client,
    guard: Guard,
}

/// Addresses with the same first bits: `10.0.0.0/8`, `fd00::/8`, or a single one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    first: IpAddr,
    bits: u8,
}

#[derive(Clone, Debug)]
struct Guard {
    allowed: Arc<[Network]>,
}

/// An address that is not to be reached.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0} is an address of a private network, which this installation does not send to; its operator may allow it by \
     `webhook_networks`"
)]
pub struct Refused(String);

impl Egress {
    /// One that reaches these networks as well.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(allowed: Vec<Network>) -> Result<Self, reqwest::Error> {
        let guard = Guard { allowed: allowed.into() };
        let client = Client::builder()
            .redirect(Policy::none())
            .no_proxy()
            .dns_resolver(Arc::new(guard.clone()))
            .connect_timeout(CONNECT_LIMIT)
            .timeout(LIMIT)
            .user_agent(concat!("BuildIt/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { client, guard })
    }

    /// A request to that address. Names are looked at when it is sent.
    ///
    /// # Errors
    /// When the address itself is one that is not to be reached.
    pub fn post(&self, url: &Url) -> Result<reqwest::RequestBuilder, Refused> {
        // No name, so nothing is looked up.
        let literal = match url.host() {
            Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
            Some(Host::Ipv6(address)) => Some(IpAddr::V6(address)),
            _ => None,
        };
        match literal.filter(|address| !self.guard.admits(*address)) {
            Some(address) => Err(Refused(address.to_string())),
            None => Ok(self.client.post(url.clone())),
        }
    }
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = self.clone();
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            if found.is_empty() {
                return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address").into());
            }
            let admitted: Vec<SocketAddr> = found.into_iter().filter(|address| guard.admits(address.ip())).collect();
            if admitted.is_empty() {
                return Err(Refused(name.as_str().to_owned()).into());
            }
            Ok(Box::new(admitted.into_iter()) as Addrs)
        })
    }
}

impl Guard {
    fn admits(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        is_public(address) || self.allowed.iter().any(|network| network.contains(address))
    }
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = a == 0
        || address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_documentation()
        // Carriers' own.
        || (a == 100 && (64..128).contains(&b))
        // Protocol assignments and benchmarks.
        || (a, b, c) == (192, 0, 0)
        || (a == 198 && (b == 18 || b == 19))
        // Reserved, and broadcast.
        || a >= 240;
    !special
}

/// What holds an IPv4 address is judged by that one.
fn is_public_v6(address: Ipv6Addr) -> bool {
    let parts = address.segments();
    let inner = |high: u16, low: u16| {
        let [[a, b], [c, d]] = [high.to_be_bytes(), low.to_be_bytes()];
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match parts {
        // NAT64, and 6to4.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => inner(high, low),
        [0x2002, high, low, ..] => inner(high, low),
        // Documentation, benchmarks and other special purposes; Teredo.
        [0x2001, 0xdb8, ..] | [0x2001, 0..0x200, ..] => false,
        // Only this eighth is given out.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

impl Network {
    fn contains(self, address: IpAddr) -> bool {
        match (self.first, address) {
            (IpAddr::V4(first), IpAddr::V4(address)) => {
                same(u32::from(first).into(), u32::from(address).into(), 32 - self.bits)
            }
            (IpAddr::V6(first), IpAddr::V6(address)) => same(first.into(), address.into(), 128 - self.bits),
            _ => false,
        }
    }
}

fn same(one: u128, other: u128, ignored: u8) -> bool {
    (one ^ other).checked_shr(ignored.into()).unwrap_or(0) == 0
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no network such as 10.0.0.0/8");
        let (first, bits) = match text.split_once('/') {
            Some((first, bits)) => (first, Some(bits)),
            None => (text, None),
        };
        let first: IpAddr = first.parse().map_err(|_| wrong())?;
        let most = if first.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(most), |bits| bits.parse().map_err(|_| wrong()))?;
        if bits > most {
            return Err(wrong());
        }
        Ok(Self { first, bits })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(allowed: &[&str]) -> Guard {
        Guard { allowed: allowed.iter().map(|text| text.parse().unwrap()).collect() }
    }

    #[test]
    fn what_is_not_the_internet_is_refused() {
        let guard = guard(&[]);
        for private in [
            "0.0.0.0",
            "10.1.2.3",
            "127.0.0.1",
            "127.9.9.9",
            "169.254.169.254",
            "172.16.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "192.0.0.8",
            "198.18.0.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "fc00::1",
            "fd12::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "2001:db8::1",
            "2001:0:1::",
            "fec0::1",
        ] {
            assert!(!guard.admits(private.parse().unwrap()), "{private}");
        }
        for public in
            ["1.1.1.1", "93.184.216.34", "172.32.0.1", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"]
        {
            assert!(guard.admits(public.parse().unwrap()), "{public}");
        }
    }

    #[test]
    fn what_the_operator_allows_is_reached_and_nothing_beside_it() {
        let guard = guard(&["10.2.0.0/16", "127.0.0.1", "fd00::/8", "0.0.0.0/32"]);
        for (address, admitted) in [
            ("10.2.255.1", true),
            ("10.3.0.1", false),
            ("127.0.0.1", true),
            ("::ffff:127.0.0.1", true),
            ("127.0.0.2", false),
            ("fd12::1", true),
            ("fc12::1", false),
        ] {
            assert_eq!(guard.admits(address.parse().unwrap()), admitted, "{address}");
        }
        assert!("0.0.0.0/0".parse::<Network>().unwrap().contains("10.0.0.1".parse().unwrap()));
        for wrong in ["", "10.0.0.0/33", "10.0.0/8", "::/129", "a/8", "10.0.0.0/"] {
            assert!(wrong.parse::<Network>().is_err(), "{wrong:?}");
        }
    }
}
