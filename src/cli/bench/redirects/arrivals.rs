//! When requests come: at random moments, as from players who don't know of each other (a Poisson process).
//!
//! The same ones in each run, so every server is asked at the same moments.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

/// Where the chance begins, in each run alike.
const SEED: u64 = 0x5EED;

/// See the module.
pub(super) struct Arrivals {
    chance: StdRng,
    per_second: f64,
    /// The moment of the next one, in seconds.
    next: f64,
    due: u64,
}

impl Arrivals {
    /// On average so many a second, which is more than 0.
    pub fn new(per_second: f64) -> Self {
        Self {
            chance: StdRng::seed_from_u64(SEED),
            per_second,
            next: 0.0,
            due: 0,
        }
    }

    /// How many have come when this much time has passed.
    pub fn due(&mut self, passed: Duration) -> u64 {
        let passed = passed.as_secs_f64();
        while self.next <= passed {
            self.due += 1;
            // Between two of them: exponential, by the inverse of its distribution.
            let share: f64 = self.chance.random();
            self.next -= (1.0 - share).ln() / self.per_second;
        }
        self.due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_come_at_the_rate_in_bunches_and_alike_in_each_run() {
        let steps = |arrivals: &mut Arrivals| {
            let mut before = 0;
            let mut held = Vec::new();
            for step in 1..=100_000_u32 {
                let due = arrivals.due(Duration::from_micros(100) * step);
                held.push(due - before);
                before = due;
            }
            held
        };
        let held = steps(&mut Arrivals::new(8_000.0));
        assert_eq!(held, steps(&mut Arrivals::new(8_000.0)));
        let all: u64 = held.iter().sum();
        assert!(all.abs_diff(80_000) < 1_500, "{all}");
        // A Poisson number of 0.8 in each step: 45 % of them are empty, 4.7 % hold three and more.
        let share = |test: fn(u64) -> bool| {
            let found = held.iter().filter(|count| test(**count)).count();
            found as f64 / held.len() as f64
        };
        assert!((share(|count| count == 0) - 0.449).abs() < 0.01);
        assert!((share(|count| count >= 3) - 0.047).abs() < 0.005);
    }
}
