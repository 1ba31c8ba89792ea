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

#[derive(Debug, Default)]
struct Trace {
    /// Empty places among them.
    issued: [Option<Instant>; MAX_ISSUES],
    confirmed: Option<Instant>,
}

impl Trace {
    fn prune(&mut self, now: Instant) {
        let young = |at: &Instant| now.saturating_duration_since(*at) < WINDOW;
        for issued in &mut self.issued {
            *issued = issued.filter(young);
        }
        self.confirmed = self.confirmed.filter(young);
    }

    fn is_empty(&self) -> bool {
        self.issued.iter().all(Option::is_none) && self.confirmed.is_none()
    }
}

/// The last half minute of redirects, by hashed listener.
#[derive(Debug, Default)]
pub struct Memory {
    traces: Table<u64, Trace>,
    order: VecDeque<(Instant, u64)>,
}

impl Memory {
    /// It was redirected.
    pub fn redirected(&mut self, listener: u64, now: Instant) {
        let trace = self.trace(listener, now);
        trace.prune(now);
        if let Some(free) = trace.issued.iter_mut().find(|issued| issued.is_none()) {
            *free = Some(now);
        }
    }

    /// It arrived.
    pub fn arrived(&mut self, listener: u64, now: Instant) {
        self.trace(listener, now).confirmed = Some(now);
    }

    /// True if it was redirected at least twice and never arrived. A redirect of the last two seconds does
    /// not count: that listener is on its way.
    pub fn is_lost(&self, listener: u64, now: Instant) -> bool {
        let age = |at: &Instant| now.saturating_duration_since(*at);
        self.traces.get(&listener).is_some_and(|trace| {
            let due = |at: &&Instant| age(at) >= AGAIN && age(at) < WINDOW;
            let arrived = trace.confirmed.is_some_and(|at| age(&at) < WINDOW);
            !arrived && trace.issued.iter().flatten().filter(due).count() >= 2
        })
    }

    /// Forgets what is too old.
    pub fn expire(&mut self, now: Instant) {
        while let Some((since, listener)) = self.order.front().copied() {
            if now.saturating_duration_since(since) < WINDOW {
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

    fn trace(&mut self, listener: u64, now: Instant) -> &mut Trace {
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
