//! Rules of RFC 9112 that make a request mean the same to us and to every proxy before us: one `Host`, one framing.
//!
//! A request that breaks one of them is answered with 400 and its connection ends, since what follows may be the rest of
//! a body and not another request.

use super::head::{Method, Request, Version};

/// Why a request is refused with 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Invalid {
    /// No `Host`, where HTTP/1.1 needs one.
    NoHost,
    /// More than one `Host`.
    Hosts,
    /// A `Host` that is no name or address with an optional port.
    Host,
    /// `Transfer-Encoding` in HTTP/1.0 or ICE/1.0, which know none.
    OldEncoding,
    /// `Transfer-Encoding` in several fields, or `chunked` more than once in one.
    Encodings,
    /// `Transfer-Encoding` beside `Content-Length`.
    Both,
    /// `Content-Length` that is no single number.
    Length,
}

impl Invalid {
    /// The answer's text.
    pub fn text(self) -> &'static str {
        match self {
            Self::NoHost => "a request of HTTP/1.1 needs a `Host`",
            Self::Hosts => "a request has one `Host` and no second one",
            Self::Host => "`Host` is no name or address with an optional port",
            Self::OldEncoding => {
                "HTTP/1.0 knows no `Transfer-Encoding`: send HTTP/1.1 or leave it out"
            }
            Self::Encodings => "`Transfer-Encoding` is given more than once",
            Self::Both => "`Content-Length` and `Transfer-Encoding` are both given",
            Self::Length => "`Content-Length` is no single number",
        }
    }

    /// True where the length of a body is in doubt.
    pub fn is_framing(self) -> bool {
        !matches!(self, Self::NoHost | Self::Hosts | Self::Host)
    }

    /// The label of `relayctl_refusals_total{reason}`.
    pub fn reason(self) -> &'static str {
        match self.is_framing() {
            false => "bad_host",
            true => "bad_framing",
        }
    }
}

/// Judges `Host`, `Transfer-Encoding` and `Content-Length` of a request. `host_optional`: the request may lack a `Host`
/// although it says HTTP/1.1; HTTP/1.0 has none to begin with.
///
/// # Errors
/// The rule that is broken first.
pub fn check(request: &Request, host_optional: bool) -> Result<(), Invalid> {
    let fields = request.headers.iter();
    let fields = fields.map(|(name, value)| (name, value.as_bytes()));
    // A length on `SOURCE` means nothing: old encoders make one up, and read until they close.
    let any_length = request.method == Method::Source;
    check_fields(request.version, fields, host_optional, any_length)
}

/// Checks the fields of another parser by the same rules.
///
/// # Errors
/// See [`check`].
pub fn check_fields<'a>(
    version: Version,
    fields: impl Iterator<Item = (&'a str, &'a [u8])>,
    host_optional: bool,
    any_length: bool,
) -> Result<(), Invalid> {
    let (mut host, mut encoding, mut length) = (false, false, false);
    for (name, value) in fields {
        // By length first: this is read for every listener, and nearly every name is another one.
        match name.len() {
            4 if name.eq_ignore_ascii_case("host") => {
                if std::mem::replace(&mut host, true) {
                    return Err(Invalid::Hosts);
                }
                if !is_host(value) {
                    return Err(Invalid::Host);
                }
            }
            14 if name.eq_ignore_ascii_case("content-length") => {
                let known = std::mem::replace(&mut length, true);
                let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
                if !any_length && (known || !digits) {
                    return Err(Invalid::Length);
                }
            }
            17 if name.eq_ignore_ascii_case("transfer-encoding") => {
                if version != Version::Http11 {
                    return Err(Invalid::OldEncoding);
                }
                if std::mem::replace(&mut encoding, true) || is_repeated(value) {
                    return Err(Invalid::Encodings);
                }
            }
            _ => {}
        }
    }
    if encoding && length {
        return Err(Invalid::Both);
    }
    if !host && !host_optional && version == Version::Http11 {
        return Err(Invalid::NoHost);
    }
    Ok(())
}

/// True where `chunked` stands more than once.
fn is_repeated(value: &[u8]) -> bool {
    let codings = value.split(|&b| b == b',').map(<[u8]>::trim_ascii);
    let chunked = codings.filter(|coding| coding.eq_ignore_ascii_case(b"chunked"));
    chunked.count() > 1
}

/// `uri-host [ ":" port ]` of RFC 9110 section 7.2. An empty value is valid: it is that of a target without authority.
fn is_host(value: &[u8]) -> bool {
    let (host, port) = match value {
        [b'[', rest @ ..] => {
            let Some(end) = rest.iter().position(|&b| b == b']') else {
                return false;
            };
            let (address, after) = rest.split_at(end);
            if !is_ipv6(address) {
                return false;
            }
            match after {
                [_] => return true,
                [_, b':', port @ ..] => (&b""[..], port),
                _ => return false,
            }
        }
        _ => match value.iter().position(|&b| b == b':') {
            Some(at) => (
                value.get(..at).unwrap_or_default(),
                value.get(at + 1..).unwrap_or_default(),
            ),
            None => (value, &b""[..]),
        },
    };
    // `unreserved`, `%` of an encoded byte and `sub-delims` of RFC 3986.
    let in_name = |b: &u8| b.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=".contains(b);
    host.iter().all(in_name) && port.len() <= 5 && port.iter().all(u8::is_ascii_digit)
}

fn is_ipv6(address: &[u8]) -> bool {
    let text = std::str::from_utf8(address).unwrap_or_default();
    // A zone, which RFC 6874 writes as `%25eth0`.
    let address = text.split_once('%').map_or(text, |(address, _)| address);
    address.parse::<std::net::Ipv6Addr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::head::parse;

    fn of(head: &str, host_optional: bool) -> Result<(), Invalid> {
        let head = format!("{head}\r\n\r\n");
        check(&parse(head.as_bytes()).unwrap().unwrap().0, host_optional)
    }

    #[test]
    fn one_host_that_is_one() {
        for host in [
            "",
            "a",
            "radio.example.org",
            "radio.example.org:8000",
            "127.0.0.1:8000",
            "[::1]",
            "[2001:db8::1]:8000",
            "[fe80::1%25eth0]:8000",
            "under_score.example",
            "xn--caf-dma.example",
            "a:",
        ] {
            let head = format!("GET / HTTP/1.1\r\nHost: {host}");
            assert_eq!(of(&head, false), Ok(()), "{host}");
        }
        for host in [
            "a b",
            "a, b",
            "user@a",
            "http://a/",
            "a/b",
            "a:80:80",
            "::1",
            "[::1",
            "[::1]x",
            "[a]",
            "a:http",
            "a:123456",
            "caf\u{e9}.example",
            "a\\b",
            "a?b",
            "a#b",
            "\"a\"",
            "<a>",
        ] {
            for version in ["HTTP/1.0", "HTTP/1.1"] {
                let head = format!("GET / {version}\r\nHost: {host}");
                assert_eq!(of(&head, true), Err(Invalid::Host), "{host}");
            }
        }
        let two = "GET / HTTP/1.0\r\nHost: a\r\nHost: a";
        assert_eq!(of(two, true), Err(Invalid::Hosts));
        assert_eq!(of("GET / HTTP/1.1", false), Err(Invalid::NoHost));
        assert_eq!(of("GET / HTTP/1.1", true), Ok(()));
        assert_eq!(of("GET / HTTP/1.0", false), Ok(()));
        assert_eq!(of("SOURCE /a ICE/1.0", false), Ok(()));
    }

    #[test]
    fn one_framing() {
        for (fields, expected) in [
            ("", Ok(())),
            ("Content-Length: 5", Ok(())),
            ("Content-Length: 0", Ok(())),
            (
                "Content-Length: 5\r\nContent-Length: 5",
                Err(Invalid::Length),
            ),
            ("Content-Length: 5, 5", Err(Invalid::Length)),
            ("Content-Length: +5", Err(Invalid::Length)),
            ("Content-Length: -5", Err(Invalid::Length)),
            ("Content-Length: 0x5", Err(Invalid::Length)),
            ("Content-Length:", Err(Invalid::Length)),
            ("Transfer-Encoding: chunked", Ok(())),
            ("Transfer-Encoding: Chunked", Ok(())),
            // The one coding that is none; what reads the body judges it.
            ("Transfer-Encoding: identity", Ok(())),
            (
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
                Err(Invalid::Encodings),
            ),
            (
                "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
                Err(Invalid::Encodings),
            ),
            (
                "Transfer-Encoding: chunked, chunked",
                Err(Invalid::Encodings),
            ),
            (
                "Transfer-Encoding: chunked\r\nContent-Length: 5",
                Err(Invalid::Both),
            ),
            (
                "Content-Length: 0\r\nTransfer-Encoding: identity",
                Err(Invalid::Both),
            ),
        ] {
            let head = format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}");
            assert_eq!(of(head.trim_end(), false), expected, "{fields}");
        }
        for version in ["HTTP/1.0", "ICE/1.0"] {
            let head = format!("PUT /a {version}\r\nTransfer-Encoding: chunked");
            assert_eq!(of(&head, true), Err(Invalid::OldEncoding), "{version}");
        }
        let made_up = "SOURCE /a HTTP/1.0\r\nContent-Length: -1";
        assert_eq!(of(made_up, true), Ok(()));
    }
}
