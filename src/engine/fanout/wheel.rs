//! When each listener is due: a wheel of short slots.

use std::time::{Duration, Instant};

/// One slot. Finer than any ear, coarse enough that a slot holds many.
pub(super) const SLOT: Duration = Duration::from_millis(20);

/// Slots: a turn of about ten seconds, as long as the longest tick that may be set.
const SLOTS: usize = 512;

/// Who is due: a place in the slab and its generation.
pub(super) type Ticket = (usize, u32);

/// See the module.
pub(super) struct Wheel {
    slots: Vec<Vec<Ticket>>,
    /// Rooms of slots that were emptied, for the next ones: there are as many as slots that hold somebody at once,
    /// not one for every slot that ever did.
    spare: Vec<Vec<Ticket>>,
    start: Instant,
    /// The first slot not yet taken, counted from `start`.
    next: u64,
    waiting: usize,
}

impl Wheel {
    /// Empty.
    pub fn new(start: Instant) -> Self {
        Self {
            slots: (0..SLOTS).map(|_| Vec::new()).collect(),
            spare: Vec::new(),
            start,
            next: 0,
            waiting: 0,
        }
    }

    /// Puts a ticket into a slot: never one already taken, never further than a turn.
    pub fn put(&mut self, ticket: Ticket, slot: u64) {
        let due = slot.clamp(self.next, self.next + SLOTS as u64 - 1);
        if let Some(slot) = self.slots.get_mut(index(due)) {
            if slot.capacity() == 0 {
                *slot = self.spare.pop().unwrap_or_default();
            }
            slot.push(ticket);
            self.waiting += 1;
        }
    }

    /// Moves all tickets that are due by `now` to `into`.
    pub fn take_due(&mut self, now: Instant, into: &mut impl Extend<Ticket>) {
        let today = self.slot_of(now);
        if self.waiting == 0 {
            self.next = self.next.max(today);
            return;
        }
        while self.next <= today && self.waiting > 0 {
            if let Some(slot) = self.slots.get_mut(index(self.next))
                && !slot.is_empty()
            {
                self.waiting -= slot.len();
                into.extend(slot.drain(..));
                self.spare.push(std::mem::take(slot));
            }
            self.next += 1;
        }
    }

    /// How long until the next slot that may hold somebody; `None` if nobody waits.
    pub fn until_next(&self, now: Instant) -> Option<Duration> {
        if self.waiting == 0 {
            return None;
        }
        let ahead = (0..SLOTS as u64).find(|step| {
            self.slots
                .get(index(self.next + step))
                .is_some_and(|slot| !slot.is_empty())
        })?;
        let at = self.start + SLOT * u32::try_from(self.next + ahead).unwrap_or(u32::MAX);
        Some(at.saturating_duration_since(now))
    }

    /// The slot of a moment.
    pub fn slot_of(&self, at: Instant) -> u64 {
        let slots = at.saturating_duration_since(self.start).as_millis() / SLOT.as_millis();
        u64::try_from(slots).unwrap_or(u64::MAX)
    }
}

fn index(slot: u64) -> usize {
    usize::try_from(slot % SLOTS as u64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_memory_is_that_of_those_who_wait() {
        let start = Instant::now();
        let mut wheel = Wheel::new(start);
        let mut due = Vec::new();
        // A hundred in each of ten slots, round and round.
        for slot in 0..10 {
            (0..100).for_each(|key| wheel.put((key, 0), slot));
        }
        for round in 0..2 * SLOTS as u32 {
            wheel.take_due(start + SLOT * round, &mut due);
            for ticket in due.drain(..) {
                wheel.put(ticket, u64::from(round) + 10);
            }
        }
        let rooms = wheel.slots.iter().chain(&wheel.spare);
        assert_eq!(wheel.waiting, 1_000);
        assert!(rooms.map(Vec::capacity).sum::<usize>() <= 11 * 128);
    }

    #[test]
    fn tickets_come_due_once_and_in_time() {
        let start = Instant::now();
        let mut wheel = Wheel::new(start);
        assert_eq!(wheel.until_next(start), None);
        wheel.put((1, 0), 5);
        wheel.put((2, 0), 50);
        wheel.put((3, 0), 1_000_000);
        assert_eq!(wheel.until_next(start), Some(Duration::from_millis(100)));
        let mut due = Vec::new();
        wheel.take_due(start + Duration::from_millis(90), &mut due);
        assert!(due.is_empty());
        wheel.take_due(start + Duration::from_millis(105), &mut due);
        assert_eq!(due, [(1, 0)]);
        wheel.take_due(start + Duration::from_secs(2), &mut due);
        assert_eq!(due, [(1, 0), (2, 0)]);
        wheel.take_due(start + Duration::from_secs(20), &mut due);
        assert_eq!(due.len(), 3);
        let slot = wheel.slot_of(start + Duration::from_secs(20));
        wheel.put((4, 0), slot);
        wheel.take_due(start + Duration::from_secs(21), &mut due);
        assert_eq!(due.len(), 4);
    }
}
