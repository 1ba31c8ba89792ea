//! The node as a whole: who it is, the table of nodes, the balancer's state, credentials, draining.
//!
//! The rules are pure and stand below (`cluster`, `balancer`); this room holds their state behind short
//! locks and publishes snapshots. Must never: parse a request, hold a lock across an await, touch audio.
//! Above it: `admin` and `agent` feed and show it, `edge` asks it.

mod identity;
mod placing;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;

use crate::base::ids::MountId;
use crate::base::secret::Secret;
use crate::engine::Engine;
use crate::telemetry::Telemetry;
use crate::wire::message::PublicUrls;
pub use identity::{Identity, Role};
pub use placing::{Place, Verdict, Visitor};

/// The settings that decide who may and what is shown; swapped whole on a reload.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Sources: user `source`.
    pub source_password: Secret,
    /// Passwords of single mounts; they replace `source_password` there.
    pub mount_passwords: Vec<(MountId, Secret)>,
    /// Operators: user `admin`, and the bearer token of scope admin.
    pub admin_password: Secret,
    /// Foreign relays: user `relay`.
    pub relay_password: Secret,
    /// Where this node is reached.
    pub public_urls: PublicUrls,
    /// The mount that `/;` and a v1 source without a mount mean.
    pub default_mount: MountId,
    /// Most listeners here, always finite.
    pub max_listeners: u64,
    /// Bits a second that listeners may take here, 0 for no limit.
    pub max_bandwidth: u64,
    /// Share of newcomers beside other relays, 100 is usual.
    pub weight: u32,
    /// Shown by the Icecast-compatible statistics.
    pub location: String,
    /// The same.
    pub admin_contact: String,
    /// True where `/metrics` asks for no token on loopback and private nets; `None` never asks.
    pub metrics_open: MetricsOpen,
}

/// Who may read `/metrics` without a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricsOpen {
    /// Loopback and private networks.
    Auto,
    /// Everybody.
    Always,
    /// Nobody.
    Never,
}

/// See the module.
pub struct Control {
    /// Who this node is.
    pub identity: Identity,
    /// The audio.
    pub engine: Arc<Engine>,
    /// The counts.
    pub telemetry: Arc<Telemetry>,
    config: ArcSwap<Config>,
    draining: AtomicBool,
}

impl Control {
    /// A node at its start.
    pub fn new(
        identity: Identity,
        config: Config,
        engine: Arc<Engine>,
        telemetry: Arc<Telemetry>,
    ) -> Self {
        Self {
            identity,
            engine,
            telemetry,
            config: ArcSwap::from_pointee(config),
            draining: AtomicBool::new(false),
        }
    }

    /// The settings now.
    pub fn config(&self) -> Arc<Config> {
        self.config.load_full()
    }

    /// Takes new settings.
    pub fn reconfigure(&self, config: Config) {
        self.config.store(Arc::new(config));
    }

    /// True if `password` may feed `mount` (and set its titles).
    pub fn may_feed(&self, mount: &MountId, password: &str) -> bool {
        let config = self.config.load();
        let own = config.mount_passwords.iter().find(|(id, _)| id == mount);
        own.map_or(&config.source_password, |(_, secret)| secret)
            .matches(password)
    }

    /// True while the node takes nobody new.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Starts or ends a drain of this node.
    pub fn set_draining(&self, draining: bool) {
        self.draining.store(draining, Ordering::Relaxed);
    }
}
