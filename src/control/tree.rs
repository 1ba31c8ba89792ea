//! Who feeds whom: this node's parents by the rule, and the operator's word on a node's parent.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::watch;

use super::{Control, Role};
use crate::base::ids::{MountId, NodeId};
use crate::base::wall::unix_millis;
use crate::cluster::parents::{self, Parents, Seeker};
use crate::cluster::snapshot::{NodeView, State};

/// Why a node cannot be given that parent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// Asked of a relay.
    #[error("this node is no primary: the primary knows the tree")]
    NoPrimary,
    /// No such node.
    #[error("no node is called `{0}`")]
    Unknown(String),
    /// The primary, or a node that has gone.
    #[error("`{0}` pulls from nobody: only a live relay has a parent")]
    NoRelay(String),
    /// A parent that cannot feed it.
    #[error("`{0}` is {1} and feeds nobody new")]
    Unfit(String, &'static str),
    /// A circle.
    #[error("`{1}` has its audio through `{0}`: that would be a circle")]
    Circle(String, String),
}

/// How far a node is behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lag {
    /// Bytes.
    pub bytes: u64,
    /// Milliseconds between the arrivals of its newest byte and of the newest one at the origin.
    pub millis: u64,
}

/// The operator's word, by node; `None` takes an earlier word back.
#[derive(Debug, Default)]
pub(super) struct Tree {
    words: Mutex<HashMap<NodeId, Option<NodeId>>>,
    /// On a relay: what the primary passed on.
    assigned: watch::Sender<Option<NodeId>>,
}

impl Tree {
    fn words(&self) -> MutexGuard<'_, HashMap<NodeId, Option<NodeId>>> {
        self.words.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Control {
    /// Whom this node is to pull `mount` from, by the table as it has it; and whom the operator has named, where that
    /// one is able.
    pub fn parents_of(&self, mount: &MountId) -> (Parents, Option<NodeId>) {
        let state = self.pulls.state(mount);
        let current: Option<NodeId> = state.and_then(|state| state.parent.parse().ok());
        let assigned = self.tree.assigned.borrow().clone();
        let config = self.config.load();
        let seeker = Seeker {
            own: &self.identity.id,
            region: &config.region,
            mount,
            current: current.as_ref(),
            assigned: assigned.as_ref(),
            front: config.mode == crate::balancer::Mode::Proxy,
        };
        let chosen = parents::choose(&seeker, &self.snapshot());
        let ordered = assigned.filter(|node| chosen.order.first() == Some(node));
        (chosen, ordered)
    }

    /// The node that feeds this one: that of its first mount that is connected.
    pub fn parent(&self) -> Option<NodeId> {
        let mut all = self.pulls.all();
        all.sort_by(|(a, _), (b, _)| a.cmp(b));
        all.first()?.1.parent.parse().ok()
    }

    /// Moves when the operator's word on this node's parent changes.
    pub fn watch_assigned(&self) -> watch::Receiver<Option<NodeId>> {
        self.tree.assigned.subscribe()
    }

    /// The primary passes the operator's word on: a node id, or nothing any more.
    pub fn set_assigned(&self, word: &str) {
        let parent: Option<NodeId> = word.parse().ok();
        self.tree
            .assigned
            .send_if_modified(|known| std::mem::replace(known, parent.clone()) != parent);
    }

    /// The operator wants `node` to pull from `to`, until that one dies; `None` leaves it to the rule again. Both
    /// are ids or names. Gives the ids.
    ///
    /// # Errors
    /// See [`TreeError`].
    pub fn reparent(
        &self,
        node: &str,
        to: Option<&str>,
    ) -> Result<(NodeId, Option<NodeId>), TreeError> {
        if self.identity.role != Role::Primary {
            return Err(TreeError::NoPrimary);
        }
        let snapshot = self.snapshot();
        let find = |text: &str| {
            let found = snapshot.named(text);
            found.ok_or_else(|| TreeError::Unknown(text.to_owned()))
        };
        let row = find(node)?;
        if row.id == self.identity.id || row.state == State::Dead {
            return Err(TreeError::NoRelay(row.name.to_string()));
        }
        let to = to.map(find).transpose()?;
        if let Some(to) = to {
            if matches!(to.state, State::Dead | State::Draining) {
                return Err(TreeError::Unfit(to.name.to_string(), to.state.as_str()));
            }
            let through = |mount| parents::leads_through(&snapshot, mount, &to.id, &row.id);
            if to.id == row.id || to.mounts.keys().any(through) {
                let names = (row.name.to_string(), to.name.to_string());
                return Err(TreeError::Circle(names.0, names.1));
            }
        }
        let to = to.map(|to| to.id.clone());
        self.tree.words().insert(row.id.clone(), to.clone());
        Ok((row.id.clone(), to))
    }

    /// How far `node` was behind this one with `mount` at its last beat. Only the primary keeps the table and the
    /// newest bytes; elsewhere, and for another epoch, nothing is known.
    pub fn lag_of(&self, node: &NodeView, mount: &MountId, now: Instant) -> Option<Lag> {
        let view = node.mounts.get(mount)?;
        if self.identity.role != Role::Primary || node.id == self.identity.id {
            return None;
        }
        let ring = self.engine.mount(mount)?.ring();
        if ring.epoch() != view.epoch {
            return None;
        }
        let age = now.saturating_duration_since(node.reported).as_millis();
        let then = unix_millis().saturating_sub(u64::try_from(age).unwrap_or(u64::MAX));
        ring.with_indexes(|indexes| {
            let mut marks = indexes.times.iter().rev();
            let edge = marks.clone().find(|mark| mark.wall_millis <= then)?;
            let own = marks.find(|mark| mark.offset <= view.offset)?;
            Some(Lag {
                bytes: edge.offset.saturating_sub(view.offset),
                millis: edge.wall_millis.saturating_sub(own.wall_millis),
            })
        })
    }

    /// On a relay: whom the operator wants it to pull from, for its beats.
    pub(super) fn assigned(&self) -> Option<NodeId> {
        self.tree.assigned.borrow().clone()
    }

    /// A node says which word on its parent it was given. A primary that was restarted knows it from there; one that
    /// has said something else since is right.
    pub(super) fn hear_word(&self, node: &NodeId, assigned: Option<NodeId>) {
        if let Some(parent) = assigned {
            let mut words = self.tree.words();
            words.entry(node.clone()).or_insert(Some(parent));
        }
    }

    /// What a beat's answer says of the node's parent.
    pub(super) fn word_on(&self, node: &NodeId) -> Option<String> {
        let words = self.tree.words();
        let word = words.get(node)?;
        Some(word.as_ref().map(NodeId::to_string).unwrap_or_default())
    }

    /// A node is dead or gone: nobody is told to pull from it any more.
    pub(super) fn release_children_of(&self, node: &NodeId) {
        for word in self.tree.words().values_mut() {
            if word.as_ref() == Some(node) {
                *word = None;
            }
        }
    }
}
