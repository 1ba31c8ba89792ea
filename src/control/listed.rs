//! How mounts are shown: their limits, and which of them public lists leave out, as the settings of this node say, else as
//! its primary says.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use super::{Config, Control};
use crate::base::ids::MountId;
use crate::wire::message::MountInfo;

/// How a mount is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Listed {
    /// Most listeners of this mount on one node; none sets no limit.
    pub max_listeners: Option<u64>,
    /// Left out of public lists; none is what the primary says.
    pub hidden: Option<bool>,
}

impl Config {
    /// How `mount` is shown.
    pub fn listed(&self, mount: &MountId) -> Listed {
        self.listed.get(mount).copied().unwrap_or_default()
    }
}

/// On a relay: what its primary hides.
#[derive(Default)]
pub(super) struct Hidden(Mutex<HashSet<MountId>>);

impl Control {
    /// True for a mount that public pages and lists do not name.
    pub fn is_hidden(&self, mount: &MountId) -> bool {
        let own = self.config.load().listed(mount).hidden;
        own.unwrap_or_else(|| self.lock_hidden().contains(mount))
    }

    /// Takes the primary's list. A hidden mount that it names no more stays hidden while it is held here.
    pub(super) fn tell_hidden(&self, mounts: &[MountInfo]) {
        let told: HashSet<&MountId> = mounts.iter().map(|info| &info.mount).collect();
        let mut hidden = self.lock_hidden();
        hidden.retain(|mount| !told.contains(mount) && self.engine.mount(mount).is_some());
        let now = mounts.iter().filter(|info| info.hidden);
        hidden.extend(now.map(|info| info.mount.clone()));
    }

    fn lock_hidden(&self) -> std::sync::MutexGuard<'_, HashSet<MountId>> {
        self.hidden.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
