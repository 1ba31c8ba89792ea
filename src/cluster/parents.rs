//! Whom a relay pulls a mount from: its own ordered list, from the table as it has it.
//!
//! Shallow before deep, near before far, free before full, spread over equals by a hash of both ids; who has a
//! parent keeps it first. A node whose way to the origin leads through the asking one is left out, as far as
//! the table knows; what the table does not know, the path in the stream's head says.
//!
//! The rule asks nobody and needs nobody: it is the same on every relay, whatever became of the primary. A list may
//! still name somebody below the asking node, since tables are old; [`Standing`] is what no circle gets past.

mod standing;

use std::cmp::Ordering;

use super::snapshot::{NodeView, Snapshot, State};
use crate::base::ids::{MountId, NodeId};
use crate::wire::message::{MountState, NodeRole};
pub use standing::Standing;

/// Most parents in one list.
pub const MAX_PARENTS: usize = 16;

/// Most nodes between an origin and a relay; what is deeper is taken for a circle.
pub const MAX_DEPTH: usize = 32;

/// What a step away from the origin costs, and what another region does: the far primary rather than a near
/// relay at depth two, but a near relay at depth one rather than the far primary.
const COST: (u32, u32) = (2, 3);

/// With a processor that is busier than this a node counts among equals as if it had a quarter of its places left;
/// it is not passed over for a deeper one, since a pull costs little.
const BUSY: f64 = 0.9;

/// How deep the origin counts for a front: a step below the relays that pull from it.
const HEAD_OF_FRONTS: usize = 2;

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub struct Seeker<'a> {
    /// The node.
    pub own: &'a NodeId,
    /// Where it stands; empty is unknown.
    pub region: &'a str,
    /// What it wants.
    pub mount: &'a MountId,
    /// Whom it pulls from now.
    pub current: Option<&'a NodeId>,
    /// Whom the operator wants it to pull from.
    pub assigned: Option<&'a NodeId>,
    /// It holds the listeners of others (`mode: proxy`): it pulls from serving relays, by their load, so that what it
    /// takes falls on them and not on the origin.
    pub front: bool,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Parents {
    /// The first one is to be kept, or tried first; the others follow when it is lost.
    pub order: Vec<NodeId>,
    /// Nearer to the origin than the first one, with a place left: worth a move if it takes us.
    pub better: Option<NodeId>,
    /// The current one is on its way out: the move is not to wait.
    pub leaving: bool,
}

/// How good a node is; less is better.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Rank {
    tier: u8,
    cost: u32,
    /// Of equals: a hash of both, weighted by the places left.
    draw: f64,
}

impl Rank {
    fn order(&self, other: &Self) -> Ordering {
        let key = |rank: &Self| (rank.tier, rank.cost);
        key(self)
            .cmp(&key(other))
            .then(self.draw.total_cmp(&other.draw))
    }
}

/// Takes new children gladly.
const WILLING: u8 = 0;
/// Has no place left, as far as is known.
const FULL: u8 = 1;
/// Suspect, draining, not up yet, cut off itself: better than nobody.
const DOUBTFUL: u8 = 2;

/// Whom `seeker` is to pull from, in this order.
pub fn choose(seeker: &Seeker<'_>, snapshot: &Snapshot) -> Parents {
    let mut ranked: Vec<(Rank, &NodeView)> = snapshot
        .nodes
        .iter()
        .filter_map(|node| Some((rank(seeker, snapshot, node)?, &**node)))
        .collect();
    ranked.sort_by(|(a, _), (b, _)| a.order(b));
    let current = seeker.current.and_then(|id| snapshot.find(id));
    let leaving = current.is_some_and(|node| node.state == State::Draining);
    // Who waits for the operator's choice moves meanwhile only where it has to.
    let may_move = |current: &&NodeId| {
        let waits = |assigned: &NodeId| leaving && assigned != *current;
        seeker.assigned.is_none_or(waits)
    };
    let better = seeker
        .current
        .filter(may_move)
        .and_then(|current| better(current, &ranked));
    let mut order: Vec<NodeId> = ranked.iter().map(|(_, node)| node.id.clone()).collect();
    cut(&mut order, &ranked);
    // One that still delivers is kept whatever the table says of it: it is left when it fails.
    lead(&mut order, seeker.current);
    let assigned = seeker
        .assigned
        .filter(|id| ranked.iter().any(|(_, node)| node.id == **id));
    lead(&mut order, assigned);
    Parents {
        order,
        better,
        leaving,
    }
}

/// The nodes from `from` up to the origin of `mount`, both counted, as the table has it. `None` where the way
/// is not known to the end, or runs in a circle.
pub fn way<'s>(
    snapshot: &'s Snapshot,
    mount: &MountId,
    from: &'s NodeId,
) -> Option<Vec<&'s NodeId>> {
    let mut way = Vec::new();
    let mut at = from;
    loop {
        if way.len() >= MAX_DEPTH || way.contains(&at) {
            return None;
        }
        way.push(at);
        let node = snapshot.find(at)?;
        match parent_of(node, mount) {
            Some(parent) => at = parent,
            None if node.role == NodeRole::Primary => return Some(way),
            None => return None,
        }
    }
}

/// Whom `node` pulls `mount` from.
fn parent_of<'s>(node: &'s NodeView, mount: &MountId) -> Option<&'s NodeId> {
    node.mounts.get(mount)?.parent.as_ref()
}

/// True if the way from `from` towards the origin is known to lead through `through`.
pub fn leads_through(
    snapshot: &Snapshot,
    mount: &MountId,
    from: &NodeId,
    through: &NodeId,
) -> bool {
    let mut at = from;
    for _ in 0..MAX_DEPTH {
        if at == through {
            return true;
        }
        let Some(node) = snapshot.find(at) else {
            return false;
        };
        match parent_of(node, mount) {
            Some(parent) => at = parent,
            None => return false,
        }
    }
    true
}

fn rank(seeker: &Seeker<'_>, snapshot: &Snapshot, node: &NodeView) -> Option<Rank> {
    let carries = node
        .mounts
        .get(seeker.mount)
        .is_some_and(|view| matches!(view.state, MountState::Live | MountState::Held));
    let is_primary = node.role == NodeRole::Primary;
    let able = node.capabilities.positions && node.limits.max_children > 0;
    if node.state == State::Dead || !able || !(carries || is_primary) {
        return None;
    }
    if leads_through(snapshot, seeker.mount, &node.id, seeker.own) {
        return None;
    }
    let way = match is_primary {
        true => Some(vec![&node.id]),
        false => way(snapshot, seeker.mount, &node.id),
    };
    let is_fed = way.as_ref().is_some_and(|way| {
        let alive = |id: &&NodeId| snapshot.find(id).is_some_and(|n| n.state != State::Dead);
        way.iter().all(alive)
    });
    let used = match seeker.current == Some(&node.id) {
        true => node.children.saturating_sub(1),
        false => node.children,
    };
    let free = node.limits.max_children.saturating_sub(used);
    let tier = if node.state != State::Ready || node.suspected || !is_fed {
        DOUBTFUL
    } else if free == 0 {
        FULL
    } else {
        WILLING
    };
    let places = match seeker.front && free > 0 {
        true => places_for_listeners(node),
        false => free,
    };
    let weight = if node.cpu_ratio > BUSY {
        places / 4
    } else {
        places
    };
    let depth = match seeker.front && is_primary {
        true => HEAD_OF_FRONTS,
        false => way.map_or(MAX_DEPTH, |way| way.len().saturating_sub(1)),
    };
    let far = !seeker.region.is_empty() && !node.region.is_empty() && node.region != seeker.region;
    let steps = u32::try_from(depth).unwrap_or(u32::MAX);
    let cost = steps.saturating_mul(COST.0);
    let cost = cost.saturating_add(u32::from(far).saturating_mul(COST.1));
    Some(Rank {
        tier,
        cost,
        draw: draw(seeker.own, &node.id, weight),
    })
}

fn places_for_listeners(node: &NodeView) -> u32 {
    let free = node.limits.max_listeners.saturating_sub(node.listeners);
    u32::try_from(free).unwrap_or(u32::MAX)
}

/// Weighted rendezvous hashing: of equals each seeker has an order of its own, so that the orphans of one
/// parent do not all fall on one other; who has twice the places is twice as often first.
fn draw(own: &NodeId, node: &NodeId, free: u32) -> f64 {
    let text = [own.as_str(), "\n", node.as_str()].concat();
    let hash = xxhash_rust::xxh3::xxh3_64(text.as_bytes());
    let unit = ((hash >> 11) as f64 + 1.0) / (1_u64 << 53) as f64;
    -unit.min(1.0 - f64::EPSILON).ln() / f64::from(free.max(1))
}

/// A willing one that is a whole step nearer than the current one; or any willing one, where the current one
/// is on its way out.
fn better(current: &NodeId, ranked: &[(Rank, &NodeView)]) -> Option<NodeId> {
    let (mine, node) = ranked.iter().find(|(_, node)| node.id == *current)?;
    let (best, candidate) = ranked.iter().find(|(_, node)| node.id != *current)?;
    let leaves = node.state == State::Draining;
    let nearer = mine.tier != DOUBTFUL && best.cost.saturating_add(COST.0) <= mine.cost;
    (best.tier == WILLING && (leaves || nearer)).then(|| candidate.id.clone())
}

/// The best, and always the primary.
fn cut(order: &mut Vec<NodeId>, ranked: &[(Rank, &NodeView)]) {
    order.truncate(MAX_PARENTS);
    let head = ranked
        .iter()
        .find(|(_, node)| node.role == NodeRole::Primary);
    if let Some((_, head)) = head.filter(|(_, head)| !order.contains(&head.id)) {
        order.truncate(MAX_PARENTS - 1);
        order.push(head.id.clone());
    }
}

fn lead(order: &mut Vec<NodeId>, first: Option<&NodeId>) {
    let Some(first) = first else { return };
    order.retain(|id| id != first);
    order.insert(0, first.clone());
}

#[cfg(test)]
mod tests;
