//! Who was redirected and never arrived: what `mode: auto` goes by.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::hash::Table;
use super::reservations::AGAIN;

/// How far it reaches back.
pub const WINDOW: Duration = Duration::from_secs(30);

/// Most listeners remembered; the oldest is forgotten first.
pub const MAX_LISTENERS: usize = 65_536;

/// Redirects remembered for each.
const MAX_ISSUES: usize = 4;

/// Tens of milliseconds on this room's clock, 0 for never: a trace is small, since every redirect touches one of
/// tens of thousands.
type Moment = u32;

/// Milliseconds of one step of the clock.
const STEP: u128 = 10;

#[derive(Debug, Default)]
struct Trace {
    /// Empty places among them.
    issued: [Moment; MAX_ISSUES],
    confirmed: Moment,
}

fn age(at: Moment, now: Moment) -> Option<Duration> {
    let steps = now.saturating_sub(at);
    (at != 0).then(|| Duration::from_millis(u64::from(steps).saturating_mul(STEP as u64)))
}

impl Trace {
    fn prune(&mut self, now: Moment) {
        for at in self.issued.iter_mut().chain([&mut self.confirmed]) {
            if age(*at, now).is_some_and(|age| age >= WINDOW) {
                *at = 0;
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.issued
            .iter()
            .chain([&self.confirmed])
            .all(|at| *at == 0)
    }
}

/// The last half minute of redirects, by hashed listener.
#[derive(Debug, Default)]
pub struct Memory {
    traces: Table<u64, Trace>,
    order: VecDeque<(Moment, u64)>,
    /// When the clock began.
    start: Option<Instant>,
}

impl Memory {
    /// It was redirected.
    pub fn redirected(&mut self, listener: u64, now: Instant) {
        let now = self.moment(now);
        let trace = self.trace(listener, now);
        trace.prune(now);
        if let Some(free) = trace.issued.iter_mut().find(|issued| **issued == 0) {
            *free = now;
        }
    }

    /// It arrived.
    pub fn arrived(&mut self, listener: u64, now: Instant) {
        let now = self.moment(now);
        self.trace(listener, now).confirmed = now;
    }

    /// True if it was redirected at least twice and never arrived. A redirect of the last two seconds does
    /// not count: that listener is on its way.
    pub fn is_lost(&self, listener: u64, now: Instant) -> bool {
        let now = self.since_start(now);
        self.traces.get(&listener).is_some_and(|trace| {
            let ages = trace.issued.iter().filter_map(|at| age(*at, now));
            let due = ages.filter(|age| *age >= AGAIN && *age < WINDOW);
            let arrived = age(trace.confirmed, now).is_some_and(|age| age < WINDOW);
            !arrived && due.count() >= 2
        })
    }

    /// Forgets what is too old.
    pub fn expire(&mut self, now: Instant) {
        let now = self.moment(now);
        while let Some((since, listener)) = self.order.front().copied() {
            if age(since, now).is_some_and(|age| age < WINDOW) {
                break;
            }
            self.order.pop_front();
            let Some(trace) = self.traces.get_mut(&listener) else {
                continue;
            };
            trace.prune(now);
            if trace.is_empty() {
                self.traces.remove(&listener);
            } else {
                self.order.push_back((now, listener));
            }
        }
    }

    fn moment(&mut self, now: Instant) -> Moment {
        self.start.get_or_insert(now);
        self.since_start(now)
    }

    fn since_start(&self, now: Instant) -> Moment {
        let passed = now.saturating_duration_since(self.start.unwrap_or(now));
        u32::try_from((passed.as_millis() / STEP).saturating_add(1)).unwrap_or(u32::MAX)
    }

    fn trace(&mut self, listener: u64, now: Moment) -> &mut Trace {
        if !self.traces.contains_key(&listener) {
            let is_crowded = self.traces.len() >= MAX_LISTENERS;
            let oldest = is_crowded.then(|| self.order.pop_front()).flatten();
            if let Some((_, oldest)) = oldest {
                self.traces.remove(&oldest);
            }
            self.order.push_back((now, listener));
        }
        self.traces.entry(listener).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_redirects_and_no_arrival() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut memory = Memory::default();
        memory.redirected(1, at(0));
        assert!(!memory.is_lost(1, at(5)));
        memory.redirected(1, at(5));
        assert!(!memory.is_lost(1, at(6)), "the second is on its way");
        assert!(memory.is_lost(1, at(8)));
        assert!(!memory.is_lost(2, at(8)));
        assert!(!memory.is_lost(1, at(30)), "the first is too old");
        memory.arrived(1, at(9));
        assert!(!memory.is_lost(1, at(9)));
    }

    #[test]
    fn it_forgets_and_is_bounded() {
        let start = Instant::now();
        let mut memory = Memory::default();
        for listener in 0..MAX_LISTENERS as u64 + 10 {
            memory.redirected(listener, start);
        }
        assert_eq!(memory.traces.len(), MAX_LISTENERS);
        assert_eq!(memory.order.len(), MAX_LISTENERS);
        memory.expire(start + WINDOW);
        assert!(memory.traces.is_empty() && memory.order.is_empty());
    }
}
