//! Who is looked at whatever happens: listeners that are blocked, when their stall is over, those whose session has a
//! longest duration, and those that have closed their writing side. Between being blocked and that moment a listener costs nothing.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::wheel::Ticket;

/// Deadlines of listeners that are gone stay until they are this many times as many as the listeners …
const STALE: usize = 4;

/// … and more than this many.
const FEW: usize = 1_024;

/// See the module. Holds at most three of each listener, and for a while those of listeners that are gone.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    heap: BinaryHeap<Reverse<(u64, Ticket)>>,
}

impl Deadlines {
    /// Looks at `ticket` at `millis` of the shard's clock.
    pub fn put(&mut self, ticket: Ticket, millis: u64) {
        self.heap.push(Reverse((millis, ticket)));
    }

    /// One that is over by `millis`.
    pub fn take(&mut self, millis: u64) -> Option<Ticket> {
        let Reverse((at, _)) = self.heap.peek()?;
        if *at > millis {
            return None;
        }
        self.heap.pop().map(|Reverse((_, ticket))| ticket)
    }

    /// Forgets those of listeners that are gone, once they are many: a long time may be set, and many may go
    /// before it is over.
    pub fn tidy(&mut self, listeners: usize, is_here: impl Fn(Ticket) -> bool) {
        if self.heap.len() > FEW.max(STALE * listeners) {
            self.heap.retain(|Reverse((_, ticket))| is_here(*ticket));
        }
    }

    /// When the next one is over.
    pub fn next(&self) -> Option<u64> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_come_in_their_order_and_not_early() {
        let mut deadlines = Deadlines::default();
        deadlines.put((1, 0), 300);
        deadlines.put((2, 0), 100);
        assert_eq!((deadlines.next(), deadlines.take(99)), (Some(100), None));
        assert_eq!(deadlines.take(100), Some((2, 0)));
        assert_eq!(deadlines.take(200), None);
        assert_eq!(deadlines.take(1000), Some((1, 0)));
        assert_eq!(deadlines.next(), None);
    }

    #[test]
    fn those_who_left_are_forgotten() {
        let mut deadlines = Deadlines::default();
        for key in 0..=FEW {
            deadlines.put((key, 0), 1_000);
        }
        deadlines.tidy(FEW, |(key, _)| key == 7);
        assert_eq!(deadlines.heap.len(), FEW + 1, "not while most are here");
        deadlines.tidy(1, |(key, _)| key == 7);
        assert_eq!(
            (deadlines.take(1_000), deadlines.next()),
            (Some((7, 0)), None)
        );
    }
}
