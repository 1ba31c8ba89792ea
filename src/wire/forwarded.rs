//! Who the client is where proxies stand in front: the rightmost address that is not a trusted proxy's.
//!
//! Each proxy appends the address it saw, so what stands left of the first untrusted one, counted from the
//! right, is whatever the client wrote. `X-Forwarded-For` wins over `Forwarded` (RFC 7239), as proxies that
//! write the former pass the latter on unread; a proxy that writes only `Forwarded` should remove the other.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::head::Headers;

/// Most proxies that are counted back.
const MAX_HOPS: usize = 32;

/// The client as we believe it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientOrigin {
    /// Never an IPv4 address in IPv6 form.
    pub address: IpAddr,
    /// The client spoke TLS, to us or to the proxy.
    pub https: bool,
}

/// One hop as a proxy wrote it.
struct Hop<'a> {
    address: Option<IpAddr>,
    scheme: Option<&'a str>,
}

/// The client behind `peer`, who connected to us (`tls`: by TLS). The fields count only where `peer` is
/// within `trusted`; an entry that is no address (`unknown`, `_hidden`) ends the count at the proxy that
/// wrote it.
pub fn client_origin(
    headers: &Headers,
    peer: IpAddr,
    tls: bool,
    trusted: &[IpNet],
) -> ClientOrigin {
    let is_trusted = |address: &IpAddr| trusted.iter().any(|net| net.contains(address));
    let mut origin = ClientOrigin {
        address: peer.to_canonical(),
        https: tls,
    };
    if !is_trusted(&origin.address) {
        return origin;
    }
    let hops = hops(headers);
    // Without a list of addresses the scheme may still be told.
    if hops.is_empty() {
        let scheme = headers.all("x-forwarded-proto").last();
        origin.https = scheme.and_then(last_item).map_or(tls, is_https);
    }
    for hop in hops.iter().rev().take(MAX_HOPS) {
        if !is_trusted(&origin.address) {
            break;
        }
        origin.https = hop.scheme.map_or(origin.https, is_https);
        let Some(address) = hop.address else {
            break;
        };
        origin.address = address;
    }
    origin
}

/// Fields besides `X-Forwarded-*` that proxies add.
const OF_PROXIES: [&str; 8] = [
    "forwarded",
    "via",
    "x-real-ip",
    "x-client-ip",
    "x-relayctl-via",
    "true-client-ip",
    "cf-connecting-ip",
    "x-envoy-external-address",
];

/// Fields of the proxies in front, besides the client's address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Forwarded {
    /// The names that the client asked for, as a trusted proxy says (`X-Forwarded-Host`, else `host=` of `Forwarded`).
    pub hosts: Vec<String>,
    /// True where a proxy stands in between that is not trusted, or that does not say for whom it asks: the address of
    /// [`client_origin`] is then the proxy's own.
    pub hidden: bool,
    /// The client's address as a proxy claims that is not trusted: the last one of its list, or its `X-Real-IP`.
    pub claimed: Option<IpAddr>,
}

/// True where a proxy shows by its fields, trusted or not.
pub fn shows_proxy(headers: &Headers) -> bool {
    headers.iter().any(|(name, _)| {
        let name = name.to_ascii_lowercase();
        name.starts_with("x-forwarded-") || OF_PROXIES.contains(&name.as_str())
    })
}

impl Forwarded {
    /// Reads the fields of a request of `peer`, who is `trusted` or not.
    pub fn of(headers: &Headers, peer: IpAddr, trusted: bool) -> Self {
        if !shows_proxy(headers) {
            return Self::default();
        }
        if !trusted {
            return Self {
                hosts: Vec::new(),
                hidden: true,
                claimed: claimed(headers),
            };
        }
        let own = peer.to_canonical();
        let client = hops(headers).last().and_then(|hop| hop.address);
        let hosts: Vec<String> = items(headers, "x-forwarded-host")
            .map(str::to_owned)
            .collect();
        let standard = || {
            items(headers, "forwarded")
                .filter_map(forwarded_host)
                .collect()
        };
        Self {
            hosts: if hosts.is_empty() { standard() } else { hosts },
            hidden: client.is_none_or(|client| client == own),
            claimed: None,
        }
    }
}

pub fn claimed(headers: &Headers) -> Option<IpAddr> {
    let last = hops(headers).last().and_then(|hop| hop.address);
    last.or_else(|| headers.all("x-real-ip").last().and_then(node))
}

fn forwarded_host(element: &str) -> Option<String> {
    let mut pairs = element.split(';').filter_map(|pair| pair.split_once('='));
    let host = pairs.find(|(name, _)| name.trim().eq_ignore_ascii_case("host"));
    host.map(|(_, value)| value.trim().trim_matches('"').to_owned())
}

fn is_https(scheme: &str) -> bool {
    scheme.eq_ignore_ascii_case("https")
}

fn last_item(value: &str) -> Option<&str> {
    value.rsplit(',').map(str::trim).next()
}

fn hops(headers: &Headers) -> Vec<Hop<'_>> {
    let addresses: Vec<&str> = items(headers, "x-forwarded-for").collect();
    if addresses.is_empty() {
        return items(headers, "forwarded").map(forwarded_element).collect();
    }
    let schemes: Vec<&str> = items(headers, "x-forwarded-proto").collect();
    let one_each = schemes.len() == addresses.len();
    let last = schemes.last().copied();
    addresses
        .iter()
        .enumerate()
        .map(|(at, text)| Hop {
            address: node(text),
            scheme: if one_each {
                schemes.get(at).copied()
            } else {
                last
            },
        })
        .collect()
}

fn items<'a>(headers: &'a Headers, name: &'a str) -> impl Iterator<Item = &'a str> {
    headers
        .all(name)
        .flat_map(|v| v.split(','))
        .map(str::trim)
        .filter(|item| !item.is_empty())
}

fn forwarded_element(element: &str) -> Hop<'_> {
    let mut hop = Hop {
        address: None,
        scheme: None,
    };
    for (name, value) in element.split(';').filter_map(|pair| pair.split_once('=')) {
        let value = value.trim().trim_matches('"');
        match name.trim().to_ascii_lowercase().as_str() {
            "for" => hop.address = node(value),
            "proto" => hop.scheme = Some(value),
            _ => {}
        }
    }
    hop
}

/// `1.2.3.4`, `1.2.3.4:5`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:5`, in quotes or not.
fn node(text: &str) -> Option<IpAddr> {
    let text = text.trim().trim_matches('"');
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
    let address = bare.unwrap_or(text).parse::<IpAddr>();
    let address = address.or_else(|_| text.parse::<SocketAddr>().map(|a| a.ip()));
    address.ok().map(|a| a.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn origin(peer: &str, tls: bool, fields: &[(&str, &str)]) -> (String, bool) {
        let trusted: Vec<IpNet> = ["10.0.0.0/8", "fd00::/8"]
            .iter()
            .map(|n| n.parse().unwrap())
            .collect();
        let mut headers = Headers::new();
        for (name, value) in fields {
            assert!(headers.push(*name, value));
        }
        let origin = client_origin(&headers, peer.parse().unwrap(), tls, &trusted);
        (origin.address.to_string(), origin.https)
    }

    #[test]
    fn only_the_trusted_are_believed() {
        let fields = [
            ("X-Forwarded-For", "1.1.1.1"),
            ("X-Forwarded-Proto", "https"),
        ];
        assert_eq!(
            origin("203.0.113.9", false, &fields),
            ("203.0.113.9".into(), false)
        );
        assert_eq!(origin("10.0.0.1", false, &fields), ("1.1.1.1".into(), true));
        assert_eq!(
            origin("::ffff:10.0.0.1", false, &fields),
            ("1.1.1.1".into(), true)
        );
        assert_eq!(origin("10.0.0.1", true, &[]), ("10.0.0.1".into(), true));
    }

    #[test]
    fn the_rightmost_untrusted_address() {
        for (list, expected) in [
            ("6.6.6.6, 1.1.1.1", "1.1.1.1"),
            ("6.6.6.6, 1.1.1.1, 10.1.1.1", "1.1.1.1"),
            ("10.9.9.9, 10.1.1.1", "10.9.9.9"),
            ("6.6.6.6, unknown, 10.1.1.1", "10.1.1.1"),
            ("garbage", "10.0.0.1"),
            ("1.1.1.1:5000", "1.1.1.1"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]:99, fd00::2", "2001:db8::1"),
            ("::ffff:1.1.1.1", "1.1.1.1"),
            (" , 1.1.1.1 ,", "1.1.1.1"),
        ] {
            assert_eq!(
                origin("10.0.0.1", false, &[("X-Forwarded-For", list)]).0,
                expected,
                "{list}"
            );
        }
        let two = [
            ("X-Forwarded-For", "6.6.6.6"),
            ("X-Forwarded-For", "1.1.1.1"),
        ];
        assert_eq!(origin("10.0.0.1", false, &two).0, "1.1.1.1");
    }

    #[test]
    fn the_clients_scheme() {
        let with = |list, proto| {
            origin(
                "10.0.0.1",
                true,
                &[("X-Forwarded-For", list), ("X-Forwarded-Proto", proto)],
            )
            .1
        };
        assert!(!with("1.1.1.1", "http"));
        assert!(with("1.1.1.1, 10.1.1.1", "https, http"));
        assert!(!with("6.6.6.6, 1.1.1.1", "https, http"));
        assert!(with("6.6.6.6, 1.1.1.1", "https"));
        assert!(!origin("10.0.0.1", true, &[("X-Forwarded-Proto", "http")]).1);
    }

    #[test]
    fn the_standard_field() {
        let forwarded = |value| origin("10.0.0.1", false, &[("Forwarded", value)]);
        assert_eq!(
            forwarded("for=6.6.6.6, For=\"[2001:db8::1]:4711\";proto=https;by=10.0.0.1"),
            ("2001:db8::1".into(), true)
        );
        assert_eq!(
            forwarded("for=1.1.1.1;proto=https, for=10.2.2.2;proto=http"),
            ("1.1.1.1".into(), true)
        );
        assert_eq!(
            forwarded("for=_hidden;proto=https"),
            ("10.0.0.1".into(), true)
        );
        let both = [("Forwarded", "for=6.6.6.6"), ("X-Forwarded-For", "1.1.1.1")];
        assert_eq!(origin("10.0.0.1", false, &both).0, "1.1.1.1");
    }

    #[test]
    fn a_proxy_shows_by_its_fields() {
        let of = |trusted, fields: &[(&str, &str)]| {
            let mut headers = Headers::new();
            for (name, value) in fields {
                assert!(headers.push(*name, value));
            }
            let told = Forwarded::of(&headers, "10.0.0.1".parse().unwrap(), trusted);
            (told.hidden, told.hosts.join(" "))
        };
        let none = |hidden| (hidden, String::new());
        assert_eq!(
            of(false, &[("Host", "a"), ("X-Playback-Session-Id", "1")]),
            none(false)
        );
        for name in [
            "X-Forwarded-For",
            "x-forwarded-proto",
            "X-Forwarded-Anything",
            "Forwarded",
            "Via",
            "X-Real-IP",
        ] {
            assert_eq!(of(false, &[(name, "1.1.1.1")]), none(true), "{name}");
        }
        let client = ("X-Forwarded-For", "1.1.1.1");
        assert_eq!(of(true, &[client]), none(false));
        for vague in ["unknown", "", "10.0.0.1"] {
            assert_eq!(
                of(true, &[("X-Forwarded-For", vague)]),
                none(true),
                "{vague}"
            );
        }
        assert_eq!(of(true, &[("Via", "1.1 proxy")]), none(true));
        let host = ("X-Forwarded-Host", "a.example, b.example:81");
        assert_eq!(
            of(true, &[client, host]),
            (false, "a.example b.example:81".into())
        );
        assert_eq!(of(false, &[client, host]), none(true));
        let claims = |name: &str, value: &str| {
            let mut headers = Headers::new();
            assert!(headers.push(name, value));
            let peer = "10.0.0.1".parse().unwrap();
            let claimed = |trusted| Forwarded::of(&headers, peer, trusted).claimed;
            assert_eq!(claimed(true), None);
            claimed(false).map(|address| address.to_string())
        };
        assert_eq!(
            claims("X-Forwarded-For", "6.6.6.6, 1.1.1.1").as_deref(),
            Some("1.1.1.1")
        );
        assert_eq!(claims("X-Real-IP", "1.1.1.1").as_deref(), Some("1.1.1.1"));
        assert_eq!(claims("Via", "1.1 proxy"), None);
        let standard = ("Forwarded", "for=1.1.1.1;Host=\"a.example\";proto=https");
        assert_eq!(of(true, &[standard]), (false, "a.example".into()));
    }

    proptest! {
        #[test]
        fn what_the_client_writes_first_is_never_believed(spoof in "[ -~]{0,60}") {
            let list = format!("{spoof}, 1.1.1.1, 10.3.3.3");
            prop_assert_eq!(origin("10.0.0.1", false, &[("X-Forwarded-For", &list)]).0, "1.1.1.1");
        }
    }
}
