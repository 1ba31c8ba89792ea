//! What a certificate says that people and rules ask for: whom it is for, and how long.

use std::net::IpAddr;
use std::time::Duration;

use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::ParsedCertificate;
use url::Url;
use x509_cert::der::Decode as _;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use crate::base::wall::rfc3339;

/// Names kept at most; certificates of large hosts carry hundreds.
const MAX_NAMES: usize = 100;

/// Below this much time left, people are warned.
const WARN_BELOW: Duration = Duration::from_secs(14 * DAY);

const DAY: u64 = 86_400;

/// A server's certificate, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// Unix seconds before which nobody believes it.
    pub not_before: u64,
    /// Unix seconds after which nobody believes it.
    pub not_after: u64,
    /// DNS names (`*.radio.example` too) and addresses, as they stand in it.
    pub names: Vec<String>,
    der: CertificateDer<'static>,
}

impl Certificate {
    pub(super) fn read(der: &CertificateDer<'static>) -> Result<Self, String> {
        let wrong = |error: &dyn std::fmt::Display| format!("holds no X.509 certificate: {error}");
        let parsed = x509_cert::Certificate::from_der(der).map_err(|error| wrong(&error))?;
        let parsed = parsed.tbs_certificate();
        let names = parsed
            .get_extension::<SubjectAltName>()
            .map_err(|error| wrong(&error))?
            .map(|(_, names)| names.0.iter().filter_map(name).take(MAX_NAMES).collect())
            .unwrap_or_default();
        Ok(Self {
            not_before: parsed.validity().not_before.to_unix_duration().as_secs(),
            not_after: parsed.validity().not_after.to_unix_duration().as_secs(),
            names,
            der: der.clone(),
        })
    }

    /// True if a client that asks for `host` (a name or an address, IPv6 with or without brackets) finds it in the
    /// certificate.
    pub fn covers(&self, host: &str) -> bool {
        let host = host.trim_matches(['[', ']']);
        let Ok(name) = ServerName::try_from(host) else {
            return false;
        };
        ParsedCertificate::try_from(&self.der)
            .is_ok_and(|parsed| verify_server_name(&parsed, &name).is_ok())
    }

    /// The first name that is a whole host: no pattern, no address.
    pub fn host(&self) -> Option<&str> {
        self.names
            .iter()
            .map(String::as_str)
            .find(|name| !name.contains('*') && name.parse::<IpAddr>().is_err())
    }

    /// The https URL of a node that is reached at `http` in clear, where nobody named one: the same host and port, if
    /// that is the node's own data port and the certificate is for that host; else the first whole host of the
    /// certificate. `None` where neither is there: then the node has no https URL.
    pub fn https_beside(&self, http: &str, data_port: u16) -> Option<String> {
        let url = Url::parse(http).ok()?;
        if url.port_or_known_default() != Some(data_port) || url.path() != "/" {
            // A port of somebody in front, who may speak something else there.
            return None;
        }
        let own = url.host_str().filter(|host| self.covers(host));
        let host = match own {
            Some(host) => host,
            // A name that was given and that the certificate is not for is no place for https.
            None if url.domain().is_some() => return None,
            None => self.host()?,
        };
        Some(format!("https://{host}:{data_port}"))
    }

    /// A sentence with its dates where `now` (Unix seconds) is not within them.
    pub fn out_of_dates(&self, now: u64) -> Option<String> {
        let name = self.names.first().map_or("a host", String::as_str);
        let date = |seconds: u64| rfc3339(seconds.saturating_mul(1000));
        let (from, until) = (date(self.not_before), date(self.not_after));
        match (now < self.not_before, now > self.not_after) {
            (true, _) => Some(format!(
                "the certificate of `{name}` is not valid before {from} (until {until})"
            )),
            (_, true) => Some(format!(
                "the certificate of `{name}` ended at {until} (it was valid from {from})"
            )),
            _ => None,
        }
    }

    /// A sentence where it has ended or ends within 14 days of `now` (Unix seconds).
    pub fn warning(&self, now: u64) -> Option<String> {
        let name = self.names.first().map_or("a host", String::as_str);
        if now < self.not_before {
            return self.out_of_dates(now);
        }
        let Some(left) = self.not_after.checked_sub(now).filter(|left| *left > 0) else {
            let days = (now - self.not_after) / DAY;
            return Some(format!(
                "the certificate of `{name}` (`tls.cert`) ended {days} days ago: players refuse it; renew it"
            ));
        };
        (left < WARN_BELOW.as_secs()).then(|| {
            let days = left / DAY;
            format!("the certificate of `{name}` (`tls.cert`) ends in {days} days: renew it")
        })
    }
}

fn name(name: &GeneralName) -> Option<String> {
    match name {
        GeneralName::DnsName(name) => Some(name.as_str().to_ascii_lowercase()),
        GeneralName::IpAddress(bytes) => {
            let bytes = bytes.as_bytes();
            let four = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
            let address = four.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from));
            address.ok().map(|address| address.to_string())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Pair, testing};
    use super::*;

    fn of(names: &[&str]) -> Certificate {
        let (cert, key) = testing::pair(names);
        let pair = Pair::read(cert.as_bytes(), key.as_bytes()).unwrap();
        pair.certificate().clone()
    }

    #[test]
    fn names_and_whom_they_cover() {
        let certificate = of(&["*.radio.example", "radio.example", "127.0.0.1", "::1"]);
        let names = ["*.radio.example", "radio.example", "127.0.0.1", "::1"];
        assert_eq!(certificate.names, names);
        assert_eq!(certificate.host(), Some("radio.example"));
        for (host, covered) in [
            ("radio.example", true),
            ("RADIO.example", true),
            ("a.radio.example", true),
            ("a.b.radio.example", false),
            ("127.0.0.1", true),
            ("127.0.0.2", false),
            ("[::1]", true),
            ("other.example", false),
            ("", false),
            ("not a host", false),
        ] {
            assert_eq!(certificate.covers(host), covered, "{host}");
        }
        assert_eq!(of(&["*.radio.example", "10.0.0.1"]).host(), None);
    }

    #[test]
    fn the_url_by_https_follows_from_the_one_in_clear() {
        let of = |names: &[&str], http: &str| of(names).https_beside(http, 8000);
        let here = Some("https://radio.example:8000".to_owned());
        assert_eq!(of(&["radio.example"], "http://radio.example:8000"), here);
        // An address that nobody chose gives way to the name.
        assert_eq!(of(&["radio.example"], "http://10.0.0.7:8000/"), here);
        assert_eq!(
            of(&["radio.example", "10.0.0.7"], "http://10.0.0.7:8000"),
            Some("https://10.0.0.7:8000".into())
        );
        assert_eq!(
            of(&["::1"], "http://[::1]:8000"),
            Some("https://[::1]:8000".into())
        );
        assert_eq!(of(&["*.radio.example"], "http://10.0.0.7:8000"), None);
        assert_eq!(of(&["radio.example"], "http://other.example:8000"), None);
        // Somebody else's port.
        assert_eq!(of(&["radio.example"], "http://radio.example"), None);
        assert_eq!(of(&["radio.example"], "http://radio.example:8000/x"), None);
    }

    #[test]
    fn the_end_is_told_two_weeks_before() {
        let certificate = of(&["radio.example"]);
        // rcgen's default: the first second of 4096.
        assert_eq!(certificate.not_after, 67_090_118_400);
        let at = |days: u64| certificate.warning(certificate.not_after - days * DAY);
        assert_eq!(at(15), None);
        assert_eq!(at(14), None);
        let soon = certificate
            .warning(certificate.not_after - 14 * DAY + 1)
            .unwrap();
        assert!(
            soon.contains("`radio.example` (`tls.cert`) ends in 13 days"),
            "{soon}"
        );
        let gone = certificate
            .warning(certificate.not_after + 3 * DAY)
            .unwrap();
        assert!(gone.contains("ended 3 days ago"), "{gone}");
        assert!(
            certificate
                .warning(certificate.not_after)
                .unwrap()
                .contains("ended 0")
        );
    }
}
