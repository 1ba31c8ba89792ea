//! The PROXY protocol, versions 1 and 2: whom a balancer in front of us connected for.
//!
//! Rule: <https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>. Believed only from trusted peers,
//! which is the caller's to check.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// How version 1 begins.
pub const V1_PREFIX: &[u8] = b"PROXY ";

/// How version 2 begins.
pub const V2_SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Longest line of version 1, line end counted.
pub const MAX_V1: usize = 107;

/// Longest header of version 2 that we take; the addresses and all useful extensions need far less.
pub const MAX_V2: usize = 4096;

/// The connection that the balancer speaks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProxyInfo {
    /// The client.
    pub source: SocketAddr,
    /// Where it connected to.
    pub destination: SocketAddr,
}

/// Why a header was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// Begins with neither signature.
    #[error("the connection does not begin with a PROXY protocol header")]
    NotProxy,
    /// Longer than [`MAX_V1`] or [`MAX_V2`].
    #[error("the PROXY protocol header is longer than 107 (version 1) or 4096 bytes (version 2)")]
    TooLong,
    /// Wrong inside.
    #[error("the PROXY protocol header is malformed")]
    Malformed,
}

/// Reads a header from the front of `buf`, and how many bytes it took. `None` outside until it is whole;
/// `None` inside where the balancer speaks for itself (`LOCAL`) or names no address (`UNKNOWN`, Unix).
///
/// # Errors
/// Where the bytes can no longer become a header.
pub fn parse(buf: &[u8]) -> Result<Option<(Option<ProxyInfo>, usize)>, ProxyError> {
    if buf.starts_with(&V2_SIGNATURE) {
        return parse_v2(buf);
    }
    if buf.starts_with(V1_PREFIX) {
        return parse_v1(buf);
    }
    if V2_SIGNATURE.starts_with(buf) || V1_PREFIX.starts_with(buf) {
        return Ok(None);
    }
    Err(ProxyError::NotProxy)
}

fn parse_v1(buf: &[u8]) -> Result<Option<(Option<ProxyInfo>, usize)>, ProxyError> {
    let window = buf.get(..MAX_V1).unwrap_or(buf);
    let Some(end) = window.windows(2).position(|w| w == b"\r\n") else {
        return if window.len() == MAX_V1 {
            Err(ProxyError::TooLong)
        } else {
            Ok(None)
        };
    };
    let line = window.get(V1_PREFIX.len()..end).unwrap_or_default();
    let line = std::str::from_utf8(line).map_err(|_| ProxyError::Malformed)?;
    let words: Vec<&str> = line.split(' ').collect();
    let info = match words.as_slice() {
        ["UNKNOWN", ..] => None,
        ["TCP4", source, destination, from, to] => {
            let address = |text: &str| text.parse::<Ipv4Addr>().map(IpAddr::V4);
            Some(v1_info(address(source), address(destination), from, to)?)
        }
        ["TCP6", source, destination, from, to] => {
            let address = |text: &str| text.parse::<Ipv6Addr>().map(IpAddr::V6);
            Some(v1_info(address(source), address(destination), from, to)?)
        }
        _ => return Err(ProxyError::Malformed),
    };
    Ok(Some((info, end + 2)))
}

fn v1_info<E>(
    source: Result<IpAddr, E>,
    destination: Result<IpAddr, E>,
    from: &str,
    to: &str,
) -> Result<ProxyInfo, ProxyError> {
    let (Ok(source), Ok(destination)) = (source, destination) else {
        return Err(ProxyError::Malformed);
    };
    let port = |text: &str| {
        let plain = text.bytes().all(|b| b.is_ascii_digit());
        text.parse::<u16>()
            .ok()
            .filter(|_| plain)
            .ok_or(ProxyError::Malformed)
    };
    Ok(ProxyInfo {
        source: SocketAddr::new(source, port(from)?),
        destination: SocketAddr::new(destination, port(to)?),
    })
}

fn parse_v2(buf: &[u8]) -> Result<Option<(Option<ProxyInfo>, usize)>, ProxyError> {
    let Some(&[command, family, high, low]) = buf.get(12..).and_then(<[u8]>::first_chunk) else {
        return Ok(None);
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if command >> 4 != 2 || command & 0x0f > 1 {
        return Err(ProxyError::Malformed);
    }
    if 16 + length > MAX_V2 {
        return Err(ProxyError::TooLong);
    }
    let Some(payload) = buf.get(16..16 + length) else {
        return Ok(None);
    };
    let local = command & 0x0f == 0;
    let info = match family >> 4 {
        _ if local => None,
        1 => Some(v2_info::<4>(payload)?),
        2 => Some(v2_info::<16>(payload)?),
        _ => None,
    };
    Ok(Some((info, 16 + length)))
}

/// Two addresses of N bytes and two ports; extensions (TLV) after them are skipped.
fn v2_info<const N: usize>(payload: &[u8]) -> Result<ProxyInfo, ProxyError>
where
    IpAddr: From<[u8; N]>,
{
    let (source, rest) = payload
        .split_first_chunk::<N>()
        .ok_or(ProxyError::Malformed)?;
    let (destination, rest) = rest.split_first_chunk::<N>().ok_or(ProxyError::Malformed)?;
    let (from, rest) = rest.split_first_chunk::<2>().ok_or(ProxyError::Malformed)?;
    let (to, _) = rest.split_first_chunk::<2>().ok_or(ProxyError::Malformed)?;
    Ok(ProxyInfo {
        source: SocketAddr::new(IpAddr::from(*source), u16::from_be_bytes(*from)),
        destination: SocketAddr::new(IpAddr::from(*destination), u16::from_be_bytes(*to)),
    })
}

/// A version 2 header for a TCP connection. Where the two families differ, both are written as IPv6.
pub fn encode_v2(info: &ProxyInfo) -> Vec<u8> {
    let mut out = V2_SIGNATURE.to_vec();
    let ports = [info.source.port(), info.destination.port()].map(u16::to_be_bytes);
    match (info.source.ip(), info.destination.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            out.extend_from_slice(&[0x21, 0x11, 0, 12]);
            out.extend_from_slice(&source.octets());
            out.extend_from_slice(&destination.octets());
        }
        (source, destination) => {
            out.extend_from_slice(&[0x21, 0x21, 0, 36]);
            out.extend_from_slice(&v6(source).octets());
            out.extend_from_slice(&v6(destination).octets());
        }
    }
    out.extend_from_slice(ports.as_flattened());
    out
}

fn v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn info(source: &str, destination: &str) -> ProxyInfo {
        ProxyInfo {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
        }
    }

    #[test]
    fn version_1() {
        let line = b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\nGET / HTTP/1.1\r\n";
        assert_eq!(
            parse(line),
            Ok(Some((
                Some(info("192.0.2.1:56324", "198.51.100.2:443")),
                45
            )))
        );
        let line = b"PROXY TCP6 2001:db8::1 ::1 1 65535\r\n";
        assert_eq!(
            parse(line),
            Ok(Some((
                Some(info("[2001:db8::1]:1", "[::1]:65535")),
                line.len()
            )))
        );
        assert_eq!(
            parse(b"PROXY UNKNOWN ffff::1 what ever\r\n"),
            Ok(Some((None, 33)))
        );
        assert_eq!(parse(b"PROXY UNKNOWN\r\n"), Ok(Some((None, 15))));
        for bad in [
            &b"PROXY TCP4 ::1 ::1 1 2\r\n"[..],
            b"PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n",
            b"PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n",
            b"PROXY TCP4 1.2.3.4 1.2.3.4 +1 2\r\n",
            b"PROXY TCP4 1.2.3.4 1.2.3.4  1 2\r\n",
            b"PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n",
            b"PROXY \xff\r\n",
        ] {
            assert_eq!(
                parse(bad),
                Err(ProxyError::Malformed),
                "{}",
                bad.escape_ascii()
            );
        }
        let longest = format!("PROXY UNKNOWN {}\r\n", "x".repeat(MAX_V1 - 16));
        assert_eq!(parse(longest.as_bytes()), Ok(Some((None, MAX_V1))));
        let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(MAX_V1 - 15));
        assert_eq!(parse(long.as_bytes()), Err(ProxyError::TooLong));
        assert_eq!(parse(b"GET / HTTP/1.1\r\n"), Err(ProxyError::NotProxy));
    }

    #[test]
    fn version_2() {
        let mut header = V2_SIGNATURE.to_vec();
        header.extend([
            0x21, 0x11, 0, 15, 1, 2, 3, 4, 5, 6, 7, 8, 0x12, 0x34, 0, 80, 3, 0, 0, 0xff,
        ]);
        assert_eq!(
            parse(&header),
            Ok(Some((Some(info("1.2.3.4:4660", "5.6.7.8:80")), 31)))
        );
        let with = |tail: &[u8]| parse(&[&V2_SIGNATURE[..], tail].concat());
        assert_eq!(with(&[0x20, 0, 0, 0]), Ok(Some((None, 16))));
        assert_eq!(with(&[0x20, 0x11, 0, 1, 9]), Ok(Some((None, 17))));
        assert_eq!(with(&[0x21, 0x31, 0, 1, 9]), Ok(Some((None, 17))));
        assert_eq!(with(&[0x21, 0x11, 0, 1, 9]), Err(ProxyError::Malformed));
        assert_eq!(with(&[0x11, 0x11, 0, 0]), Err(ProxyError::Malformed));
        assert_eq!(with(&[0x22, 0x11, 0, 0]), Err(ProxyError::Malformed));
        assert_eq!(with(&[0x21, 0x11, 0x10, 0]), Err(ProxyError::TooLong));
    }

    #[test]
    fn mixed_families_become_ipv6() {
        let bytes = encode_v2(&info("1.2.3.4:5", "[::1]:6"));
        assert_eq!(
            parse(&bytes),
            Ok(Some((Some(info("[::ffff:1.2.3.4]:5", "[::1]:6")), 52)))
        );
    }

    proptest! {
        #[test]
        fn version_2_reads_back(source: [u8; 4], destination: [u8; 4], from: u16, to: u16, wide: bool) {
            let address = |ip: [u8; 4], port| if wide {
                SocketAddr::new(Ipv4Addr::from(ip).to_ipv6_compatible().into(), port)
            } else {
                SocketAddr::from((ip, port))
            };
            let info = ProxyInfo { source: address(source, from), destination: address(destination, to) };
            let bytes = encode_v2(&info);
            for end in 0..bytes.len() {
                prop_assert_eq!(parse(&bytes[..end]), Ok(None));
            }
            prop_assert_eq!(parse(&bytes), Ok(Some((Some(info), bytes.len()))));
        }

        #[test]
        fn any_split_says_the_same(bytes in prop_oneof![
            "PROXY (TCP4|TCP6|UNKNOWN)( [0-9.:]{0,5}){0,5}(\r\n)?".prop_map(String::into_bytes),
            prop::collection::vec(any::<u8>(), 0..60).prop_map(|t| [&V2_SIGNATURE[..], &t].concat()),
            prop::collection::vec(any::<u8>(), 0..40),
        ]) {
            let whole = parse(&bytes);
            for end in 0..bytes.len() {
                let early = parse(&bytes[..end]);
                prop_assert!(early == Ok(None) || early == whole);
            }
        }
    }
}
