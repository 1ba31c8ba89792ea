//! The nodes that this one feeds: never more than it declared.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Control;
use crate::base::ids::NodeId;
use crate::cluster::snapshot::State;

/// Streams by child: one that pulls three mounts is one child.
#[derive(Debug, Clone, Default)]
pub(super) struct Children(Arc<Mutex<HashMap<NodeId, usize>>>);

/// No place is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this node feeds {0} nodes already, which is its `max_children`: ask another")]
pub struct ChildrenFull(u32);

/// A stream to a child; its place is free again when this is gone.
#[derive(Debug)]
pub struct Child {
    children: Children,
    id: NodeId,
}

impl Control {
    /// A child's stream begins.
    ///
    /// # Errors
    /// Where this node feeds as many other nodes as it declared. Streams to nodes that the table knows to be dead
    /// are not counted: their sockets take a while to find out.
    pub fn adopt(&self, id: &NodeId) -> Result<Child, ChildrenFull> {
        let most = self.config.load().max_children;
        let snapshot = self.snapshot();
        let is_dead = |id: &NodeId| {
            let row = snapshot.find(id);
            row.is_some_and(|row| row.state == State::Dead)
        };
        let mut children = self.children.lock();
        let others = children
            .keys()
            .filter(|other| *other != id && !is_dead(other));
        if others.count() >= usize::try_from(most).unwrap_or(usize::MAX) {
            return Err(ChildrenFull(most));
        }
        *children.entry(id.clone()).or_insert(0) += 1;
        Ok(Child {
            children: self.children.clone(),
            id: id.clone(),
        })
    }

    /// How many nodes this one feeds.
    pub fn children(&self) -> u32 {
        u32::try_from(self.children.lock().len()).unwrap_or(u32::MAX)
    }
}

impl Children {
    fn lock(&self) -> MutexGuard<'_, HashMap<NodeId, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let mut children = self.children.lock();
        if let Some(streams) = children.get_mut(&self.id) {
            *streams -= 1;
            if *streams == 0 {
                children.remove(&self.id);
            }
        }
    }
}
