//! The join bucket: how fast one relay may get newcomers.

use std::time::{Duration, Instant};

/// The slowest bucket, joins a second.
pub const MIN_RATE: f64 = 20.0;

/// A relay of this many times the rate is filled in no less than this many seconds.
const FILL_SECONDS: f64 = 20.0;

/// A token bucket with a burst of one second that can be asked when it has one again.
#[derive(Debug, Clone)]
pub struct Bucket {
    tokens: f64,
    rate: f64,
    at: Instant,
}

impl Bucket {
    /// A full one for a relay that carries `capacity` listeners.
    pub fn new(capacity: u64, now: Instant) -> Self {
        let rate = rate_of(capacity);
        Self {
            tokens: rate,
            rate,
            at: now,
        }
    }

    /// The relay carries another number of listeners now.
    pub fn resize(&mut self, capacity: u64, now: Instant) {
        let rate = rate_of(capacity);
        if rate != self.rate {
            self.tokens = self.level(now).min(rate);
            self.at = self.at.max(now);
            self.rate = rate;
        }
    }

    /// True if a newcomer may go there now.
    pub fn has(&self, now: Instant) -> bool {
        // What it had at the last look it has at least since: the rate is never below one.
        self.tokens >= 1.0 || self.level(now) >= 1.0
    }

    /// When one may.
    pub fn next_at(&self, now: Instant) -> Instant {
        let missing = (1.0 - self.level(now)).max(0.0);
        // A nanosecond more, so that rounding never wakes anybody in vain.
        let wait = Duration::from_secs_f64(missing / self.rate);
        let wait = wait.saturating_add(Duration::from_nanos(1));
        now.checked_add(wait).unwrap_or(now)
    }

    /// One went there. Below zero it goes for those who were promised the place before, by a second's
    /// worth at most.
    pub fn take(&mut self, now: Instant) {
        self.tokens = (self.level(now) - 1.0).max(-self.rate);
        // Those who ask looked at the clock before it was their turn: going back would fill the same time twice.
        self.at = self.at.max(now);
    }

    fn level(&self, now: Instant) -> f64 {
        let since = now.saturating_duration_since(self.at).as_secs_f64();
        (self.tokens + since * self.rate).min(self.rate)
    }
}

/// max(20, C/20) a second.
fn rate_of(capacity: u64) -> f64 {
    (capacity as f64 / FILL_SECONDS).max(MIN_RATE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_of_one_second_then_the_rate() {
        let now = Instant::now();
        let mut bucket = Bucket::new(100, now);
        assert_eq!(bucket.rate, 20.0);
        let mut taken = 0;
        while bucket.has(now) {
            bucket.take(now);
            taken += 1;
        }
        assert_eq!(taken, 20);
        let next = bucket.next_at(now);
        let wait = next - now;
        assert!(wait >= Duration::from_millis(50) && wait < Duration::from_millis(51));
        assert!(bucket.has(next));
        assert!(!bucket.has(now + Duration::from_millis(49)));
        assert!(bucket.has(now + Duration::from_secs(60)));
    }

    #[test]
    fn who_looked_at_the_clock_earlier_and_comes_later_fills_nothing() {
        let now = Instant::now();
        let mut bucket = Bucket::new(100, now);
        let mut taken = 0;
        for step in 0..1_000_u32 {
            // Two who ask in turns, one of them fifty milliseconds late.
            let at = now + Duration::from_millis(step.into());
            for at in [at + Duration::from_millis(50), at] {
                if bucket.has(at) {
                    bucket.take(at);
                    taken += 1;
                }
            }
        }
        assert!(
            (38..=41).contains(&taken),
            "{taken} in 1.05 s, of 20 and 20 a second"
        );
    }

    #[test]
    fn the_rate_follows_the_capacity() {
        let now = Instant::now();
        let mut bucket = Bucket::new(10_000, now);
        assert_eq!(bucket.rate, 500.0);
        bucket.resize(1_000, now);
        assert_eq!(bucket.rate, 50.0);
        for _ in 0..1_000 {
            bucket.take(now);
        }
        assert!(
            bucket.has(now + Duration::from_millis(1_100)),
            "the debt is bounded"
        );
    }
}
