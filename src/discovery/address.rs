//! What an operator writes for a primary.

use std::fmt;
use std::str::FromStr;

/// Where a primary listens if a bare host is given.
pub const DEFAULT_PORT: u16 = 8000;

/// A primary's address: `host`, `host:port`, `http://host[:port]` or `https://host[:port]`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PrimaryAddress {
    /// `https` was written.
    pub tls: bool,
    /// A name or an address, without brackets.
    pub host: String,
    /// The port as written. Without one, SRV records may name others.
    pub port: Option<u16>,
    /// A scheme was written.
    scheme: bool,
}

/// Why a text is no primary's address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PrimaryAddressError {
    /// Neither a URL nor a host.
    #[error("`{0}` is no address: write `host`, `host:port`, `http://host:port` or `https://host`")]
    Shape(String),
    /// A scheme other than http and https.
    #[error("`{0}` is no scheme of a primary: write `http` or `https`")]
    Scheme(String),
    /// Credentials, a path, a query or a fragment.
    #[error("a primary's address has no credentials and no path: write `http://host:port`")]
    TooMuch,
}

impl PrimaryAddress {
    /// The port to connect to where no SRV record says otherwise: the one written, else 443 or 80 where a
    /// scheme was written, else [`DEFAULT_PORT`].
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(match (self.scheme, self.tls) {
            (true, true) => 443,
            (true, false) => 80,
            (false, _) => DEFAULT_PORT,
        })
    }

    /// `http://host:port`, always with the port.
    pub fn base_url(&self) -> String {
        base_url(self.tls, &self.host, self.port())
    }
}

/// `http://host:port` or `https://host:port`, IPv6 in brackets.
pub(super) fn base_url(tls: bool, host: &str, port: u16) -> String {
    let scheme = if tls { "https" } else { "http" };
    if host.contains(':') {
        format!("{scheme}://[{host}]:{port}")
    } else {
        format!("{scheme}://{host}:{port}")
    }
}

impl fmt::Display for PrimaryAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.base_url())
    }
}

impl FromStr for PrimaryAddress {
    type Err = PrimaryAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let shape = || PrimaryAddressError::Shape(text.to_owned());
        let scheme = text.contains("://");
        // An address of IPv6 without brackets and port is taken as it is.
        if !scheme && text.parse::<std::net::Ipv6Addr>().is_ok() {
            return Ok(Self {
                tls: false,
                host: text.to_owned(),
                port: None,
                scheme,
            });
        }
        let (name, rest) = text.split_once("://").unwrap_or(("http", text));
        let name = name.to_ascii_lowercase();
        if name != "http" && name != "https" {
            return Err(PrimaryAddressError::Scheme(name));
        }
        if rest.contains('@') {
            return Err(PrimaryAddressError::TooMuch);
        }
        // Under a scheme without a default port, so that `:80` is not lost.
        let url = url::Url::parse(&format!("relayctl://{rest}")).map_err(|_| shape())?;
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err(PrimaryAddressError::TooMuch);
        }
        let host = url.host_str().filter(|h| !h.is_empty()).ok_or_else(shape)?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.contains('%') || url.port() == Some(0) {
            return Err(shape());
        }
        Ok(Self {
            tls: name == "https",
            host: host.to_ascii_lowercase(),
            port: url.port(),
            scheme,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_write_it() {
        for (text, url) in [
            ("radio.example", "http://radio.example:8000"),
            ("Radio.Example:80", "http://radio.example:80"),
            ("http://radio.example", "http://radio.example:80"),
            ("http://radio.example:8000/", "http://radio.example:8000"),
            ("https://radio.example", "https://radio.example:443"),
            ("HTTPS://radio.example:8443", "https://radio.example:8443"),
            ("127.0.0.1:8000", "http://127.0.0.1:8000"),
            ("[::1]:9000", "http://[::1]:9000"),
            ("::1", "http://[::1]:8000"),
            ("http://[::1]", "http://[::1]:80"),
        ] {
            let parsed: PrimaryAddress = text.parse().unwrap();
            assert_eq!(parsed.to_string(), url, "{text}");
        }
        let written: PrimaryAddress = "http://radio.example:80".parse().unwrap();
        assert_eq!((written.port, written.port()), (Some(80), 80));
    }

    #[test]
    fn what_is_refused() {
        for text in [
            "",
            "http://",
            "radio example",
            "radio:port",
            "radio:0",
            ":8000",
        ] {
            assert!(
                matches!(
                    text.parse::<PrimaryAddress>(),
                    Err(PrimaryAddressError::Shape(_))
                ),
                "{text}"
            );
        }
        let scheme = "icy://radio.example".parse::<PrimaryAddress>();
        assert_eq!(scheme, Err(PrimaryAddressError::Scheme("icy".into())));
        for text in ["http://a:b@radio", "http://radio/live", "radio/?a=b"] {
            let error = text.parse::<PrimaryAddress>();
            assert_eq!(error, Err(PrimaryAddressError::TooMuch), "{text}");
        }
    }
}
