//! A cluster in simulated time: processes, links, the stream between them, the primary's table and what relays have
//! heard of it.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use relayctl::base::ids::{Epoch, MountId, NodeId, Position};
use relayctl::cluster::copy::TableCopy;
use relayctl::cluster::parents::Standing;
use relayctl::cluster::snapshot::{Snapshot, State};
use relayctl::cluster::table::{Config, Effect, Event, Probe, Table};
use relayctl::wire::message::{
    Beat, Capabilities, FeedLine, Limits, MountBeat, MountState, NodeState, PublicUrls, VERSION,
};

use super::check::Violation;
use super::faults::Fault;
use super::pull::{Link, Opening};

pub const STEP: u64 = 100;

/// A rule that this world breaks on purpose, to show that what must hold is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Broken {
    /// None.
    #[default]
    None,
    /// A node follows whoever takes it, ahead or not.
    Standing,
    /// Nor does it look into the path of a stream's head.
    StandingAndPath,
    /// A node feeds one more than it declared.
    Bound,
    /// A node that lost its parent asks nobody.
    Failover,
    /// Listeners that left are not counted off.
    Counts,
    /// Newcomers are sent to nodes that drain.
    Draining,
    /// Newcomers are sent to nodes that are dead.
    Dead,
    /// How long somebody has stood in line is forgotten.
    Waiting,
    /// A relay's bucket is full whoever came before.
    Bucket,
}

/// A process and its link.
#[derive(Debug)]
pub struct Node {
    pub id: NodeId,
    pub alive: bool,
    pub incarnation: u64,
    pub linked: bool,
    pub slow: bool,
    skew: i64,
    pub max_children: u32,
    pub listeners: u64,
    /// Whom it is connected to.
    pub link: Option<Link>,
    /// Whom it has asked.
    pub opening: Option<Opening>,
    /// The nodes from the origin to its parent, as that one's head said last.
    pub path: Vec<usize>,
    pub standing: Standing,
    pub epoch: u64,
    /// Milliseconds of audio.
    pub edge: u64,
    pub heard: u64,
    pub tried: HashSet<usize>,
    pub busy_until: u64,
    pub wait: u64,
    pub trial_at: u64,
    pub trials: usize,
    pub table: Arc<Snapshot>,
    beat_at: u64,
    seq: u64,
    /// Listeners as its last beat that arrived says, and those that it had then.
    pub reported: u64,
    pub exact: u64,
    /// Since when it could be fed and is not.
    pub hungry: Option<u64>,
}

impl Node {
    pub fn position(&self) -> Position {
        Position {
            epoch: Epoch(self.epoch),
            offset: self.edge,
        }
    }

    /// Index of the parent that feeds it.
    pub fn parent(&self) -> Option<usize> {
        self.link.filter(|link| link.feeds).map(|link| link.to)
    }
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
    pub seed: u64,
    pub broken: Broken,
    /// Listeners come and go by chance.
    pub churn: bool,
    probes: Vec<(NodeId, String)>,
    pub moves: u64,
    /// Connections to nodes that were not ahead, and fed nobody until they were.
    pub waits: u64,
    pub lost: u64,
    pub worst: u64,
    pub most_children: usize,
}

pub fn live() -> MountId {
    MountId::new("/live.mp3").unwrap()
}

pub fn id(index: usize) -> NodeId {
    format!("n{index:03}").parse().unwrap()
}

pub fn index(id: &NodeId) -> usize {
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
            link: None,
            opening: None,
            path: Vec::new(),
            standing: Standing::default(),
            epoch: u64::from(index == 0),
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
            reported: 0,
            exact: 0,
            hungry: None,
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
            broken: Broken::None,
            churn: false,
            probes: Vec::new(),
            moves: 0,
            waits: 0,
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

    pub fn reach(&self, a: usize, b: usize) -> bool {
        let able = |node: &Node| node.alive && node.linked;
        able(&self.nodes[a]) && able(&self.nodes[b])
    }

    /// Whoever takes a place of a node's: it counts those that wait on it too.
    pub fn children(&self, of: usize) -> usize {
        let incarnation = self.nodes[of].incarnation;
        let here = |to: usize, known: u64| to == of && known == incarnation;
        let takes = |node: &&Node| {
            let link = node
                .link
                .is_some_and(|link| here(link.to, link.incarnation));
            let opening = node.opening.as_ref();
            node.alive && (link || opening.is_some_and(|one| here(one.to, one.incarnation)))
        };
        self.nodes.iter().filter(takes).count()
    }

    pub fn apply(&mut self, fault: &Fault) {
        let effects = match *fault {
            Fault::Kill(node) => {
                let dead = &mut self.nodes[node];
                (dead.alive, dead.listeners) = (false, 0);
                (dead.link, dead.opening) = (None, None);
                self.connection_lost(node)
            }
            Fault::Restart(node) if !self.nodes[node].alive => {
                let fresh = &mut self.nodes[node];
                fresh.alive = true;
                fresh.incarnation += 1;
                (fresh.seq, fresh.edge, fresh.epoch) = (0, 0, 0);
                (fresh.heard, fresh.standing) = (self.millis, Standing::default());
                fresh.path.clear();
                fresh.tried.clear();
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
                    node.epoch += 1;
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
    pub fn step(&mut self) -> Result<(), Violation> {
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
        self.check()
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
                epoch: Epoch(node.epoch),
                offset: node.edge * 16,
                bitrate: 128_000,
                content_type: String::new(),
                state: match node.edge {
                    0 => MountState::Waiting,
                    _ => MountState::Live,
                },
                parent: node.parent().map(id),
                depth: node.path.len() as u32,
                lag_millis: 0,
                counts: Default::default(),
            }],
            on_demand: false,
            full: false,
            limit: String::new(),
            reflect: None,
            listeners: node.listeners,
            confirmed: Vec::new(),
            parent: node.parent().map(id),
            capabilities: Capabilities::EMBEDDED,
            events: Vec::new(),
            children: self.children(at) as u32,
            region: String::new(),
            assigned: None,
            counts: Default::default(),
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
        if self.churn {
            self.come_and_go(at);
        }
        let mut beat = self.report(at);
        if self.broken == Broken::Counts {
            beat.listeners = beat.listeners.max(self.nodes[at].reported);
        }
        self.nodes[at].reported = beat.listeners;
        self.nodes[at].exact = self.nodes[at].listeners;
        let event = Event::Beat {
            beat,
            seen: IpAddr::from([10, 0, (at / 250) as u8, (at % 250) as u8]),
            connection: at as u64,
        };
        let effects = self.table.step(self.now(), event);
        self.carry_out(&effects);
    }

    fn come_and_go(&mut self, at: usize) {
        let (come, go) = (
            self.chance.random_range(0..40),
            self.chance.random_range(0..40),
        );
        let node = &mut self.nodes[at];
        node.listeners = (node.listeners + come).saturating_sub(go).min(1_500);
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
        let listeners: u64 = alive.map(|node| node.reported).sum();
        assert_eq!(snapshot.totals().listeners, listeners, "seed {}", self.seed);
    }

    /// Steps from the primary to the deepest node, itself counted.
    pub fn depth(&self) -> usize {
        let alive = self.nodes.iter().filter(|node| node.alive);
        alive.map(|node| node.path.len() + 1).max().unwrap_or(0)
    }

    pub fn summary(&self) -> String {
        format!(
            "{} s, {} moves, depth {}, {} waited to be followed, longest without {} ms, {} ms of audio lost",
            self.millis / 1_000,
            self.moves,
            self.depth(),
            self.waits,
            self.worst,
            self.lost
        )
    }
}
