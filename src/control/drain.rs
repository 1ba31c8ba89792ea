//! A drain of this node: why it takes nobody new, and how fast those who are there are let go. Pure but for the
//! lock that holds it.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::base::ids::NodeId;
use crate::wire::message::{DrainOrder, Reflect};

/// Who wants it. The later one in this list wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum By {
    /// An operator: it lasts over restarts.
    Operator,
    /// Somebody on this machine, such as a `preStop` hook: it ends with the process.
    Local,
    /// The process goes down: nothing takes it back.
    Shutdown,
}

impl By {
    /// The word in events.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Local => "local",
            Self::Shutdown => "shutdown",
        }
    }
}

/// What operators want of nodes, as it is kept in the data directory: on a primary for all nodes, on a relay for
/// itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Orders {
    /// Nodes that take nobody new.
    pub drains: BTreeMap<NodeId, DrainOrder>,
    /// Nodes that always or never send newcomers on.
    pub reflects: BTreeMap<NodeId, Reflect>,
}

/// Everything about draining that a node remembers.
#[derive(Debug, Default)]
pub(super) struct Drains {
    /// Kept.
    pub orders: Orders,
    /// On a relay: the primary's word.
    pub told: Option<DrainOrder>,
    /// By somebody on this machine.
    pub local: Option<DrainOrder>,
    /// The end.
    pub shutdown: Option<DrainOrder>,
    /// On a primary: nodes that are to take back what they were told by others.
    pub resuming: HashSet<NodeId>,
    current: Option<(By, DrainOrder)>,
    plan: Option<Plan>,
    /// That the last one has gone was said.
    is_done: bool,
}

/// What a change led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turned {
    /// Nothing.
    Same,
    /// It drains now, or otherwise than before.
    Drains,
    /// It takes newcomers again.
    Resumed,
}

impl Drains {
    pub fn new(orders: Orders) -> Self {
        Self {
            orders,
            ..Self::default()
        }
    }

    /// What holds now.
    pub fn current(&self) -> Option<(By, DrainOrder)> {
        self.current
    }

    /// Draws the conclusion from what is wanted. `unix_millis` is the cluster's clock, in which orders are dated.
    pub fn settle(
        &mut self,
        own: &NodeId,
        listeners: u64,
        now: Instant,
        unix_millis: u64,
    ) -> Turned {
        let wanted = [
            (By::Shutdown, self.shutdown),
            (By::Local, self.local),
            (By::Operator, self.orders.drains.get(own).copied()),
            (By::Operator, self.told),
        ];
        let wanted = wanted
            .into_iter()
            .find_map(|(by, order)| Some((by, order?)));
        if wanted == self.current {
            return Turned::Same;
        }
        self.current = wanted;
        self.is_done = false;
        self.plan = wanted.and_then(|(_, order)| Plan::of(&order, listeners, now, unix_millis));
        match wanted {
            Some(_) => Turned::Drains,
            None => Turned::Resumed,
        }
    }

    /// How many of `left` listeners have to go now.
    pub fn excess(&self, left: u64, now: Instant) -> u64 {
        let allowed = self.plan.map_or(u64::MAX, |plan| plan.allowed(now));
        left.saturating_sub(allowed)
    }

    /// True once, when the last listener has gone.
    pub fn is_done_now(&mut self, left: u64) -> bool {
        let done = self.current.is_some() && left == 0;
        done && !std::mem::replace(&mut self.is_done, true)
    }
}

/// The listeners go evenly over a time, whether by themselves or not.
#[derive(Debug, Clone, Copy)]
struct Plan {
    began: Instant,
    ends: Instant,
    at_start: u64,
}

impl Plan {
    fn of(order: &DrainOrder, listeners: u64, now: Instant, unix_millis: u64) -> Option<Self> {
        let spread = order.spread_millis?;
        let passed = unix_millis.saturating_sub(order.since_unix_millis);
        Some(Self {
            began: now,
            ends: now + Duration::from_millis(spread.saturating_sub(passed)),
            at_start: listeners,
        })
    }

    /// How many may be left.
    fn allowed(&self, now: Instant) -> u64 {
        let whole = self.ends.saturating_duration_since(self.began).as_nanos();
        let left = self.ends.saturating_duration_since(now).as_nanos();
        if whole == 0 {
            return 0;
        }
        let allowed = (u128::from(self.at_start) * left).div_ceil(whole);
        u64::try_from(allowed).unwrap_or(u64::MAX)
    }
}

/// How far a drain is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// When it began, unix milliseconds.
    pub since_unix_millis: u64,
    /// Over which time listeners are closed.
    pub spread: Option<Duration>,
    /// Listeners then.
    pub at_start: u64,
    /// Listeners now.
    pub left: u64,
    /// When the last one will have gone, as far as can be said.
    pub remaining: Option<Duration>,
}

impl Progress {
    /// By the order, the listeners left and the cluster's clock.
    pub fn of(order: &DrainOrder, left: u64, unix_millis: u64) -> Self {
        let passed = unix_millis.saturating_sub(order.since_unix_millis);
        let spread = order.spread_millis.map(Duration::from_millis);
        let at_start = order.listeners.max(left);
        Self {
            since_unix_millis: order.since_unix_millis,
            spread,
            at_start,
            left,
            remaining: remaining(at_start, left, Duration::from_millis(passed), spread),
        }
    }
}

/// By the pace so far, and no later than the spread ends.
fn remaining(
    at_start: u64,
    left: u64,
    passed: Duration,
    spread: Option<Duration>,
) -> Option<Duration> {
    if left == 0 {
        return Some(Duration::ZERO);
    }
    let gone = at_start.saturating_sub(left);
    let seconds = (gone > 0).then(|| passed.as_secs_f64() * (left as f64 / gone as f64));
    // A pace that ends beyond every clock is none.
    let by_pace = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let by_spread = spread.map(|spread| spread.saturating_sub(passed));
    match (by_pace, by_spread) {
        (Some(pace), Some(spread)) => Some(pace.min(spread)),
        (pace, spread) => pace.or(spread),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn order(since_unix_millis: u64, spread_seconds: Option<u64>) -> DrainOrder {
        DrainOrder {
            since_unix_millis,
            spread_millis: spread_seconds.map(|seconds| seconds * 1_000),
            listeners: 100,
        }
    }

    fn own() -> NodeId {
        "relay-1".parse().unwrap()
    }

    #[test]
    fn the_stronger_word_holds_and_each_is_taken_back_on_its_own() {
        let now = Instant::now();
        let mut drains = Drains::default();
        let settle = |drains: &mut Drains| drains.settle(&own(), 10, now, 5_000);
        assert_eq!(settle(&mut drains), Turned::Same);
        drains.told = Some(order(5_000, None));
        assert_eq!(settle(&mut drains), Turned::Drains);
        drains.local = Some(order(5_000, Some(10)));
        assert_eq!(settle(&mut drains), Turned::Drains);
        assert_eq!(drains.current().unwrap().0, By::Local);
        drains.told = None;
        assert_eq!(settle(&mut drains), Turned::Same);
        drains.local = None;
        assert_eq!(settle(&mut drains), Turned::Resumed);
        drains.orders.drains.insert(own(), order(1, None));
        assert_eq!(settle(&mut drains), Turned::Drains);
        drains.shutdown = Some(order(5_000, Some(1)));
        assert_eq!(settle(&mut drains), Turned::Drains);
        drains.orders.drains.clear();
        assert_eq!(settle(&mut drains), Turned::Same);
        assert_eq!(drains.current().unwrap().0, By::Shutdown);
    }

    #[test]
    fn without_a_spread_nobody_has_to_go() {
        let now = Instant::now();
        let mut drains = Drains {
            told: Some(order(0, None)),
            ..Drains::default()
        };
        drains.settle(&own(), 100, now, 0);
        let late = now + Duration::from_secs(86_400);
        assert_eq!(drains.excess(100, late), 0);
        assert!(!drains.is_done_now(1));
        assert!(drains.is_done_now(0));
        assert!(!drains.is_done_now(0), "said once");
    }

    #[test]
    fn a_spread_that_began_before_a_restart_ends_when_it_was_to_end() {
        let now = Instant::now();
        let mut drains = Drains {
            told: Some(order(100_000, Some(600))),
            ..Drains::default()
        };
        // Nine of the ten minutes have passed when the node hears of it again.
        drains.settle(&own(), 40, now, 640_000);
        assert_eq!(drains.excess(40, now), 0);
        assert_eq!(drains.excess(40, now + Duration::from_secs(30)), 20);
        assert_eq!(drains.excess(40, now + Duration::from_secs(60)), 40);
        let mut over = Drains {
            told: Some(order(100_000, Some(600))),
            ..Drains::default()
        };
        over.settle(&own(), 3, now, 10_000_000);
        assert_eq!(over.excess(3, now), 3);
    }

    #[test]
    fn the_estimate_goes_by_the_pace_and_no_further_than_the_spread() {
        let at = |left, passed_seconds: u64, spread| {
            let order = order(1_000, spread);
            Progress::of(&order, left, 1_000 + passed_seconds * 1_000).remaining
        };
        assert_eq!(at(100, 10, None), None);
        assert_eq!(at(75, 10, None), Some(Duration::from_secs(30)));
        assert_eq!(at(75, 10, Some(30)), Some(Duration::from_secs(20)));
        assert_eq!(at(100, 10, Some(30)), Some(Duration::from_secs(20)));
        assert_eq!(at(0, 10, None), Some(Duration::ZERO));
    }

    proptest! {
        #[test]
        fn they_go_evenly_and_all_of_them(
            listeners in 1_u64..100_000,
            spread in 1_u64..10_000,
            looks in proptest::collection::vec(0.0_f64..1.0, 1..50),
        ) {
            let now = Instant::now();
            let mut drains = Drains { told: Some(order(0, Some(spread))), ..Drains::default() };
            drains.settle(&own(), listeners, now, 0);
            let mut looks = looks;
            looks.sort_by(f64::total_cmp);
            let mut left = listeners;
            for share in looks {
                left -= drains.excess(left, now + Duration::from_secs(spread).mul_f64(share));
                let even = listeners as f64 * (1.0 - share);
                prop_assert!((left as f64 - even).abs() <= 1.0, "{left} left at {share}, not {even}");
            }
            let end = now + Duration::from_secs(spread);
            prop_assert_eq!(drains.excess(left, end), left);
        }
    }
}
