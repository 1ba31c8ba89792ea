//! What must hold after every step.

use relayctl::cluster::snapshot::State;

use super::pull::SILENCE;
use super::world::{World, index};

/// A relay that can be fed is, within this time: three seconds to notice, three for each of two parents that do not
/// answer, five of waiting at most, and some to catch up.
const FED_WITHIN: u64 = 20_000;

/// What did not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    pub of: Law,
    pub what: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Law {
    /// Nobody is fed by somebody below it.
    NoCircle,
    /// No node feeds more than it declared.
    ChildrenBound,
    /// A row and the totals say what the last beat said.
    CountsTrue,
    /// Who can be fed is fed in time.
    Fed,
    /// Nobody is sent to a node that is known to be dead or to drain.
    SentToReady,
    /// Who joins is answered in time.
    Answered,
    /// No relay gets more newcomers in a second than its bucket holds.
    Bucket,
}

pub type Held = Result<(), Violation>;

impl World {
    /// `what` where `holds` is not so.
    pub fn law(&self, of: Law, holds: bool, what: impl FnOnce() -> String) -> Held {
        if holds {
            return Ok(());
        }
        let what = format!("seed {} at {}: {}", self.seed, self.millis(), what());
        Err(Violation { of, what })
    }

    /// All laws of the tree and of the table.
    pub fn check(&mut self) -> Held {
        self.check_tree()?;
        self.check_counts()?;
        self.check_fed()
    }

    fn check_tree(&mut self) -> Held {
        let mut children = vec![0_usize; self.nodes.len()];
        for node in self.nodes.iter().filter(|node| node.alive) {
            let real = |link: &&super::pull::Link| {
                let parent = &self.nodes[link.to];
                parent.alive && parent.incarnation == link.incarnation
            };
            if let Some(link) = node.link.as_ref().filter(real) {
                children[link.to] += 1;
            }
        }
        for (at, count) in children.iter().enumerate() {
            let bound = self.nodes[at].max_children as usize;
            self.law(Law::ChildrenBound, *count <= bound, || {
                format!("n{at:03} feeds {count} of {bound}")
            })?;
        }
        self.most_children = self.most_children.max(children[0]);
        (1..self.nodes.len()).try_for_each(|at| {
            self.law(Law::NoCircle, !self.in_circle(at), || {
                format!("n{at:03} has its audio through itself")
            })
        })
    }

    /// The process that feeds a node: not one that has taken a dead one's place.
    fn feeds(&self, at: usize) -> Option<usize> {
        let link = self.nodes[at].link.filter(|link| link.feeds)?;
        let parent = &self.nodes[link.to];
        let real = parent.alive && parent.incarnation == link.incarnation;
        (self.nodes[at].alive && real).then_some(link.to)
    }

    fn in_circle(&self, at: usize) -> bool {
        let mut seen = at;
        for _ in 0..self.nodes.len() {
            match self.feeds(seen) {
                Some(parent) if parent == at => return true,
                Some(parent) => seen = parent,
                None => return false,
            }
        }
        false
    }

    fn check_counts(&self) -> Held {
        if !self.nodes[0].alive {
            return Ok(());
        }
        let snapshot = self.table.snapshot();
        let (mut nodes, mut listeners) = (0, 0);
        for row in snapshot.nodes.iter() {
            let at = index(&row.id);
            // Nobody counts on the dead.
            if row.state == State::Dead {
                continue;
            }
            nodes += 1;
            listeners += row.listeners;
            let (says, said) = (row.listeners, self.nodes[at].reported);
            self.law(Law::CountsTrue, at == 0 || says == said, || {
                format!("n{at:03} said {said} listeners, its row says {says}")
            })?;
            let exact = self.nodes[at].exact;
            self.law(Law::CountsTrue, at == 0 || says == exact, || {
                format!("n{at:03} had {exact} listeners at its last beat, its row says {says}")
            })?;
        }
        let totals = snapshot.totals();
        let same = (totals.nodes, totals.listeners) == (nodes, listeners);
        self.law(Law::CountsTrue, same, || {
            format!("{totals:?} of {nodes} live nodes with {listeners} listeners")
        })
    }

    fn check_fed(&mut self) -> Held {
        let live = self.nodes.iter().filter(|node| node.alive && node.linked);
        let newest = live.map(|node| node.edge).max().unwrap_or(0);
        let millis = self.millis();
        for at in 1..self.nodes.len() {
            let node = &mut self.nodes[at];
            let able = node.alive && node.linked && !node.slow && millis > 6_000;
            let behind = newest.saturating_sub(node.edge);
            node.hungry = (able && behind >= SILENCE).then(|| node.hungry.unwrap_or(millis));
            let hungry = node.hungry.map_or(0, |since| millis - since);
            let link = node.link;
            self.worst = self.worst.max(hungry);
            self.law(Law::Fed, hungry <= FED_WITHIN, || {
                format!("n{at:03} lacks {behind} ms for {hungry} ms, its parent is {link:?}")
            })?;
        }
        Ok(())
    }
}
