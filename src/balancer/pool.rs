//! Who is able to take this listener: state, mount, scheme, capacity, bucket; and with what weight.

use std::sync::Arc;
use std::time::{Duration, Instant};

use slab::Slab;

use super::bucket::Bucket;
use super::hash::Table;
use super::reservations::Reservations;
use super::rows::Row;
use crate::base::ids::{MountId, NodeId};
use crate::base::reach::Reach;
use crate::cluster::snapshot::{NodeView, State};
use crate::wire::message::NodeRole;

/// Descriptors that listeners never get, so that health and control always have some.
pub const SPARE_DESCRIPTORS: u64 = 512;

/// A relay has its full weight after this.
pub const SLOW_START: Duration = Duration::from_secs(60);

/// The smallest share of its weight on the way there.
const SLOWEST: f64 = 0.1;

/// Bits a second of a mount that nobody has measured yet.
const TYPICAL_BITRATE: u64 = 128_000;

/// A node that may be chosen.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// Which.
    pub node: Arc<NodeView>,
    /// Listeners, by its own report.
    pub listeners: u64,
    /// Listeners and reservations.
    pub load: u64,
    /// Listeners that it carries at most.
    pub capacity: u64,
    /// Bits a second that its listeners and reservations are owed.
    pub bits: u64,
    /// Bits a second of the newcomer.
    pub newcomer: u64,
    /// Its weight as set.
    pub full_weight: f64,
    /// Its weight now, slow start included.
    pub weight: f64,
    /// Where its account stands in the ledger, and its tally among the reservations.
    pub(super) account: usize,
    pub(super) tally: usize,
}

impl Candidate {
    /// What its load would be, for its weight.
    pub fn score(&self) -> f64 {
        self.load.saturating_add(1) as f64 / self.weight
    }

    /// What its bits would be, for its weight.
    pub fn bandwidth_score(&self) -> f64 {
        self.bits.saturating_add(self.newcomer) as f64 / self.weight
    }

    /// A reservation more leads to it.
    pub(super) fn reserve_one(&mut self) {
        self.load = self.load.saturating_add(1);
        self.bits = self.bits.saturating_add(self.newcomer);
    }

    /// True if one more fits.
    pub(super) fn has_room(&self) -> bool {
        let limit = self.node.limits.max_bandwidth;
        self.load < self.capacity
            && (limit == 0 || self.bits.saturating_add(self.newcomer) <= limit)
    }
}

/// Which nodes come into question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tier {
    /// Relays that are ready.
    Healthy,
    /// In a panic: relays whose beats stopped.
    Suspects,
    /// On a relay: the primary itself.
    Head,
    /// Relays whose listeners have reached the soft cap, up to the hard one.
    Soft,
}

impl Tier {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Healthy, Self::Suspects, Self::Head, Self::Soft];
}

/// What a candidate has to fit.
#[derive(Debug, Clone)]
pub struct Want<'a> {
    /// Fewer than half of the relays can be reached.
    pub panic: bool,
    /// The mount's bits a second; 0 is unknown.
    pub bitrate: u64,
    /// By which scheme.
    pub https: bool,
    /// The circle that the listener is in: it is sent to URLs that are reached from there.
    pub from: Reach,
    /// Who asks: never itself.
    pub own: &'a NodeId,
    /// Not these.
    pub avoid: &'a [NodeId],
    /// Now.
    pub now: Instant,
    /// HEAD and OPTIONS need no place in the bucket.
    pub reserves: bool,
}

/// Those who are able, and what kept the others back.
#[derive(Debug, Default, PartialEq)]
pub struct Pool {
    /// Able.
    pub able: Vec<Candidate>,
    /// Some only have to wait, until then at least.
    pub wait: Option<Instant>,
    /// Some have no URL of the scheme.
    pub no_scheme: bool,
    /// Some have a URL that the listener does not reach.
    pub no_reach: bool,
    /// Some are full.
    pub full: bool,
}

/// The last report of a node, as it was applied together with its confirmations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Count {
    listeners: u64,
    bits: u64,
}

/// What is kept of one node.
#[derive(Debug, Default)]
struct Account {
    count: Option<Count>,
    bucket: Option<Bucket>,
}

/// Counts and buckets of all nodes.
#[derive(Debug, Default)]
pub struct Ledger {
    places: Table<NodeId, usize>,
    accounts: Slab<Account>,
    changes: u64,
}

impl Ledger {
    /// Where a node's account stands, until it is forgotten.
    pub(super) fn place(&mut self, node: &NodeId) -> usize {
        if let Some(place) = self.places.get(node) {
            return *place;
        }
        let place = self.accounts.insert(Account::default());
        self.places.insert(node.clone(), place);
        place
    }

    /// A node reports. From then on its counts here are believed, not those in the snapshot: they fit the
    /// reservations that were confirmed with them.
    pub fn report(&mut self, node: &NodeId, listeners: u64, bits: u64) {
        self.changes = self.changes.wrapping_add(1);
        let place = self.place(node);
        if let Some(account) = self.accounts.get_mut(place) {
            account.count = Some(Count { listeners, bits });
        }
    }

    /// A newcomer goes to the node whose account stands there.
    pub(super) fn take(&mut self, place: usize, now: Instant) {
        self.changes = self.changes.wrapping_add(1);
        let account = self.accounts.get_mut(place);
        if let Some(bucket) = account.and_then(|account| account.bucket.as_mut()) {
            bucket.take(now);
        }
    }

    /// Grows with everything that changes who is able.
    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    /// True if another newcomer may go there now.
    pub(super) fn has_tokens(&self, place: usize, now: Instant) -> bool {
        let bucket = self.accounts.get(place).and_then(|one| one.bucket.as_ref());
        bucket.is_some_and(|bucket| bucket.has(now))
    }

    /// All whose account is kept.
    pub(super) fn nodes(&self) -> impl Iterator<Item = &NodeId> {
        self.places.keys()
    }

    /// The node is no more.
    pub fn forget(&mut self, node: &NodeId) {
        self.changes = self.changes.wrapping_add(1);
        if let Some(place) = self.places.remove(node) {
            self.accounts.try_remove(place);
        }
    }

    /// Everybody of `tier` who is able. `warm` is false while this node itself is too young to know who
    /// else is.
    pub(super) fn pool(
        &mut self,
        rows: &[Row],
        tier: Tier,
        want: &Want<'_>,
        open: &Reservations,
        warm: bool,
    ) -> Pool {
        let mut pool = Pool {
            able: Vec::with_capacity(rows.len()),
            ..Pool::default()
        };
        for row in rows {
            let node = &*row.node;
            if !row.belongs(tier, want.panic) || want.avoid.contains(&node.id) {
                continue;
            }
            if node.public_urls.of_scheme(want.https).is_none() {
                pool.no_scheme = true;
                continue;
            }
            if !row.is_reached_from(want.from, want.https) {
                pool.no_reach = true;
                continue;
            }
            let Some(account) = self.accounts.get_mut(row.account) else {
                continue;
            };
            let Some(candidate) = room(row, account.count, want, open) else {
                pool.full = true;
                continue;
            };
            let capacity = candidate.capacity;
            let bucket = account
                .bucket
                .get_or_insert_with(|| Bucket::new(capacity, want.now));
            bucket.resize(capacity, want.now);
            if want.reserves && !bucket.has(want.now) {
                let next = bucket.next_at(want.now);
                pool.wait = Some(pool.wait.map_or(next, |wait| wait.min(next)));
                continue;
            }
            pool.able.push(candidate);
        }
        if warm {
            slow_start(&mut pool.able, want.now);
        }
        pool
    }
}

/// The candidate, unless it is full.
fn room(
    row: &Row,
    count: Option<Count>,
    want: &Want<'_>,
    open: &Reservations,
) -> Option<Candidate> {
    let node = &row.node;
    let tally = open.tally_at(row.tally);
    let count = count.unwrap_or(Count {
        listeners: node.listeners,
        bits: row.committed,
    });
    let newcomer = match want.bitrate.max(row.bitrate) {
        0 => TYPICAL_BITRATE,
        bits => bits,
    };
    let load = count.listeners.saturating_add(tally.reserved);
    let bits = count.bits.saturating_add(tally.bits);
    let capacity = capacity(node, count.listeners, newcomer);
    let full_weight = f64::from(node.weight.max(1));
    let candidate = Candidate {
        node: Arc::clone(node),
        listeners: count.listeners,
        load,
        capacity,
        bits,
        newcomer,
        full_weight,
        weight: full_weight,
        account: row.account,
        tally: row.tally,
    };
    candidate.has_room().then_some(candidate)
}

/// C = min(max_listeners, descriptors - 512, max_bandwidth / the mount's rate). Free descriptors are what
/// is told; those of its listeners are the ones it has.
pub fn capacity(node: &NodeView, listeners: u64, bitrate: u64) -> u64 {
    let mut capacity = node.limits.max_listeners;
    if let Some(free) = node.descriptors_left {
        let room = free.saturating_sub(SPARE_DESCRIPTORS);
        capacity = capacity.min(listeners.saturating_add(room));
    }
    let by_rate = node.limits.max_bandwidth.checked_div(bitrate);
    match by_rate {
        Some(most) if node.limits.max_bandwidth > 0 => capacity.min(most),
        _ => capacity,
    }
}

/// Of its places a node keeps one in twenty for those who were promised one, and for the worst times.
pub fn soft_cap(max_listeners: u64) -> u64 {
    max_listeners.saturating_sub(max_listeners / 20)
}

impl Want<'_> {
    /// Who asks never is sent to itself, nor to those who did not answer.
    pub(super) fn is_barred(&self, node: &NodeView) -> bool {
        node.id == *self.own || self.avoid.contains(&node.id)
    }
}

/// True if `node` may be asked for `mount` at all.
pub(super) fn belongs(node: &NodeView, tier: Tier, panic: bool, mount: &MountId) -> bool {
    let role = match tier {
        Tier::Head => NodeRole::Primary,
        Tier::Healthy | Tier::Suspects | Tier::Soft => NodeRole::Relay,
    };
    let fit = match tier {
        // In a panic only those count as healthy who are heard.
        Tier::Healthy => node.state == State::Ready && !(panic && node.suspected),
        Tier::Suspects => {
            node.suspected
                && matches!(
                    node.state,
                    State::Ready | State::Suspect | State::Unreachable
                )
        }
        Tier::Head | Tier::Soft => node.state == State::Ready,
    };
    let most = node.limits.max_listeners;
    let has_room = match tier {
        Tier::Soft => node.full && node.listeners >= soft_cap(most) && node.listeners < most,
        _ => !node.full,
    };
    node.role == role && fit && has_room && node.carries(mount)
}

/// Newcomers among the relays warm up, where there is anybody warm to take their share meanwhile.
fn slow_start(able: &mut [Candidate], now: Instant) {
    let is_warm = |one: &Candidate| one.listeners > 0 && one.node.uptime_at(now) >= SLOW_START;
    if !able.iter().any(is_warm) {
        return;
    }
    for candidate in able {
        let uptime = candidate.node.uptime_at(now);
        if uptime >= SLOW_START {
            continue;
        }
        let share = (uptime.as_secs_f64() / SLOW_START.as_secs_f64()).clamp(SLOWEST, 1.0);
        candidate.weight = candidate.full_weight * share;
    }
}
