//! One row: what the node said, how it lives, whether its URL answers.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Config;
use super::event::Probe;
use crate::base::ids::{MountId, NodeId};
use crate::cluster::liveness::{Condition, Liveness};
use crate::cluster::snapshot::{MountView, NodeView, State};
use crate::wire::message::{
    Beat, Capabilities, JoinRequest, Limits, MountBeat, NodeRole, NodeState, PublicUrls, URL_HINT,
    WEIGHTS,
};

/// Failures in a row until a URL that answered before counts as unreachable.
const PROBE_FALLS: u32 = 2;

/// A count that moves less than this share of itself waits for [`FEED_PACE`].
const FEED_SHARE: u64 = 20;

/// At least this often a row is told again for its counts alone.
const FEED_PACE: Duration = Duration::from_secs(5);

/// What is known about the public URL.
#[derive(Debug, Clone)]
struct Reach {
    answered: Option<bool>,
    failures: u32,
    due: Instant,
}

#[derive(Debug)]
pub(super) struct Row {
    /// What others read; shared with snapshots, so changed through `Arc::make_mut`.
    pub(super) view: Arc<NodeView>,
    pub(super) life: Liveness,
    /// Once in the pool; until then it can be neither suspected nor missed.
    pub(super) admitted: bool,
    pub(super) seq: u64,
    pub(super) connection: u64,
    pub(super) seen: IpAddr,
    pub(super) died: Option<Instant>,
    /// Table version of the last change that others have to hear.
    pub(super) changed: u64,
    draining: bool,
    /// Its URL is believed without a probe.
    trusted: bool,
    reach: Reach,
    fed: (u64, Instant),
}

impl Row {
    pub(super) fn new(id: NodeId, seen: IpAddr, now: Instant, config: &Config) -> Self {
        let view = NodeView {
            name: id.clone(),
            id,
            role: NodeRole::Relay,
            state: State::Joining,
            suspected: false,
            trouble: None,
            incarnation: 0,
            public_urls: PublicUrls::default(),
            version: String::new(),
            weight: WEIGHTS.1,
            limits: Limits {
                max_listeners: 1,
                max_bandwidth: 0,
                max_children: 0,
                max_cpu: 0,
            },
            capabilities: Capabilities::default(),
            listeners: 0,
            descriptors_left: None,
            cpu_ratio: 0.0,
            bandwidth_bits: 0,
            uptime: Duration::ZERO,
            reported: now,
            mounts: BTreeMap::new(),
            on_demand: false,
            full: false,
            parent: None,
            peer_url: None,
            children: 0,
            region: String::new(),
        };
        Self {
            view: Arc::new(view),
            life: Liveness::new(now, &config.pace),
            admitted: false,
            seq: 0,
            connection: 0,
            seen,
            died: None,
            changed: 0,
            draining: false,
            trusted: false,
            reach: Reach {
                answered: None,
                failures: 0,
                due: now,
            },
            fed: (0, now),
        }
    }

    pub(super) fn is_relay(&self) -> bool {
        self.view.role == NodeRole::Relay
    }

    /// A new process: what the old one said counts no more.
    pub(super) fn restart(&mut self, now: Instant, config: &Config) {
        self.life.restarted(now, &config.pace);
        self.admitted = false;
        self.seq = 0;
        self.connection = 0;
        self.died = None;
        self.draining = false;
        self.clear_load();
    }

    pub(super) fn view_mut(&mut self) -> &mut NodeView {
        Arc::make_mut(&mut self.view)
    }

    /// The dead have no listeners.
    pub(super) fn clear_load(&mut self) {
        let view = self.view_mut();
        view.listeners = 0;
        view.bandwidth_bits = 0;
        view.mounts.clear();
    }

    pub(super) fn take_join(&mut self, join: JoinRequest, seen: IpAddr, now: Instant) {
        self.seen = seen;
        self.set_urls(&join.public_urls, seen, join.data_port, now);
        let view = self.view_mut();
        view.name = join.name;
        view.incarnation = join.incarnation;
        view.version = join.version;
        view.limits = join.limits;
        view.weight = join.weight.clamp(WEIGHTS.0, WEIGHTS.2);
        view.capabilities = join.capabilities;
        view.uptime = Duration::from_millis(join.uptime_millis);
        view.reported = now;
    }

    pub(super) fn take_beat(&mut self, beat: Beat, seen: IpAddr, now: Instant) {
        self.seen = seen;
        self.seq = beat.seq;
        self.draining = beat.state != NodeState::Ready;
        self.set_urls(&beat.public_urls, seen, beat.data_port, now);
        let view = self.view_mut();
        view.name = beat.name;
        view.incarnation = beat.incarnation;
        view.version = beat.version;
        view.limits = beat.limits;
        view.weight = beat.weight.clamp(WEIGHTS.0, WEIGHTS.2);
        view.capabilities = beat.capabilities;
        view.uptime = Duration::from_millis(beat.uptime_millis);
        view.reported = now;
        view.listeners = beat.listeners;
        view.descriptors_left = beat.descriptors_left;
        view.cpu_ratio = beat.cpu_ratio;
        view.bandwidth_bits = beat.bandwidth_bits;
        view.on_demand = beat.on_demand;
        view.full = beat.full;
        view.parent = beat.parent;
        view.children = beat.children;
        view.region = beat.region;
        view.peer_url = default_urls(seen, beat.data_port).http;
        view.mounts = beat.mounts.into_iter().map(mount).collect();
    }

    /// What is said, or else the address that was seen and the data port.
    fn set_urls(&mut self, said: &PublicUrls, seen: IpAddr, port: u16, now: Instant) {
        let urls = if said.is_empty() {
            default_urls(seen, port)
        } else {
            trimmed(said)
        };
        if self.view.public_urls == urls {
            return;
        }
        let view = self.view_mut();
        view.public_urls = urls;
        view.trouble = None;
        self.reach = Reach {
            answered: self.trusted.then_some(true),
            failures: 0,
            due: now,
        };
    }

    /// The URL to fetch now, if it is time. Later probes keep a phase of their own, so that those of a
    /// hundred nodes do not fall together.
    pub(super) fn probe_due(&mut self, now: Instant, every: Duration) -> Option<String> {
        if now < self.reach.due || !self.life.is_live() {
            return None;
        }
        let url = self.view.public_urls.first()?.to_owned();
        let mut next = now + every;
        if self.reach.answered.is_none() {
            let hash = xxhash_rust::xxh3::xxh3_64(self.view.id.as_str().as_bytes());
            let phase = u32::try_from(hash % 256).unwrap_or(0);
            next = now + every / 4 + every * phase * 3 / 1024;
        }
        self.reach.due = next;
        Some(url)
    }

    pub(super) fn probed(&mut self, url: &str, outcome: Probe, now: Instant, config: &Config) {
        if self.view.public_urls.first() != Some(url) {
            return;
        }
        if let Probe::Refused(_) = outcome {
            self.life.refused(now, &config.pace);
        }
        match outcome {
            Probe::Fine => {
                self.reach.answered = Some(true);
                self.reach.failures = 0;
                self.view_mut().trouble = None;
            }
            Probe::Refused(why) | Probe::Failed(why) => {
                self.reach.failures += 1;
                if self.reach.answered != Some(true) || self.reach.failures >= PROBE_FALLS {
                    self.reach.answered = Some(false);
                    self.view_mut().trouble = Some(format!("{url}: {why}; {URL_HINT}"));
                }
            }
        }
    }

    /// Taken as reachable without a probe.
    pub(super) fn trust(&mut self) {
        self.trusted = true;
        self.reach.answered = Some(true);
    }

    pub(super) fn answers(&self) -> bool {
        self.reach.answered == Some(true) || self.view.public_urls.withheld
    }

    /// Beats come and the URL answers.
    pub(super) fn is_reachable(&self) -> bool {
        self.life.condition() == Condition::Up && self.answers()
    }

    /// What the node is good for, had the others nothing to say.
    pub(super) fn natural_state(&self, drained: bool) -> State {
        match self.life.condition() {
            Condition::Dead => State::Dead,
            _ if drained || self.draining => State::Draining,
            Condition::Suspect if self.admitted => State::Suspect,
            _ if self.reach.answered == Some(false) => State::Unreachable,
            Condition::Up if self.answers() => State::Ready,
            _ => State::Joining,
        }
    }

    /// True if its counts moved enough, or long ago, for others to hear them again.
    pub(super) fn counts_due(&self, now: Instant) -> bool {
        let (told, at) = self.fed;
        let moved = told.abs_diff(self.view.listeners) > told / FEED_SHARE;
        moved || now.saturating_duration_since(at) >= FEED_PACE
    }

    /// Others hear of it as it is now.
    pub(super) fn told(&mut self, version: u64, now: Instant) {
        self.changed = version;
        self.fed = (self.view.listeners, now);
    }
}

fn mount(beat: MountBeat) -> (MountId, MountView) {
    let view = MountView {
        listeners: beat.listeners,
        sent_bytes: beat.sent_bytes,
        bitrate: beat.bitrate,
        epoch: beat.epoch,
        offset: beat.offset,
        content_type: beat.content_type,
        state: beat.state,
        parent: beat.parent,
        depth: beat.depth,
        lag_millis: beat.lag_millis,
    };
    (beat.mount, view)
}

fn trimmed(urls: &PublicUrls) -> PublicUrls {
    let trim = |url: &Option<String>| url.as_ref().map(|url| url.trim_end_matches('/').to_owned());
    PublicUrls {
        http: trim(&urls.http),
        https: trim(&urls.https),
        withheld: urls.withheld,
    }
}

fn default_urls(seen: IpAddr, port: u16) -> PublicUrls {
    let http = match seen.to_canonical() {
        IpAddr::V4(address) => format!("http://{address}:{port}"),
        IpAddr::V6(address) => format!("http://[{address}]:{port}"),
    };
    PublicUrls {
        http: Some(http),
        ..PublicUrls::default()
    }
}
