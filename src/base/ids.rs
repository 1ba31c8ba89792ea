//! Names of mounts, nodes and positions. Each can be built only by parsing, so one that exists is valid.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The service that is left out in text.
pub const DEFAULT_SERVICE: &str = "default";

/// Longest mount path in bytes, after decoding.
pub const MAX_PATH: usize = 255;

/// A mount: a service and an absolute path. Text form `/live.mp3`, or `service:/live.mp3` where the
/// service is not `default`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MountId(Arc<MountName>);

/// One allocation to share: every session and every pick names its mount.
#[derive(PartialEq, Eq, Hash, PartialOrd, Ord)]
struct MountName {
    /// `None` is the default one.
    service: Option<Box<str>>,
    path: Box<str>,
}

/// Why a text is no mount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MountError {
    /// It does not begin with `/`.
    #[error("a mount begins with `/`")]
    NoSlash,
    /// A `..` or `.` segment, an empty path, or `//`.
    #[error("a mount has no empty, `.` or `..` segments")]
    Segments,
    /// A control character (`%00` among them), a backslash, or bytes that are no UTF-8.
    #[error("a mount has no control characters and is valid UTF-8")]
    Characters,
    /// Longer than [`MAX_PATH`].
    #[error("a mount is at most 255 bytes long")]
    TooLong,
    /// The service part is no name.
    #[error("a service is 1 to 64 letters, digits, `-`, `_` or `.`")]
    Service,
}

impl MountId {
    /// A mount of the default service, from a decoded path.
    pub fn new(path: &str) -> Result<Self, MountError> {
        Self::of_service(DEFAULT_SERVICE, path)
    }

    /// A mount of `service`, from a decoded path.
    pub fn of_service(service: &str, path: &str) -> Result<Self, MountError> {
        if !is_name(service) {
            return Err(MountError::Service);
        }
        check_path(path)?;
        Ok(Self(Arc::new(MountName {
            service: (service != DEFAULT_SERVICE).then(|| service.into()),
            path: path.into(),
        })))
    }

    /// A mount of the default service, from the path of a request target: still percent-encoded, query
    /// already cut off.
    pub fn from_request(path: &str) -> Result<Self, MountError> {
        let decoded = percent_encoding::percent_decode_str(path)
            .decode_utf8()
            .map_err(|_| MountError::Characters)?;
        Self::new(&decoded)
    }

    /// The decoded path, `/live.mp3`.
    pub fn path(&self) -> &str {
        &self.0.path
    }

    /// The service, `default` if none was named.
    pub fn service(&self) -> &str {
        self.0.service.as_deref().unwrap_or(DEFAULT_SERVICE)
    }

    /// True for paths that take no source: the server answers them itself.
    pub fn is_reserved(&self) -> bool {
        is_reserved(self.path())
    }
}

/// True for the paths that a node answers itself and that never name a mount.
pub fn is_reserved(path: &str) -> bool {
    const EXACT: [&str; 3] = ["/", "/7.html", "/status-json.xsl"];
    // With everything below them. Whole segments: `/healthradio.mp3` and `/statsbureau` are mounts.
    const FIRST_SEGMENT: [&str; 11] = [
        "health",
        "healthz",
        "readyz",
        "metrics",
        "admin",
        "admin.cgi",
        "api",
        "cluster",
        "dashboard",
        "stats",
        ".well-known",
    ];
    // Browsers and crawlers ask for these by themselves: an icon is no listener.
    const FETCHED_UNASKED: [&str; 7] = [
        "/favicon.ico",
        "/robots.txt",
        "/sitemap.xml",
        "/browserconfig.xml",
        "/crossdomain.xml",
        "/clientaccesspolicy.xml",
        "/ads.txt",
    ];
    // `/apple-touch-icon-120x120-precomposed.png` and its like.
    const ICON: &str = "/apple-touch-icon";
    let first = path.split('/').nth(1).unwrap_or_default();
    EXACT.contains(&path)
        || FIRST_SEGMENT.contains(&first)
        || FETCHED_UNASKED.contains(&path)
        || path.starts_with(ICON)
        || is_playlist(path)
}

/// True for the path of a playlist that names a mount.
pub fn is_playlist(path: &str) -> bool {
    [".m3u", ".pls", ".xspf", ".vclt"]
        .iter()
        .any(|end| path.ends_with(end))
}

fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

fn check_path(path: &str) -> Result<(), MountError> {
    let Some(rest) = path.strip_prefix('/') else {
        return Err(MountError::NoSlash);
    };
    if path.len() > MAX_PATH {
        return Err(MountError::TooLong);
    }
    if path.chars().any(|c| c.is_control() || c == '\\') {
        return Err(MountError::Characters);
    }
    let bad = |s: &str| s.is_empty() || s == "." || s == "..";
    if !rest.is_empty() && rest.split('/').any(bad) {
        return Err(MountError::Segments);
    }
    Ok(())
}

impl fmt::Display for MountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.service {
            None => f.write_str(self.path()),
            Some(service) => write!(f, "{service}:{}", self.path()),
        }
    }
}

impl fmt::Debug for MountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for MountId {
    type Err = MountError;

    fn from_str(text: &str) -> Result<Self, MountError> {
        match text.split_once(":/") {
            Some((service, _)) if !text.starts_with('/') => {
                Self::of_service(service, &text[service.len() + 1..])
            }
            _ => Self::new(text),
        }
    }
}

impl TryFrom<String> for MountId {
    type Error = MountError;

    fn try_from(text: String) -> Result<Self, MountError> {
        text.parse()
    }
}

impl From<MountId> for String {
    fn from(id: MountId) -> String {
        id.to_string()
    }
}

/// A node's lasting identity: 1 to 64 letters, digits, `-`, `_`, `.`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeId(Arc<str>);

/// A text is no node id or name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a node name is 1 to 64 letters, digits, `-`, `_` or `.`")]
pub struct NodeIdError;

impl NodeId {
    /// Sixteen random hexadecimal digits.
    pub fn random() -> Self {
        let bits: u64 = rand::random();
        Self(format!("{bits:016x}").into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for NodeId {
    type Err = NodeIdError;

    fn from_str(text: &str) -> Result<Self, NodeIdError> {
        if is_name(text) {
            Ok(Self(text.into()))
        } else {
            Err(NodeIdError)
        }
    }
}

impl TryFrom<String> for NodeId {
    type Error = NodeIdError;

    fn try_from(text: String) -> Result<Self, NodeIdError> {
        text.parse()
    }
}

impl From<NodeId> for String {
    fn from(id: NodeId) -> String {
        id.0.to_string()
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A run of one mount's audio under one numbering of its bytes, stamped by the origin: the larger of
/// the wall clock in unix milliseconds and the last epoch known plus one. Never used again.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, Default,
)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// The address of a byte within its mount.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, Default,
)]
pub struct Position {
    /// The numbering.
    pub epoch: Epoch,
    /// Bytes since the epoch began.
    pub offset: u64,
}

/// A listener's session on one node, counted from 1 since the process started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ListenerId(pub u64);

impl fmt::Display for ListenerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_an_absolute_clean_path() {
        assert_eq!(MountId::new("/live.mp3").unwrap().to_string(), "/live.mp3");
        assert_eq!(
            MountId::from_request("/a%20b.mp3").unwrap().path(),
            "/a b.mp3"
        );
        assert_eq!(MountId::new("live"), Err(MountError::NoSlash));
        assert_eq!(MountId::new("/a/../b"), Err(MountError::Segments));
        assert_eq!(
            MountId::from_request("/a%2f..%2fb"),
            Err(MountError::Segments)
        );
        assert_eq!(MountId::from_request("/a%00b"), Err(MountError::Characters));
        assert_eq!(MountId::from_request("/%ff"), Err(MountError::Characters));
        assert_eq!(
            MountId::new(&format!("/{}", "x".repeat(255))),
            Err(MountError::TooLong)
        );
    }

    #[test]
    fn the_default_service_is_left_out() {
        let id: MountId = "talk:/live".parse().unwrap();
        assert_eq!((id.service(), id.path()), ("talk", "/live"));
        assert_eq!(id.to_string(), "talk:/live");
        assert_eq!(
            "default:/live".parse::<MountId>().unwrap().to_string(),
            "/live"
        );
        assert_eq!(
            "/odd:/live".parse::<MountId>().unwrap().path(),
            "/odd:/live"
        );
    }

    #[test]
    fn reserved_paths() {
        for path in [
            "/",
            "/health",
            "/healthz",
            "/readyz",
            "/metrics",
            "/metrics/",
            "/admin",
            "/admin/",
            "/admin/metadata",
            "/admin.cgi",
            "/api/v1/none",
            "/cluster/v1/join",
            "/dashboard/",
            "/live.m3u",
            "/stats",
            "/stats/any",
            "/.well-known/acme-challenge/x",
            "/apple-touch-icon-120x120-precomposed.png",
            "/robots.txt",
        ] {
            assert!(is_reserved(path), "{path}");
        }
        for path in [
            "/live.mp3",
            "/stream",
            "/healthradio.mp3",
            "/health.mp3",
            "/administration",
            "/admin.cgi.mp3",
            "/apia",
            "/clusterfunk.ogg",
            "/dashboards",
            "/statsbureau",
            "/metrics.ogg",
            "/live/admin",
            "/7.htmlx",
            "/robots.txt.mp3",
        ] {
            assert!(!is_reserved(path), "{path}");
        }
    }
}
