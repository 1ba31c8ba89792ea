//! Rest: while requests come by the thousand, the thread takes them by the handful.
//!
//! To be woken costs about as much as to answer, and whoever is awake when a request comes is woken for each. So
//! in a storm the thread lies down for a moment after each round and finds several requests when it gets up. Nobody
//! hears of four milliseconds; outside of a storm every request is answered at once.

use std::time::{Duration, Instant};

/// How long it lies down: thirty-two requests at eight thousand a second.
const REST: Duration = Duration::from_millis(4);

/// Requests are counted over this long.
const SPAN: Duration = Duration::from_millis(50);

/// So many in a span, two thousand a second, begin a storm …
const BEGINS: usize = 100;

/// … which is over below this.
const ENDS: usize = 50;

/// A round with as many is a handful by itself: the next one follows at once.
const FULL: usize = 64;

/// See the module.
#[derive(Debug)]
pub(super) struct Rest {
    since: Instant,
    heard: usize,
    storm: bool,
}

impl Rest {
    pub fn new(now: Instant) -> Self {
        Self {
            since: now,
            heard: 0,
            storm: false,
        }
    }

    /// How long to lie down after a round that began at `now` and heard so many; `None` is not at all.
    pub fn after(&mut self, heard: usize, now: Instant) -> Option<Duration> {
        self.heard += heard;
        let passed = now.saturating_duration_since(self.since);
        if passed >= SPAN {
            // A long wait without anybody is many spans.
            let spans = passed.as_millis() / SPAN.as_millis();
            let each = self.heard / usize::try_from(spans).unwrap_or(usize::MAX).max(1);
            self.storm = each >= if self.storm { ENDS } else { BEGINS };
            (self.since, self.heard) = (now, 0);
        }
        (self.storm && (1..FULL).contains(&heard)).then_some(REST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rounds of `heard` each, `gap` apart, for half a second; how many were followed by a rest.
    fn rests(rest: &mut Rest, from: Instant, heard: usize, gap: Duration) -> (u32, u32) {
        let (mut rested, mut rounds) = (0, 0);
        while gap * rounds < Duration::from_millis(500) {
            rounds += 1;
            rested += u32::from(rest.after(heard, from + gap * rounds).is_some());
        }
        (rested, rounds)
    }

    #[test]
    fn only_in_a_storm() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let mut rest = Rest::new(start);
        let (rested, rounds) = rests(&mut rest, start, 1, second / 1_500);
        assert!(rested == 0 && rounds >= 750, "{rested} of {rounds}");
        let (rested, rounds) = rests(&mut rest, start + second, 1, second / 8_000);
        assert!(rested > rounds * 3 / 4, "{rested} of {rounds}");
        // It goes on a little below where it began.
        let (rested, rounds) = rests(&mut rest, start + second * 3 / 2, 2, second / 750);
        assert!(rested > rounds * 3 / 4, "{rested} of {rounds}");
        // One request after a pause is answered at once, and the next one too.
        let (rested, _) = rests(&mut rest, start + second * 4, 1, second / 200);
        assert_eq!(rested, 0);
    }

    #[test]
    fn who_has_much_to_do_does_not_rest() {
        let start = Instant::now();
        let mut rest = Rest::new(start);
        let gap = Duration::from_millis(1);
        assert_eq!(rests(&mut rest, start, FULL, gap).0, 0);
        assert!(rest.storm);
        assert_eq!(rest.after(0, start + gap * 500), None);
    }
}
