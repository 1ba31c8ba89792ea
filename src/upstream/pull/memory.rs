//! What a pull carries from one connection to the next: what was said, how fresh the bytes were, who fed last.

use std::time::Duration;

use tokio::time::Instant;

use super::super::pulls::Failover;
use super::super::report::Report;
use super::trial::Wish;
use crate::base::ids::MountId;
use crate::base::wall::unix_millis;
use crate::cluster::parents::Standing;

/// See the module.
#[derive(Debug)]
pub(in crate::upstream) struct Memory {
    pub report: Report,
    pub freshness: Freshness,
    /// Who may feed.
    pub standing: Standing,
    /// Since when somebody answers.
    pub opened: Option<Instant>,
    /// Whom it would rather have, and when that one was asked.
    pub wish: Wish,
    last: Option<Last>,
}

#[derive(Debug)]
struct Last {
    node: String,
    heard: Instant,
    why: String,
}

impl Memory {
    pub fn new(now: Instant) -> Self {
        Self {
            report: Report::default(),
            freshness: Freshness::new(now),
            standing: Standing::default(),
            opened: None,
            wish: Wish::default(),
            last: None,
        }
    }

    /// The parent said something.
    pub fn heard(&mut self, node: &str, now: Instant) {
        match &mut self.last {
            Some(last) if last.node == node => {
                last.heard = now;
                last.why.clear();
            }
            _ => {
                self.last = Some(Last {
                    node: node.to_owned(),
                    heard: now,
                    why: String::new(),
                });
            }
        }
    }

    /// Why the parent that fed last was left; the first reason stays.
    pub fn lost(&mut self, why: &str) {
        if let Some(last) = self.last.as_mut().filter(|last| last.why.is_empty()) {
            last.why = why.to_owned();
        }
    }

    /// `node` feeds from now on: what has happened, if it was another before.
    pub fn arrived(
        &mut self,
        mount: &MountId,
        node: &str,
        lost_bytes: u64,
        now: Instant,
    ) -> Option<Failover> {
        let last = self.last.take();
        self.heard(node, now);
        let last = last.filter(|last| last.node != node)?;
        Some(Failover {
            mount: mount.clone(),
            from: last.node,
            to: node.to_owned(),
            why: last.why,
            took: now.saturating_duration_since(last.heard),
            lost_bytes,
            unix_millis: unix_millis(),
        })
    }
}

/// How late bytes are. The origin stamps them with its own clock, which may be hours from ours: so a delay is
/// measured against the shortest one seen.
#[derive(Debug, Clone, Copy)]
pub(in crate::upstream) struct Freshness {
    base: Instant,
    /// Our clock less the origin's at the newest stamp, and the least of it; milliseconds.
    newest: Option<i64>,
    best: i64,
}

impl Freshness {
    fn new(now: Instant) -> Self {
        Self {
            base: now,
            newest: None,
            best: i64::MAX,
        }
    }

    /// Bytes came that the origin stamped at `wall_millis`.
    pub fn stamp(&mut self, wall_millis: u64, now: Instant) {
        let stamp = i64::try_from(wall_millis).unwrap_or(i64::MAX);
        // Ring bytes that come late move the newest on, never back.
        if self.newest.is_none_or(|newest| stamp > newest) {
            self.newest = Some(stamp);
        }
        self.best = self.best.min(self.delay(now).unwrap_or(i64::MAX));
    }

    /// How late the newest bytes are now.
    pub fn lag(&self, now: Instant) -> Duration {
        let late = self.delay(now).map_or(0, |delay| delay - self.best);
        Duration::from_millis(u64::try_from(late).unwrap_or(0))
    }

    fn delay(&self, now: Instant) -> Option<i64> {
        let here = now.saturating_duration_since(self.base).as_millis();
        Some(i64::try_from(here).unwrap_or(i64::MAX) - self.newest?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lag_needs_no_common_clock() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        for origin in [0, 5_000_000_000_000] {
            let mut fresh = Freshness::new(start);
            assert_eq!(fresh.lag(at(900)), Duration::ZERO);
            // The ring's last minute comes at once, then live: 40 ms on the way.
            for second in 0..60 {
                fresh.stamp(origin + second * 1000, at(10));
            }
            fresh.stamp(origin + 60_000, at(40));
            fresh.stamp(origin + 61_000, at(1_040));
            assert_eq!(fresh.lag(at(1_040)).as_millis(), 0);
            assert_eq!(fresh.lag(at(4_040)).as_millis(), 3_000);
            fresh.stamp(origin + 62_000, at(5_040));
            assert_eq!(fresh.lag(at(5_040)).as_millis(), 3_000);
            fresh.stamp(origin + 66_000, at(6_040));
            assert_eq!(fresh.lag(at(6_040)).as_millis(), 0);
        }
    }

    #[test]
    fn a_failover_is_a_change_of_the_node() {
        let mount = MountId::new("/live").unwrap();
        let start = Instant::now();
        let mut memory = Memory::new(start);
        assert_eq!(memory.arrived(&mount, "a", 0, start), None);
        memory.lost("was silent");
        let later = start + Duration::from_millis(300);
        assert_eq!(memory.arrived(&mount, "a", 0, later), None);
        memory.lost("closed the connection");
        memory.lost("refused");
        let last = later + Duration::from_millis(50);
        let failover = memory.arrived(&mount, "b", 7, last).unwrap();
        assert_eq!((failover.from.as_str(), failover.to.as_str()), ("a", "b"));
        assert_eq!(failover.why, "closed the connection");
        assert_eq!((failover.took.as_millis(), failover.lost_bytes), (50, 7));
    }
}
