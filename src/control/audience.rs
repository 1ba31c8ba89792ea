//! The station's listeners as a primary counts them: what the other nodes report, added up once a second.
//!
//! Totals of a node that went stay in the sums, and one whose process began anew counts on from zero. The peak is that of
//! the sum over all nodes. A player that lost its node is at another one before the lost node is known to be dead, so a
//! sum is settled only when every node in it has reported again; what one reported last before it died is taken out.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{Control, Role};
use crate::base::ids::{MountId, NodeId};
use crate::cluster::snapshot::{MountView, NodeView, Snapshot, State};
use crate::telemetry::{Others, Share};
use crate::wire::message::Counts;

/// Age at which a sum is settled: by then a silent node is suspected.
const SETTLED: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Default)]
pub(super) struct Audience(Mutex<Station>);

impl Audience {
    fn lock(&self) -> MutexGuard<'_, Station> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Default)]
struct Station {
    /// Each other node's last report.
    heard: HashMap<NodeId, Heard>,
    /// Sums of all reports of the other nodes.
    totals: HashMap<MountId, Totals>,
    counts: Counts,
    /// Tables of the last seconds, the oldest first.
    samples: VecDeque<(Instant, Arc<Snapshot>)>,
    /// Most listeners at once in the tables that are settled.
    peaks: HashMap<MountId, u64>,
}

struct Heard {
    incarnation: u64,
    counts: Counts,
    mounts: HashMap<MountId, Totals>,
}

/// Counters of one mount.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Totals {
    sessions: u64,
    sent_bytes: u64,
    slow_listeners: u64,
}

impl Totals {
    fn of(view: &MountView) -> Self {
        Self {
            sessions: view.counts.sessions,
            sent_bytes: view.sent_bytes,
            slow_listeners: view.counts.slow_listeners,
        }
    }

    /// Adds the growth from `before` to `now`. A counter that fell began anew at zero.
    fn grow(&mut self, before: Self, now: Self) {
        let grown = |before: u64, now: u64| now.checked_sub(before).unwrap_or(now);
        let add = |sum: &mut u64, before, now| *sum = sum.saturating_add(grown(before, now));
        add(&mut self.sessions, before.sessions, now.sessions);
        add(&mut self.sent_bytes, before.sent_bytes, now.sent_bytes);
        add(
            &mut self.slow_listeners,
            before.slow_listeners,
            now.slow_listeners,
        );
    }
}

impl Station {
    /// Adds what `nodes` have counted since their last reports. `known` are mounts that this node has counters of.
    fn hear(&mut self, nodes: &[&Arc<NodeView>], known: &HashSet<MountId>) {
        for node in nodes {
            self.hear_one(node);
        }
        let here: HashSet<&NodeId> = nodes.iter().map(|node| &node.id).collect();
        self.heard.retain(|id, _| here.contains(id));
        let told: HashSet<&MountId> = nodes.iter().flat_map(|node| node.mounts.keys()).collect();
        let stays = |mount: &MountId| known.contains(mount) || told.contains(mount);
        self.totals.retain(|mount, _| stays(mount));
        self.peaks.retain(|mount, _| stays(mount));
        for heard in self.heard.values_mut() {
            heard.mounts.retain(|mount, _| stays(mount));
        }
    }

    fn hear_one(&mut self, node: &NodeView) {
        let known = self.heard.remove(&node.id);
        let same = known.filter(|known| known.incarnation == node.incarnation);
        let mut heard = same.unwrap_or_else(|| Heard {
            incarnation: node.incarnation,
            counts: Counts::default(),
            mounts: HashMap::new(),
        });
        self.counts = self.counts.plus(node.counts.since(heard.counts));
        heard.counts = node.counts;
        for (mount, view) in &node.mounts {
            let now = Totals::of(view);
            let before = heard.mounts.insert(mount.clone(), now).unwrap_or_default();
            let sum = self.totals.entry(mount.clone()).or_default();
            sum.grow(before, now);
        }
        self.heard.insert(node.id.clone(), heard);
    }

    /// Takes the table of now, settles those that are old enough, and returns the peaks as far as they are known.
    fn peaks(&mut self, table: &Arc<Snapshot>, now: Instant) -> HashMap<MountId, u64> {
        self.samples.push_back((now, Arc::clone(table)));
        while let Some((at, sample)) = self.samples.front()
            && now.saturating_duration_since(*at) >= SETTLED
        {
            raise(&mut self.peaks, sample, table);
            self.samples.pop_front();
        }
        let mut peaks = self.peaks.clone();
        for (_, sample) in &self.samples {
            raise(&mut peaks, sample, table);
        }
        peaks
    }
}

/// Raises `peaks` to the sums of `sample`, as far as `now` still vouches for them.
fn raise(peaks: &mut HashMap<MountId, u64>, sample: &Snapshot, now: &Snapshot) {
    let mut sums: HashMap<&MountId, u64> = HashMap::new();
    for node in &sample.nodes {
        let Some(later) = now.find(&node.id).filter(|later| vouches(node, later)) else {
            continue;
        };
        for (mount, view) in &node.mounts {
            let mut listeners = view.listeners;
            // Those who leave a node that is emptied are at another one already.
            if later.state == State::Draining {
                let left = later.mounts.get(mount).map_or(0, |view| view.listeners);
                listeners = listeners.min(left);
            }
            let sum = sums.entry(mount).or_default();
            *sum = sum.saturating_add(listeners);
        }
    }
    for (mount, sum) in sums {
        if let Some(peak) = peaks.get_mut(mount) {
            *peak = sum.max(*peak);
        } else {
            peaks.insert(mount.clone(), sum);
        }
    }
}

/// True where `later` is the same process as `node`, and reports again or is not late yet.
fn vouches(node: &NodeView, later: &NodeView) -> bool {
    let silent = later.reported <= node.reported;
    let lost = matches!(later.state, State::Suspect | State::Dead) || later.suspected;
    later.incarnation == node.incarnation && later.state != State::Dead && !(silent && lost)
}

/// A mount's numbers at these nodes now, with the totals of all nodes that ever were.
fn share_of(nodes: &[&Arc<NodeView>], mount: &MountId, totals: Totals) -> Share {
    let views = nodes.iter().filter_map(|node| node.mounts.get(mount));
    let now = views.map(|view| Share {
        listeners: view.listeners,
        unique_listeners: view.counts.unique_listeners,
        listened_seconds: view.counts.listened_seconds,
        ..Share::default()
    });
    let totals = Share {
        sessions: totals.sessions,
        sent_bytes: totals.sent_bytes,
        slow_listeners: totals.slow_listeners,
        ..Share::default()
    };
    now.fold(totals, Share::plus)
}

impl Control {
    /// Adds up the reports of the other nodes, on a primary; to be called once a second.
    pub(super) fn count_audience(&self, now: Instant) {
        if self.identity.role != Role::Primary {
            return;
        }
        let table = self.snapshot();
        let others = || table.nodes.iter().filter(|n| n.id != self.identity.id);
        let all: Vec<&Arc<NodeView>> = others().collect();
        let alive: Vec<&Arc<NodeView>> = others().filter(|n| n.state != State::Dead).collect();
        let mounts = self.telemetry.mounts();
        let known = mounts.iter().map(|(mount, _)| mount.clone()).collect();
        let mut station = self.audience.lock();
        station.hear(&all, &known);
        let peaks = station.peaks(&table, now);
        for (mount, counters) in &mounts {
            let totals = station.totals.get(mount).copied().unwrap_or_default();
            counters.set_others(Others {
                share: share_of(&alive, mount, totals),
                peak: peaks.get(mount).copied().unwrap_or(0),
            });
        }
    }

    /// Connections, requests and sources of this node, on a primary of all nodes.
    pub fn station_counts(&self) -> Counts {
        self.counts().plus(self.audience.lock().counts)
    }

    /// Listeners of this node, on a primary of all nodes that are not dead.
    pub fn station_listeners(&self) -> u64 {
        let mounts = self.telemetry.mounts();
        let own = mounts.iter().map(|(_, counters)| counters.listeners());
        let own = own.fold(0, u64::saturating_add);
        if self.identity.role != Role::Primary {
            return own;
        }
        let table = self.snapshot();
        let others = table.nodes.iter();
        let others = others.filter(|n| n.id != self.identity.id && n.state != State::Dead);
        others
            .map(|node| node.listeners)
            .fold(own, u64::saturating_add)
    }
}

#[cfg(test)]
mod tests;
