//! Settings as meant. `app` makes every room's own configuration from them; nobody else sees them.

use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use url::Url;

pub use super::choices::{
    AccessFormat, Backend, Engine, Expose, GetActions, Level, LogFormat, Mode, Open, Serve,
    SilenceAction, Strategy,
};
pub use super::trees::{ForeignRelay, Mount};
pub use super::values::Bind;
use crate::base::ids::{MountId, NodeId};
use crate::base::secret::Secret;
use crate::base::units::{Rate, Size};

/// Everything that a person may set, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The data port.
    pub bind: Bind,
    /// What listeners are told.
    pub public: Public,
    /// The name in tables and headers; none is the node's id.
    pub name: Option<NodeId>,
    /// Where secrets lie; none is by the rule of [`super::data_dir`].
    pub data_dir: Option<PathBuf>,
    /// The primary to join; its presence makes `run` a relay.
    pub primary: Option<Primary>,
    /// Authorities beside the system's for the certificate of an `https` primary.
    pub primary_ca: Option<PathBuf>,
    /// Join in clear over public addresses.
    pub insecure_join: bool,
    /// Secrets that were given.
    pub given: Given,
    /// What this node takes.
    pub limits: Limits,
    /// How a node is chosen.
    pub strategy: Strategy,
    /// Whether a primary serves.
    pub serve: Serve,
    /// How a listener reaches its node.
    pub mode: Mode,
    /// Where those go for whom there is no place, at most one of each scheme.
    pub overflow: Vec<Url>,
    /// What carries the audio.
    pub engine: Engine,
    /// What an engine that is not our own needs.
    pub engines: Engines,
    /// When a dead node leaves the table.
    pub forget: Duration,
    /// How a primary treats the nodes that join it.
    pub cluster: Cluster,
    /// Time that listeners have to leave at the end.
    pub grace: Duration,
    /// Mounts with settings of their own.
    pub mounts: Vec<Mount>,
    /// Where listeners of a mount without a fallback of its own go.
    pub fallback: Option<MountId>,
    /// Foreign upstreams.
    pub relays: Vec<ForeignRelay>,
    /// What a relay carries of its primary.
    pub pull: Pull,
    /// Rings, bursts, timeouts.
    pub audio: Audio,
    /// Threads and ticks.
    pub fanout: Fanout,
    /// TLS on the data port, where it is set.
    pub tls: Option<TlsFiles>,
    /// Whose forwarded headers are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Shoutcast v1 sources.
    pub shoutcast: Shoutcast,
    /// Whether metrics need no token.
    pub metrics_open: Open,
    /// Rules for pages and administration tools.
    pub web: Web,
    /// Level of the log.
    pub log: Level,
    /// Form of the log.
    pub log_format: LogFormat,
    /// Lines about finished sessions.
    pub access_log: AccessLog,
    /// What a pod asks of its Kubernetes.
    pub kubernetes: Kubernetes,
    /// The station in rendered files.
    pub station: Station,
    /// Rendered files.
    pub render: Render,
}

impl Settings {
    /// True where our own engine carries the audio.
    pub fn is_embedded(&self) -> bool {
        self.engine == Engine::Embedded && self.engines.external.is_none()
    }
}

/// Engines that are not our own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Engines {
    /// A server that runs already.
    pub external: Option<Url>,
    /// The password of its administration.
    pub password: Option<Secret>,
    /// `icecast2`, by name or path.
    pub icecast: PathBuf,
    /// `sc_serv`, by name or path.
    pub shoutcast: PathBuf,
}

/// What listeners are told.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Public {
    /// URLs as given, at most one of each scheme.
    pub urls: Vec<Url>,
    /// A host from an old name: stands for `http://HOST:DATA-PORT`, above `urls`.
    pub host: Option<String>,
    /// `none`: no URL is told.
    pub withheld: bool,
}

impl Public {
    /// The URLs of a node whose data port is `port`; empty if nothing was given.
    pub fn urls(&self, port: u16) -> Vec<Url> {
        let Some(host) = &self.host else {
            return self.urls.clone();
        };
        Url::parse(&format!("http://{host}:{port}/"))
            .into_iter()
            .collect()
    }
}

/// A certificate and its key, as PEM files. What is in them is read by whoever starts the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The chain, the node's own certificate first.
    pub cert: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// The primary of a relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Primary {
    /// Scheme, host and port; the path is `/`.
    pub url: Url,
    /// No port was written, so that SRV records may name one.
    pub any_port: bool,
    /// True for a `RelayServer` without a port: if port 80 refuses, the message says that a relayctl
    /// primary listens on 8000.
    pub assumed_port: bool,
    /// Where it was said, for people.
    pub said_by: String,
}

/// Secrets that were given. What is none is generated (see [`super::secrets`]).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Given {
    /// On a relay the token that it joins with.
    pub token: Option<Secret>,
    /// On a primary the token that it accepts; `token` where none was given.
    pub join_token: Option<Secret>,
    /// User `source`.
    pub source: Option<Secret>,
    /// User `admin`.
    pub admin: Option<Secret>,
    /// User `relay`.
    pub relay: Option<Secret>,
}

/// How a primary treats the nodes that join it.
#[derive(Debug, Clone, PartialEq)]
pub struct Cluster {
    /// Heaviest weight of a relay.
    pub max_weight: u32,
    /// How often the cluster key is replaced.
    pub key_rotation: Duration,
}

/// What a node takes at most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// None sets no limit.
    pub max_listeners: Option<u32>,
    /// None sets no limit.
    pub max_bandwidth: Option<Rate>,
    /// Thousandths of the processors in use; 0 sets no limit.
    pub max_cpu: u32,
    /// Listeners of one address; none sets no limit.
    pub address_listeners: Option<u32>,
    /// New listeners a second of one address, as set; 0 sets no limit.
    pub address_joins: Option<u32>,
    /// New listeners at once of one address.
    pub address_burst: u32,
    /// At least 1.
    pub max_sources: u32,
    /// 1 to 1000.
    pub weight: u32,
    /// Nodes that it feeds.
    pub max_children: u32,
    /// Empty is unknown.
    pub region: String,
}

/// What a relay carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pull {
    /// Globs over mounts.
    pub mounts: Vec<String>,
    /// Only while there are listeners.
    pub on_demand: bool,
}

/// Rings, bursts, timeouts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audio {
    /// Since the last byte of a lost source.
    pub hold: Duration,
    /// Audio kept.
    pub ring: Duration,
    /// Memory of one mount.
    pub ring_max: Size,
    /// Burst in bytes.
    pub burst_bytes: Size,
    /// Burst in time.
    pub burst_time: Duration,
    /// Bytes between titles.
    pub metaint: u32,
    /// A socket that takes nothing.
    pub listener_stall: Duration,
    /// A source that sends nothing is ended.
    pub source_timeout: Duration,
    /// A source that sends nothing may be replaced.
    pub source_stale: Duration,
    /// Silence of a source is reported after this long; zero is never.
    pub silence: Duration,
    /// Decibels below full scale under which it is silence.
    pub silence_level: u32,
    /// What follows from it.
    pub silence_action: SilenceAction,
    /// Sound for so long ends it.
    pub silence_end: Duration,
    /// A live source may be replaced.
    pub takeover: bool,
}

/// Threads and ticks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fanout {
    /// None is one for each core.
    pub threads: Option<usize>,
    /// While idle.
    pub min_delay: Duration,
    /// While full.
    pub max_delay: Duration,
    /// How sends reach the kernel.
    pub backend: Backend,
}

/// Shoutcast v1 sources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shoutcast {
    /// Where they land.
    pub mount: MountId,
    /// None is off, as it is where the data port is a free one.
    pub port: Option<u16>,
}

/// Rules for pages and administration tools.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Web {
    /// Names of this node besides its public URLs, in lower case.
    pub hosts: Vec<String>,
    /// Actions that a GET may do.
    pub get_actions: GetActions,
}

/// Lines about finished sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessLog {
    /// Where they go.
    pub target: AccessTarget,
    /// Their form.
    pub format: AccessFormat,
}

/// Where access lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessTarget {
    /// Nowhere.
    Off,
    /// Standard output.
    Output,
    /// Appended to this file.
    File(PathBuf),
}

/// What a pod asks of its Kubernetes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Kubernetes {
    /// Secret of what is generated.
    pub secret: Option<String>,
    /// Keep the relays' `pod-deletion-cost`.
    pub deletion_cost: bool,
}

/// The station in rendered files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Station {
    /// Icecast's `location`.
    pub location: String,
    /// Icecast's `admin`.
    pub admin_email: String,
}

/// Rendered files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Render {
    /// Directory of templates that replace built-in ones.
    pub templates: Option<PathBuf>,
    /// Directory of a rendered server's logs.
    pub log_dir: PathBuf,
    /// `icecast.xml`.
    pub icecast: Icecast,
    /// `haproxy.cfg`.
    pub haproxy: Haproxy,
}

/// What only a rendered `icecast.xml` has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Icecast {
    /// Connections at once; none is listeners, sources and 200 together.
    pub clients: Option<u32>,
    /// Bytes a client may lag.
    pub queue_size: Size,
    /// Whole seconds.
    pub client_timeout: Duration,
    /// Whole seconds.
    pub header_timeout: Duration,
    /// Whole seconds.
    pub master_update_interval: Duration,
    /// `basedir`.
    pub base_dir: PathBuf,
    /// `changeowner`.
    pub user: Option<String>,
    /// `changeowner`.
    pub group: Option<String>,
}

/// What only a rendered `haproxy.cfg` has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Haproxy {
    /// Listeners come here.
    pub bind: Bind,
    /// Sources come here, Shoutcast v1 on the next one; none is no way in for them.
    pub source_port: Option<u16>,
    /// Its own statistics page, on loopback.
    pub stats_port: Option<u16>,
    /// User and group that it changes to; none where it is not started as root.
    pub user: Option<String>,
    /// Paths of the nodes that it forwards besides those for everybody.
    pub expose: Vec<Expose>,
    /// `host:port` of each node; empty is this one, or the table.
    pub servers: Vec<String>,
    /// `host:port` that takes sources; none is the primary.
    pub source_server: Option<String>,
}
