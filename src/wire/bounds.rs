//! Ranges of the numbers that one node believes of another.
//!
//! A number beyond its range is refused with the whole message where only a broken or hostile node can send it, and
//! cut to the range where an honest one may (a limit taken from the descriptors of the process, for instance). So the
//! sums that are made of these numbers have room: 10,000 nodes at the most of each range stay below 2^64.

use crate::base::ids::Epoch;

/// Most listeners of one node, the largest value of the setting `max_listeners`.
pub const MAX_LISTENERS: u64 = 10_000_000;

/// Highest rate in bits a second: a terabit.
pub const MAX_RATE: u64 = 1_000_000_000_000;

/// Most children of one node, the largest value of the setting `max_children`.
pub const MAX_CHILDREN: u32 = 10_000;

/// Thousandths of the processors that a limit may name.
pub const MAX_CPU: u32 = 1_000;

/// Longest way from the origin to a node, in nodes.
pub const MAX_DEPTH: u32 = 255;

/// Highest count of connections, requests or sessions of one node: a million each second for 30 years.
pub const MAX_COUNT: u64 = 1_000_000_000_000_000;

/// Most bytes of one counter and highest offset of one epoch: an exabyte, 900,000 years of 320 kbit/s.
pub const MAX_BYTES: u64 = 1 << 60;

/// Last millisecond of the year 9999 in unix time; a duration is bounded by it as well.
pub const MAX_MILLIS: u64 = 253_402_300_799_999;

/// Milliseconds that an epoch or a process' start may lie ahead of the receiver's clock: one day.
pub const AHEAD_MILLIS: u64 = 86_400_000;

/// The receiver's view of time, by which the times in a message are judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    /// Milliseconds since 1970, now.
    pub unix_millis: u64,
    /// The highest epoch that the receiver itself, or whom it trusts, has stamped: known whatever the clock says.
    pub stamped: Epoch,
}

impl Clock {
    /// The latest time that is believed: a day from now.
    pub fn latest_millis(&self) -> u64 {
        self.unix_millis.saturating_add(AHEAD_MILLIS)
    }

    /// The highest epoch that is believed: one of a day from now, or one that was stamped here.
    pub fn latest_epoch(&self) -> Epoch {
        Epoch(self.latest_millis()).max(self.stamped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_ahead_and_what_was_stamped_here() {
        let clock = Clock {
            unix_millis: 1_000,
            stamped: Epoch(5),
        };
        assert_eq!(clock.latest_epoch(), Epoch(86_401_000));
        let jumped_back = Clock {
            unix_millis: 1_000,
            stamped: Epoch(99_000_000),
        };
        assert_eq!(jumped_back.latest_epoch(), Epoch(99_000_000));
        let last = Clock {
            unix_millis: u64::MAX,
            stamped: Epoch(0),
        };
        assert_eq!(last.latest_epoch(), Epoch(u64::MAX));
    }

    #[test]
    fn sums_over_a_whole_table_have_room() {
        let nodes = 10_000_u64;
        for most in [MAX_LISTENERS, MAX_RATE, MAX_MILLIS, MAX_COUNT] {
            assert!(most.checked_mul(nodes).is_some(), "{most}");
        }
    }
}
