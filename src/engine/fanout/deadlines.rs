//! Who is looked at whatever happens: listeners that are blocked, when their stall is over, and those whose
//! session has a longest duration. Between being blocked and that moment a listener costs nothing.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::wheel::Ticket;

/// See the module. Holds at most two of each listener, so it is bounded by their number.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    heap: BinaryHeap<Reverse<(u32, Ticket)>>,
}

impl Deadlines {
    /// Looks at `ticket` at `millis` of the shard's clock.
    pub fn put(&mut self, ticket: Ticket, millis: u32) {
        self.heap.push(Reverse((millis, ticket)));
    }

    /// One that is over by `millis`.
    pub fn take(&mut self, millis: u32) -> Option<Ticket> {
        let Reverse((at, _)) = self.heap.peek()?;
        if *at > millis {
            return None;
        }
        self.heap.pop().map(|Reverse((_, ticket))| ticket)
    }

    /// When the next one is over.
    pub fn next(&self) -> Option<u32> {
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
}
