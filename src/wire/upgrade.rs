//! Upgrade of a connection in clear to TLS (RFC 2817): its words.

use super::head::{Request, Version};

/// `Upgrade` of an answer that offers TLS; the version is a name, and the handshake chooses its own.
pub const OFFERED: &str = "TLS/1.0";

/// `Upgrade` of the answer 101.
pub const SWITCHED: &str = "TLS/1.0, HTTP/1.1";

/// True where the request asks for TLS on its own connection. HTTP/1.0 has no upgrade (RFC 9110, 7.8).
pub fn asks_for_tls(request: &Request) -> bool {
    request.version == Version::Http11
        && request.headers.has_token("connection", "upgrade")
        && request
            .headers
            .all("upgrade")
            .flat_map(|value| value.split(','))
            .any(|protocol| is_tls(protocol.trim()))
}

fn is_tls(protocol: &str) -> bool {
    let Some((name, version)) = protocol.split_once('/') else {
        return false;
    };
    let minor = version.strip_prefix("1.").unwrap_or_default();
    name.eq_ignore_ascii_case("TLS") && matches!(minor.as_bytes(), [b'0'..=b'9'])
}

#[cfg(test)]
mod tests {
    use super::super::head::Method;
    use super::*;

    fn asks(version: Version, fields: &[(&str, &str)]) -> bool {
        let mut request = Request::new(Method::Options, "*", version);
        for (name, value) in fields {
            assert!(request.headers.push(*name, value));
        }
        asks_for_tls(&request)
    }

    #[test]
    fn who_asks_for_tls() {
        let new = Version::Http11;
        for (connection, upgrade, expected) in [
            ("Upgrade", "TLS/1.0, HTTP/1.1", true),
            ("keep-alive, upgrade", "tls/1.0", true),
            ("Upgrade", "HTTP/1.1,TLS/1.2", true),
            ("Upgrade", "h2c", false),
            ("Upgrade", "websocket", false),
            ("Upgrade", "TLS", false),
            ("Upgrade", "TLS/2.0", false),
            ("Upgrade", "TLS/1.x", false),
            ("Upgrade", "XTLS/1.0", false),
            ("keep-alive", "TLS/1.0", false),
            ("Upgraded", "TLS/1.0", false),
        ] {
            let fields = [("Connection", connection), ("Upgrade", upgrade)];
            assert_eq!(asks(new, &fields), expected, "{connection}: {upgrade}");
        }
        assert!(!asks(new, &[("Upgrade", "TLS/1.0")]));
        assert!(!asks(new, &[("Connection", "Upgrade")]));
        let two = [
            ("Connection", "close"),
            ("Connection", "Upgrade"),
            ("Upgrade", "h2c"),
            ("Upgrade", "TLS/1.0"),
        ];
        assert!(asks(new, &two));
        for old in [Version::Http10, Version::Ice10] {
            let fields = [("Connection", "Upgrade"), ("Upgrade", "TLS/1.0")];
            assert!(!asks(old, &fields), "{old:?}");
        }
    }
}
