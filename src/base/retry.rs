//! The pace of trying again.

use std::time::Duration;

/// Jittered exponential back-off: each step doubles up to `ceiling`, and every wait is drawn evenly
/// from half the step to the step ("equal jitter"), so that a herd that fell together does not return
/// together.
#[derive(Debug, Clone)]
pub struct Backoff {
    floor: Duration,
    ceiling: Duration,
    step: Duration,
}

impl Backoff {
    /// From `floor` to `ceiling`.
    pub fn new(floor: Duration, ceiling: Duration) -> Self {
        Self {
            floor,
            ceiling,
            step: floor,
        }
    }

    /// How long to wait now; `random` is in `0.0..1.0`.
    pub fn next_with(&mut self, random: f64) -> Duration {
        let wait = self.step.mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0);
        self.step = (self.step * 2).min(self.ceiling);
        wait
    }

    /// How long to wait now.
    pub fn next_wait(&mut self) -> Duration {
        self.next_with(rand::random())
    }

    /// After a success: the next wait is short again.
    pub fn reset(&mut self) {
        self.step = self.floor;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_to_its_ceiling_and_comes_back() {
        let mut pace = Backoff::new(Duration::from_millis(100), Duration::from_millis(350));
        let steps: Vec<u128> = (0..4).map(|_| pace.next_with(1.0).as_millis()).collect();
        assert_eq!(steps, [100, 200, 350, 350]);
        pace.reset();
        assert_eq!(pace.next_with(0.0).as_millis(), 50);
    }
}
