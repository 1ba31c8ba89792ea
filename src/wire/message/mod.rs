//! What nodes say to each other, as JSON: join, beat, and the lines of the feed.
//!
//! Every message carries the version of its shape in `v`. Fields that a reader does not know are skipped,
//! those that it misses have defaults, so that neighbours of different age understand each other. The receiver of a
//! message calls its `check` before it believes it: texts, lists and every number are bounded there, see
//! [`bounds`](super::bounds).
//!
//! Must never: do I/O or read the clock. Neighbours: `cluster` (the rules over these messages), `admin`
//! (the serving side), `upstream` (the asking side).

// Numbers of other nodes are added here: a sum that could wrap does not compile. (Overflow checks in release builds
// would end the node instead, and they hold for a whole crate, the fan-out included.)
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

mod beat;
mod counts;
mod event;
mod feed;
mod join;

use serde::{Deserialize, Serialize};

use super::bounds::{Clock, MAX_CHILDREN, MAX_CPU, MAX_LISTENERS, MAX_MILLIS, MAX_RATE};
use crate::base::ids::{Epoch, NodeId};

pub use beat::{Beat, BeatAnswer, DrainOrder, MountBeat, MountState, NodeState, Reflect};
pub use counts::{Counts, MountCounts};
pub use event::{EventReport, Happening, MAX_EVENTS};
pub use feed::{FeedLine, MountInfo, MountRow, NodeRole, NodeRow, Removal};
pub use join::{
    CREDENTIAL_HEADER, ClusterKey, JoinAnswer, JoinRequest, NODE_NAME_HEADER, ProbeResult,
    UNFETCHED, URL_HINT,
};

/// The version that this program writes.
pub const VERSION: u16 = 1;

/// Most mounts in one beat.
pub const MAX_MOUNTS: usize = 1_000;

/// Most confirmed reservations in one beat; what is more waits for the next.
pub const MAX_CONFIRMED: usize = 10_000;

/// Longest public URL, content type or version text in bytes.
pub const MAX_TEXT: usize = 512;

/// Most cluster keys in one message.
pub const MAX_KEYS: usize = 16;

/// Most rows in one line of the feed.
pub const MAX_ROWS: usize = 10_000;

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
    /// A number that no honest node sends.
    #[error("`{0}` is {1}, but at most {2} is believed")]
    TooMuch(&'static str, u64, u64),
    /// A share that is negative, above 1 or no number.
    #[error("`{0}` is no share between 0 and 1")]
    NoShare(&'static str),
    /// An epoch that would outlive every honest one.
    #[error(
        "epoch {0} is more than a day ahead of this node's clock, at most {1} is believed: set the clocks of both machines"
    )]
    EpochAhead(Epoch, Epoch),
    /// A process that began in the future.
    #[error(
        "the node says that it began at {0} ms after 1970, more than a day ahead of this node's clock: set the clocks of both machines"
    )]
    BeganAhead(u64),
}

/// Refuses a number above `most`.
fn at_most(name: &'static str, number: u64, most: u64) -> Result<(), MessageError> {
    if number > most {
        return Err(MessageError::TooMuch(name, number, most));
    }
    Ok(())
}

/// Refuses times and durations that no clock shows.
fn millis(name: &'static str, number: u64) -> Result<(), MessageError> {
    at_most(name, number, MAX_MILLIS)
}

/// Refuses what is longer than `most` bytes or entries.
fn fits(name: &'static str, length: usize, most: usize) -> Result<(), MessageError> {
    if length > most {
        return Err(MessageError::TooLong(name, most));
    }
    Ok(())
}

/// Refuses what is no share of a whole.
fn share(name: &'static str, share: f64) -> Result<(), MessageError> {
    if (0.0..=1.0).contains(&share) {
        return Ok(());
    }
    Err(MessageError::NoShare(name))
}

/// Refuses an epoch beyond what `clock` believes.
fn epoch(epoch: Epoch, clock: &Clock) -> Result<(), MessageError> {
    let latest = clock.latest_epoch();
    if epoch > latest {
        return Err(MessageError::EpochAhead(epoch, latest));
    }
    Ok(())
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

impl Limits {
    /// The same within the ranges of the settings that they come from. A node without a limit of its own takes it
    /// from its descriptors, of which a process may have more.
    pub fn bounded(self) -> Self {
        Self {
            max_listeners: self.max_listeners.min(MAX_LISTENERS),
            max_bandwidth: self.max_bandwidth.min(MAX_RATE),
            max_children: self.max_children.min(MAX_CHILDREN),
            max_cpu: self.max_cpu.min(MAX_CPU),
        }
    }
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
    began: (u64, &Clock),
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
    let (incarnation, clock) = began;
    if incarnation > clock.latest_millis() {
        return Err(MessageError::BeganAhead(incarnation));
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

    const NOON: Clock = Clock {
        unix_millis: 1_800_000_000_000,
        stamped: Epoch(0),
    };

    #[test]
    fn a_short_beat_of_an_older_node_is_understood() {
        let text = r#"{"v":1,"id":"a1","incarnation":5,"seq":1,"name":"r1","data_port":8000,
            "limits":{"max_listeners":100},"from_the_future":[1,2],
            "mounts":[{"mount":"/live.mp3","state":"levitating"}]}"#;
        let beat: Beat = serde_json::from_str(text).unwrap();
        beat.check(&NOON).unwrap();
        assert_eq!((beat.weight, beat.state), (100, NodeState::Ready));
        assert_eq!(beat.mounts[0].state, MountState::Other);
        assert_eq!(beat.descriptors_left, None);
    }

    #[test]
    fn bounds_are_checked() {
        let text = r#"{"v":1,"id":"a1","incarnation":5,"name":"r1","version":"0.1.0",
            "data_port":8000,"limits":{"max_listeners":100}}"#;
        let join: JoinRequest = serde_json::from_str(text).unwrap();
        assert_eq!(join.check(&NOON), Ok(()));
        let mut bad = join.clone();
        bad.limits.max_listeners = 0;
        assert_eq!(bad.check(&NOON), Err(MessageError::NoCapacity));
        let mut bad = join.clone();
        bad.data_port = 0;
        assert_eq!(bad.check(&NOON), Err(MessageError::NoPort));
        let mut bad = join.clone();
        bad.v = 0;
        assert_eq!(bad.check(&NOON), Err(MessageError::Version));
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
