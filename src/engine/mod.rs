//! The audio: mounts, their rings, what comes in and the fan-out. The only door is [`Engine`].
//!
//! Must never: parse a request, know a node or a balancer, or wait for anything but bytes. Above it `edge`
//! brings sources and listeners, `upstream` brings replicas, `admin` looks and sets titles.

mod claims;
mod detours;
pub mod fanout;
pub mod format;
mod intake;
mod mount;
mod preset;
mod replica;
pub mod ring;
mod silent;
mod sink;
mod sources;
mod titles;
mod troubles;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::base::ids::{Epoch, MountId};
use crate::base::wall::unix_millis;
use crate::telemetry::Telemetry;
use claims::Claims;
use detours::Detours;
pub use detours::Fallback;
use fanout::Shards;
pub use fanout::{HALF_CLOSED, Listener};
pub use intake::{Intake, Offer, OpenError, PushError};
pub use mount::{Content, Feeder, Mount, MountState};
pub use preset::Preset;
pub use replica::Replica;
use ring::{Bounds, Burst};
pub use titles::{RememberedTitle, Titles};
pub use troubles::Trouble;
use troubles::Troubles;

/// The engine's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// How much a ring keeps.
    pub ring: Bounds,
    /// What a newcomer is given at once.
    pub burst: Burst,
    /// How long listeners wait for a source that went.
    pub hold: Duration,
    /// Most sources at once.
    pub max_sources: usize,
    /// Where listeners of mounts without a fallback of their own go.
    pub fallback: Option<Fallback>,
    /// What differs from mount to mount.
    pub presets: Vec<(MountId, Preset)>,
    /// The fan-out's settings.
    pub fanout: fanout::Config,
}

impl Config {
    fn preset(&self, id: &MountId) -> Option<&Preset> {
        let found = self.presets.iter().find(|(mount, _)| mount == id);
        found.map(|(_, preset)| preset)
    }
}

/// Stamps epochs: the larger of the clock and the last one known plus one, never the same twice.
#[derive(Debug, Default)]
pub struct EpochClock {
    last: AtomicU64,
    /// The highest one that was made here.
    stamped: AtomicU64,
}

impl EpochClock {
    /// A new epoch.
    pub fn next(&self) -> Epoch {
        let now = unix_millis();
        let step = |last: u64| Some(now.max(last.saturating_add(1)));
        let before = self
            .last
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, step);
        let epoch = now.max(before.unwrap_or_default().saturating_add(1));
        self.stamped.fetch_max(epoch, Ordering::AcqRel);
        Epoch(epoch)
    }

    /// The highest epoch that was made here, 0 before the first. Reports of others do not move it.
    pub fn stamped(&self) -> Epoch {
        Epoch(self.stamped.load(Ordering::Acquire))
    }

    /// Takes note of an epoch that somebody reported or that was persisted.
    pub fn raise(&self, epoch: Epoch) {
        self.last.fetch_max(epoch.0, Ordering::AcqRel);
    }

    /// The highest epoch known.
    pub fn last(&self) -> Epoch {
        Epoch(self.last.load(Ordering::Acquire))
    }
}

/// The fan-out takes no more listeners.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the fan-out is busy")]
pub struct Busy;

/// A title was not set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TitleError {
    /// Nobody feeds the mount.
    #[error("no source feeds the mount")]
    NoSource,
    /// An Ogg stream of several logical streams, or of a codec whose comments are not known here.
    #[error("the titles of this Ogg stream are its encoder's: they are set there")]
    Closed,
}

/// See the module.
pub struct Engine {
    config: ArcSwap<Config>,
    mounts: RwLock<HashMap<MountId, Arc<Mount>>>,
    changed: watch::Sender<u64>,
    epochs: Arc<EpochClock>,
    telemetry: Arc<Telemetry>,
    shards: Shards,
    detours: Detours,
    claims: Arc<Claims>,
    titles: Titles,
    troubles: Troubles,
    /// Moves when somebody's end was asked for.
    swept: watch::Sender<u64>,
}

impl Engine {
    /// Starts the shards.
    ///
    /// # Errors
    /// Where the system gives no threads or no readiness queue.
    pub fn start(config: Config, telemetry: Arc<Telemetry>) -> std::io::Result<Arc<Self>> {
        let shards = Shards::start(&config.fanout)?;
        Ok(Arc::new(Self {
            config: ArcSwap::from_pointee(config),
            mounts: RwLock::default(),
            changed: watch::Sender::new(0),
            epochs: Arc::default(),
            telemetry,
            shards,
            detours: Detours::default(),
            claims: Arc::default(),
            titles: Titles::default(),
            troubles: Troubles::default(),
            swept: watch::Sender::new(0),
        }))
    }

    /// Takes new settings: bounds hold for rings begun from now on, all else at once.
    pub fn reconfigure(&self, config: Config) {
        self.shards.reconfigure(&config.fanout);
        self.config.store(Arc::new(config));
        self.direct();
    }

    /// Where epochs come from.
    pub fn epochs(&self) -> &Arc<EpochClock> {
        &self.epochs
    }

    /// A mount that exists.
    pub fn mount(&self, id: &MountId) -> Option<Arc<Mount>> {
        self.mounts
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(id)
            .cloned()
    }

    /// All mounts, by name.
    pub fn mounts(&self) -> Vec<Arc<Mount>> {
        let mut all: Vec<Arc<Mount>> = self
            .mounts
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .cloned()
            .collect();
        all.sort_by(|a, b| a.id.cmp(&b.id));
        all
    }

    /// Moves whenever a mount appears, changes its state or its description, or goes.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    pub(crate) fn announce(&self) {
        self.direct();
        self.changed.send_modify(|generation| *generation += 1);
    }

    /// Ends a mount at once: its source is closed, its listeners go to its fallback or get a clean end.
    pub fn end(&self, id: &MountId) -> bool {
        let had_source = self.claims.evict(id);
        self.titles.forget(id);
        let found = self
            .mounts
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(id);
        if let Some(mount) = &found {
            self.part(mount);
        }
        self.announce();
        had_source || found.is_some()
    }

    /// Measures rates, and ends the mounts whose hold is over. To be called a few times a second.
    pub fn tick(&self, now: Instant) {
        let hold = self.config.load().hold;
        for mount in self.mounts() {
            mount.measure();
        }
        let over: Vec<Arc<Mount>> = {
            // Nobody takes a mount between the look and its end.
            let mut mounts = self.mounts.write().unwrap_or_else(PoisonError::into_inner);
            let over = mounts.values().filter(|mount| mount.is_over(hold, now));
            let over: Vec<Arc<Mount>> = over.cloned().collect();
            for mount in &over {
                mounts.remove(&mount.id);
            }
            over
        };
        if over.is_empty() {
            return;
        }
        for mount in &over {
            self.titles.forget(&mount.id);
            self.part(mount);
        }
        self.announce();
    }

    /// Hands a listener's socket over to the least loaded shard: first the answer's head, then the burst, then
    /// what comes.
    ///
    /// # Errors
    /// [`Busy`] where the shard's queue is full; the socket is closed then.
    pub fn listen(&self, listener: Listener) -> Result<(), Busy> {
        let config = self.config.load();
        let own = config.preset(&listener.mount.id);
        let burst = own.map_or(config.burst, |preset| preset.burst(config.burst));
        let home = self.signpost(&listener.asked);
        self.shards.attach(listener, home, burst)
    }

    /// How the fan-out runs.
    pub fn fanout(&self) -> fanout::Report {
        self.shards.report()
    }

    /// Makes the shards look for sessions that were kicked, and all others who hold one.
    pub fn sweep(&self) {
        self.shards.sweep();
        self.swept.send_modify(|turn| *turn += 1);
    }

    /// Moves with every [`Self::sweep`].
    pub fn watch_sweeps(&self) -> watch::Receiver<u64> {
        self.swept.subscribe()
    }

    /// Every listener's state as plain data.
    pub fn states(&self) -> Vec<fanout::State> {
        self.shards.states()
    }

    /// Ends all listeners and the shards; returns when the last one is closed.
    pub fn stop(&self) {
        self.shards.stop();
    }
}

#[cfg(test)]
mod tests;
