//! What no file can hold, refused with the key named, before anything is rendered.

use std::path::Path;
use std::time::Duration;

use percent_encoding::{AsciiSet, CONTROLS};
use serde_json::Value;

use super::{RenderError, Role, Scheme, Station, Upstream};
use crate::base::ids::encoded_path;
use crate::base::secret::Secret;

/// What may not stand unescaped in the path of a request.
const IN_PATH: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// Every text of the station is one line without control characters, every mount is a path, and each
/// mount is there once.
pub(super) fn station(station: &Station) -> Result<(), RenderError> {
    let value = serde_json::to_value(station)
        .map_err(|error| RenderError::value("paths", format!("cannot be written: {error}")))?;
    texts("", &value)?;
    for (key, secret) in secrets(station) {
        text(&key, secret.reveal())?;
    }
    for (index, mount) in station.mounts.iter().enumerate() {
        mount_path(&format!("mounts[{index}].path"), &mount.path)?;
        if let Some(fallback) = &mount.fallback {
            mount_path(&format!("mounts[{index}].fallback"), fallback)?;
        }
        let before = station.mounts.iter().take(index);
        if before.into_iter().any(|other| other.path == mount.path) {
            return Err(RenderError::value(
                format!("mounts[{index}].path"),
                format!(
                    "is `{}`, which is there already: name each mount once",
                    mount.path
                ),
            ));
        }
    }
    if let Some(mount) = &station.shoutcast_mount {
        mount_path("shoutcast_mount", mount)?;
    }
    Ok(())
}

fn secrets(station: &Station) -> Vec<(String, &Secret)> {
    let mut all = vec![
        ("source_password".to_owned(), &station.source_password),
        ("admin_password".to_owned(), &station.admin_password),
        ("relay_password".to_owned(), &station.relay_password),
    ];
    for (index, mount) in station.mounts.iter().enumerate() {
        all.push((format!("mounts[{index}].password"), &mount.password));
    }
    all
}

fn texts(key: &str, value: &Value) -> Result<(), RenderError> {
    match value {
        Value::String(content) => text(key, content),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .try_for_each(|(index, item)| texts(&format!("{key}[{index}]"), item)),
        Value::Object(fields) => fields.iter().try_for_each(|(name, item)| {
            let dot = if key.is_empty() { "" } else { "." };
            texts(&format!("{key}{dot}{name}"), item)
        }),
        _ => Ok(()),
    }
}

/// XML 1.0 knows no control characters, not even escaped, and the other files are read by line.
fn text(key: &str, content: &str) -> Result<(), RenderError> {
    let bad = |c: &char| (c.is_control() && *c != '\t') || matches!(c, '\u{fffe}' | '\u{ffff}');
    let Some(found) = content.chars().find(bad) else {
        return Ok(());
    };
    let what = match found {
        '\n' => "a newline".to_owned(),
        '\r' => "a carriage return".to_owned(),
        '\0' => "a NUL".to_owned(),
        other => format!("the control character U+{:04X}", u32::from(other)),
    };
    Err(RenderError::value(
        key,
        format!("has {what} in it, which a configuration cannot hold: remove it"),
    ))
}

fn mount_path(key: &str, path: &str) -> Result<(), RenderError> {
    crate::base::ids::MountId::new(path)
        .map(|_| ())
        .map_err(|error| RenderError::value(key, format!("is `{path}`: {error}")))
}

/// The upstream of a relay that has something to relay.
pub(super) fn upstream<'a>(
    station: &'a Station,
    program: &str,
) -> Result<Option<&'a Upstream>, RenderError> {
    if station.role == Role::Primary {
        return Ok(None);
    }
    if station.mounts.is_empty() {
        return Err(RenderError::NoMounts);
    }
    let Some(upstream) = &station.upstream else {
        return Err(RenderError::value(
            "upstream",
            "is not set, and a relay needs it: set `RELAYCTL_PRIMARY` to the primary's URL",
        ));
    };
    if upstream.scheme == Scheme::Https {
        return Err(RenderError::value(
            "upstream.scheme",
            format!(
                "is `https`, and {program} pulls over plain `http` only: name the primary's plain port"
            ),
        ));
    }
    host("upstream.host", &upstream.host)?;
    port("upstream.port", upstream.port)?;
    Ok(Some(upstream))
}

/// A name or an address that can stand in a URL or a server line.
pub(super) fn host(key: &str, host: &str) -> Result<(), RenderError> {
    let address = host.parse::<std::net::IpAddr>().is_ok();
    let name = !host.is_empty()
        && host
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
    if address || name {
        return Ok(());
    }
    Err(RenderError::value(
        key,
        format!("is `{host}`: give a host name or an address, without scheme, port or brackets"),
    ))
}

/// A port that can be connected to.
pub(super) fn port(key: &str, port: u16) -> Result<(), RenderError> {
    if port == 0 {
        return Err(RenderError::value(
            key,
            "is 0, which is no port that a file can name: give a fixed one",
        ));
    }
    Ok(())
}

/// The port after `port`, where Shoutcast v1 sources go.
pub(super) fn next_port(key: &str, port: u16) -> Result<u16, RenderError> {
    port.checked_add(1).ok_or_else(|| {
        RenderError::value(
            key,
            format!("is {port}, and Shoutcast v1 sources need the next one: choose a lower port"),
        )
    })
}

/// `path` as UTF-8, absolute.
pub(super) fn folder(key: &str, path: &Path) -> Result<String, RenderError> {
    let text = path
        .to_str()
        .ok_or_else(|| RenderError::value(key, "is no valid UTF-8"))?;
    if !path.is_absolute() {
        return Err(RenderError::value(
            key,
            format!(
                "is `{text}`: give an absolute path, since the server runs from its own folder"
            ),
        ));
    }
    Ok(text.trim_end_matches('/').to_owned())
}

/// Whole seconds, rounded up so that a short time never becomes none.
pub(super) fn seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

/// As [`seconds`], at least one: Icecast takes 0 for "none".
pub(super) fn some_seconds(duration: Duration) -> u64 {
    seconds(duration).max(1)
}

/// A limit in seconds, where zero is none.
pub(super) fn limit(duration: Option<Duration>) -> Option<u64> {
    duration.map(seconds).filter(|seconds| *seconds > 0)
}

/// A text that is set, else nothing.
pub(super) fn set(text: Option<&String>) -> Option<String> {
    text.filter(|text| !text.is_empty()).cloned()
}

/// A secret that is set, in clear: the file is where it belongs.
pub(super) fn set_secret(secret: &Secret) -> Option<String> {
    (!secret.is_empty()).then(|| secret.reveal().to_owned())
}

/// A mount's path as it stands in a request.
pub(super) fn request_path(path: &str) -> String {
    encoded_path(path, IN_PATH)
}

/// Host and port as in a URL: IPv6 addresses in brackets.
pub(super) fn authority(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}
