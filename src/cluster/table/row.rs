//! One row: what the node said, how it lives, whether its URL answers.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Config;
use super::event::Probe;
use super::reach::Reach;
use crate::base::ids::{MountId, NodeId};
use crate::cluster::liveness::{Condition, Liveness};
use crate::cluster::snapshot::{MountView, NodeView, State};
use crate::wire::message::{
    Beat, Capabilities, Counts, JoinRequest, Limits, MountBeat, NodeRole, NodeState, PublicUrls,
    URL_HINT, WEIGHTS,
};

/// What is to be done about a URL by https that listeners are not given.
const SECURE_HINT: &str = "listeners by https are not sent there: give it a certificate that is valid for this name \
     (`tls.cert`), or another URL with --public-url";

/// Advice for a refused connection of a node that was reached there before.
const STOPPED_HINT: &str =
    "it was reached there before, so see that it runs, and start it again if it does not";

/// Most characters that are kept of what a probe met.
const LONGEST_WHY: usize = 256;

/// A count that moves less than this share of itself waits for [`FEED_PACE`].
const FEED_SHARE: u64 = 20;

/// At least this often a row is told again for its counts alone.
const FEED_PACE: Duration = Duration::from_secs(5);

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
    /// Time of its join, or of its first beat.
    pub(super) joined: Instant,
    pub(super) died: Option<Instant>,
    /// Table version of the last change that others have to hear.
    pub(super) changed: u64,
    draining: bool,
    /// The largest limit of listeners that this process told: one that was lowered meanwhile may be exceeded.
    most: u64,
    /// Its URL is believed without a probe.
    trusted: bool,
    /// The URLs as it told them; the view shows those that listeners may be given.
    told: PublicUrls,
    /// Of the first URL: it says whether the node is reachable.
    reach: Reach,
    /// Of the URL by https beside one in clear: it says whether listeners are sent there by https.
    secure: Reach,
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
            limit: String::new(),
            draining: false,
            reflect: None,
            parent: None,
            peer_url: None,
            children: 0,
            region: String::new(),
            counts: Counts::default(),
        };
        Self {
            view: Arc::new(view),
            life: Liveness::new(now, &config.pace),
            admitted: false,
            seq: 0,
            connection: 0,
            seen,
            joined: now,
            died: None,
            changed: 0,
            draining: false,
            most: 0,
            trusted: false,
            told: PublicUrls::default(),
            reach: Reach::new(false, now),
            secure: Reach::new(false, now),
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
        self.set_died(None);
        self.draining = false;
        self.most = 0;
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

    pub(super) fn take_join(
        &mut self,
        join: JoinRequest,
        seen: IpAddr,
        heaviest: u32,
        now: Instant,
    ) {
        self.seen = seen;
        self.joined = now;
        self.most = self.most.max(join.limits.bounded().max_listeners);
        self.set_urls(&join.public_urls, seen, join.data_port, now);
        let view = self.view_mut();
        view.name = join.name;
        view.incarnation = join.incarnation;
        view.version = join.version;
        view.limits = join.limits.bounded();
        view.weight = join.weight.clamp(WEIGHTS.0, heaviest);
        view.capabilities = join.capabilities;
        view.uptime = Duration::from_millis(join.uptime_millis);
        view.reported = now;
    }

    pub(super) fn take_beat(&mut self, beat: Beat, seen: IpAddr, heaviest: u32, now: Instant) {
        self.seen = seen;
        self.most = self.most.max(beat.limits.bounded().max_listeners);
        let most = self.most;
        self.seq = beat.seq;
        self.draining = beat.state != NodeState::Ready;
        self.set_urls(&beat.public_urls, seen, beat.data_port, now);
        let view = self.view_mut();
        view.name = beat.name;
        view.incarnation = beat.incarnation;
        view.version = beat.version;
        view.limits = beat.limits.bounded();
        view.weight = beat.weight.clamp(WEIGHTS.0, heaviest);
        view.capabilities = beat.capabilities;
        view.uptime = Duration::from_millis(beat.uptime_millis);
        view.reported = now;
        view.listeners = beat.listeners.min(most);
        view.descriptors_left = beat.descriptors_left;
        view.cpu_ratio = beat.cpu_ratio;
        view.bandwidth_bits = beat.bandwidth_bits;
        view.on_demand = beat.on_demand;
        view.full = beat.full;
        view.draining = beat.state == NodeState::Draining;
        view.limit = beat.limit;
        view.reflect = beat.reflect;
        view.parent = beat.parent;
        view.children = beat.children;
        view.region = beat.region;
        view.counts = beat.counts;
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
        if self.told == urls {
            return;
        }
        self.told = urls;
        self.reach = Reach::new(self.trusted, now);
        self.secure = Reach::new(self.trusted, now);
        self.show_urls();
    }

    /// Takes or ends its death: others see why it is not there.
    pub(super) fn set_died(&mut self, died: Option<Instant>) {
        if self.died.is_some() != died.is_some() {
            self.died = died;
            self.show_urls();
        }
    }

    /// A URL by https beside one in clear is shown only while its certificate is good: a listener who is sent to
    /// a bad one hears nothing, one who is sent nowhere is served here.
    fn show_urls(&mut self) {
        let mut urls = self.told.clone();
        if urls.http.is_some() && self.secure.answered != Some(true) {
            urls.https = None;
        }
        let trouble = match self.died {
            // A URL that nobody serves any more is no fault of the URL.
            Some(died) => Some(dead(died.saturating_duration_since(self.life.last_beat()))),
            None => {
                let trouble = self.reach.trouble.clone();
                trouble.or_else(|| self.secure.trouble.clone())
            }
        };
        if self.view.public_urls != urls || self.view.trouble != trouble {
            let view = self.view_mut();
            view.public_urls = urls;
            view.trouble = trouble;
        }
    }

    /// The URL by https where there is one in clear, too.
    fn second_url(&self) -> Option<&str> {
        self.told.http.as_ref().and(self.told.https.as_deref())
    }

    /// The URLs to fetch now, if it is time.
    pub(super) fn probes_due(&mut self, now: Instant, every: Duration) -> Vec<String> {
        let mut urls = Vec::new();
        if !self.life.is_live() {
            return urls;
        }
        let id = self.view.id.clone();
        if self.told.first().is_some() && self.reach.take_turn(&id, now, every) {
            urls.extend(self.told.first().map(str::to_owned));
        }
        if self.second_url().is_some() && self.secure.take_turn(&id, now, every) {
            urls.extend(self.second_url().map(str::to_owned));
        }
        urls
    }

    /// Takes what came of a fetch; true if listeners by https are sent there from now on, or no more.
    pub(super) fn probed(
        &mut self,
        url: &str,
        outcome: Probe,
        now: Instant,
        config: &Config,
    ) -> bool {
        let before = self.view.public_urls.https.is_some();
        let refused = matches!(outcome, Probe::Refused(_));
        let why = match outcome {
            Probe::Fine => None,
            Probe::Refused(why) | Probe::Failed(why) => Some(why),
        };
        if self.told.first() == Some(url) {
            if refused {
                self.life.refused(now, &config.pace);
            }
            let hint = match refused && self.reach.worked {
                true => STOPPED_HINT,
                false => URL_HINT,
            };
            let trouble = why.map(|why| format!("{url}: {}; {hint}", short(&why)));
            self.reach.fetched(trouble);
        } else if self.second_url() == Some(url) {
            let known = self.secure.answered.is_some();
            let trouble = why.map(|why| format!("{url}: {}; {SECURE_HINT}", short(&why)));
            self.secure.fetched(trouble);
            self.show_urls();
            return !known || before != self.view.public_urls.https.is_some();
        }
        self.show_urls();
        false
    }

    /// Taken as reachable without a probe.
    pub(super) fn trust(&mut self) {
        self.trusted = true;
        self.reach.trust();
        self.secure.trust();
        self.show_urls();
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

/// Sentence on a dead node.
fn dead(silence: Duration) -> String {
    format!("no beat for {} s: start it again", silence.as_secs())
}

/// What a probe met, in at most [`LONGEST_WHY`] characters: it is in the words of whatever answered there.
fn short(why: &str) -> String {
    why.chars().take(LONGEST_WHY).collect()
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
        counts: beat.counts,
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
