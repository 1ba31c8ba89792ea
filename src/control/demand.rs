//! Mounts that are pulled only while somebody listens.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::Control;
use crate::base::ids::MountId;
use crate::wire::message::{MountInfo, MountState};

/// A mount that nobody has listened to for this long is let go.
const LINGER: Duration = Duration::from_secs(30);

/// Who asked for what, and when last.
#[derive(Default)]
pub(super) struct Demand {
    asked: Mutex<HashMap<MountId, Instant>>,
    /// What foreign upstreams bring.
    offered: Mutex<HashSet<MountId>>,
    changed: watch::Sender<u64>,
}

impl Demand {
    fn asked(&self) -> MutexGuard<'_, HashMap<MountId, Instant>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn offered(&self) -> MutexGuard<'_, HashSet<MountId>> {
        self.offered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Control {
    /// Somebody wants `mount`. True if it may come: then wait until it plays.
    pub fn demand(&self, mount: &MountId) -> bool {
        let offered = self.is_offered(mount);
        if offered {
            self.demand.asked().insert(mount.clone(), Instant::now());
            self.demand.changed.send_modify(|turn| *turn += 1);
        }
        offered
    }

    /// True for a mount that is not here now but comes when it is asked for.
    pub fn is_offered(&self, mount: &MountId) -> bool {
        let carried = self.carried.borrow();
        let comes = |info: &MountInfo| info.mount == *mount && info.state != MountState::Idle;
        carried.iter().any(comes) || self.demand.offered().contains(mount)
    }

    /// True for a mount that the primary has live.
    pub(super) fn is_carried_live(&self, mount: &MountId) -> bool {
        let carried = self.carried.borrow();
        let is_it = |info: &MountInfo| info.mount == *mount && info.state == MountState::Live;
        carried.iter().any(is_it)
    }

    /// The mounts that are here or come when they are asked for, as the primary and foreign upstreams say.
    pub(super) fn offered_mounts(&self) -> Vec<MountId> {
        let carried = self.carried.borrow();
        let comes = carried.iter().filter(|info| info.state != MountState::Idle);
        let comes = comes.map(|info| info.mount.clone());
        comes.chain(self.demand.offered().iter().cloned()).collect()
    }

    /// The mount whose audio somebody who asks for `id` gets now: itself, or where its source is lost the first of
    /// its fallbacks that plays here or comes when it is asked for. Where its source is silent, one that plays here.
    pub fn stands_for(&self, id: &MountId) -> Option<MountId> {
        let bypassed = self.engine.is_bypassed(id);
        let own = self.engine.mount(id).is_some_and(|own| own.is_playable());
        let plays = (own || self.is_offered(id)) && !bypassed;
        if plays || !self.engine.is_replaceable(id) {
            return None;
        }
        if let Some(here) = self.engine.stand_in(id) {
            return Some(here.id.clone());
        }
        if own || self.is_offered(id) {
            return None;
        }
        let mut chain = self.engine.fallbacks(id).into_iter();
        chain.find(|id| self.is_offered(id))
    }

    /// Fallbacks that are to be fetched since listeners here wait for the source of their own mount, in time, so
    /// that they are here when the hold is over; or since that source is silent.
    fn fallbacks_wanted(&self) -> Vec<MountId> {
        let carried = self.carried.borrow().clone();
        let is_live = |id: &MountId| {
            let info = carried.iter().find(|info| info.mount == *id);
            info.is_some_and(|info| info.state == MountState::Live)
        };
        let mounts = self.telemetry.mounts().into_iter();
        let sounds = |id: &MountId| is_live(id) && !self.engine.is_bypassed(id);
        let listened = mounts.filter(|(id, counters)| counters.listeners() > 0 && !sounds(id));
        listened
            .filter_map(|(id, _)| self.engine.fallbacks(&id).into_iter().find(&sounds))
            .collect()
    }

    /// True while a mount is wanted.
    pub fn is_demanded(&self, mount: &MountId) -> bool {
        self.demand.asked().contains_key(mount)
    }

    /// Names a mount that a foreign upstream brings as soon as it is wanted.
    pub fn offer(&self, mount: MountId) {
        self.demand.offered().insert(mount);
    }

    /// Takes back what [`Control::offer`] named.
    pub fn withdraw(&self, mount: &MountId) {
        self.demand.offered().remove(mount);
    }

    /// Moves when a mount begins or ceases to be wanted.
    pub fn watch_demand(&self) -> watch::Receiver<u64> {
        self.demand.changed.subscribe()
    }

    /// Lets go of what nobody listens to any more.
    pub(super) fn settle_demand(&self, now: Instant) {
        if self.config().on_demand {
            for fallback in self.fallbacks_wanted() {
                if !self.is_demanded(&fallback) {
                    tracing::info!(mount = %fallback, "fetched as a fallback");
                }
                self.demand(&fallback);
            }
        }
        let mut ceased = false;
        self.demand.asked().retain(|mount, asked| {
            if self.telemetry.mount(mount).listeners() > 0 {
                *asked = now;
            }
            let stays = now.saturating_duration_since(*asked) < LINGER;
            ceased |= !stays;
            stays
        });
        if ceased {
            self.demand.changed.send_modify(|turn| *turn += 1);
        }
    }
}
