//! An audio engine that is not ours: a real `icecast2` or `sc_serv`, run as a child of this node on loopback, or
//! one that runs already somewhere and that the node is attached to.
//!
//! Must never: hold a listener or a source (`edge` carries their bytes), decide who listens where, or read a
//! setting. The data port stays this node's own, so health and the pages answer whatever becomes of the engine.
//! In here: `child`, `process`, `ports` and `liveness` (the process), `shim` (how it is bound to this one), `lines` (what it says), `ask` (one request),
//! `look` and `statistics` (what it knows), `login` (a source, a listener, a title), `sources` (who feeds it by us).
//! Neighbours: `control` shows its state, `edge` passes connections through, `app` renders its configuration.

mod ask;
mod child;
mod lines;
mod liveness;
mod login;
mod look;
mod ports;
mod process;
mod program;
mod shim;
mod sources;
mod statistics;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::{Notify, watch};
use url::Url;

use crate::base::ids::MountId;
use crate::base::secret::Secret;
use crate::discovery::{Connector, Stream};
pub use child::{Child, Rendered};
use liveness::Liveness;
pub use login::{Audio, Guest, Offer, Refused};
pub use program::{User, find};
pub use shim::take_place;
pub use sources::{Hold, InUse};
pub use statistics::{MountStatistics, Statistics};

/// How long a connection to the engine may take.
const CONNECT: Duration = Duration::from_secs(5);

/// Which program it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `icecast2`.
    Icecast,
    /// Shoutcast's `sc_serv` (DNAS 2).
    Shoutcast,
}

impl Kind {
    /// The word in settings and in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Icecast => "icecast",
            Self::Shoutcast => "shoutcast",
        }
    }

    /// Ports in a row that it listens on: Shoutcast takes v1 sources on the one after its own.
    fn ports(self) -> u16 {
        match self {
            Self::Icecast => 1,
            Self::Shoutcast => 2,
        }
    }

    /// The program's name.
    pub fn program(self) -> &'static str {
        match self {
            Self::Icecast => "icecast2",
            Self::Shoutcast => "sc_serv",
        }
    }
}

/// How the engine is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Not heard of yet.
    Starting,
    /// It answers.
    Up,
    /// It ended, or does not answer.
    Down,
}

impl State {
    /// The word in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// Where it listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Name or address, IPv6 in brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// It speaks TLS.
    pub tls: bool,
}

impl Place {
    /// The place of an `http` or `https` URL.
    pub fn of(url: &Url) -> Self {
        let tls = url.scheme() == "https";
        Self {
            host: url.host_str().unwrap_or_default().to_owned(),
            port: url.port_or_known_default().unwrap_or(80),
            tls,
        }
    }

    /// A port of this machine.
    pub fn loopback(port: u16) -> Self {
        Self {
            host: "127.0.0.1".to_owned(),
            port,
            tls: false,
        }
    }

    /// The URL of a path there.
    pub fn url(&self, path: &str) -> Option<Url> {
        let scheme = if self.tls { "https" } else { "http" };
        Url::parse(&format!("{scheme}://{self}{path}")).ok()
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// What is known of it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// How it is doing.
    pub state: State,
    /// A sentence where it is not up.
    pub why: String,
    /// Which program; found out where nobody said.
    pub kind: Option<Kind>,
    /// Where it takes connections; `None` while it has none to take them at.
    pub place: Option<Place>,
}

/// Who it is, and how this node logs in there.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Which program; `None` is found out from its answers.
    pub kind: Option<Kind>,
    /// The server that runs already; `None` is a child of this node.
    pub attached: Option<Url>,
    /// User and password of its administration; of a child made up anew at each start of the node.
    pub admin: Option<(String, Secret)>,
}

/// See the module.
pub struct Outside {
    config: Config,
    connector: Connector,
    status: watch::Sender<Status>,
    statistics: watch::Sender<Arc<Statistics>>,
    /// What was last asked out of turn, so that many who ask make one look.
    wanted: Notify,
    /// Password of sources, as the child's configuration has it.
    source: ArcSwap<Secret>,
    /// Shoutcast's numbers of the streams of a child's configuration, by their paths.
    numbers: ArcSwap<Vec<(String, u32)>>,
    sources: sources::Sources,
    restarts: AtomicU64,
    liveness: Mutex<Liveness>,
}

impl Outside {
    /// One that is not heard of yet.
    pub fn new(config: Config, connector: Connector) -> Arc<Self> {
        let status = Status {
            state: State::Starting,
            why: String::new(),
            kind: config.kind,
            place: config.attached.as_ref().map(Place::of),
        };
        Arc::new(Self {
            config,
            connector,
            status: watch::Sender::new(status),
            statistics: watch::Sender::default(),
            wanted: Notify::new(),
            source: ArcSwap::default(),
            numbers: ArcSwap::default(),
            sources: sources::Sources::default(),
            restarts: AtomicU64::new(0),
            liveness: Mutex::new(Liveness::new(Instant::now())),
        })
    }

    /// True where it is somebody else's process.
    pub fn is_attached(&self) -> bool {
        self.config.attached.is_some()
    }

    /// How it is doing.
    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// User and password of its administration.
    pub fn admin(&self) -> Option<&(String, Secret)> {
        self.config.admin.as_ref()
    }

    /// Moves when that changes.
    pub fn watch_status(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    /// What it said of itself last; of an engine that is down what it said before.
    pub fn statistics(&self) -> Arc<Statistics> {
        Arc::clone(&self.statistics.borrow())
    }

    /// Moves with every look.
    pub fn watch_statistics(&self) -> watch::Receiver<Arc<Statistics>> {
        self.statistics.subscribe()
    }

    /// How often a child was started again.
    pub fn restarts(&self) -> u64 {
        self.restarts.load(Ordering::Relaxed)
    }

    /// The password that sources log in with at a child.
    pub fn set_source_password(&self, password: Secret) {
        self.source.store(Arc::new(password));
    }

    /// The numbers of a child's streams.
    fn set_numbers(&self, configuration: &str) {
        self.numbers.store(Arc::new(numbers(configuration)));
    }

    /// Who feeds it by this node.
    pub fn sources(&self) -> &sources::Sources {
        &self.sources
    }

    /// Asks for a look at the statistics soon.
    pub fn look_soon(&self) {
        self.wanted.notify_one();
    }

    /// The path there of a mount, as far as it says.
    pub fn path_of(&self, mount: &MountId) -> String {
        let known = self.statistics();
        let own = known.mounts.iter().find(|own| own.mount == *mount);
        own.map_or_else(|| mount.path().to_owned(), |own| own.path.clone())
    }

    /// Where it takes connections, within `patience`; `None` where it does not get there.
    pub async fn place_within(&self, patience: Duration) -> Option<Place> {
        let mut status = self.status.subscribe();
        let there = status.wait_for(|status| status.place.is_some());
        let status = tokio::time::timeout(patience, there).await.ok()?.ok()?;
        status.place.clone()
    }

    async fn connect(&self, place: &Place, port: u16) -> std::io::Result<Stream> {
        let connecting = self.connector.connect(&place.host, port, place.tls);
        tokio::time::timeout(CONNECT, connecting)
            .await
            .unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
    }

    /// Changes what is known of its answers, and says whether it hangs now.
    fn hangs_after(&self, change: impl FnOnce(&mut Liveness, Instant)) -> bool {
        let mut liveness = self.liveness.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        change(&mut liveness, now);
        liveness.hangs(now)
    }

    fn answered(&self) {
        self.hangs_after(Liveness::answered);
    }

    fn tell(&self, change: impl FnOnce(&mut Status)) {
        self.status.send_if_modified(|status| {
            let before = status.clone();
            change(status);
            *status != before
        });
    }
}

/// `streampath_2=/talk` says that the stream of `/talk` is number 2.
fn numbers(configuration: &str) -> Vec<(String, u32)> {
    let lines = configuration.lines();
    let found = lines.filter_map(|line| {
        let (number, path) = line.strip_prefix("streampath_")?.split_once('=')?;
        let path = percent_encoding::percent_decode_str(path).decode_utf8_lossy();
        Some((path.into_owned(), number.parse().ok()?))
    });
    found.collect()
}

impl fmt::Debug for Outside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outside")
            .field("status", &*self.status.borrow())
            .finish_non_exhaustive()
    }
}
