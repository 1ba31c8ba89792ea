//! How long bytes may wait for company, and how listeners are spread over that time. Pure.
//!
//! A send costs almost the same whatever it carries, so a full shard waits longer and sends more at once. Each
//! listener has a fixed phase, and its turns lie on a grid of that phase: the load is flat whenever and however
//! suddenly listeners came, and stays so after a source was away, since an empty turn keeps its place.

use std::time::Duration;

use super::wheel::SLOT;

/// A listener is due at the latest when this much waits for it (a bit before, see [`Pace::turn`]): ten segments, what a connection may send at
/// once after a pause.
pub(super) const DUE_BYTES: u64 = 14 * 1024;

/// Listeners added lengthen the delay by this much each: the sends a second stay level from the floor to the
/// ceiling (500 listeners at 100 ms, 5,000 at 1 s).
const DELAY_PER_LISTENER: Duration = Duration::from_micros(200);

/// A shard that works more than this part of its time, in thousandths, lengthens its delay …
const BUSY_FROM: u32 = 300;

/// … and has it at the ceiling from here on, however few listeners it has.
const BUSY_UP_TO: u32 = 700;

/// The delay follows the load only when it is off by more than this part of itself (one eighth): each change
/// moves the whole grid, which costs a short turn for every listener.
const SLACK: u32 = 8;

/// A shard's delay between floor and ceiling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pace {
    floor: Duration,
    ceiling: Duration,
    delay: Duration,
    /// The part of its time that the shard worked, in thousandths, smoothed.
    busy: u32,
}

impl Pace {
    /// An idle shard's.
    pub fn new(floor: Duration, ceiling: Duration) -> Self {
        Self {
            floor,
            ceiling: ceiling.max(floor),
            delay: floor,
            busy: 0,
        }
    }

    /// Takes new bounds.
    pub fn set_bounds(&mut self, floor: Duration, ceiling: Duration) {
        self.floor = floor;
        self.ceiling = ceiling.max(floor);
        self.delay = self.delay.clamp(self.floor, self.ceiling);
    }

    /// Takes note that of the last `span` the shard worked `worked`.
    pub fn worked(&mut self, worked: Duration, span: Duration) {
        let span = span.as_micros().max(1);
        let part = (worked.as_micros() * 1000 / span).min(1000);
        let part = u32::try_from(part).unwrap_or(1000);
        self.busy = (self.busy * 3 + part) / 4;
    }

    /// Follows the load: to be called now and then.
    pub fn follow(&mut self, listeners: usize) {
        let listeners = u32::try_from(listeners).unwrap_or(u32::MAX);
        let by_number = DELAY_PER_LISTENER.saturating_mul(listeners);
        let over = self
            .busy
            .saturating_sub(BUSY_FROM)
            .min(BUSY_UP_TO - BUSY_FROM);
        let by_work = self.floor + (self.ceiling - self.floor) * over / (BUSY_UP_TO - BUSY_FROM);
        let wanted = by_number.max(by_work).clamp(self.floor, self.ceiling);
        let at_an_end = wanted == self.floor || wanted == self.ceiling;
        if at_an_end || wanted.abs_diff(self.delay) > self.delay / SLACK {
            self.delay = wanted;
        }
    }

    /// How long the oldest byte may wait now.
    #[cfg(test)]
    pub fn delay(&self) -> Duration {
        self.delay
    }

    /// The slots between two turns of a listener of a mount of `bitrate` (bits a second, 0 where unknown) that
    /// was given `lead` milliseconds of audio ahead: never more than a fourth of the lead, so that what it
    /// holds covers four turns; never less than the floor, but where [`DUE_BYTES`] come sooner.
    pub fn turn(&self, bitrate: u64, lead: u32) -> u32 {
        let by_bytes = match bitrate / 8 {
            0 => self.ceiling,
            // A slot less: bytes come in frames and at the source's pace, and ten segments and a byte would be
            // two round trips.
            rate => Duration::from_millis(DUE_BYTES * 1000 / rate).saturating_sub(SLOT),
        };
        let by_lead = Duration::from_millis(u64::from(lead / 4));
        let turn = self.delay.min(by_lead).max(self.floor).min(by_bytes);
        u32::try_from(turn.as_millis() / SLOT.as_millis())
            .unwrap_or(u32::MAX)
            .max(1)
    }
}

/// The listeners that a shard's delay follows, of whom `sealed` speak TLS: each of those counts as four. A send
/// to one costs half as much again, and a record has its price at the client, too: a full one is worth the wait
/// from a thousand of them on (measured: 4.5 CPU seconds for a gigabyte at 200 ms, 2.0 at 800).
pub(super) fn paced(listeners: usize, sealed: usize) -> usize {
    listeners + 3 * sealed.min(listeners)
}

/// The slot of the next turn: on the grid of `turn` slots that the listener's place gives it, at most one turn
/// after `today`.
pub(super) fn next_slot(place: usize, today: u64, turn: u32) -> u64 {
    // Multiples of the golden ratio: however many places there are, they lie evenly.
    let golden = (place as u32).wrapping_mul(0x9E37_79B9);
    let phase = (u64::from(golden) * u64::from(turn)) >> 32;
    let turn = u64::from(turn);
    let last = today + turn;
    last - (last + turn - phase) % turn
}

/// What a listener of a mount of `bitrate` bits a second costs beside others: a turn has its price, and so has
/// a byte (measured: a send of 16 kB costs twice one of 1.6 kB, and needs a fast mount more turns as well).
pub(super) fn weight(bitrate: u64) -> u64 {
    const TURN: u64 = 48;
    const UNKNOWN: u64 = 128;
    TURN + match bitrate / 1000 {
        0 => UNKNOWN,
        kilobits => kilobits.min(10_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FLOOR: Duration = Duration::from_millis(100);
    const CEILING: Duration = Duration::from_secs(1);
    const AMPLE: u32 = 10_000;

    #[test]
    fn the_delay_goes_from_the_floor_to_the_ceiling_as_listeners_come() {
        let mut pace = Pace::new(FLOOR, CEILING);
        let mut seen = Vec::new();
        for listeners in [0, 100, 500, 1_000, 2_500, 5_000, 50_000] {
            pace.follow(listeners);
            seen.push(pace.delay().as_millis());
        }
        assert_eq!(seen, [100, 100, 100, 200, 500, 1000, 1000]);
        pace.follow(2_500);
        pace.follow(2_450);
        assert_eq!(pace.delay().as_millis(), 500, "small changes move no grid");
        pace.follow(100);
        assert_eq!(pace.delay(), FLOOR);
    }

    #[test]
    fn a_shard_that_works_hard_waits_longer_however_few_it_serves() {
        let mut pace = Pace::new(FLOOR, CEILING);
        for _ in 0..20 {
            pace.worked(Duration::from_millis(900), Duration::from_secs(1));
        }
        pace.follow(10);
        assert_eq!(pace.delay(), CEILING);
        for _ in 0..20 {
            pace.worked(Duration::ZERO, Duration::from_secs(1));
        }
        pace.follow(10);
        assert_eq!(pace.delay(), FLOOR);
    }

    #[test]
    fn a_turn_is_bounded_by_bytes_by_lead_and_by_the_floor() {
        let mut pace = Pace::new(FLOOR, CEILING);
        assert_eq!(pace.turn(128_000, AMPLE), 5);
        pace.follow(10_000);
        // 14 KiB at 128 kbit/s are 896 ms.
        assert_eq!(pace.turn(128_000, AMPLE), 43);
        assert_eq!(pace.turn(320_000, AMPLE), 16);
        assert_eq!(pace.turn(0, AMPLE), 50);
        assert_eq!(pace.turn(32_000, AMPLE), 50);
        assert_eq!(pace.turn(128_000, 2_000), 25);
        assert_eq!(pace.turn(128_000, 0), 5);
        assert_eq!(pace.turn(1_411_000, AMPLE), 3);
        assert_eq!(pace.turn(100_000_000, AMPLE), 1);
    }

    proptest! {
        #[test]
        fn the_next_turn_is_in_time_and_then_every_turn(
            place in 0_usize..100_000, today in 1_u64..1_000_000, turn in 1_u32..512
        ) {
            let first = next_slot(place, today, turn);
            prop_assert!(first > today && first <= today + u64::from(turn));
            prop_assert_eq!(next_slot(place, first, turn), first + u64::from(turn));
            // A turn that comes late keeps the grid.
            let late = next_slot(place, first + u64::from(turn) / 2, turn);
            prop_assert_eq!((late - first) % u64::from(turn), 0);
        }

        #[test]
        fn listeners_of_one_moment_are_spread_evenly(
            base in 0_usize..10_000, today in 1_u64..1_000_000, turn in 2_u32..64
        ) {
            let count = 1_000;
            let mut slots = vec![0_u32; turn as usize];
            for place in base..base + count {
                let slot = next_slot(place, today, turn) % u64::from(turn);
                slots[slot as usize] += 1;
            }
            let mean = count as u32 / turn;
            for held in slots {
                prop_assert!(held.abs_diff(mean) <= 4, "{} beside {}", held, mean);
            }
        }
    }

    #[test]
    fn a_fast_mount_weighs_more() {
        assert_eq!(weight(0), weight(128_000));
        assert_eq!(
            (paced(1000, 0), paced(1000, 1000), paced(0, 0)),
            (1000, 4000, 0)
        );
        assert!(weight(320_000) > 2 * weight(128_000));
        assert!(weight(32_000) * 2 < weight(128_000));
    }
}
