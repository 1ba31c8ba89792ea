//! The lines that come down: mounts, table deltas, keys.

use serde::{Deserialize, Serialize};

use super::{
    Capabilities, ClusterKey, Limits, MAX_KEYS, MAX_MOUNTS, MAX_REGION, MAX_ROWS, MAX_TEXT,
    MessageError, MountState, NodeName, PublicUrls, at_most, fits, millis, share,
};
use crate::base::ids::{Epoch, MountId, NodeId};
use crate::wire::bounds::{MAX_CHILDREN, MAX_DEPTH, MAX_LISTENERS, MAX_RATE};
use crate::wire::headers::MAX_FIELDS;

/// A mount as the primary carries it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MountInfo {
    /// Which.
    pub mount: MountId,
    /// Media type.
    #[serde(default)]
    pub content_type: String,
    /// On the primary.
    #[serde(default)]
    pub state: MountState,
    /// Numbering of the live edge.
    #[serde(default)]
    pub epoch: Epoch,
    /// Bits a second.
    #[serde(default)]
    pub bitrate: u64,
    /// `icy-*` and `ice-*` of the source.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    /// Where its listeners go when its source is gone. A mount that has one is told even while it is idle.
    #[serde(default)]
    pub fallback: Option<MountId>,
    /// They come back when the source does.
    #[serde(default = "returns")]
    pub fallback_override: bool,
    /// Its source sends silence, and its listeners are to hear the fallback meanwhile.
    #[serde(default)]
    pub bypassed: bool,
    /// Left out of public lists.
    #[serde(default)]
    pub hidden: bool,
}

fn returns() -> bool {
    true
}

impl MountInfo {
    /// The primary is believed about the epochs that it stamps, so these are bounded by the calendar only; what a
    /// parent sends is then compared with them.
    fn check(&self) -> Result<(), MessageError> {
        fits("content_type", self.content_type.len(), MAX_TEXT)?;
        fits("headers", self.headers.len(), MAX_FIELDS)?;
        at_most("mounts.bitrate", self.bitrate, MAX_RATE)?;
        millis("mounts.epoch", self.epoch.0)
    }
}

/// What a node is to the station.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeRole {
    /// Takes the source and keeps the table.
    Primary,
    /// Pulls and serves.
    #[default]
    Relay,
}

/// One mount in a [`NodeRow`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MountRow {
    /// Which.
    pub mount: MountId,
    /// Listeners there.
    #[serde(default)]
    pub listeners: u64,
    /// Bits a second.
    #[serde(default)]
    pub bitrate: u64,
    /// On that node.
    #[serde(default)]
    pub state: MountState,
    /// The node that it is pulled from there.
    #[serde(default)]
    pub parent: Option<NodeId>,
    /// As in [`MountBeat`](super::MountBeat).
    #[serde(default)]
    pub depth: u32,
}

impl MountRow {
    fn check(&self) -> Result<(), MessageError> {
        at_most("mounts.listeners", self.listeners, MAX_LISTENERS)?;
        at_most("mounts.bitrate", self.bitrate, MAX_RATE)?;
        at_most("mounts.depth", self.depth.into(), MAX_DEPTH.into())
    }
}

/// A node as the primary knows it: what other nodes and the API need.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeRow {
    /// Who.
    pub id: NodeId,
    /// What people call it.
    pub name: NodeName,
    /// Primary or relay.
    #[serde(default)]
    pub role: NodeRole,
    /// ready, joining, suspect, unreachable, draining or dead.
    pub state: String,
    /// Where listeners reach it.
    #[serde(default)]
    pub public_urls: PublicUrls,
    /// The program's version.
    #[serde(default)]
    pub version: String,
    /// 1 to 1000.
    #[serde(default = "super::default_weight")]
    pub weight: u32,
    /// Of the node.
    pub limits: Limits,
    /// Of its engine.
    #[serde(default)]
    pub capabilities: Capabilities,
    /// All listeners.
    #[serde(default)]
    pub listeners: u64,
    /// File descriptors that are free.
    #[serde(default)]
    pub descriptors_left: Option<u64>,
    /// Share of all cores, 0 to 1.
    #[serde(default)]
    pub cpu_ratio: f64,
    /// Bits a second sent.
    #[serde(default)]
    pub bandwidth_bits: u64,
    /// Since its process started, at its last beat.
    #[serde(default)]
    pub uptime_millis: u64,
    /// Since its last beat, when the row was sent.
    #[serde(default)]
    pub age_millis: u64,
    /// Every mount that it carries.
    #[serde(default)]
    pub mounts: Vec<MountRow>,
    /// It pulls any mount as soon as somebody asks.
    #[serde(default)]
    pub on_demand: bool,
    /// Over a limit of its own.
    #[serde(default)]
    pub full: bool,
    /// Its beats stopped, although `state` may still be ready.
    #[serde(default)]
    pub suspected: bool,
    /// The node that it pulls from.
    #[serde(default)]
    pub parent: Option<NodeId>,
    /// Why it cannot be reached.
    #[serde(default)]
    pub trouble: Option<String>,
    /// Where other nodes reach it: the address that the primary saw, and the data port.
    #[serde(default)]
    pub peer_url: Option<String>,
    /// Nodes that it feeds.
    #[serde(default)]
    pub children: u32,
    /// Where it stands; empty is unknown.
    #[serde(default)]
    pub region: String,
}

/// Longest text of what is wrong with a node: its URL, an error and a hint.
const MAX_TROUBLE: usize = 4 * MAX_TEXT;

impl NodeRow {
    /// Checks every text and number; a weight and the limits are cut to their ranges where they are used.
    ///
    /// # Errors
    /// Where a bound is broken.
    pub fn check(&self) -> Result<(), MessageError> {
        self.public_urls.check()?;
        at_most("listeners", self.listeners, MAX_LISTENERS)?;
        at_most("bandwidth_bits", self.bandwidth_bits, MAX_RATE)?;
        at_most("children", self.children.into(), MAX_CHILDREN.into())?;
        share("cpu_ratio", self.cpu_ratio)?;
        millis("uptime_millis", self.uptime_millis)?;
        millis("age_millis", self.age_millis)?;
        fits("state", self.state.len(), MAX_TEXT)?;
        fits("version", self.version.len(), MAX_TEXT)?;
        fits("region", self.region.len(), MAX_REGION)?;
        fits(
            "trouble",
            self.trouble.as_deref().unwrap_or_default().len(),
            MAX_TROUBLE,
        )?;
        fits(
            "peer_url",
            self.peer_url.as_deref().unwrap_or_default().len(),
            MAX_TEXT,
        )?;
        fits("mounts", self.mounts.len(), MAX_MOUNTS)?;
        self.mounts.iter().try_for_each(MountRow::check)
    }
}

/// A node that an operator has removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removal {
    /// Its id.
    pub id: NodeId,
    /// How often it was removed: streams that began before the last time end.
    pub times: u32,
    /// It gets nothing until an operator takes that back.
    #[serde(default)]
    pub barred: bool,
}

/// One line of `GET /cluster/v1/feed`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum FeedLine {
    /// Mounts that changed, or all. Only a `complete` list removes what it does not name.
    Mounts {
        /// [`VERSION`] of the sender.
        v: u16,
        /// These are all.
        complete: bool,
        /// New and changed.
        mounts: Vec<MountInfo>,
    },
    /// This mount is no more.
    MountGone {
        /// Which.
        mount: MountId,
    },
    /// Rows that changed, or all.
    Nodes {
        /// Of the table.
        version: u64,
        /// These are all.
        complete: bool,
        /// Fewer than half of the nodes can be reached.
        #[serde(default)]
        panic: bool,
        /// New and changed.
        nodes: Vec<NodeRow>,
    },
    /// This node left the table.
    NodeGone {
        /// Who.
        id: NodeId,
    },
    /// The cluster keys, current one first.
    Keys {
        /// Rises with each rotation.
        version: u64,
        /// All that verify.
        keys: Vec<ClusterKey>,
    },
    /// All nodes that operators have removed.
    Removals {
        /// By id.
        removals: Vec<Removal>,
    },
    /// Nothing changed; the line is alive.
    Ping {
        /// The primary's clock.
        #[serde(default)]
        unix_millis: u64,
    },
    /// A line of a newer version: skipped.
    #[serde(other)]
    Unknown,
}

impl FeedLine {
    /// Checks the lists, texts and numbers. The rows of [`Self::Nodes`] are checked one by one by the copy of the
    /// table, so that one bad row does not hide the others.
    ///
    /// # Errors
    /// Where a bound is broken.
    pub fn check(&self) -> Result<(), MessageError> {
        match self {
            Self::Mounts { mounts, .. } => {
                fits("mounts", mounts.len(), MAX_MOUNTS)?;
                mounts.iter().try_for_each(MountInfo::check)
            }
            Self::Nodes { nodes, .. } => fits("nodes", nodes.len(), MAX_ROWS),
            Self::Removals { removals } => fits("removals", removals.len(), MAX_ROWS),
            Self::Keys { keys, .. } => fits("keys", keys.len(), MAX_KEYS),
            Self::Ping { unix_millis } => millis("unix_millis", *unix_millis),
            Self::MountGone { .. } | Self::NodeGone { .. } | Self::Unknown => Ok(()),
        }
    }
}
