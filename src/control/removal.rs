//! Nodes that operators remove, bar and let in again: credential, feed and streams end at once, on every node.

use std::future::Future;
use std::sync::Arc;

use super::disk::SaveError;
use super::registry::{MEMBERS_FILE, Removals, by_id};
use super::{Control, Role};
use crate::base::ids::NodeId;
use crate::base::wall::unix_millis;
use crate::cluster::registry::{JoinError, Registration};
use crate::cluster::table::Event;
use crate::wire::message::{FeedLine, Happening, NodeName, Removal};

/// Why a node is not removed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RemoveError {
    /// Asked of a relay.
    #[error("this node is no primary: the primary removes nodes")]
    NoPrimary,
    /// The primary itself.
    #[error("`{0}` is this primary itself")]
    Itself(String),
    /// No such node.
    #[error("no node is called `{0}`, and none was")]
    Unknown(String),
    /// The registry is full.
    #[error(transparent)]
    Full(#[from] JoinError),
    /// It is carried out, and is not on the disk.
    #[error("it holds until this node restarts: {0}")]
    Unsaved(SaveError),
}

impl Control {
    /// Removes a node: its credential, its feed and its streams from every parent end, its row goes, the cluster keys
    /// that it has are replaced at once. Barred, it cannot join again before [`Self::unbar`]. Waits for the disk.
    ///
    /// # Errors
    /// See [`RemoveError`].
    pub async fn remove_node(
        &self,
        node: &str,
        bar: bool,
    ) -> Result<(NodeId, NodeName), RemoveError> {
        if self.identity.role != Role::Primary {
            return Err(RemoveError::NoPrimary);
        }
        let (id, name) = self.removable(node, bar)?;
        let saving = {
            let _turn = self.order();
            let mut registry = self.members.lock();
            let now = unix_millis();
            registry.remove(&id, &name, bar, now)?;
            registry.keys.rotate(now, true);
            // Before the keys: whoever is removed must not hear the new one.
            let removals = by_id(registry.removals());
            self.members.removals.send_replace(Arc::new(removals));
            self.use_keys(&registry);
            let saving = self.disk.save(MEMBERS_FILE, &*registry);
            drop(registry);
            self.end_token_uses(&id);
            self.step(Event::Forget(id.clone()));
            saving
        };
        tracing::warn!(node = %name, %id, barred = bar, "the operator has removed a node");
        self.happened(Happening::Removed {
            who: name.clone(),
            barred: bar,
        });
        match saving.on_disk().await {
            Ok(()) | Err(SaveError::ReadOnly { .. }) => Ok((id, name)),
            Err(error) => Err(RemoveError::Unsaved(error)),
        }
    }

    fn removable(&self, node: &str, bar: bool) -> Result<(NodeId, NodeName), RemoveError> {
        let own = &self.identity;
        if node == own.id.as_str() || node == own.name.as_str() {
            return Err(RemoveError::Itself(node.to_owned()));
        }
        if let Some(row) = self.snapshot().named(node) {
            return Ok((row.id.clone(), row.name.clone()));
        }
        let registry = self.members.lock();
        if let Some(id) = registry.named(node) {
            let name = registry.find(id).map(|node| node.name.clone());
            return Ok((id.clone(), name.unwrap_or_else(|| id.clone())));
        }
        // An id that was never here can be barred in advance.
        let id: Option<NodeId> = node.parse().ok().filter(|_| bar);
        let id = id.ok_or_else(|| RemoveError::Unknown(node.to_owned()))?;
        Ok((id.clone(), id))
    }

    /// Lets a barred node join again. False if it was not barred. Waits for the disk.
    ///
    /// # Errors
    /// See [`RemoveError`].
    pub async fn unbar(&self, node: &str) -> Result<bool, RemoveError> {
        if self.identity.role != Role::Primary {
            return Err(RemoveError::NoPrimary);
        }
        let saving = {
            let mut registry = self.members.lock();
            let id = registry.named(node).cloned();
            let id = id.ok_or_else(|| RemoveError::Unknown(node.to_owned()))?;
            if !registry.unbar(&id) {
                return Ok(false);
            }
            let removals = by_id(registry.removals());
            self.members.removals.send_replace(Arc::new(removals));
            self.members.tell();
            self.disk.save(MEMBERS_FILE, &*registry)
        };
        match saving.on_disk().await {
            Ok(()) | Err(SaveError::ReadOnly { .. }) => Ok(true),
            Err(error) => Err(RemoveError::Unsaved(error)),
        }
    }

    /// The barred nodes, by id.
    pub fn barred(&self) -> Vec<(NodeId, Registration)> {
        let registry = self.members.lock();
        let barred = registry.barred();
        barred
            .map(|(id, node)| (id.clone(), node.clone()))
            .collect()
    }

    /// The members that came by a join token, by id.
    pub fn came_by(&self, token: &str) -> Vec<(NodeId, NodeName)> {
        let registry = self.members.lock();
        let members = registry.came_by(token);
        members
            .map(|(id, node)| (id.clone(), node.name.clone()))
            .collect()
    }

    /// The removals as the feed tells them.
    pub fn removal_line(&self) -> FeedLine {
        FeedLine::Removals {
            removals: self.members.lock().removals(),
        }
    }

    /// A relay hears of removals.
    pub(super) fn hear_removals(&self, removals: Vec<Removal>) {
        self.members
            .removals
            .send_replace(Arc::new(by_id(removals)));
    }

    /// Completes when a node is removed from now on.
    pub fn removed(&self, id: &NodeId) -> impl Future<Output = ()> + Send + 'static {
        let mut removals = self.members.removals.subscribe();
        let times = |all: &Removals, id: &NodeId| all.get(id).map_or(0, |(times, _)| *times);
        let before = times(&removals.borrow_and_update(), id);
        let id = id.clone();
        async move {
            loop {
                if removals.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
                if times(&removals.borrow_and_update(), &id) > before {
                    return;
                }
            }
        }
    }

    /// True for a node that an operator has barred, as far as this node has heard.
    pub(super) fn is_barred(&self, id: &NodeId) -> bool {
        let removals = self.members.removals.borrow();
        removals.get(id).is_some_and(|(_, barred)| *barred)
    }
}
