//! The end of series: counters of mounts that are gone are let go after `forget`, those of nodes with their row.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::Control;
use crate::base::ids::{MountId, NodeId};

/// Since when the mounts that still have counters are gone.
#[derive(Default)]
pub(super) struct Series(Mutex<HashMap<MountId, Instant>>);

impl Control {
    /// Lets go of the counters of mounts and nodes that are gone; to be called once a second.
    pub(super) fn end_series(&self, now: Instant) {
        self.end_series_of_mounts(now);
        let table = self.snapshot();
        let here: HashSet<&NodeId> = table.nodes.iter().map(|node| &node.name).collect();
        let own = &self.identity.name;
        self.tallies
            .retain(|name| here.contains(name) || name == own);
    }

    fn end_series_of_mounts(&self, now: Instant) {
        let forget = self.config.load().forget;
        let mut gone = self.series.0.lock().unwrap_or_else(PoisonError::into_inner);
        let here = |mount: &MountId| self.engine.mount(mount).is_some();
        let counted = self.telemetry.mounts();
        let counted: Vec<MountId> = counted.into_iter().map(|(mount, _)| mount).collect();
        let known: HashSet<&MountId> = counted.iter().collect();
        gone.retain(|mount, _| known.contains(mount) && !here(mount));
        for mount in counted.iter().filter(|mount| !here(mount)) {
            let since = *gone.entry(mount.clone()).or_insert(now);
            if now.saturating_duration_since(since) < forget {
                continue;
            }
            self.engine.forget(mount);
            if self.telemetry.forget(mount) {
                gone.remove(mount);
            }
        }
    }
}
