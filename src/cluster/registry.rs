//! The registry of node ids: the generation of each one's credential, the join token that it came by, and whether an
//! operator has removed or barred it.
//!
//! What is here outlives the table, whose rows a node reports again: the primary keeps it in its data directory, so that
//! after a restart nobody takes the place of a node that has not reported yet, and nobody who was barred comes back.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::keys::KeyState;
use crate::base::ids::NodeId;
use crate::wire::message::{NodeName, Removal};

/// Most node ids in the registry. The longest unheard of those that were never removed gives way to a new one.
pub const MAX_NODES: usize = 10_000;

/// One node id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// Name under which tables and logs show the node.
    pub name: NodeName,
    /// Rises when an earlier credential of the id is to be worth nothing; part of the MAC of the credential.
    #[serde(default)]
    pub generation: u32,
    /// The public id of the join token that the node came by; `None` where it came before tokens were noted.
    #[serde(default)]
    pub token: Option<String>,
    /// The node keeps its credential over a restart.
    #[serde(default)]
    pub keeps: bool,
    /// The node has reported with its credential: the answer to its join has arrived.
    #[serde(default)]
    pub proven: bool,
    /// How often an operator removed it.
    #[serde(default)]
    pub removed: u32,
    /// It may not join.
    #[serde(default)]
    pub barred: bool,
    /// Unix milliseconds of the last join, first beat or removal.
    #[serde(default)]
    pub since: u64,
}

/// Where the table has a node that asks to join.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// Beats arrive, or stopped a moment ago.
    Live,
    /// The node is dead, and its row is still in the table.
    Dead,
    /// The table has no row of the node.
    Absent,
}

/// Credential that a joining node has shown, verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown<'a> {
    /// The credential of this very id.
    Credential,
    /// A join token, by its public id.
    Token(&'a str),
}

/// Why a node may not join under its id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// An operator barred it.
    #[error(
        "node `{0}` is barred: `relayctl forget {0} --unbar` on the primary lets it join again"
    )]
    Barred(NodeId),
    /// The id is another process's, as far as can be known.
    #[error(
        "node `{0}` is a member already, and the one that asks does not show its credential: if it has lost it, run \
         `relayctl forget {0}` on the primary, or wait until it has left the table of nodes"
    )]
    Known(NodeId),
    /// The registry holds nothing that could give way.
    #[error("{MAX_NODES} nodes were removed or barred: the registry takes no more")]
    Full,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Registry {
    /// Number and age of the cluster keys in use.
    pub keys: KeyState,
    nodes: BTreeMap<NodeId, Registration>,
}

impl Registry {
    /// The registration of an id.
    pub fn find(&self, id: &NodeId) -> Option<&Registration> {
        self.nodes.get(id)
    }

    /// The generation of an id's credential; 0 for an id that is not here.
    pub fn generation(&self, id: &NodeId) -> u32 {
        self.nodes.get(id).map_or(0, |node| node.generation)
    }

    /// True for an id that may not join.
    pub fn is_barred(&self, id: &NodeId) -> bool {
        self.nodes.get(id).is_some_and(|node| node.barred)
    }

    /// The barred nodes, by id.
    pub fn barred(&self) -> impl Iterator<Item = (&NodeId, &Registration)> {
        self.nodes.iter().filter(|(_, node)| node.barred)
    }

    /// The nodes that came by a join token and may still report, by id.
    pub fn came_by<'a>(
        &'a self,
        token: &'a str,
    ) -> impl Iterator<Item = (&'a NodeId, &'a Registration)> {
        self.nodes
            .iter()
            .filter(move |(_, node)| !node.barred && node.token.as_deref() == Some(token))
    }

    /// The removals that every node of the cluster has to know of.
    pub fn removals(&self) -> Vec<Removal> {
        let removed = self.nodes.iter().filter(|(_, node)| node.removed > 0);
        removed
            .map(|(id, node)| Removal {
                id: id.clone(),
                times: node.removed,
                barred: node.barred,
            })
            .collect()
    }

    /// A node joins. An id that is known needs its own credential; with a join token alone it is taken
    ///
    /// - where it is new,
    /// - by the token that it came by, until it has reported for the first time: the answer to its join was lost,
    /// - once it is dead, where it cannot keep its credential (its data directory is read-only),
    /// - once it has left the table.
    ///
    /// In the last two cases the credential of before is worth nothing from then on.
    ///
    /// # Errors
    /// See [`JoinError`].
    pub fn join(
        &mut self,
        id: &NodeId,
        name: &NodeName,
        shown: Shown<'_>,
        presence: Presence,
        keeps: bool,
        unix_millis: u64,
    ) -> Result<(), JoinError> {
        if self.is_barred(id) {
            return Err(JoinError::Barred(id.clone()));
        }
        let token = match shown {
            Shown::Credential => None,
            Shown::Token(token) => Some(token.to_owned()),
        };
        let Some(node) = self.nodes.get_mut(id) else {
            self.make_room()?;
            let node = fresh(name, token, keeps, unix_millis);
            self.nodes.insert(id.clone(), node);
            return Ok(());
        };
        if let Some(token) = token {
            let repeated = !node.proven && node.token.as_ref() == Some(&token);
            let given_up = match presence {
                Presence::Live => !node.proven && node.token.is_none(),
                Presence::Dead => !node.keeps || !node.proven,
                Presence::Absent => true,
            };
            if !repeated && !given_up {
                return Err(JoinError::Known(id.clone()));
            }
            if !repeated {
                node.generation = node.generation.saturating_add(1);
                node.proven = false;
            }
            node.token = Some(token);
        }
        node.name = name.clone();
        node.keeps = keeps;
        node.since = unix_millis;
        Ok(())
    }

    /// A node has reported with its credential. True if that was not known before.
    pub fn reported(&mut self, id: &NodeId, name: &NodeName, unix_millis: u64) -> bool {
        if let Some(node) = self.nodes.get_mut(id) {
            return !std::mem::replace(&mut node.proven, true);
        }
        if self.make_room().is_err() {
            return false;
        }
        let mut node = fresh(name, None, false, unix_millis);
        node.proven = true;
        self.nodes.insert(id.clone(), node);
        true
    }

    /// An operator removes a node: its credential ends. Barred, it cannot join again either.
    ///
    /// # Errors
    /// Where the registry is full.
    pub fn remove(
        &mut self,
        id: &NodeId,
        name: &NodeName,
        bar: bool,
        unix_millis: u64,
    ) -> Result<(), JoinError> {
        if !self.nodes.contains_key(id) {
            self.make_room()?;
        }
        let node = self.nodes.entry(id.clone());
        let node = node.or_insert_with(|| fresh(name, None, false, unix_millis));
        node.generation = node.generation.saturating_add(1);
        node.removed = node.removed.saturating_add(1);
        node.barred |= bar;
        node.proven = false;
        node.token = None;
        node.since = unix_millis;
        Ok(())
    }

    /// Takes a bar back; false if there was none.
    pub fn unbar(&mut self, id: &NodeId) -> bool {
        let node = self.nodes.get_mut(id);
        node.is_some_and(|node| std::mem::take(&mut node.barred))
    }

    /// A node id by id or by name; among several of one name the one that was heard of last.
    pub fn named(&self, text: &str) -> Option<&NodeId> {
        let by_id = self.nodes.keys().find(|id| id.as_str() == text);
        by_id.or_else(|| {
            let named = self
                .nodes
                .iter()
                .filter(|(_, node)| node.name.as_str() == text);
            named.max_by_key(|(_, node)| node.since).map(|(id, _)| id)
        })
    }

    fn make_room(&mut self) -> Result<(), JoinError> {
        if self.nodes.len() < MAX_NODES {
            return Ok(());
        }
        // An id whose credential has another generation than the first must stay: forgotten, the first would be
        // good again.
        let spare = self.nodes.iter().filter(|(_, node)| node.generation == 0);
        let oldest = spare.min_by_key(|(_, node)| (node.proven, node.since));
        let oldest = oldest.map(|(id, _)| id.clone()).ok_or(JoinError::Full)?;
        self.nodes.remove(&oldest);
        Ok(())
    }
}

fn fresh(name: &NodeName, token: Option<String>, keeps: bool, unix_millis: u64) -> Registration {
    Registration {
        name: name.clone(),
        generation: 0,
        token,
        keeps,
        proven: false,
        removed: 0,
        barred: false,
        since: unix_millis,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> NodeId {
        text.parse().unwrap()
    }

    fn join(
        registry: &mut Registry,
        shown: Shown<'_>,
        presence: Presence,
        keeps: bool,
    ) -> Result<u32, JoinError> {
        let node = id("r1");
        registry.join(&node, &node, shown, presence, keeps, 7)?;
        Ok(registry.generation(&node))
    }

    use Presence::{Absent, Dead, Live};

    #[test]
    fn a_live_node_is_taken_over_by_nobody() {
        let mut registry = Registry::default();
        assert_eq!(join(&mut registry, Shown::Token("a"), Absent, true), Ok(0));
        registry.reported(&id("r1"), &id("r1"), 8);
        for token in ["a", "b", "given"] {
            let refused = join(&mut registry, Shown::Token(token), Live, true);
            assert_eq!(refused, Err(JoinError::Known(id("r1"))));
            assert!(
                refused
                    .unwrap_err()
                    .to_string()
                    .contains("`relayctl forget r1`")
            );
            let refused = join(&mut registry, Shown::Token(token), Dead, true);
            assert_eq!(refused, Err(JoinError::Known(id("r1"))));
        }
        assert_eq!(join(&mut registry, Shown::Credential, Live, true), Ok(0));
        assert_eq!(registry.came_by("a").count(), 1);
    }

    #[test]
    fn an_answer_that_was_lost_is_asked_for_again_by_the_same_token() {
        let mut registry = Registry::default();
        assert_eq!(join(&mut registry, Shown::Token("a"), Absent, true), Ok(0));
        assert_eq!(join(&mut registry, Shown::Token("a"), Live, true), Ok(0));
        assert!(join(&mut registry, Shown::Token("b"), Live, true).is_err());
        assert!(registry.reported(&id("r1"), &id("r1"), 8));
        assert!(!registry.reported(&id("r1"), &id("r1"), 9));
        assert!(join(&mut registry, Shown::Token("a"), Live, true).is_err());
    }

    #[test]
    fn whoever_comes_after_the_row_has_gone_ends_the_credential_of_before() {
        let mut registry = Registry::default();
        join(&mut registry, Shown::Token("a"), Absent, true).unwrap();
        registry.reported(&id("r1"), &id("r1"), 8);
        assert_eq!(join(&mut registry, Shown::Token("b"), Absent, true), Ok(1));
        // A node that cannot keep its credential waits only until it is known to be dead.
        registry.reported(&id("r1"), &id("r1"), 8);
        join(&mut registry, Shown::Credential, Live, false).unwrap();
        assert!(join(&mut registry, Shown::Token("b"), Live, false).is_err());
        assert_eq!(join(&mut registry, Shown::Token("b"), Dead, false), Ok(2));
    }

    #[test]
    fn removed_and_barred() {
        let mut registry = Registry::default();
        join(&mut registry, Shown::Token("a"), Absent, true).unwrap();
        registry.remove(&id("r1"), &id("r1"), false, 9).unwrap();
        assert_eq!(registry.generation(&id("r1")), 1);
        assert_eq!(registry.came_by("a").count(), 0);
        assert_eq!(join(&mut registry, Shown::Token("a"), Absent, true), Ok(2));
        registry.remove(&id("r1"), &id("r1"), true, 9).unwrap();
        let barred = Err(JoinError::Barred(id("r1")));
        for shown in [Shown::Token("a"), Shown::Credential] {
            assert_eq!(join(&mut registry, shown, Absent, true), barred);
        }
        let told = registry.removals();
        assert_eq!((told.len(), told[0].times, told[0].barred), (1, 2, true));
        let kept = serde_json::to_string(&registry).unwrap();
        let mut registry: Registry = serde_json::from_str(&kept).unwrap();
        assert!(registry.is_barred(&id("r1")));
        assert!(registry.unbar(&id("r1")) && !registry.unbar(&id("r1")));
        assert!(join(&mut registry, Shown::Token("a"), Absent, true).is_ok());
        // One that was never here can be barred in advance.
        registry.remove(&id("r2"), &id("r2"), true, 9).unwrap();
        assert_eq!(registry.barred().count(), 1);
    }

    #[test]
    fn the_registry_is_bounded_and_keeps_who_was_removed() {
        let mut registry = Registry::default();
        registry.remove(&id("bad"), &id("bad"), true, 0).unwrap();
        for number in 0..MAX_NODES as u64 + 10 {
            let node = id(&format!("n{number}"));
            let token = Shown::Token("t");
            registry
                .join(&node, &node, token, Absent, true, number)
                .unwrap();
        }
        assert_eq!(registry.nodes.len(), MAX_NODES);
        assert!(registry.is_barred(&id("bad")));
        assert!(registry.find(&id("n0")).is_none());
        assert_eq!(registry.named("n77"), Some(&id("n77")));
    }
}
