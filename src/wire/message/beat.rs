//! The report that goes up every second.

use serde::{Deserialize, Serialize};

use super::{
    Capabilities, Counts, EventReport, Limits, MAX_CONFIRMED, MAX_EVENTS, MAX_MOUNTS, MAX_REGION,
    MAX_TEXT, MessageError, MountCounts, NodeName, PublicUrls, at_most, check_node, epoch, fits,
    millis, share,
};
use crate::base::ids::{Epoch, MountId, NodeId};
use crate::wire::bounds::{Clock, MAX_BYTES, MAX_CHILDREN, MAX_DEPTH, MAX_LISTENERS, MAX_RATE};

/// What a node says about itself in a beat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeState {
    /// Takes listeners.
    #[default]
    Ready,
    /// Takes nobody new.
    Draining,
    /// The last beat: the row goes at once.
    Gone,
}

/// A mount's state on one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MountState {
    /// Bytes arrive.
    Live,
    /// The source is away for less than `hold`; newcomers wait.
    Held,
    /// On demand, and nobody asks.
    #[default]
    Idle,
    /// No bytes yet.
    Waiting,
    /// A word of a newer version.
    #[serde(other)]
    Other,
}

/// One mount in a [`Beat`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MountBeat {
    /// Which.
    pub mount: MountId,
    /// Listeners now.
    #[serde(default)]
    pub listeners: u64,
    /// Sent to listeners since the process started.
    #[serde(default)]
    pub sent_bytes: u64,
    /// Numbering of the live edge.
    #[serde(default)]
    pub epoch: Epoch,
    /// The live edge.
    #[serde(default)]
    pub offset: u64,
    /// Bits a second: the larger of what is declared and the mean of 60 s.
    #[serde(default)]
    pub bitrate: u64,
    /// Media type.
    #[serde(default)]
    pub content_type: String,
    /// On this node.
    #[serde(default)]
    pub state: MountState,
    /// The node that it is pulled from; none at the origin, and while it is not connected.
    #[serde(default)]
    pub parent: Option<NodeId>,
    /// Nodes between the origin and this one, the origin counted; 0 at the origin and where unknown.
    #[serde(default)]
    pub depth: u32,
    /// Milliseconds that its newest bytes are late, against the quickest ones it had.
    #[serde(default)]
    pub lag_millis: u64,
    /// Counters beside its load.
    #[serde(default)]
    pub counts: MountCounts,
}

/// `POST /cluster/v1/beat`, once a second, with the node's credential as bearer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Beat {
    /// [`VERSION`] of the sender.
    pub v: u16,
    /// Who.
    pub id: NodeId,
    /// Unix milliseconds of the process' start.
    pub incarnation: u64,
    /// Counts up from 1 within the incarnation.
    pub seq: u64,
    /// The sender's clock.
    #[serde(default)]
    pub sent_unix_millis: u64,
    /// What people call it.
    pub name: NodeName,
    /// As in [`JoinRequest`].
    #[serde(default)]
    pub public_urls: PublicUrls,
    /// The port that serves listeners.
    pub data_port: u16,
    /// Of the node.
    pub limits: Limits,
    /// 1 to 1000.
    #[serde(default = "super::default_weight")]
    pub weight: u32,
    /// The program's version.
    #[serde(default)]
    pub version: String,
    /// Its own word.
    #[serde(default)]
    pub state: NodeState,
    /// Since the process started.
    #[serde(default)]
    pub uptime_millis: u64,
    /// Share of all cores, 0 to 1.
    #[serde(default)]
    pub cpu_ratio: f64,
    /// Bits a second sent.
    #[serde(default)]
    pub bandwidth_bits: u64,
    /// File descriptors that are free; absent is unknown.
    #[serde(default)]
    pub descriptors_left: Option<u64>,
    /// Every mount that it carries, idle ones too.
    #[serde(default)]
    pub mounts: Vec<MountBeat>,
    /// It pulls any mount of the primary as soon as somebody asks.
    #[serde(default)]
    pub on_demand: bool,
    /// It takes no newcomers: over a limit of its own (listeners, bandwidth, CPU).
    #[serde(default)]
    pub full: bool,
    /// The limit that the node is over: `listeners`, `bandwidth`, `one-listener` (bandwidth for not a single one), `cpu` or `forced`. Empty
    /// where it is over none, and from older versions.
    #[serde(default)]
    pub limit: String,
    /// The operator's word that it follows; absent from older versions.
    #[serde(default)]
    pub reflect: Option<Reflect>,
    /// All listeners.
    #[serde(default)]
    pub listeners: u64,
    /// Sequences of reservations whose listener arrived.
    #[serde(default)]
    pub confirmed: Vec<u64>,
    /// The node that it pulls from.
    #[serde(default)]
    pub parent: Option<NodeId>,
    /// Of its engine.
    #[serde(default)]
    pub capabilities: Capabilities,
    /// What happened there since the last beat that was acknowledged.
    #[serde(default)]
    pub events: Vec<EventReport>,
    /// Nodes that it feeds now.
    #[serde(default)]
    pub children: u32,
    /// Where it stands; nodes of one region prefer each other as parents. Empty is unknown.
    #[serde(default)]
    pub region: String,
    /// The parent that the operator wants it to have, as it was told last: a restarted primary learns it from here.
    #[serde(default)]
    pub assigned: Option<NodeId>,
    /// Connections, requests and sources since the process started.
    #[serde(default)]
    pub counts: Counts,
}

impl MountBeat {
    fn check(&self, clock: &Clock) -> Result<(), MessageError> {
        at_most("mounts.listeners", self.listeners, MAX_LISTENERS)?;
        at_most("mounts.sent_bytes", self.sent_bytes, MAX_BYTES)?;
        at_most("mounts.offset", self.offset, MAX_BYTES)?;
        at_most("mounts.bitrate", self.bitrate, MAX_RATE)?;
        at_most("mounts.depth", self.depth.into(), MAX_DEPTH.into())?;
        millis("mounts.lag_millis", self.lag_millis)?;
        self.counts.check()?;
        fits("content_type", self.content_type.len(), MAX_TEXT)?;
        epoch(self.epoch, clock)
    }
}

impl Beat {
    /// Checks every text and number; a weight and the limits are cut to their ranges where they are used.
    ///
    /// # Errors
    /// Where a bound is broken.
    pub fn check(&self, clock: &Clock) -> Result<(), MessageError> {
        check_node(
            self.v,
            &self.version,
            &self.public_urls,
            self.data_port,
            &self.limits,
            (self.incarnation, clock),
        )?;
        millis("sent_unix_millis", self.sent_unix_millis)?;
        millis("uptime_millis", self.uptime_millis)?;
        share("cpu_ratio", self.cpu_ratio)?;
        at_most("bandwidth_bits", self.bandwidth_bits, MAX_RATE)?;
        at_most("listeners", self.listeners, MAX_LISTENERS)?;
        at_most("children", self.children.into(), MAX_CHILDREN.into())?;
        self.counts.check()?;
        fits("mounts", self.mounts.len(), MAX_MOUNTS)?;
        fits("confirmed", self.confirmed.len(), MAX_CONFIRMED)?;
        fits("region", self.region.len(), MAX_REGION)?;
        fits("limit", self.limit.len(), MAX_REGION)?;
        fits("events", self.events.len(), MAX_EVENTS)?;
        self.mounts
            .iter()
            .try_for_each(|mount| mount.check(clock))?;
        self.events.iter().try_for_each(|event| event.check(clock))
    }
}

/// An operator's drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainOrder {
    /// By the primary's clock.
    pub since_unix_millis: u64,
    /// The listeners are closed over this time; none: they are left until they go.
    #[serde(default)]
    pub spread_millis: Option<u64>,
    /// Listeners when it began.
    #[serde(default)]
    pub listeners: u64,
}

impl DrainOrder {
    fn check(&self) -> Result<(), MessageError> {
        millis("drain.since_unix_millis", self.since_unix_millis)?;
        millis("drain.spread_millis", self.spread_millis.unwrap_or(0))?;
        at_most("drain.listeners", self.listeners, MAX_LISTENERS)
    }
}

/// Whether a node sends newcomers on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reflect {
    /// Always, as if it were over a limit.
    On,
    /// Only at its most listeners, whatever bandwidth and processors say.
    Off,
    /// Over any limit.
    #[default]
    #[serde(other)]
    Auto,
}

impl Reflect {
    /// The word in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Off => "off",
            Self::Auto => "auto",
        }
    }
}

/// The answer to a [`Beat`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct BeatAnswer {
    /// [`VERSION`] of the sender.
    pub v: u16,
    /// The `seq` that was applied: its confirmations need not be sent again.
    pub ack: u64,
    /// Of the table that the sender has.
    pub table_version: u64,
    /// The node has to join anew.
    pub rejoin: bool,
    /// The operator drains the node.
    pub drain: Option<DrainOrder>,
    /// The operator takes back a drain that the node was told of by itself.
    pub resume: bool,
    /// Whether the node sends newcomers on.
    pub reflect: Reflect,
    /// Rises when the cluster keys change; they come down the feed.
    pub keys_version: u64,
    /// The primary's clock.
    pub unix_millis: u64,
    /// The operator's word on the node's parent: a node id, empty for none any more. Absent says nothing.
    pub parent: Option<String>,
}

impl BeatAnswer {
    /// Checks every text and number. `ack` and the versions are compared and never added to.
    ///
    /// # Errors
    /// Where a bound is broken.
    pub fn check(&self) -> Result<(), MessageError> {
        if let Some(drain) = &self.drain {
            drain.check()?;
        }
        fits(
            "parent",
            self.parent.as_deref().unwrap_or_default().len(),
            MAX_TEXT,
        )?;
        millis("unix_millis", self.unix_millis)
    }
}
