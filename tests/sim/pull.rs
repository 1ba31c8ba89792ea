//! One node's pull in simulated time: what comes, whom it leaves, whom it asks. An answer takes a while, and says
//! how things stood when it was given.

use std::collections::HashSet;

use rand::Rng as _;
use relayctl::base::ids::Position;
use relayctl::cluster::parents::{Seeker, choose};

use super::world::{Broken, STEP, World, id, index, live};

/// A parent without a word for this long is left; so is one that is as far behind another.
pub const SILENCE: u64 = 3_000;
/// Audio that a ring keeps, in milliseconds.
const RING: u64 = 60_000;

/// A connection to a parent.
#[derive(Debug, Clone, Copy)]
pub struct Link {
    pub to: usize,
    /// Of the process at the other end.
    pub incarnation: u64,
    /// It was ahead once: what it has is taken.
    pub feeds: bool,
    since: u64,
}

/// A parent that was asked, and what it said.
#[derive(Debug, Clone)]
pub struct Opening {
    pub to: usize,
    pub incarnation: u64,
    due: u64,
    edge: Position,
    /// From the origin to the parent itself.
    path: Vec<usize>,
    trial: Option<Trial>,
}

/// Why another one is tried beside the one that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trial {
    Late,
    Better,
}

impl World {
    /// What one node does in a step.
    pub fn stream(&mut self, at: usize) {
        let millis = self.millis();
        let due = |opening: &mut Opening| opening.due <= millis;
        if let Some(opening) = self.nodes[at].opening.take_if(due) {
            self.arrive(at, opening);
        }
        match self.nodes[at].link {
            Some(link) => self.receive(at, link),
            None if self.nodes[at].opening.is_some() => {}
            None if millis >= self.nodes[at].busy_until => self.seek(at),
            None => {}
        }
    }

    fn path_through(&self, parent: usize) -> Vec<usize> {
        let mut path = self.nodes[parent].path.clone();
        path.push(parent);
        path
    }

    /// True if a node may be fed by one that said this of itself.
    fn may_follow(&self, at: usize, edge: Position, depth: usize) -> bool {
        let obeys = !matches!(self.broken, Broken::Standing | Broken::StandingAndPath);
        !obeys || self.nodes[at].standing.may_follow(edge, depth)
    }

    fn is_in(&self, at: usize, path: &[usize]) -> bool {
        self.broken != Broken::StandingAndPath && path.contains(&at)
    }

    fn receive(&mut self, at: usize, link: Link) {
        let parent = &self.nodes[link.to];
        let is_same = parent.alive && parent.incarnation == link.incarnation;
        let linked = parent.linked && self.nodes[at].linked;
        match (linked, is_same) {
            // Its sockets are reset.
            (true, false) => return self.leave(at, link.to),
            (true, true) => {
                if !self.take(at, link) {
                    return self.leave(at, link.to);
                }
            }
            (false, _) if self.millis() - self.nodes[at].heard >= SILENCE => {
                return self.leave(at, link.to);
            }
            (false, _) => {}
        }
        self.doubt(at, link);
    }

    /// What comes in a step. False if the parent is to be left.
    fn take(&mut self, at: usize, link: Link) -> bool {
        let (path, millis) = (self.path_through(link.to), self.millis());
        if self.is_in(at, &path) {
            return false;
        }
        let (edge, theirs) = (self.nodes[link.to].edge, self.nodes[link.to].position());
        let slow = self.nodes[at].slow || self.nodes[link.to].slow;
        let follows = link.feeds || self.may_follow(at, theirs, path.len() - 1);
        let node = &mut self.nodes[at];
        node.heard = millis;
        if !follows {
            return edge >= node.edge || millis - link.since < SILENCE;
        }
        node.link = Some(Link {
            feeds: true,
            ..link
        });
        node.path = path;
        node.standing.reached(node.position(), node.path.len());
        let room = if slow { STEP / 2 } else { 10_000 };
        if node.edge + RING < edge {
            // A new process has nothing to go on from.
            if node.edge > 0 {
                self.lost += edge - RING - node.edge;
            }
            node.edge = edge - RING;
        }
        node.edge = node.edge.max(edge.min(node.edge + room));
        node.epoch = node.epoch.max(theirs.epoch.0);
        node.standing.reached(node.position(), node.path.len());
        true
    }

    fn leave(&mut self, at: usize, parent: usize) {
        let millis = self.millis();
        let node = &mut self.nodes[at];
        (node.link, node.opening) = (None, None);
        node.tried = HashSet::from([parent]);
        node.wait = 100;
        node.busy_until = millis;
        if self.broken == Broken::Failover {
            self.nodes[at].busy_until = u64::MAX;
            return;
        }
        self.seek(at);
    }

    fn candidates(&self, at: usize) -> (Vec<usize>, Option<usize>) {
        let node = &self.nodes[at];
        let (own, mount, current) = (&node.id, live(), node.parent().map(id));
        let seeker = Seeker {
            own,
            region: "",
            mount: &mount,
            current: current.as_ref(),
            assigned: None,
            front: false,
        };
        let chosen = choose(&seeker, &node.table);
        let mut list: Vec<usize> = chosen.order.iter().map(index).collect();
        if !list.contains(&0) {
            list.push(0);
        }
        (list, chosen.better.as_ref().map(index))
    }

    /// What the other end of a connection would say. `None`: nothing at all.
    fn takes(&self, child: usize, parent: usize) -> Option<bool> {
        if !self.nodes[parent].linked || !self.nodes[child].linked {
            return None;
        }
        let other = &self.nodes[parent];
        let fed = parent == 0 || other.parent().is_some();
        let more = usize::from(self.broken == Broken::Bound);
        let free = self.children(parent) < other.max_children as usize + more;
        let circle = self.is_in(child, &other.path);
        Some(other.alive && fed && free && !circle && (other.edge > 0 || parent == 0))
    }

    fn seek(&mut self, at: usize) {
        let (list, _) = self.candidates(at);
        let millis = self.millis();
        let next = list
            .iter()
            .copied()
            .find(|one| !self.nodes[at].tried.contains(one));
        let Some(next) = next else {
            let node = &mut self.nodes[at];
            node.tried.clear();
            node.busy_until = millis + node.wait;
            node.wait = (node.wait * 2).min(5_000);
            return;
        };
        match self.takes(at, next) {
            Some(true) => self.open(at, next, None),
            Some(false) => {
                self.nodes[at].tried.insert(next);
            }
            None => self.unanswered(at, next),
        }
    }

    fn unanswered(&mut self, at: usize, by: usize) {
        let until = self.millis() + SILENCE;
        self.nodes[at].tried.insert(by);
        self.nodes[at].busy_until = until;
    }

    /// Another one is asked, and has a place for it; the answer takes up to three steps.
    fn open(&mut self, at: usize, parent: usize, trial: Option<Trial>) {
        let due = self.millis() + STEP * self.chance.random_range(0..=3);
        let opening = Opening {
            to: parent,
            incarnation: self.nodes[parent].incarnation,
            due,
            edge: self.nodes[parent].position(),
            path: self.path_through(parent),
            trial,
        };
        if due == self.millis() {
            return self.arrive(at, opening);
        }
        self.nodes[at].opening = Some(opening);
    }

    /// The answer is here.
    fn arrive(&mut self, at: usize, opening: Opening) {
        let (other, to) = (&self.nodes[opening.to], opening.to);
        let is_gone = !other.alive || other.incarnation != opening.incarnation;
        let cut = !other.linked || !self.nodes[at].linked;
        if let (Some(trial), Some(_)) = (opening.trial, self.nodes[at].link) {
            let ours = self.nodes[at].edge;
            let worth = match trial {
                Trial::Late => opening.edge.offset > ours + SILENCE,
                Trial::Better => opening.edge.offset + SILENCE / 2 >= ours,
            };
            if is_gone || cut || !worth {
                return;
            }
        } else if cut {
            return self.unanswered(at, to);
        } else if is_gone {
            self.nodes[at].tried.insert(to);
            return;
        }
        if self.is_in(at, &opening.path) {
            self.nodes[at].tried.insert(to);
            return;
        }
        self.connect(at, opening);
    }

    fn connect(&mut self, at: usize, opening: Opening) {
        let feeds = self.may_follow(at, opening.edge, opening.path.len() - 1);
        let (wait, millis) = (self.chance.random_range(10_000..30_000), self.millis());
        let node = &mut self.nodes[at];
        node.link = Some(Link {
            to: opening.to,
            incarnation: opening.incarnation,
            feeds,
            since: millis,
        });
        if feeds {
            node.path = opening.path;
            node.epoch = node.epoch.max(opening.edge.epoch.0);
            node.standing.reached(node.position(), node.path.len());
        }
        (node.heard, node.trial_at) = (millis, millis + wait);
        node.tried.clear();
        node.wait = 100;
        self.moves += 1;
        self.waits += u64::from(!feeds);
    }

    /// Another one is tried beside the one that feeds, where that one is behind or far.
    fn doubt(&mut self, at: usize, link: Link) {
        let millis = self.millis();
        let behind = self.nodes[0].edge.saturating_sub(self.nodes[at].edge) >= SILENCE;
        let waits = !link.feeds && millis - link.since >= SILENCE;
        let late = (behind || waits) && millis >= self.nodes[at].busy_until;
        if self.nodes[at].opening.is_some() || (!late && millis < self.nodes[at].trial_at) {
            return;
        }
        let (list, better) = self.candidates(at);
        self.nodes[at].trial_at = millis + 10_000;
        let others: Vec<usize> = list.into_iter().filter(|one| *one != link.to).collect();
        let (chosen, trial) = if late {
            let node = &mut self.nodes[at];
            node.busy_until = millis + SILENCE;
            node.trials += 1;
            let chosen = others.get(node.trials % others.len().max(1));
            (chosen.copied(), Trial::Late)
        } else {
            (better.filter(|other| *other != link.to), Trial::Better)
        };
        let Some(other) = chosen else { return };
        if self.takes(at, other) == Some(true) {
            self.open(at, other, Some(trial));
        }
    }
}
