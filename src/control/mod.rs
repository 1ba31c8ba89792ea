//! The node as a whole: who it is, the table of nodes, the balancer's state, credentials, draining.
//!
//! The rules are pure and stand below (`cluster`, `balancer`); this room holds their state behind short
//! locks and publishes snapshots. Must never: parse a request, hold a lock across an await, touch audio.
//! Above it: `admin` and `agent` feed and show it, `edge` asks it.

mod access;
mod address;
mod audience;
mod carried;
mod children;
mod demand;
mod disk;
mod doors;
mod drain;
mod epochs;
mod events;
mod identity;
mod listed;
mod load;
mod marks;
mod members;
mod membership;
mod moves;
mod notices;
mod numbers;
mod once;
mod orders;
mod overload;
mod pending;
mod placing;
mod processors;
mod questions;
mod refusals;
mod registry;
mod removal;
mod rendering;
mod series;
mod standing;
mod titles;
mod tree;
mod web;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::balancer::{self, Balancer, Strategy};
use crate::base::ids::{MountId, NodeId};
use crate::base::secret::Secret;
use crate::base::wall::unix_millis;
use crate::cluster::access::TokenStore;
use crate::cluster::copy::TableCopy;
use crate::cluster::keys::{ClusterSecrets, KeyRing};
use crate::cluster::snapshot::Snapshot;
use crate::cluster::table::{Event, Table};
use crate::engine::Engine;
use crate::outside::Outside;
use crate::telemetry::Telemetry;
use crate::upstream::Pulls;
use crate::wire::message::{MountInfo, NodeState, PublicUrls};
use crate::wire::tls::Certificate;
pub use access::Remembered;
pub use carried::{CLIENT, MAX_MARKS};
pub use children::{Child, ChildrenFull};
pub use disk::{SaveError, Store};
pub use doors::{Denied, Password, Permit};
pub use drain::{By, Orders, Progress};
pub use epochs::EPOCH_FILE;
pub use events::Event as ClusterEvent;
pub use identity::{Identity, Role};
pub use listed::Listed;
pub use marks::PROBE;
pub use members::{BEAT_MILLIS, MemberError, ProbeOrder};
pub use notices::Notice;
pub use orders::{Held, OrderError};
pub use placing::{ADDRESS_FULL, Place, Verdict, Visitor};
pub use removal::RemoveError;
pub use rendering::Render;
pub use standing::{Refusal, Standing, Waiting};
pub use titles::KeptTitles;
pub use tree::{Lag, TreeError};
pub use web::{GetActions, MetricsOpen, Web};

/// The settings that decide who may and what is shown; swapped whole on a reload.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Sources: user `source`.
    pub source_password: Password,
    /// Passwords of single mounts; they replace `source_password` there.
    pub mount_passwords: Vec<(MountId, Password)>,
    /// Operators: user `admin`, and the bearer token of scope admin.
    pub admin_password: Password,
    /// Foreign relays: user `relay`.
    pub relay_password: Password,
    /// Where this node is reached.
    pub public_urls: PublicUrls,
    /// Nobody said so: they are this node's own guess, and a client that reached it by another host is told that one.
    pub urls_are_guessed: bool,
    /// What the data port shows to those who speak TLS; `None` where it speaks none.
    pub certificate: Option<Certificate>,
    /// The mount that `/;` and a v1 source without a mount mean.
    pub default_mount: MountId,
    /// The mount of Shoutcast v1 sources, which Shoutcast's statistics are about.
    pub shoutcast_mount: MountId,
    /// How single mounts are shown in statistics and public lists.
    pub listed: HashMap<MountId, Listed>,
    /// Time after which the counters and series of a mount or node that is gone are let go.
    pub forget: Duration,
    /// Most listeners here, always finite.
    pub max_listeners: u64,
    /// Bits a second that listeners may take here, 0 for no limit.
    pub max_bandwidth: u64,
    /// Thousandths of the processors (the machine's, or of the quota of its control group) in use above which nobody new is taken, 0 for no limit.
    pub max_cpu: u32,
    /// Share of newcomers beside other relays, 100 is usual.
    pub weight: u32,
    /// Most nodes that this one feeds.
    pub max_children: u32,
    /// On a primary, how often the cluster key is replaced.
    pub key_rotation: Duration,
    /// Where it stands; empty is unknown.
    pub region: String,
    /// Whether a primary serves listeners itself.
    pub serve: crate::balancer::Serve,
    /// How a relay is chosen.
    pub strategy: Strategy,
    /// How a listener reaches its audio.
    pub mode: balancer::Mode,
    /// Where those go for whom there is no place.
    pub overflow: balancer::Overflow,
    /// A relay pulls a mount only while somebody listens.
    pub on_demand: bool,
    /// Shown by the Icecast-compatible statistics.
    pub location: String,
    /// The same.
    pub admin_contact: String,
    /// Condition under which `/metrics` asks for no credential.
    pub metrics_open: MetricsOpen,
    /// Rules for pages and administration tools.
    pub web: Web,
}

/// See the module.
pub struct Control {
    /// Who this node is.
    pub identity: Identity,
    /// The audio.
    pub engine: Arc<Engine>,
    /// The counts.
    pub telemetry: Arc<Telemetry>,
    /// The pulls that feed this node's mounts.
    pub pulls: Pulls,
    /// The engine that carries listeners and sources where it is not our own.
    pub outside: Option<Arc<Outside>>,
    config: ArcSwap<Config>,
    draining: AtomicBool,
    meter: load::Meter,
    snapshot: ArcSwap<Snapshot>,
    published: watch::Sender<u64>,
    disk: disk::Disk,
    epochs: epochs::Ceiling,
    titles_written: titles::Written,
    /// The primary's table; on a relay an empty one.
    table: Mutex<Table>,
    /// A relay's copy of it.
    copy: Mutex<TableCopy>,
    tokens: Mutex<TokenStore>,
    doors: doors::Doors,
    secrets: ClusterSecrets,
    members: registry::Members,
    questions: questions::Questions,
    probes: marks::Probes,
    keys: ArcSwap<KeyRing>,
    balancer: Mutex<Balancer>,
    /// Which connections carry beats, and whose.
    connections: Mutex<HashMap<u64, NodeId>>,
    probe_orders: mpsc::Sender<ProbeOrder>,
    carried: watch::Sender<Vec<MountInfo>>,
    /// The URL at which the primary saw this node when it joined.
    seen_at: ArcSwapOption<String>,
    /// What the primary said that foreign servers log in with.
    relay_login: ArcSwap<Secret>,
    /// The node that this one has joined.
    primary: Mutex<Option<NodeId>>,
    children: children::Children,
    tree: tree::Tree,
    /// When the primary was heard last.
    heard_at: Mutex<Option<Instant>>,
    origin: ArcSwap<Option<Url>>,
    demand: demand::Demand,
    drains: Mutex<drain::Drains>,
    /// Held from an order to its write: the table, the node and the disk take orders one after another.
    order: Mutex<()>,
    events: events::Events,
    refusals: refusals::Refusals,
    rendering: rendering::Rendering,
    standing: watch::Sender<Standing>,
    overload: overload::Overload,
    /// Moves when the primary should hear something at once.
    nudge: watch::Sender<u64>,
    looks: AtomicU64,
    /// Held while a listener is let in under a limit of bandwidth.
    admission: Mutex<()>,
    tallies: placing::Tallies,
    audience: audience::Audience,
    hidden: listed::Hidden,
    series: series::Series,
    reports: AtomicU64,
    /// What the primary's clock is ahead of ours, in milliseconds.
    clock_ahead: AtomicI64,
    stopping: CancellationToken,
}

/// What a node is made of.
pub struct Parts {
    /// Who it is.
    pub identity: Identity,
    /// Its settings.
    pub config: Config,
    /// Its audio.
    pub engine: Arc<Engine>,
    /// Its counts.
    pub telemetry: Arc<Telemetry>,
    /// What carries the audio where that is not our own engine.
    pub outside: Option<Arc<Outside>>,
    /// How the table judges.
    pub table: crate::cluster::table::Config,
    /// What it remembers.
    pub remembered: Remembered,
    /// Its keys.
    pub secrets: ClusterSecrets,
    /// Join tokens that are reusable: the generated one, the operator's own.
    pub join_tokens: Vec<Secret>,
    /// Where it keeps things; none where nothing can be written.
    pub store: Option<Store>,
    /// Cancelled when the node goes down.
    pub stopping: CancellationToken,
}

/// Probes that may wait at once.
const PROBES: usize = 1024;

impl Control {
    /// A node at its start, and the probes that it will want.
    pub fn new(parts: Parts) -> (Self, mpsc::Receiver<ProbeOrder>) {
        let (probe_orders, orders) = mpsc::channel(PROBES);
        let kept = parts.remembered.titles.fresh(unix_millis());
        parts.engine.titles().restore(kept);
        let mut tokens = parts.remembered.tokens;
        for token in parts.join_tokens {
            tokens.give(crate::cluster::access::Scope::Join, token);
        }
        let keys = match parts.identity.role {
            Role::Primary => parts.secrets.ring_at(&parts.remembered.members.keys),
            Role::Relay => KeyRing::default(),
        };
        let standing = match parts.identity.role {
            Role::Primary => Standing::Member,
            Role::Relay => Standing::Asking,
        };
        let drained = parts.remembered.orders.drains.keys().cloned().collect();
        let mut balancer =
            Balancer::new(balancer_config(&parts.config), parts.identity.incarnation);
        balancer.set_keys(keys.clone());
        let control = Self {
            identity: parts.identity,
            engine: parts.engine,
            telemetry: parts.telemetry,
            pulls: Pulls::default(),
            outside: parts.outside,
            config: ArcSwap::from_pointee(parts.config),
            draining: AtomicBool::new(false),
            meter: load::Meter::default(),
            snapshot: ArcSwap::from_pointee(Snapshot::default()),
            published: watch::Sender::new(0),
            disk: disk::Disk::new(parts.store),
            epochs: epochs::Ceiling::default(),
            titles_written: titles::Written::default(),
            table: Mutex::new(Table::new(parts.table, drained)),
            copy: Mutex::default(),
            tokens: Mutex::new(tokens),
            doors: doors::Doors::new(),
            secrets: parts.secrets,
            members: registry::Members::new(parts.remembered.members),
            questions: questions::Questions::new(parts.remembered.credential),
            probes: marks::Probes::default(),
            keys: ArcSwap::from_pointee(keys),
            balancer: Mutex::new(balancer),
            connections: Mutex::default(),
            probe_orders,
            carried: watch::Sender::new(Vec::new()),
            seen_at: ArcSwapOption::empty(),
            relay_login: ArcSwap::default(),
            primary: Mutex::default(),
            children: children::Children::default(),
            tree: tree::Tree::default(),
            heard_at: Mutex::default(),
            origin: ArcSwap::from_pointee(None),
            demand: demand::Demand::default(),
            drains: Mutex::new(drain::Drains::new(parts.remembered.orders)),
            order: Mutex::default(),
            events: events::Events::default(),
            refusals: refusals::Refusals::default(),
            rendering: rendering::Rendering::default(),
            standing: watch::Sender::new(standing),
            overload: overload::Overload::default(),
            nudge: watch::Sender::new(0),
            looks: AtomicU64::new(0),
            admission: Mutex::default(),
            tallies: placing::Tallies::default(),
            audience: audience::Audience::default(),
            hidden: listed::Hidden::default(),
            series: series::Series::default(),
            reports: AtomicU64::new(0),
            clock_ahead: AtomicI64::new(0),
            stopping: parts.stopping,
        };
        control.settle_drain();
        control
            .overload
            .force(control.reflect_of(&control.identity.id));
        (control, orders)
    }

    /// The table as of now: on a relay as last heard.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Moves with every change of the table.
    pub fn watch_table(&self) -> watch::Receiver<u64> {
        self.published.subscribe()
    }

    /// Cancelled when the node goes down.
    pub fn stopping(&self) -> CancellationToken {
        self.stopping.clone()
    }

    /// What must happen a few times a second.
    pub fn tick(&self, now: Instant) {
        self.engine.tick(now);
        self.keep_epochs();
        self.settle_demand(now);
        self.balancer().tick(now, self.cluster_millis());
        self.tick_drain(now);
        self.pulls.flush_lines(now);
        let look = self.looks.fetch_add(1, Ordering::Relaxed);
        let every_second = look.is_multiple_of(4);
        if every_second {
            self.judge_load(now);
            self.keep_titles();
            self.keep_members();
            self.tell_refusals(now);
        }
        self.watch_what_happens(every_second);
        if self.identity.role == Role::Primary {
            let own = self.own_beat(0, NodeState::Ready, Vec::new(), now);
            self.step(Event::Own(own));
            self.step(Event::Tick);
        }
        if every_second {
            self.telemetry.count_addresses();
            self.count_audience(now);
            self.end_series(now);
        }
    }

    fn publish(&self, snapshot: Snapshot) {
        let version = snapshot.version;
        self.snapshot.store(Arc::new(snapshot));
        self.published
            .send_if_modified(|known| std::mem::replace(known, version) != version);
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn balancer(&self) -> MutexGuard<'_, Balancer> {
        self.balancer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tokens(&self) -> MutexGuard<'_, TokenStore> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connections(&self) -> MutexGuard<'_, HashMap<u64, NodeId>> {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The settings now.
    pub fn config(&self) -> Arc<Config> {
        self.config.load_full()
    }

    /// Takes new settings.
    pub fn reconfigure(&self, config: Config) {
        self.balancer().set_config(balancer_config(&config));
        self.config.store(Arc::new(config));
    }

    /// The table judges by other settings from now on.
    pub fn reconfigure_table(&self, config: crate::cluster::table::Config) {
        self.table().set_config(config);
    }

    /// True if `password` may feed `mount` (and set its titles).
    pub fn may_feed(&self, permit: &Permit<'_>, mount: &MountId, password: &str) -> bool {
        let config = self.config.load();
        let own = config.mount_passwords.iter().find(|(id, _)| id == mount);
        own.map_or(&config.source_password, |(_, secret)| secret)
            .matches(permit, password)
    }
}

fn balancer_config(config: &Config) -> balancer::Config {
    balancer::Config {
        strategy: config.strategy,
        mode: config.mode,
        overflow: config.overflow.clone(),
        ..balancer::Config::default()
    }
}
