//! What there is to render, in this room's own words. `app` fills it from the settings and the node table.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::base::secret::Secret;

/// What the rendered server is in the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Takes the sources.
    Primary,
    /// Pulls every mount from [`Station::upstream`].
    Relay,
}

/// One station, as one of its servers sees it. Sizes are bytes.
///
/// Serialised it shows `***` for secrets.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Station {
    /// Head of the tree, or a relay.
    pub role: Role,
    /// Address to bind; an unspecified one means all.
    pub bind: IpAddr,
    /// Data port (`portbase`).
    pub port: u16,
    /// Host that listeners are told (`publicip`); empty: that of the first of `public_urls`.
    pub public_host: String,
    /// URLs that listeners are told, the first is the public one.
    pub public_urls: Vec<String>,
    /// Mount of a Shoutcast v1 source, which connects to `port` + 1; `None` opens no such port.
    pub shoutcast_mount: Option<String>,
    /// Folders of the rendered server.
    pub paths: Paths,
    /// User and group that a server started as root changes to; `None` where it is not started as root.
    pub run_as: Option<RunAs>,
    /// Sources log in as `source` with it.
    #[serde(serialize_with = "hidden")]
    pub source_password: Secret,
    /// The administrator's.
    #[serde(serialize_with = "hidden")]
    pub admin_password: Secret,
    /// Relays log in as `relay` with it: ours at the upstream, others here.
    #[serde(serialize_with = "hidden")]
    pub relay_password: Secret,
    /// Where the station is, for people.
    pub location: String,
    /// Whom to write to.
    pub admin_contact: String,
    /// How much it takes.
    pub limits: Limits,
    /// How long it waits.
    pub timeouts: Timeouts,
    /// How often an Icecast relay tries again; Icecast's own default is 120 s of silence.
    pub master_update_interval: Duration,
    /// Mounts, in the order of the settings.
    pub mounts: Vec<RenderMount>,
    /// Where a relay pulls from.
    pub upstream: Option<Upstream>,
    /// Nodes behind HAProxy; empty: this one alone.
    pub nodes: Vec<RenderNode>,
    /// Where HAProxy itself listens.
    pub balancer: Balancer,
    /// How long a mount outlives its source; HAProxy waits 30 s more.
    pub hold: Duration,
    /// It runs behind a data port of ours: an Icecast then writes its logs to standard error, for who started it, and
    /// its titles in UTF-8, as our own engine does.
    pub is_child: bool,
}

impl Default for Station {
    /// A primary on port 8000 without a password, which renders only once it has some.
    fn default() -> Self {
        Self {
            role: Role::Primary,
            bind: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            port: 8000,
            public_host: String::new(),
            public_urls: Vec::new(),
            shoutcast_mount: None,
            paths: Paths::default(),
            run_as: None,
            source_password: Secret::default(),
            admin_password: Secret::default(),
            relay_password: Secret::default(),
            location: String::new(),
            admin_contact: String::new(),
            limits: Limits::default(),
            timeouts: Timeouts::default(),
            master_update_interval: Duration::from_secs(5),
            mounts: Vec::new(),
            upstream: None,
            nodes: Vec::new(),
            balancer: Balancer::default(),
            hold: Duration::from_secs(45),
            is_child: false,
        }
    }
}

impl Station {
    /// Host that listeners are told, if any is known.
    pub fn told_host(&self) -> Option<String> {
        if !self.public_host.is_empty() {
            return Some(self.public_host.clone());
        }
        let first = self.public_urls.first()?;
        let url = url::Url::parse(first).ok()?;
        let host = url.host_str()?;
        // `Url` writes an IPv6 address in brackets; a host name in a configuration has none.
        Some(host.trim_matches(['[', ']']).to_owned())
    }
}

/// Folders.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Paths {
    /// Files that the server keeps: bans, pid.
    pub data: PathBuf,
    /// Its logs.
    pub logs: PathBuf,
    /// Where Icecast is installed: `web` and `admin` lie in it.
    pub icecast: PathBuf,
}

impl Default for Paths {
    /// Debian's.
    fn default() -> Self {
        Self {
            data: "/var/lib/relayctl".into(),
            logs: "/var/log/icecast2".into(),
            icecast: "/usr/share/icecast2".into(),
        }
    }
}

/// A user and a group of the system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RunAs {
    /// Name of the user.
    pub user: String,
    /// Name of the group.
    pub group: String,
}

/// How much a server takes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Limits {
    /// Listeners at once.
    pub max_listeners: u32,
    /// Sources at once.
    pub sources: u32,
    /// Connections at once; `None`: listeners + sources + 200, since pages and checks count in Icecast.
    pub clients: Option<u32>,
    /// How far a listener may fall behind before it is dropped, in bytes.
    pub queue_size: u64,
    /// Sent at once to a newcomer, in bytes.
    pub burst: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_listeners: 1024,
            sources: 64,
            clients: None,
            queue_size: 1 << 20,
            burst: 128 << 10,
        }
    }
}

/// How long a server waits.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Timeouts {
    /// For a client that takes or sends nothing.
    pub client: Duration,
    /// For a whole head.
    pub header: Duration,
    /// For a source that sends nothing.
    pub source: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            client: Duration::from_secs(30),
            header: Duration::from_secs(15),
            source: Duration::from_secs(10),
        }
    }
}

/// One mount. What is `None` or empty follows the source or the server's limit.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct RenderMount {
    /// Decoded, `/live.mp3`.
    pub path: String,
    /// Replaces what the source says.
    pub content_type: Option<String>,
    /// Listeners at once; 0 is no limit.
    pub max_listeners: Option<u32>,
    /// A listener is disconnected after it; 0 is no limit.
    pub max_listener_duration: Option<Duration>,
    /// Mount that listeners are moved to when the source leaves.
    pub fallback: Option<String>,
    /// They are moved back when it returns.
    pub fallback_override: bool,
    /// File in the web folder that a newcomer hears first.
    pub intro: Option<String>,
    /// Sent at once to a newcomer, in bytes.
    pub burst: Option<u64>,
    /// Character set of titles that do not name one.
    pub charset: Option<String>,
    /// Name of the stream.
    pub name: Option<String>,
    /// Description of the stream.
    pub description: Option<String>,
    /// Genre of the stream.
    pub genre: Option<String>,
    /// Page of the stream.
    pub url: Option<String>,
    /// Listed in directories; `None` leaves it to the source.
    pub public: Option<bool>,
    /// Left out of status pages.
    pub hidden: bool,
    /// Source password of this mount alone.
    #[serde(serialize_with = "hidden")]
    pub password: Secret,
}

impl RenderMount {
    /// A mount of which only the path is known.
    pub fn at(path: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            ..Self::default()
        }
    }
}

/// `http` or `https`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// Plain.
    Http,
    /// Over TLS, which neither Icecast 2.4 nor a free DNAS can pull.
    Https,
}

/// Where a relay pulls from.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Upstream {
    /// How.
    pub scheme: Scheme,
    /// Name or address, IPv6 without brackets.
    pub host: String,
    /// Data port.
    pub port: u16,
    /// Pull a mount only while someone listens (Icecast only).
    pub on_demand: bool,
}

/// A node behind HAProxy.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RenderNode {
    /// Name, without blanks, once only.
    pub name: String,
    /// The primary among them takes the sources, and listeners only when no relay can.
    pub role: Role,
    /// Name or address, IPv6 without brackets.
    pub host: String,
    /// Data port.
    pub port: u16,
    /// HAProxy sends it no more connections than these; 0 is no limit.
    pub max_listeners: Option<u32>,
}

/// How HAProxy runs, where it listens and what it forwards.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Balancer {
    /// Address to bind; an unspecified one means all.
    pub bind: IpAddr,
    /// For listeners.
    pub port: u16,
    /// For sources; Shoutcast v1 sources on the next one, if the station takes any.
    pub source_port: Option<u16>,
    /// HAProxy's own statistics page, on loopback only.
    pub stats_port: Option<u16>,
    /// User and group that it changes to; `None` where it is not started as root.
    pub user: Option<String>,
    /// First segments of a node's own paths (`admin`, `metrics`) that the listeners' side forwards besides those that encoders
    /// and slaves need.
    pub expose: Vec<&'static str>,
}

impl Default for Balancer {
    fn default() -> Self {
        Self {
            bind: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            port: 80,
            source_port: Some(8010),
            stats_port: None,
            user: Some("haproxy".into()),
            expose: Vec::new(),
        }
    }
}

fn hidden<S: Serializer>(secret: &Secret, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(if secret.is_empty() { "" } else { "***" })
}
