//! Names of mounts, nodes and positions. Each can be built only by parsing, so one that exists is valid.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};
use serde::{Deserialize, Serialize};

use super::reserved::is_reserved;

/// The service that is left out in text.
pub const DEFAULT_SERVICE: &str = "default";

/// Longest path of a mount in bytes, as [`MountId::path`] has it.
pub const MAX_PATH: usize = 255;

/// A mount: a service and an absolute path. Text form `/live.mp3`, or `service:/live.mp3` where the
/// service is not `default`.
///
/// A path is a sequence of octets, of which those that are UTF-8 are text. Each other one is written `%E1`, and a `%` that
/// would read as the begin of such an escape is written `%25`; so each path has one text, which is read back as the same path.
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
    /// A control character (`%00` among them), a backslash, or an escaped slash.
    #[error("a mount has no control characters, no backslash and no `%2F`")]
    Characters,
    /// Longer than [`MAX_PATH`].
    #[error("a mount is at most 255 bytes long")]
    TooLong,
    /// The service part is no name.
    #[error("a service is 1 to 64 letters, digits, `-`, `_` or `.`")]
    Service,
}

impl MountId {
    /// A mount of the default service, from its path as text or as it stands in a request (the query cut off): what is
    /// percent-encoded is decoded.
    ///
    /// # Errors
    /// Where the path is none of a mount.
    pub fn new(path: &str) -> Result<Self, MountError> {
        Self::of_service(DEFAULT_SERVICE, path)
    }

    /// A mount of `service`; the path as for [`MountId::new`].
    ///
    /// # Errors
    /// Where one of them is no name.
    pub fn of_service(service: &str, path: &str) -> Result<Self, MountError> {
        if !is_name(service) {
            return Err(MountError::Service);
        }
        let path = read_path(path)?;
        Ok(Self(Arc::new(MountName {
            service: (service != DEFAULT_SERVICE).then(|| service.into()),
            path: path.into(),
        })))
    }

    /// A mount as a program's parameter names it, decoded once already. Octets that are no UTF-8 are the mount's.
    ///
    /// # Errors
    /// Where the name is none of a mount.
    pub fn from_octets(name: &[u8]) -> Result<Self, MountError> {
        match std::str::from_utf8(name) {
            Ok(text) => text.parse(),
            Err(_) => text_of(name).parse(),
        }
    }

    /// The path, `/live.mp3`: decoded but for octets that are no UTF-8.
    pub fn path(&self) -> &str {
        &self.0.path
    }

    /// Adds the path to `text` as it stands in a URL; `reserved` says what may not stand there as itself.
    pub fn write_encoded(&self, text: &mut String, reserved: &'static AsciiSet) {
        let octets: Cow<'_, [u8]> = percent_decode_str(self.path()).into();
        text.extend(percent_encode(&octets, reserved));
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

/// Returns a mount's path, as text, as it stands in a URL.
pub fn encoded_path(path: &str, reserved: &'static AsciiSet) -> String {
    let octets: Cow<'_, [u8]> = percent_decode_str(path).into();
    percent_encode(&octets, reserved).to_string()
}

fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// Checks a path and brings it into its one form.
fn read_path(path: &str) -> Result<Cow<'_, str>, MountError> {
    if path.as_bytes().windows(3).any(is_slash) {
        return Err(MountError::Characters);
    }
    let text = match percent_decode_str(path).into() {
        Cow::Borrowed(_) => Cow::Borrowed(path),
        Cow::Owned(octets) => Cow::Owned(text_of(&octets)),
    };
    check_path(&text)?;
    Ok(text)
}

/// `%2F`: within a segment, where it means something else to everybody on the way.
fn is_slash(three: &[u8]) -> bool {
    three.eq_ignore_ascii_case(b"%2f")
}

/// Octets as text that is read back as the same octets.
fn text_of(octets: &[u8]) -> String {
    let mut text = String::with_capacity(octets.len());
    for chunk in octets.utf8_chunks() {
        let mut rest = chunk.valid();
        while let Some((before, after)) = rest.split_once('%') {
            text.push_str(before);
            text.push_str(if begins_as_hex(after) { "%25" } else { "%" });
            rest = after;
        }
        text.push_str(rest);
        text.extend(percent_encode(chunk.invalid(), NON_ALPHANUMERIC));
    }
    text
}

/// True where a `%` in front would be an escape.
fn begins_as_hex(text: &str) -> bool {
    let two = text.as_bytes().get(..2);
    two.is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit))
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
    // `/dir/` is a mount beside `/dir`.
    let rest = rest
        .strip_suffix('/')
        .filter(|rest| !rest.is_empty())
        .unwrap_or(rest);
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
        assert_eq!(MountId::new("/a%20b.mp3").unwrap().path(), "/a b.mp3");
        assert_eq!(MountId::new("live"), Err(MountError::NoSlash));
        assert_eq!(MountId::new("/a/../b"), Err(MountError::Segments));
        assert_eq!(MountId::new("/a%2f..%2fb"), Err(MountError::Characters));
        assert_eq!(MountId::new("/a%00b"), Err(MountError::Characters));
        assert_eq!(
            MountId::new(&format!("/{}", "x".repeat(255))),
            Err(MountError::TooLong)
        );
        for path in ["/dir/", "/stream/1/", "/a/b/"] {
            assert_eq!(MountId::new(path).unwrap().path(), path);
        }
        for path in [
            "//", "/a//", "//a", "/a/./", "/a/../", "/../", "/.", "/%2e%2e/",
        ] {
            assert_eq!(MountId::new(path), Err(MountError::Segments), "{path}");
        }
        let hidden = [
            "/a%2Fb",
            "/a%2f",
            "/%5cb",
            "/a%0d%0ab",
            "/a%7f",
            "/a%C2%85",
            "/%E1%00",
        ];
        for path in hidden {
            assert_eq!(MountId::new(path), Err(MountError::Characters), "{path}");
        }
    }

    #[test]
    fn a_path_of_octets_has_one_text() {
        for (requested, text) in [
            ("/caf%E9.mp3", "/caf%E9.mp3"),
            ("/caf%e9.mp3", "/caf%E9.mp3"),
            ("/caf%C3%A9.mp3", "/café.mp3"),
            ("/café.mp3", "/café.mp3"),
            ("/%C3", "/%C3"),
            ("/%61", "/a"),
            ("/100%25", "/100%"),
            ("/100%", "/100%"),
            // The text `%E1` and the octet are two mounts.
            ("/x%25E1", "/x%25E1"),
            ("/x%E1", "/x%E1"),
            ("/x%2525E1", "/x%2525E1"),
            ("/%25%E1", "/%%E1"),
            ("/%254%E1", "/%4%E1"),
            ("/%E1%25", "/%E1%"),
        ] {
            let mount = MountId::new(requested).unwrap();
            assert_eq!(mount.path(), text, "{requested}");
            assert_eq!(mount.to_string().parse::<MountId>(), Ok(mount.clone()));
            let mut url = String::new();
            mount.write_encoded(&mut url, NON_ALPHANUMERIC);
            assert!(url.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'%'));
            assert_eq!(MountId::new(&url.replace("%2F", "/")), Ok(mount));
        }
        let octets = |name: &[u8]| MountId::from_octets(name).map(|mount| mount.to_string());
        assert_eq!(octets(b"/caf\xe9").as_deref(), Ok("/caf%E9"));
        assert_eq!(octets(b"talk:/\xe9/%41").as_deref(), Ok("talk:/%E9/%2541"));
        assert_eq!(octets(b"/\xe9/../a"), Err(MountError::Segments));
    }

    proptest::proptest! {
        #[test]
        fn no_two_paths_have_the_same_text(one: Vec<u8>, other: Vec<u8>) {
            let text = text_of(&one);
            let back: Cow<'_, [u8]> = percent_decode_str(&text).into();
            proptest::prop_assert_eq!(&*back, &*one);
            proptest::prop_assert_eq!(one == other, text == text_of(&other));
        }
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
}
