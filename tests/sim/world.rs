//! A cluster in simulated time: processes, links, the stream between them, the primary's table and what relays have
//! heard of it.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use relayctl::base::ids::{Epoch, MountId, NodeId};
use relayctl::cluster::copy::TableCopy;
use relayctl::cluster::parents::{Seeker, choose};
use relayctl::cluster::snapshot::{Snapshot, State};
use relayctl::cluster::table::{Config, Effect, Event, Probe, Table};
use relayctl::wire::message::{
    Beat, Capabilities, FeedLine, Limits, MountBeat, MountState, NodeState, PublicUrls, VERSION,
};

use super::faults::Fault;

const STEP: u64 = 100;
/// A parent without a word for this long is left; so is one that is as far behind another.
const SILENCE: u64 = 3_000;
/// Audio that a ring keeps, in milliseconds.
const RING: u64 = 60_000;
/// A relay that can be fed is, within this time: three seconds to notice, three for each of two parents that do not
/// answer, five of waiting at most, and some to catch up.
const FED_WITHIN: u64 = 20_000;
/// A circle that formed in the time that a head takes is gone within this.
const CIRCLE: u64 = 1_000;

/// A process and its link.
#[derive(Debug)]
pub struct Node {
    pub id: NodeId,
    pub alive: bool,
    incarnation: u64,
    linked: bool,
    slow: bool,
    skew: i64,
    max_children: u32,
    pub listeners: u64,
    /// Index of the parent that feeds it.
    pub parent: Option<usize>,
    /// As its parent's head said.
    path: Vec<usize>,
    /// Milliseconds of audio.
    edge: u64,
    heard: u64,
    tried: HashSet<usize>,
    busy_until: u64,
    wait: u64,
    trial_at: u64,
    trials: usize,
    table: Arc<Snapshot>,
    beat_at: u64,
    seq: u64,
    /// Since when it could be fed and is not.
    hungry: Option<u64>,
    looped: Option<u64>,
}

/// See the module. Node 0 is the primary.
pub struct World {
    pub nodes: Vec<Node>,
    pub table: Table,
    copy: TableCopy,
    told: u64,
    feed: Arc<Snapshot>,
    pub chance: StdRng,
    start: Instant,
    millis: u64,
    seed: u64,
    probes: Vec<(NodeId, String)>,
    moves: u64,
    circles: u64,
    lost: u64,
    worst: u64,
    most_children: usize,
}

pub fn live() -> MountId {
    MountId::new("/live.mp3").unwrap()
}

fn id(index: usize) -> NodeId {
    format!("n{index:03}").parse().unwrap()
}

fn index(id: &NodeId) -> usize {
    id.as_str()[1..].parse().unwrap()
}

impl World {
    /// A primary and so many relays, which start within five seconds.
    pub fn new(seed: u64, relays: usize) -> Self {
        let mut chance = StdRng::seed_from_u64(seed);
        let node = |index: usize, chance: &mut StdRng| Node {
            id: id(index),
            alive: true,
            incarnation: 1,
            linked: true,
            slow: false,
            skew: 0,
            max_children: 16,
            listeners: 0,
            parent: None,
            path: Vec::new(),
            edge: 0,
            heard: 0,
            tried: HashSet::new(),
            busy_until: 1_000 + chance.random_range(0..4_000),
            wait: 100,
            trial_at: 0,
            trials: 0,
            table: Arc::default(),
            beat_at: chance.random_range(0..1_000),
            seq: 0,
            hungry: None,
            looped: None,
        };
        Self {
            nodes: (0..=relays).map(|index| node(index, &mut chance)).collect(),
            table: Table::new(Config::default(), BTreeSet::new()),
            copy: TableCopy::default(),
            told: 0,
            feed: Arc::default(),
            chance,
            start: Instant::now() + Duration::from_secs(3_600),
            millis: 0,
            seed,
            probes: Vec::new(),
            moves: 0,
            circles: 0,
            lost: 0,
            worst: 0,
            most_children: 0,
        }
    }

    pub fn millis(&self) -> u64 {
        self.millis
    }

    pub fn now(&self) -> Instant {
        self.start + Duration::from_millis(self.millis)
    }

    fn reach(&self, a: usize, b: usize) -> bool {
        let able = |node: &Node| node.alive && node.linked;
        able(&self.nodes[a]) && able(&self.nodes[b])
    }

    fn children(&self, of: usize) -> usize {
        let alive = self.nodes.iter().filter(|node| node.alive);
        alive.filter(|node| node.parent == Some(of)).count()
    }

    pub fn apply(&mut self, fault: &Fault) {
        let effects = match *fault {
            Fault::Kill(node) => {
                self.nodes[node].alive = false;
                self.nodes[node].parent = None;
                self.nodes[node].listeners = 0;
                self.connection_lost(node)
            }
            Fault::Restart(node) if !self.nodes[node].alive => {
                let fresh = &mut self.nodes[node];
                fresh.alive = true;
                fresh.incarnation += 1;
                (fresh.seq, fresh.edge, fresh.heard) = (0, 0, self.millis);
                fresh.busy_until = self.millis + 1_000;
                fresh.table = Arc::default();
                Vec::new()
            }
            Fault::Restart(_) => Vec::new(),
            Fault::Cut(node) => self.set(node, |node| node.linked = false),
            Fault::Mend(node) => self.set(node, |node| node.linked = true),
            Fault::Slow(node) => self.set(node, |node| node.slow = true),
            Fault::Quick(node) => self.set(node, |node| node.slow = false),
            Fault::Skew(node, by) => self.set(node, |node| node.skew = by),
            Fault::Drain(node) => self.table.step(self.now(), Event::Drain(id(node))),
            Fault::Resume(node) => self.table.step(self.now(), Event::Resume(id(node))),
            Fault::PrimaryGone => self.set(0, |node| node.alive = false),
            Fault::PrimaryBack => {
                let drains = self.table.drains().clone();
                self.table = Table::new(Config::default(), drains);
                (self.copy, self.told) = (TableCopy::default(), 0);
                self.set(0, |node| {
                    node.alive = true;
                    node.incarnation += 1;
                })
            }
        };
        self.carry_out(&effects);
    }

    fn set(&mut self, node: usize, change: impl FnOnce(&mut Node)) -> Vec<Effect> {
        change(&mut self.nodes[node]);
        Vec::new()
    }

    fn connection_lost(&mut self, node: usize) -> Vec<Effect> {
        if !self.nodes[0].alive || !self.nodes[node].linked {
            return Vec::new();
        }
        let event = Event::ConnectionLost {
            id: id(node),
            connection: node as u64,
        };
        self.table.step(self.now(), event)
    }

    /// A tenth of a second, and all that must hold after it.
    pub fn step(&mut self) {
        self.millis += STEP;
        if self.nodes[0].alive {
            self.nodes[0].edge += STEP;
            self.primary();
        }
        let mut order: Vec<usize> = (1..self.nodes.len()).collect();
        for at in (1..order.len()).rev() {
            order.swap(at, self.chance.random_range(0..=at));
        }
        for node in order {
            if self.nodes[node].alive {
                self.stream(node);
                self.beat(node);
            }
        }
        self.check();
    }

    fn primary(&mut self) {
        let now = self.now();
        for (node, url) in std::mem::take(&mut self.probes) {
            let at = index(&node);
            let outcome = match (self.nodes[at].linked, self.nodes[at].alive) {
                (true, true) => Probe::Fine,
                (true, false) => Probe::Refused("refused".into()),
                (false, _) => Probe::Failed("timed out".into()),
            };
            let id = node;
            let effects = self.table.step(now, Event::Probed { id, url, outcome });
            self.carry_out(&effects);
        }
        if self.millis.is_multiple_of(500) {
            self.nodes[0].seq += 1;
            let own = self.report(0);
            self.table.step(now, Event::Own(own));
            let effects = self.table.step(now, Event::Tick);
            self.carry_out(&effects);
        }
        if self.millis.is_multiple_of(300) {
            let changes = self.table.changes_since(self.told, now);
            self.told = changes.version;
            for gone in changes.gone {
                self.copy.apply(FeedLine::NodeGone { id: gone }, now);
            }
            let line = FeedLine::Nodes {
                version: changes.version,
                complete: changes.complete,
                panic: changes.panic,
                nodes: changes.nodes,
            };
            self.copy.apply(line, now);
            self.feed = Arc::new(self.copy.snapshot());
            for node in 1..self.nodes.len() {
                if self.reach(0, node) && self.nodes[node].seq > 0 {
                    self.nodes[node].table = Arc::clone(&self.feed);
                }
            }
        }
    }

    pub fn carry_out(&mut self, effects: &[Effect]) {
        for effect in effects {
            if let Effect::Probe { id, url, .. } = effect {
                self.probes.push((id.clone(), url.clone()));
            }
        }
    }

    pub fn report(&self, at: usize) -> Beat {
        let node = &self.nodes[at];
        let unix = 1_800_000_000_000 + self.millis;
        Beat {
            v: VERSION,
            id: node.id.clone(),
            incarnation: node.incarnation,
            seq: node.seq,
            sent_unix_millis: unix.saturating_add_signed(node.skew),
            name: node.id.clone(),
            public_urls: PublicUrls {
                http: Some(format!("http://{}:8000", node.id)),
                https: None,
                withheld: false,
            },
            data_port: 8000,
            limits: Limits {
                max_listeners: 2_000,
                max_bandwidth: 0,
                max_children: node.max_children,
                max_cpu: 0,
            },
            weight: 100,
            version: "0.1.0".into(),
            state: NodeState::Ready,
            uptime_millis: 120_000,
            cpu_ratio: 0.1,
            bandwidth_bits: 0,
            descriptors_left: None,
            mounts: vec![MountBeat {
                mount: live(),
                listeners: node.listeners,
                sent_bytes: 0,
                epoch: Epoch(1),
                offset: node.edge * 16,
                bitrate: 128_000,
                content_type: String::new(),
                state: match node.edge {
                    0 => MountState::Waiting,
                    _ => MountState::Live,
                },
                parent: node.parent.map(id),
                depth: node.path.len() as u32,
                lag_millis: 0,
            }],
            on_demand: false,
            full: false,
            listeners: node.listeners,
            confirmed: Vec::new(),
            parent: node.parent.map(id),
            capabilities: Capabilities::EMBEDDED,
            events: Vec::new(),
            children: self.children(at) as u32,
            region: String::new(),
        }
    }

    fn beat(&mut self, at: usize) {
        if self.millis < self.nodes[at].beat_at {
            return;
        }
        self.nodes[at].beat_at = self.millis + self.chance.random_range(800..1_200);
        if !self.reach(0, at) {
            return;
        }
        self.nodes[at].seq += 1;
        let event = Event::Beat {
            beat: self.report(at),
            seen: IpAddr::from([10, 0, (at / 250) as u8, (at % 250) as u8]),
            connection: at as u64,
        };
        let effects = self.table.step(self.now(), event);
        self.carry_out(&effects);
    }

    /// One node's pull: what comes, whom it leaves, whom it asks.
    fn stream(&mut self, at: usize) {
        match self.nodes[at].parent {
            Some(parent) => self.receive(at, parent),
            None if self.millis >= self.nodes[at].busy_until => self.seek(at),
            None => {}
        }
    }

    fn receive(&mut self, at: usize, parent: usize) {
        if !self.nodes[parent].alive && self.nodes[parent].linked && self.nodes[at].linked {
            return self.leave(at, parent);
        }
        if self.reach(at, parent) {
            let slow = self.nodes[at].slow || self.nodes[parent].slow;
            let room = if slow { STEP / 2 } else { 10_000 };
            let edge = self.nodes[parent].edge;
            let mut path = self.nodes[parent].path.clone();
            path.push(parent);
            let node = &mut self.nodes[at];
            if node.edge + RING < edge {
                self.lost += edge - RING - node.edge;
                node.edge = edge - RING;
            }
            node.edge = node.edge.max(edge.min(node.edge + room));
            (node.heard, node.path) = (self.millis, path);
            if node.path.contains(&at) {
                return self.leave(at, parent);
            }
        } else if self.millis - self.nodes[at].heard >= SILENCE {
            return self.leave(at, parent);
        }
        self.doubt(at, parent);
    }

    fn leave(&mut self, at: usize, parent: usize) {
        let node = &mut self.nodes[at];
        node.parent = None;
        node.tried = HashSet::from([parent]);
        node.wait = 100;
        node.busy_until = self.millis;
        self.seek(at);
    }

    fn candidates(&self, at: usize) -> (Vec<usize>, Option<usize>) {
        let node = &self.nodes[at];
        let (own, mount, current) = (&node.id, live(), node.parent.map(id));
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
        let fed = parent == 0 || other.parent.is_some();
        let free = self.children(parent) < other.max_children as usize;
        let circle = other.path.contains(&child);
        Some(other.alive && fed && free && !circle && (other.edge > 0 || parent == 0))
    }

    fn seek(&mut self, at: usize) {
        let (list, _) = self.candidates(at);
        let next = list
            .iter()
            .copied()
            .find(|one| !self.nodes[at].tried.contains(one));
        let Some(next) = next else {
            let node = &mut self.nodes[at];
            node.tried.clear();
            node.busy_until = self.millis + node.wait;
            node.wait = (node.wait * 2).min(5_000);
            return;
        };
        match self.takes(at, next) {
            Some(true) => self.connect(at, next),
            Some(false) => {
                self.nodes[at].tried.insert(next);
            }
            None => {
                let node = &mut self.nodes[at];
                node.tried.insert(next);
                node.busy_until = self.millis + SILENCE;
            }
        }
    }

    fn connect(&mut self, at: usize, parent: usize) {
        let mut path = self.nodes[parent].path.clone();
        path.push(parent);
        let wait = self.chance.random_range(10_000..30_000);
        let node = &mut self.nodes[at];
        (node.parent, node.path) = (Some(parent), path);
        (node.heard, node.trial_at) = (self.millis, self.millis + wait);
        node.tried.clear();
        node.wait = 100;
        self.moves += 1;
    }

    /// Another one is tried beside the one that feeds, where that one is behind or far.
    fn doubt(&mut self, at: usize, parent: usize) {
        let behind = self.nodes[0].edge.saturating_sub(self.nodes[at].edge) >= SILENCE;
        let late = behind && self.millis >= self.nodes[at].busy_until;
        if !late && self.millis < self.nodes[at].trial_at {
            return;
        }
        let (list, better) = self.candidates(at);
        self.nodes[at].trial_at = self.millis + 10_000;
        let others: Vec<usize> = list.into_iter().filter(|one| *one != parent).collect();
        let chosen = if late {
            let node = &mut self.nodes[at];
            node.busy_until = self.millis + SILENCE;
            node.trials += 1;
            others.get(node.trials % others.len().max(1)).copied()
        } else {
            better
        };
        let Some(other) = chosen else { return };
        let ahead = self.nodes[other].edge > self.nodes[at].edge + SILENCE;
        let level = self.nodes[other].edge + SILENCE / 2 >= self.nodes[at].edge;
        if self.takes(at, other) == Some(true) && if late { ahead } else { level } {
            self.connect(at, other);
        }
    }

    /// What must hold after every step.
    fn check(&mut self) {
        let (seed, millis) = (self.seed, self.millis);
        let mut children = vec![0_usize; self.nodes.len()];
        for node in self.nodes.iter().filter(|node| node.alive) {
            if let Some(parent) = node.parent {
                children[parent] += 1;
            }
        }
        for (at, count) in children.iter().enumerate() {
            let bound = self.nodes[at].max_children as usize;
            assert!(
                *count <= bound,
                "seed {seed} at {millis}: n{at:03} feeds {count} of {bound}"
            );
        }
        self.most_children = self.most_children.max(children[0]);
        let edge =
            (0..self.nodes.len()).filter(|at| self.nodes[*at].alive && self.nodes[*at].linked);
        let newest = edge.map(|at| self.nodes[at].edge).max().unwrap_or(0);
        for at in 1..self.nodes.len() {
            let circle = self.in_circle(at);
            let node = &mut self.nodes[at];
            node.looped = circle.then(|| node.looped.unwrap_or(millis));
            self.circles += u64::from(node.looped == Some(millis));
            let since = node.looped.map_or(0, |since| millis - since);
            assert!(
                since <= CIRCLE,
                "seed {seed} at {millis}: n{at:03} is in a circle"
            );
            let able = node.alive && node.linked && !node.slow && millis > 6_000;
            let behind = newest.saturating_sub(node.edge) >= SILENCE;
            node.hungry = (able && behind).then(|| node.hungry.unwrap_or(millis));
            let hungry = node.hungry.map_or(0, |since| millis - since);
            self.worst = self.worst.max(hungry);
            assert!(
                hungry <= FED_WITHIN,
                "seed {seed} at {millis}: n{at:03} lacks {} ms for {hungry} ms, its parent is {:?}",
                newest - node.edge,
                node.parent
            );
        }
    }

    fn in_circle(&self, at: usize) -> bool {
        let mut seen = at;
        for _ in 0..self.nodes.len() {
            match self.nodes[seen].parent {
                Some(parent) if parent == at => return true,
                Some(parent) => seen = parent,
                None => return false,
            }
        }
        false
    }

    /// After a quiet minute the table is true.
    pub fn settled(&self) {
        let snapshot = self.table.snapshot();
        let rows: BTreeMap<usize, State> = snapshot
            .nodes
            .iter()
            .map(|row| (index(&row.id), row.state))
            .collect();
        for (at, node) in self.nodes.iter().enumerate().skip(1) {
            let state = rows.get(&at).copied();
            let live = node.alive && node.linked;
            match state {
                Some(State::Dead) | None => {
                    assert!(!live, "seed {}: n{at:03} is not dead", self.seed)
                }
                Some(state) => {
                    assert!(live, "seed {}: n{at:03} is {state} and gone", self.seed);
                    assert!(
                        matches!(state, State::Ready | State::Draining),
                        "n{at:03} is {state}"
                    );
                }
            }
        }
        let alive = self.nodes.iter().filter(|node| node.alive && node.linked);
        assert_eq!(snapshot.totals().nodes, alive.clone().count() as u64);
        let listeners: u64 = alive.map(|node| node.listeners).sum();
        assert_eq!(snapshot.totals().listeners, listeners, "seed {}", self.seed);
    }

    pub fn most_children_of_the_primary(&self) -> usize {
        self.most_children
    }

    /// Steps from the primary to the deepest node, itself counted.
    pub fn depth(&self) -> usize {
        let alive = self.nodes.iter().filter(|node| node.alive);
        alive.map(|node| node.path.len() + 1).max().unwrap_or(0)
    }

    pub fn summary(&self) -> String {
        format!(
            "{} s, {} moves, depth {}, {} circles that heads resolved, longest without {} ms, {} ms of audio lost",
            self.millis / 1_000,
            self.moves,
            self.depth(),
            self.circles,
            self.worst,
            self.lost
        )
    }
}
