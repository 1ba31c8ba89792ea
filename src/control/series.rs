//! The end of series: counters of mounts that are gone are let go after `forget`, as a dead node is.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::Control;
use crate::base::ids::MountId;

/// Since when the mounts that still have counters are gone.
#[derive(Default)]
pub(super) struct Series(Mutex<HashMap<MountId, Instant>>);

impl Control {
    /// Lets go of the counters of mounts that were gone for `forget`; to be called once a second.
    pub(super) fn end_series(&self, now: Instant) {
        let forget = self.config.load().forget;
        let mut gone = self.series.0.lock().unwrap_or_else(PoisonError::into_inner);
        let here = |mount: &MountId| self.engine.mount(mount).is_some();
        let counted = self.telemetry.mounts();
        let counted: Vec<MountId> = counted.into_iter().map(|(mount, _)| mount).collect();
        gone.retain(|mount, _| !here(mount));
        for mount in counted.into_iter().filter(|mount| !here(mount)) {
            let since = *gone.entry(mount.clone()).or_insert(now);
            if now.saturating_duration_since(since) >= forget && self.telemetry.forget(&mount) {
                gone.remove(&mount);
            }
        }
    }
}
