//! How far an address or the host of a URL is reached: by its own machine, by private networks, or by everybody.

use std::net::IpAddr;

use url::{Host, Url};

/// Circle of those who reach an address, the narrowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Reach {
    /// Its own machine.
    Machine,
    /// Its own network.
    Network,
    /// Everybody.
    #[default]
    Internet,
}

/// Ends of names that no public name server knows (RFC 6761, RFC 6762, RFC 8375, RFC 9476, and `.internal`).
const PRIVATE_NAMES: [&str; 6] = ["local", "internal", "home.arpa", "lan", "test", "alt"];

impl Reach {
    /// Circle of an address: that of a client, or of a URL. An unspecified address names the machine that asks.
    pub fn of_address(address: IpAddr) -> Self {
        let (machine, network) = match address.to_canonical() {
            IpAddr::V4(v4) => {
                let [first, second, ..] = v4.octets();
                let shared = first == 100 && (64..128).contains(&second);
                (
                    v4.is_loopback() || first == 0,
                    v4.is_private() || v4.is_link_local() || shared,
                )
            }
            IpAddr::V6(v6) => (
                v6.is_loopback() || v6.is_unspecified(),
                v6.is_unique_local() || v6.is_unicast_link_local(),
            ),
        };
        match (machine, network) {
            (true, _) => Self::Machine,
            (false, true) => Self::Network,
            (false, false) => Self::Internet,
        }
    }

    /// Circle of a URL's host. A name is not resolved: one of a single label, or under a private domain, is its
    /// network's.
    pub fn of_url(url: &str) -> Self {
        let parsed = Url::parse(url).ok();
        match parsed.as_ref().and_then(Url::host) {
            Some(Host::Ipv4(v4)) => Self::of_address(v4.into()),
            Some(Host::Ipv6(v6)) => Self::of_address(v6.into()),
            Some(Host::Domain(name)) => Self::of_name(name),
            None => Self::Internet,
        }
    }

    fn of_name(name: &str) -> Self {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let is_under = |end: &str| {
            let rest = name.strip_suffix(end);
            rest.is_some_and(|rest| rest.ends_with('.'))
        };
        if name == "localhost" || is_under("localhost") {
            Self::Machine
        } else if !name.contains('.') || PRIVATE_NAMES.into_iter().any(is_under) {
            Self::Network
        } else {
            Self::Internet
        }
    }

    /// True if a client of this circle may be sent to a URL of the circle `url`.
    pub fn reaches(self, url: Self) -> bool {
        self <= url
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_urls() {
        let of = |hosts: &[&str], reach| {
            for host in hosts {
                assert_eq!(
                    Reach::of_url(&format!("http://{host}:8000/a")),
                    reach,
                    "{host}"
                );
            }
        };
        of(
            &[
                "127.0.0.1",
                "127.9.9.9",
                "[::1]",
                "0.0.0.0",
                "[::]",
                "localhost",
                "LOCALHOST.",
                "a.localhost",
                "[::ffff:127.0.0.1]",
            ],
            Reach::Machine,
        );
        of(
            &[
                "10.1.2.3",
                "172.16.0.1",
                "192.168.1.1",
                "169.254.1.1",
                "100.64.0.1",
                "[fd00::1]",
                "[fe80::1]",
                "relay-1",
                "relay.local",
                "relay.internal",
                "box.home.arpa",
                "relay.lan",
                "[::ffff:10.0.0.1]",
            ],
            Reach::Network,
        );
        of(
            &[
                "203.0.113.7",
                "8.8.8.8",
                "[2001:db8::1]",
                "relay.example.org",
                "172.32.0.1",
                "100.128.0.1",
                "notlocalhost.org",
                "mylan.de",
            ],
            Reach::Internet,
        );
    }

    #[test]
    fn a_client_is_sent_outward_only() {
        use Reach::{Internet, Machine, Network};
        for (client, url, may) in [
            (Machine, Machine, true),
            (Machine, Internet, true),
            (Network, Machine, false),
            (Network, Network, true),
            (Internet, Machine, false),
            (Internet, Network, false),
            (Internet, Internet, true),
        ] {
            assert_eq!(client.reaches(url), may, "{client:?} to {url:?}");
        }
    }
}
