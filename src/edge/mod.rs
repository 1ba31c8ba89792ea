//! The data port: accept, first bytes, head, route, and then whoever the connection belongs to.
//!
//! Must never: decide who takes a listener (`balancer`), keep a table, or hold a connection that it has
//! handed on. Below it: `admin` answers everything that is no audio, `control` decides, `engine` plays.

mod accept;
mod answers;
mod api;
mod arrivals;
mod body;
mod carry;
mod connection;
mod described;
mod front;
mod gate;
mod handshake;
mod health;
mod http;
mod line;
mod login;
mod names;
mod paced;
mod playback;
mod pump;
mod route;
mod serve;
mod shoutcast;
mod source;
mod stream;
mod tasks;
mod through;
mod upgrade;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use ipnet::IpNet;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::balancer::pool::SPARE_DESCRIPTORS;
use crate::base::ids::MountId;
use crate::control::Control;
use crate::discovery::Connector;
use crate::wire::tls::Server;
use front::{Bell, MAX_IDLE};
use gate::{Gate, MAX_STRANGERS, MIN_STRANGERS};
use playback::Playbacks;
use tasks::Tasks;

pub use accept::bind;
pub use arrivals::AddressLimits;
pub use connection::Kind;
pub(crate) use front::send;

/// The edge's settings; swapped whole on a reload.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Limits of one address.
    pub of_address: AddressLimits,
    /// Proxies whose `X-Forwarded-*` and PROXY headers are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// A source that sends nothing for this long is ended.
    pub source_timeout: Duration,
    /// A source that is silent for this long may be replaced; with `takeover` any may.
    pub source_stale: Duration,
    /// A new source replaces a running one.
    pub takeover: bool,
    /// Audio bytes between metadata blocks for listeners who ask for them.
    pub metaint: u32,
    /// Where a Shoutcast v1 source without a mount goes.
    pub shoutcast_mount: MountId,
    /// Files that the process may have open.
    pub descriptors: u64,
    /// A listener of an engine that is not ours whose socket takes nothing for this long is closed.
    pub stall: Duration,
    /// What differs from mount to mount.
    pub mounts: Vec<(MountId, MountConfig)>,
}

/// Settings of one mount.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MountConfig {
    /// Most listeners, `None` for no limit of its own.
    pub max_listeners: Option<u64>,
    /// A session ends after this long.
    pub max_listener_duration: Option<Duration>,
    /// Another metadata interval.
    pub metaint: Option<u32>,
}

/// See the module.
pub struct Edge {
    config: ArcSwap<Config>,
    control: Arc<Control>,
    api: axum::Router,
    gate: Arc<Gate>,
    playbacks: Playbacks,
    arrivals: arrivals::Arrivals,
    /// Those that wait for a place in a join bucket, first come first served.
    queue: Semaphore,
    /// Those among them who never had a place, one behind the other.
    line: tokio::sync::Mutex<()>,
    /// Whose turn it is: the first of the line, or one who comes back; counts the turns.
    turn: tokio::sync::Mutex<u64>,
    /// To the primary, for what is carried there.
    connector: Connector,
    /// The front of the data port.
    bell: OnceLock<Bell>,
    /// Told when the front is there.
    opened: Notify,
    pick_seconds: metrics::Histogram,
    /// What TLS hellos are answered with; none where this node speaks no TLS.
    tls: ArcSwapOption<Server>,
    /// Clients that ask for TLS in vain.
    in_vain: upgrade::InVain,
    tasks: Tasks,
    shutdown: CancellationToken,
}

/// Most connections that wait for a join bucket at once.
pub const MAX_WAITING: usize = 16 * 1024;

/// Connections that are kept alive however few descriptors there are: within those that listeners never get.
const MIN_IDLE: usize = 64;

impl Edge {
    /// An edge over `control`; `api` answers what is neither audio nor health, `connector` leads to the primary.
    pub fn new(
        config: Config,
        control: Arc<Control>,
        api: axum::Router,
        connector: Connector,
        shutdown: CancellationToken,
    ) -> Arc<Self> {
        let edge = Arc::new(Self {
            config: ArcSwap::from_pointee(config),
            control,
            api: api.layer(axum::middleware::from_fn(api::valid_only)),
            gate: Arc::default(),
            playbacks: Playbacks::default(),
            arrivals: arrivals::Arrivals::default(),
            queue: Semaphore::new(MAX_WAITING),
            line: tokio::sync::Mutex::default(),
            turn: tokio::sync::Mutex::new(0),
            connector,
            bell: OnceLock::new(),
            opened: Notify::new(),
            pick_seconds: metrics::histogram!("relayctl_pick_seconds"),
            tls: ArcSwapOption::empty(),
            in_vain: upgrade::InVain::default(),
            tasks: Tasks::default(),
            shutdown,
        });
        edge.gate.set_room(edge.stranger_room());
        edge
    }

    /// Takes new settings.
    pub fn reconfigure(&self, config: Config) {
        self.config.store(Arc::new(config));
    }

    /// Takes another certificate, or none. Connections keep the one that they began with.
    pub fn set_tls(&self, server: Option<Arc<Server>>) {
        self.tls.store(server);
    }

    /// The tasks of open connections: closed and awaited at the end.
    pub fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    /// Connections that may be kept alive for another request: half of the descriptors that listeners leave, and
    /// always a few of those that they never get.
    fn idle_room(&self) -> usize {
        self.half_of_free().clamp(MIN_IDLE, MAX_IDLE)
    }

    /// Connections that may be here besides without a credential of their own: the other half, and always a few.
    fn stranger_room(&self) -> usize {
        self.half_of_free().clamp(MIN_STRANGERS, MAX_STRANGERS)
    }

    /// Half of the descriptors that listeners leave.
    fn half_of_free(&self) -> usize {
        let taken = SPARE_DESCRIPTORS + self.control.telemetry.listeners();
        let free = self.config.load().descriptors.saturating_sub(taken);
        usize::try_from(free / 2).unwrap_or(usize::MAX)
    }

    /// Returns once the thread that accepts on the data port has gone round: for a watchdog, which must neither stand in
    /// line behind strangers nor overlook that the thread is gone. While the port is not open it waits for that.
    pub async fn answers(&self) {
        loop {
            let opened = self.opened.notified();
            if let Some(bell) = self.bell.get() {
                return bell.answers().await;
            }
            opened.await;
        }
    }

    fn mount_config(&self, id: &MountId) -> MountConfig {
        let config = self.config.load();
        config
            .mounts
            .iter()
            .find(|(mount, _)| mount == id)
            .map(|(_, c)| c.clone())
            .unwrap_or_default()
    }
}
