//! What every pull of this node is doing, for those who report it or serve on.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use crate::base::ids::{Epoch, MountId};

/// One pull that is connected.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PullState {
    /// The parent's node id, as the caller named it.
    pub parent: String,
    /// The ids of the nodes from the origin to the parent.
    pub path: Vec<String>,
    /// The parent's numbering; 0 while it has no audio yet.
    pub epoch: Epoch,
    /// The parent's next offset, as it said last.
    pub live_edge: u64,
    /// How long the parent has had nothing new, as it said last.
    pub starved: Duration,
}

/// All pulls that are connected, by mount. Cheap to clone; clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Pulls(Arc<RwLock<HashMap<MountId, PullState>>>);

impl Pulls {
    /// The pull of `mount`, if it is connected.
    pub fn state(&self, mount: &MountId) -> Option<PullState> {
        let map = self.0.read().unwrap_or_else(PoisonError::into_inner);
        map.get(mount).cloned()
    }

    /// The nodes that `mount` comes through before this one: what [`super::stream::frames`] is to be given.
    /// Empty at the origin.
    pub fn path(&self, mount: &MountId) -> Vec<String> {
        self.state(mount).map(|s| s.path).unwrap_or_default()
    }

    /// All that are connected.
    pub fn all(&self) -> Vec<(MountId, PullState)> {
        let map = self.0.read().unwrap_or_else(PoisonError::into_inner);
        map.iter().map(|(id, s)| (id.clone(), s.clone())).collect()
    }

    /// A pull's own entry, gone when the guard is.
    pub(super) fn enter(&self, mount: &MountId, state: PullState) -> PullGuard {
        let mut map = self.0.write().unwrap_or_else(PoisonError::into_inner);
        map.insert(mount.clone(), state);
        PullGuard {
            pulls: self.clone(),
            mount: mount.clone(),
        }
    }
}

/// See [`Pulls::enter`].
#[derive(Debug)]
pub(super) struct PullGuard {
    pulls: Pulls,
    mount: MountId,
}

impl PullGuard {
    pub(super) fn update(&self, change: impl FnOnce(&mut PullState)) {
        let mut map = self.pulls.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(state) = map.get_mut(&self.mount) {
            change(state);
        }
    }
}

impl Drop for PullGuard {
    fn drop(&mut self) {
        let mut map = self.pulls.0.write().unwrap_or_else(PoisonError::into_inner);
        map.remove(&self.mount);
    }
}
