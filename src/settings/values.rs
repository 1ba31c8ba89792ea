//! One value as written to one value as meant. Errors are the sentence after the key's name; that of a
//! secret never holds the secret.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use serde_json::Value;
use url::Url;

use super::keys::Kind;
use super::secret_file;
use super::yaml;
use crate::base::secret::Secret;
use crate::base::units::{Rate, Size, parse_duration};

/// An address and a port to bind. `[::]` is all addresses of both families.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bind {
    /// `::` is both families, `0.0.0.0` is IPv4 alone.
    pub address: IpAddr,
    /// 0 takes a free one.
    pub port: u16,
}

impl Bind {
    /// As the system wants it.
    pub fn socket_address(self) -> SocketAddr {
        SocketAddr::new(self.address, self.port)
    }

    /// True if it listens on all addresses of both families (one socket with `IPV6_V6ONLY` off, or
    /// IPv4 alone where the system has no IPv6).
    pub fn is_both_families(self) -> bool {
        self.address == IpAddr::V6(Ipv6Addr::UNSPECIFIED)
    }
}

impl fmt::Display for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.socket_address(), f)
    }
}

/// The outcome of reading one value.
pub(super) type Read<T> = Result<T, String>;

/// A scalar as its text.
fn scalar(value: &Value) -> Read<String> {
    match value {
        Value::String(text) => Ok(text.trim().into()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(yes) => Ok(yes.to_string()),
        Value::Null => Err("has no value".into()),
        Value::Array(_) => Err("is a list: write one value".into()),
        Value::Object(_) => Err("is a mapping: write one value".into()),
    }
}

/// A text that was written as a text: `0123` would have lost its zero.
pub(super) fn text(value: &Value) -> Read<String> {
    match value {
        Value::Number(_) | Value::Bool(_) => {
            Err("is read as a number or as true or false: put it in quotes".into())
        }
        _ => {
            let text = scalar(value)?;
            if text.chars().any(char::is_control) {
                return Err("holds a line break or another control character".into());
            }
            Ok(text)
        }
    }
}

/// A scalar as its text: for what old names set, where a number may stand for a text.
pub(super) fn plain(value: &Value) -> Read<String> {
    scalar(value)
}

pub(super) fn secret(value: &Value) -> Read<Secret> {
    match value {
        Value::String(text) => secret_file::clean(text).map(Secret::new),
        other => text(other).map(Secret::new),
    }
}

pub(super) fn boolean(value: &Value) -> Read<bool> {
    let text = scalar(value)?;
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Ok(true),
        "false" | "no" | "off" | "0" => Ok(false),
        _ => Err(format!("`{text}` is neither true nor false")),
    }
}

pub(super) fn integer(value: &Value, min: u64, max: u64) -> Read<u64> {
    let text = scalar(value)?;
    match text.parse::<u64>() {
        Ok(number) if (min..=max).contains(&number) => Ok(number),
        _ => Err(format!("`{text}` is no whole number from {min} to {max}")),
    }
}

pub(super) fn duration(value: &Value) -> Read<Duration> {
    parse_duration(&scalar(value)?).map_err(|error| error.to_string())
}

pub(super) fn rate(value: &Value) -> Read<Rate> {
    scalar(value)?
        .parse::<Rate>()
        .map_err(|error| error.to_string())
}

pub(super) fn size(value: &Value) -> Read<Size> {
    scalar(value)?
        .parse::<Size>()
        .map_err(|error| error.to_string())
}

/// A share above 0 and up to 1, as `85%` or `0.85`, in thousandths.
pub(super) fn thousandths(value: &Value) -> Read<u32> {
    let text = scalar(value)?;
    let wrong = || format!("`{text}` is no share between 0 and 1, such as `85%` or `0.85`");
    let (number, whole) = match text.trim().strip_suffix('%') {
        Some(number) => (number, 100.0),
        None => (text.trim(), 1.0),
    };
    let number: f64 = number.trim().parse().map_err(|_| wrong())?;
    let share = (number / whole * 1_000.0).round();
    if (1.0..=1_000.0).contains(&share) {
        Ok(share as u32)
    } else {
        Err(wrong())
    }
}

/// A list, or a text with commas; empty items are left out.
pub(super) fn list(value: &Value) -> Read<Vec<String>> {
    let items = match value {
        Value::Array(items) => items.iter().map(scalar).collect::<Read<Vec<_>>>()?,
        other => scalar(other)?
            .split(',')
            .map(|item| item.trim().to_owned())
            .collect(),
    };
    if items.iter().any(|item| item.chars().any(char::is_control)) {
        return Err("holds a line break or another control character".into());
    }
    Ok(items.into_iter().filter(|item| !item.is_empty()).collect())
}

/// `any` and `*` are all addresses, as in Shoutcast's files.
pub(super) fn address(text: &str) -> Read<IpAddr> {
    let text = text.trim();
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(text);
    match bare {
        "" | "any" | "*" => Ok(IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
        "localhost" => Ok(IpAddr::from([127, 0, 0, 1])),
        _ => bare.parse().map_err(|_| {
            format!("`{text}` is no address: write an IPv4 or IPv6 address, or `any`")
        }),
    }
}

pub(super) fn port(text: &str) -> Read<u16> {
    text.trim()
        .parse()
        .map_err(|_| format!("`{text}` is no port: write a number from 0 to 65535"))
}

pub(super) fn bind(value: &Value) -> Read<Bind> {
    let text = scalar(value)?;
    let (host, number) = match text.rsplit_once(':') {
        Some((host, _)) if host.contains(':') && !host.starts_with('[') => {
            return Err(format!(
                "`{text}` is no address and port: write `[ADDR]:PORT`"
            ));
        }
        Some(parts) => parts,
        None if text.bytes().all(|byte| byte.is_ascii_digit()) => ("", text.as_str()),
        None => return Err(format!("`{text}` has no port: write `{text}:8000`")),
    };
    Ok(Bind {
        address: address(host)?,
        port: port(number)?,
    })
}

/// An http or https URL without user, query or fragment.
pub(super) fn http_url(text: &str) -> Read<Url> {
    let url = Url::parse(text).map_err(|error| format!("`{text}` is no URL: {error}"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("holds a user or password: give them as keys of their own".into());
    }
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(format!("`{text}` is no `http://` or `https://` URL"));
    }
    if url.fragment().is_some() {
        return Err(format!("`{text}` has a fragment (`#`): leave it out"));
    }
    Ok(url)
}

/// A network; a bare address is a network of one.
pub(super) fn network(text: &str) -> Read<IpNet> {
    text.parse::<IpNet>()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
        .map_err(|_| format!("`{text}` is no network: write it like `10.0.0.0/8`"))
}

/// A host's name in lower case, without a port; `*.` in front stands for the labels before it.
pub(super) fn host_name(text: &str) -> Read<String> {
    let wrong =
        || format!("`{text}` is no name of a host: write it like `radio.lan` or `*.example.org`");
    let (wildcard, name) = match text.strip_prefix("*.") {
        Some(name) => ("*.", name),
        None => ("", text),
    };
    match url::Host::parse(name.trim_end_matches('.')) {
        Ok(url::Host::Domain(name)) if !name.contains('*') => Ok(format!("{wildcard}{name}")),
        Ok(address) if wildcard.is_empty() => Ok(address.to_string()),
        _ => Err(wrong()),
    }
}

/// `host:port` with a host that is a name or an address.
pub(super) fn host_and_port(text: &str) -> Read<String> {
    let wrong = || format!("`{text}` is no `host:port`");
    let (host, number) = text.rsplit_once(':').ok_or_else(wrong)?;
    url::Host::parse(host).map_err(|_| wrong())?;
    port(number).map_err(|_| wrong())?;
    Ok(text.into())
}

/// A value for people: `***` for a secret, lists with commas.
pub(super) fn show(kind: Kind, value: &Value) -> String {
    match kind {
        Kind::Secret => "***".into(),
        Kind::Tree(_) => tree(value),
        _ => match value {
            Value::Array(items) => items
                .iter()
                .map(|item| scalar(item).unwrap_or_default())
                .collect::<Vec<_>>()
                .join(","),
            other => scalar(other).unwrap_or_default(),
        },
    }
}

/// A tree may also be a text: paths with commas, or YAML that holds passwords.
fn tree(value: &Value) -> String {
    let Value::String(text) = value else {
        return mask(value).to_string();
    };
    match yaml::parse_value(text) {
        Ok(parsed @ (Value::Array(_) | Value::Object(_))) => mask(&parsed).to_string(),
        _ => text.clone(),
    }
}

/// The tree with everything under a name like `password` hidden.
fn mask(value: &Value) -> Value {
    match value {
        Value::Array(items) => Value::Array(items.iter().map(mask).collect()),
        Value::Object(fields) => Value::Object(
            fields
                .iter()
                .map(|(name, value)| {
                    let hidden = name == "password";
                    let shown = if hidden {
                        Value::from("***")
                    } else {
                        mask(value)
                    };
                    (name.clone(), shown)
                })
                .collect(),
        ),
        Value::String(text) => Value::from(without_login(text)),
        other => other.clone(),
    }
}

/// A URL may hold a password too.
fn without_login(text: &str) -> String {
    match Url::parse(text) {
        Ok(mut url) if url.password().is_some() => {
            // A URL with a password has a host, so this cannot fail; if it did, nothing is shown.
            match url.set_password(Some("***")) {
                Ok(()) => url.into(),
                Err(()) => "***".to_owned(),
            }
        }
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn trees_are_shown_without_passwords_however_they_were_written() {
        let kind = Kind::Tree(&[]);
        let entry = json!([{"path": "/a", "password": "pw", "url": "http://u:pw@h/x"}]);
        for value in [json!(entry.to_string()), entry] {
            let shown = show(kind, &value);
            assert!(shown.contains("/a") && !shown.contains("pw"), "{shown}");
        }
        assert_eq!(show(kind, &json!("/a.mp3,/b.ogg")), "/a.mp3,/b.ogg");
    }

    #[test]
    fn shares_of_one() {
        let read = |text: &str| thousandths(&Value::String(text.into()));
        assert_eq!(
            (read("85%"), read("0.85"), read(" 100 %")),
            (Ok(850), Ok(850), Ok(1_000))
        );
        for bad in ["0", "85", "101%", "-1%", "much", "NaN", ""] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn addresses_to_bind() {
        let read = |text: &str| bind(&json!(text)).map(|bind| bind.to_string());
        assert_eq!(read("127.0.0.1:0").unwrap(), "127.0.0.1:0");
        assert_eq!(read("[::1]:8000").unwrap(), "[::1]:8000");
        assert_eq!(read(":8000").unwrap(), "[::]:8000");
        assert_eq!(read("any:80").unwrap(), "[::]:80");
        assert_eq!(bind(&json!(9000)).unwrap().to_string(), "[::]:9000");
        assert!(read("127.0.0.1").unwrap_err().contains("has no port"));
        assert!(read("::1:8000").unwrap_err().contains("[ADDR]:PORT"));
        assert!(read("radio.example:8000").is_err());
        assert!(read(":70000").is_err());
    }

    #[test]
    fn texts_are_not_guessed_from_numbers() {
        assert!(text(&json!(123)).unwrap_err().contains("quotes"));
        assert!(secret(&json!(123)).unwrap_err().contains("quotes"));
        assert!(text(&json!("a\nb")).is_err());
        assert_eq!(text(&json!(" a ")).unwrap(), "a");
        assert!(
            !secret(&json!("hunter2\nx"))
                .unwrap_err()
                .contains("hunter2")
        );
    }

    #[test]
    fn lists_networks_urls() {
        assert_eq!(list(&json!("a, b,,c")).unwrap(), ["a", "b", "c"]);
        assert_eq!(list(&json!(["a", 1])).unwrap(), ["a", "1"]);
        assert_eq!(network("10.0.0.1").unwrap().to_string(), "10.0.0.1/32");
        assert!(network("ten").is_err());
        assert!(http_url("ftp://a").is_err());
        let error = http_url("http://u:hunter2@a/").unwrap_err();
        assert!(!error.contains("hunter2"));
        assert!(host_and_port("node-1.example:8000").is_ok());
        assert!(host_and_port("[::1]:8000").is_ok());
        assert!(host_and_port("node 1:8000").is_err());
    }

    #[test]
    fn secrets_in_trees_are_masked() {
        let tree = json!([{"path": "/a", "password": "hunter2"}]);
        let shown = show(Kind::Tree(&[]), &tree);
        assert!(!shown.contains("hunter2") && shown.contains("***") && shown.contains("/a"));
    }
}
