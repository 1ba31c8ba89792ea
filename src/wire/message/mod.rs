//! What nodes say to each other, as JSON: join, beat, and the lines of the feed.
//!
//! Every message carries the version of its shape in `v`. Fields that a reader does not know are skipped,
//! those that it misses have defaults, so that neighbours of different age understand each other. Whoever
//! receives a message calls its `check` before he believes it: sizes are bounded there.
//!
//! Must never: do I/O or read the clock. Neighbours: `cluster` (the rules over these messages), `admin`
//! (the serving side), `upstream` (the asking side).

mod beat;
mod event;
mod feed;
mod join;

use serde::{Deserialize, Serialize};

use crate::base::ids::NodeId;

pub use beat::{Beat, BeatAnswer, DrainOrder, MountBeat, MountState, NodeState, Reflect};
pub use event::{EventReport, Happening, MAX_EVENTS};
pub use feed::{FeedLine, MountInfo, MountRow, NodeRole, NodeRow};
pub use join::{ClusterKey, JoinAnswer, JoinRequest, ProbeResult, URL_HINT};

/// The version that this program writes.
pub const VERSION: u16 = 1;

/// Most mounts in one beat.
pub const MAX_MOUNTS: usize = 1_000;

/// Most confirmed reservations in one beat; what is more waits for the next.
pub const MAX_CONFIRMED: usize = 10_000;

/// Longest public URL, content type or version text in bytes.
pub const MAX_TEXT: usize = 512;

/// Longest name of a region in bytes.
pub const MAX_REGION: usize = 64;

/// The lightest, the default and the heaviest weight.
pub const WEIGHTS: (u32, u32, u32) = (1, 100, 1_000);

/// The name that people give a node; it has the grammar of an id.
pub type NodeName = NodeId;

/// A message that breaks a bound. Sent back as it is, with status 400.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// Version 0, or none.
    #[error("the message has no version: update the node that sent it")]
    Version,
    /// The URL cannot be told to a listener.
    #[error("public URL `{0}` is no plain {1} URL with a host: set --public-url")]
    Url(String, &'static str),
    /// A text or list is too long.
    #[error("`{0}` is longer than {1}")]
    TooLong(&'static str, usize),
    /// Capacity has to be a number.
    #[error("max_listeners is 0: a node must be able to serve at least one listener")]
    NoCapacity,
    /// The data port is 0.
    #[error("data_port is 0: send the port that the node listens on")]
    NoPort,
}

/// What a node's engine can do. Decisions read it; an external engine has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Capabilities {
    /// Keeps (epoch, offset) of every byte.
    pub positions: bool,
    /// Reads and confirms redirect tokens.
    pub tokens: bool,
    /// Holds listeners while the source is away.
    pub hold: bool,
}

impl Capabilities {
    /// Those of our own engine.
    pub const EMBEDDED: Self = Self {
        positions: true,
        tokens: true,
        hold: true,
    };
}

/// Where listeners reach a node, by scheme; without a trailing slash.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PublicUrls {
    /// `http://host[:port][/path]`.
    pub http: Option<String>,
    /// `https://host[:port][/path]`.
    pub https: Option<String>,
    /// No URL is told: listeners come by a balancer of the platform, never by a redirect.
    pub withheld: bool,
}

impl PublicUrls {
    /// The URL for a client that came by this scheme.
    pub fn of_scheme(&self, https: bool) -> Option<&str> {
        if https {
            self.https.as_deref()
        } else {
            self.http.as_deref()
        }
    }

    /// The first one: `http` before `https`.
    pub fn first(&self) -> Option<&str> {
        self.http.as_deref().or(self.https.as_deref())
    }

    /// True if the node told none, and leaves it to the primary to see its address.
    pub fn is_empty(&self) -> bool {
        self.first().is_none() && !self.withheld
    }

    /// Refuses what would not survive in a `Location` header.
    ///
    /// # Errors
    /// Names the URL.
    pub fn check(&self) -> Result<(), MessageError> {
        let pairs = [(&self.http, "http"), (&self.https, "https")];
        for (text, scheme) in pairs {
            let Some(text) = text else { continue };
            if text.len() > MAX_TEXT {
                return Err(MessageError::TooLong("public_urls", MAX_TEXT));
            }
            let plain = text.bytes().all(|b| b.is_ascii_graphic());
            let whole = url::Url::parse(text).is_ok_and(|url| {
                url.scheme() == scheme
                    && url.has_host()
                    && url.query().is_none()
                    && url.fragment().is_none()
                    && url.username().is_empty()
                    && url.password().is_none()
            });
            if !(plain && whole && text.starts_with(scheme)) {
                return Err(MessageError::Url(text.clone(), scheme));
            }
        }
        Ok(())
    }
}

/// What a node can carry, by its own word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Listeners, always finite and above 0.
    pub max_listeners: u64,
    /// Bits a second; 0 is no limit.
    #[serde(default)]
    pub max_bandwidth: u64,
    /// Nodes that it feeds; 0 is none.
    #[serde(default)]
    pub max_children: u32,
    /// Thousandths of its processors in use above which it takes nobody new; 0 is no limit.
    #[serde(default)]
    pub max_cpu: u32,
}

fn default_weight() -> u32 {
    WEIGHTS.1
}

fn check_node(
    v: u16,
    version: &str,
    urls: &PublicUrls,
    data_port: u16,
    limits: &Limits,
) -> Result<(), MessageError> {
    if v == 0 {
        return Err(MessageError::Version);
    }
    if version.len() > MAX_TEXT {
        return Err(MessageError::TooLong("version", MAX_TEXT));
    }
    if data_port == 0 {
        return Err(MessageError::NoPort);
    }
    if limits.max_listeners == 0 {
        return Err(MessageError::NoCapacity);
    }
    urls.check()
}

/// Secrets on the wire are their text; `Debug` still hides them.
mod revealed {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::base::secret::Secret;

    pub(super) fn serialize<S: Serializer>(secret: &Secret, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(secret.reveal())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Secret, D::Error> {
        Ok(Secret::new(String::deserialize(from)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::secret::Secret;

    #[test]
    fn a_short_beat_of_an_older_node_is_understood() {
        let text = r#"{"v":1,"id":"a1","incarnation":5,"seq":1,"name":"r1","data_port":8000,
            "limits":{"max_listeners":100},"from_the_future":[1,2],
            "mounts":[{"mount":"/live.mp3","state":"levitating"}]}"#;
        let beat: Beat = serde_json::from_str(text).unwrap();
        beat.check().unwrap();
        assert_eq!((beat.weight, beat.state), (100, NodeState::Ready));
        assert_eq!(beat.mounts[0].state, MountState::Other);
        assert_eq!(beat.descriptors_left, None);
    }

    #[test]
    fn bounds_are_checked() {
        let text = r#"{"v":1,"id":"a1","incarnation":5,"name":"r1","version":"0.1.0",
            "data_port":8000,"limits":{"max_listeners":100}}"#;
        let join: JoinRequest = serde_json::from_str(text).unwrap();
        assert_eq!(join.check(), Ok(()));
        let mut bad = join.clone();
        bad.limits.max_listeners = 0;
        assert_eq!(bad.check(), Err(MessageError::NoCapacity));
        let mut bad = join.clone();
        bad.data_port = 0;
        assert_eq!(bad.check(), Err(MessageError::NoPort));
        let mut bad = join.clone();
        bad.v = 0;
        assert_eq!(bad.check(), Err(MessageError::Version));
        assert!(serde_json::from_str::<JoinRequest>(&text.replace("a1", "a/../1")).is_err());
    }

    #[test]
    fn a_url_that_would_break_a_header_is_refused() {
        let urls = |http: &str| PublicUrls {
            http: Some(http.into()),
            ..PublicUrls::default()
        };
        assert!(urls("http://relay-1.example:8000").check().is_ok());
        assert!(urls("http://[2001:db8::1]:8000/radio").check().is_ok());
        for bad in [
            "https://relay",
            "http://relay/\r\nX: y",
            "http://u:p@relay",
            "http://relay/?a=b",
            "relay:8000",
            "",
            " http://relay",
        ] {
            assert!(urls(bad).check().is_err(), "{bad}");
        }
    }

    #[test]
    fn feed_lines_are_tagged_and_unknown_ones_are_skipped() {
        let line = FeedLine::NodeGone {
            id: "r1".parse().unwrap(),
        };
        let text = serde_json::to_string(&line).unwrap();
        assert_eq!(text, r#"{"kind":"node_gone","id":"r1"}"#);
        let new: FeedLine = serde_json::from_str(r#"{"kind":"song","title":"x"}"#).unwrap();
        assert_eq!(new, FeedLine::Unknown);
    }

    #[test]
    fn secrets_travel_but_are_not_printed() {
        let key = ClusterKey {
            id: 3,
            secret: Secret::new("abcd"),
            expires: 0,
        };
        assert_eq!(
            serde_json::to_string(&key).unwrap(),
            r#"{"id":3,"secret":"abcd","expires":0}"#
        );
        assert!(!format!("{key:?}").contains("abcd"));
    }
}
