//! The table at one moment: immutable, cheap to share, the same shape on the primary and on a relay.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::base::ids::{Epoch, MountId, NodeId};
use crate::wire::message::{
    Capabilities, Counts, Limits, MountCounts, MountRow, MountState, NodeName, NodeRole, NodeRow,
    PublicUrls, Reflect, UNFETCHED, WEIGHTS,
};

/// What a node is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Takes listeners.
    Ready,
    /// Not up yet, or not up again.
    Joining,
    /// Its beats stopped: nobody new, its listeners are left alone.
    Suspect,
    /// Its public URL does not answer.
    Unreachable,
    /// Takes nobody new, by its own or the operator's will.
    Draining,
    /// Gone without a word.
    Dead,
}

impl State {
    /// All, for metrics.
    pub const ALL: [Self; 6] = [
        Self::Ready,
        Self::Joining,
        Self::Suspect,
        Self::Unreachable,
        Self::Draining,
        Self::Dead,
    ];

    /// The word in the API, in metrics and on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Joining => "joining",
            Self::Suspect => "suspect",
            Self::Unreachable => "unreachable",
            Self::Draining => "draining",
            Self::Dead => "dead",
        }
    }

    /// A word of a newer version is one that takes nobody.
    pub fn from_text(text: &str) -> Self {
        Self::ALL
            .into_iter()
            .find(|state| state.as_str() == text)
            .unwrap_or(Self::Joining)
    }
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One mount on one node.
#[derive(Debug, Clone, PartialEq)]
pub struct MountView {
    /// Listeners there.
    pub listeners: u64,
    /// Sent since the node's process started.
    pub sent_bytes: u64,
    /// Bits a second, the larger of declared and mean.
    pub bitrate: u64,
    /// Numbering of the live edge; only on the primary.
    pub epoch: Epoch,
    /// The live edge; only on the primary.
    pub offset: u64,
    /// Media type; only on the primary.
    pub content_type: String,
    /// On that node.
    pub state: MountState,
    /// The node that it is pulled from there.
    pub parent: Option<NodeId>,
    /// Nodes between the origin and that one, the origin counted.
    pub depth: u32,
    /// How late its bytes are there; only on the primary.
    pub lag_millis: u64,
    /// Counters beside its load; only on the primary.
    pub counts: MountCounts,
}

/// One node.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeView {
    /// Who.
    pub id: NodeId,
    /// What people call it.
    pub name: NodeName,
    /// Primary or relay.
    pub role: NodeRole,
    /// What it is good for.
    pub state: State,
    /// Its beats stopped or its URL fails, even where `state` is ready because too many others do too.
    pub suspected: bool,
    /// Why it cannot be reached.
    pub trouble: Option<String>,
    /// Unix milliseconds of its process' start; 0 where only the primary knows.
    pub incarnation: u64,
    /// Where listeners reach it.
    pub public_urls: PublicUrls,
    /// The program's version.
    pub version: String,
    /// 1 to 1000.
    pub weight: u32,
    /// By its own word.
    pub limits: Limits,
    /// Of its engine.
    pub capabilities: Capabilities,
    /// All listeners; 0 when dead.
    pub listeners: u64,
    /// File descriptors that are free.
    pub descriptors_left: Option<u64>,
    /// Share of all cores, 0 to 1.
    pub cpu_ratio: f64,
    /// Bits a second sent.
    pub bandwidth_bits: u64,
    /// Of its process, at `reported`.
    pub uptime: Duration,
    /// When it was last heard.
    pub reported: Instant,
    /// Every mount that it carries.
    pub mounts: BTreeMap<MountId, MountView>,
    /// It pulls any mount as soon as somebody asks.
    pub on_demand: bool,
    /// Over a limit of its own.
    pub full: bool,
    /// The limit that it is over, as in its beat; empty where there is none, and on a relay.
    pub limit: String,
    /// True where it takes nobody new, by its own word; on a relay false.
    pub draining: bool,
    /// The operator's word that it follows, as in its beat; on a relay none.
    pub reflect: Option<Reflect>,
    /// The node that it pulls from.
    pub parent: Option<NodeId>,
    /// Where other nodes reach it.
    pub peer_url: Option<String>,
    /// Nodes that it feeds.
    pub children: u32,
    /// Where it stands; empty is unknown.
    pub region: String,
    /// Connections, requests and sources of its process; only on the primary.
    pub counts: Counts,
}

impl NodeView {
    /// ready, joining, suspect, unreachable, draining or dead.
    pub fn state(&self) -> &'static str {
        self.state.as_str()
    }

    /// How long its process runs.
    pub fn uptime_at(&self, now: Instant) -> Duration {
        self.uptime
            .saturating_add(now.saturating_duration_since(self.reported))
    }

    /// True if a listener of `mount` gets audio there.
    pub fn carries(&self, mount: &MountId) -> bool {
        match self.mounts.get(mount) {
            Some(view) => view.state != MountState::Waiting,
            None => self.on_demand,
        }
    }

    /// The URL that is shown: the first one.
    pub fn public_url(&self) -> &str {
        self.public_urls.first().unwrap_or_default()
    }

    /// Bits a second that its listeners are owed, bursts left out.
    pub fn committed_bits(&self) -> u64 {
        self.mounts.values().fold(0, |sum, mount| {
            sum.saturating_add(mount.listeners.saturating_mul(mount.bitrate))
        })
    }

    /// For the feed and the API.
    pub fn to_row(&self, now: Instant) -> NodeRow {
        let mounts = self.mounts.iter().map(|(mount, view)| MountRow {
            mount: mount.clone(),
            listeners: view.listeners,
            bitrate: view.bitrate,
            state: view.state,
            parent: view.parent.clone(),
            depth: view.depth,
        });
        NodeRow {
            id: self.id.clone(),
            name: self.name.clone(),
            role: self.role,
            state: self.state().into(),
            public_urls: self.public_urls.clone(),
            version: self.version.clone(),
            weight: self.weight,
            limits: self.limits,
            capabilities: self.capabilities,
            listeners: self.listeners,
            descriptors_left: self.descriptors_left,
            cpu_ratio: self.cpu_ratio,
            bandwidth_bits: self.bandwidth_bits,
            uptime_millis: millis(self.uptime),
            age_millis: millis(now.saturating_duration_since(self.reported)),
            mounts: mounts.collect(),
            on_demand: self.on_demand,
            full: self.full,
            suspected: self.suspected,
            parent: self.parent.clone(),
            trouble: match self.state {
                State::Dead => self.trouble.clone(),
                _ => self.trouble.as_deref().map(blurred),
            },
            peer_url: self.peer_url.clone(),
            children: self.children,
            region: self.region.clone(),
        }
    }

    /// From the feed, at the moment of its arrival.
    pub fn from_row(row: NodeRow, now: Instant) -> Self {
        let age = Duration::from_millis(row.age_millis);
        let mounts = row.mounts.into_iter().map(|mount| {
            let view = MountView {
                listeners: mount.listeners,
                sent_bytes: 0,
                bitrate: mount.bitrate,
                epoch: Epoch::default(),
                offset: 0,
                content_type: String::new(),
                state: mount.state,
                parent: mount.parent,
                depth: mount.depth,
                lag_millis: 0,
                counts: MountCounts::default(),
            };
            (mount.mount, view)
        });
        Self {
            id: row.id,
            name: row.name,
            role: row.role,
            state: State::from_text(&row.state),
            suspected: row.suspected,
            trouble: row.trouble,
            incarnation: 0,
            public_urls: row.public_urls,
            version: row.version,
            weight: row.weight.clamp(WEIGHTS.0, WEIGHTS.2),
            limits: row.limits.bounded(),
            capabilities: row.capabilities,
            listeners: row.listeners,
            descriptors_left: row.descriptors_left,
            cpu_ratio: row.cpu_ratio,
            bandwidth_bits: row.bandwidth_bits,
            uptime: Duration::from_millis(row.uptime_millis),
            // A clock that began less than `age` ago cannot tell that moment: then it is now.
            reported: now.checked_sub(age).unwrap_or(now),
            mounts: mounts.collect(),
            on_demand: row.on_demand,
            full: row.full,
            limit: String::new(),
            draining: false,
            reflect: None,
            parent: row.parent,
            peer_url: row.peer_url,
            children: row.children,
            region: row.region,
            counts: Counts::default(),
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The whole table.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Snapshot {
    /// Of the table.
    pub version: u64,
    /// By id.
    pub nodes: Vec<Arc<NodeView>>,
    /// Fewer than half of the relays can be reached: the fault may be ours.
    pub panic: bool,
}

/// Sums over the live nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Nodes that are not dead, the primary among them.
    pub nodes: u64,
    /// Their listeners.
    pub listeners: u64,
}

impl Snapshot {
    /// One node.
    pub fn find(&self, id: &NodeId) -> Option<&Arc<NodeView>> {
        let at = self.nodes.binary_search_by(|node| node.id.cmp(id)).ok()?;
        self.nodes.get(at)
    }

    /// One node by its id or its name.
    pub fn named(&self, text: &str) -> Option<&Arc<NodeView>> {
        let by_id = self.nodes.iter().find(|node| node.id.as_str() == text);
        by_id.or_else(|| {
            let mut named = self.nodes.iter().filter(|n| n.name.as_str() == text);
            let first = named.clone().find(|node| node.state != State::Dead);
            first.or_else(|| named.next())
        })
    }

    /// Sums over the live nodes.
    pub fn totals(&self) -> Totals {
        let live = self.nodes.iter().filter(|node| node.state != State::Dead);
        live.fold(Totals::default(), |sum, node| Totals {
            nodes: sum.nodes.saturating_add(1),
            listeners: sum.listeners.saturating_add(node.listeners),
        })
    }

    /// How many relays and primaries are in `state`.
    pub fn count(&self, state: State) -> usize {
        self.nodes.iter().filter(|node| node.state == state).count()
    }
}
/// `URL: cause; hint` with one cause for all: a relay hears where it was looked for and what to set, and not what the primary
/// found there.
fn blurred(trouble: &str) -> String {
    let url = trouble.split_once(": ").map_or(trouble, |(url, _)| url);
    let hint = trouble.rsplit_once("; ").map_or("", |(_, hint)| hint);
    format!("{url}: {UNFETCHED}; {hint}")
}
