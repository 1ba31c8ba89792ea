//! Mounts that are pulled only while somebody listens.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::Control;
use crate::base::ids::MountId;

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
        carried.iter().any(|info| info.mount == *mount) || self.demand.offered().contains(mount)
    }

    /// True while a mount is wanted.
    pub fn is_demanded(&self, mount: &MountId) -> bool {
        self.demand.asked().contains_key(mount)
    }

    /// Names a mount that a foreign upstream brings as soon as it is wanted.
    pub fn offer(&self, mount: MountId) {
        self.demand.offered().insert(mount);
    }

    /// Moves when a mount begins or ceases to be wanted.
    pub fn watch_demand(&self) -> watch::Receiver<u64> {
        self.demand.changed.subscribe()
    }

    /// Lets go of what nobody listens to any more.
    pub(super) fn settle_demand(&self, now: Instant) {
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
