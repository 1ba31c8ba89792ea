//! Unfinished heads, bounded: by number, by address and by time; the oldest goes first.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// Connections whose head is not whole yet, at most.
pub const MAX_PENDING: usize = 4096;

/// The same from one address.
pub const MAX_PENDING_PER_ADDRESS: usize = 64;

/// A head that takes no longer is not counted to its address: hundreds of honest players behind one address
/// may come in one moment.
pub const GRACE: Duration = Duration::from_millis(500);

/// How long a head may take.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Who waits, oldest first.
#[derive(Default)]
pub struct Gate {
    pending: Mutex<Pending>,
    /// How many wait here, to be read without the lock.
    waiting: AtomicUsize,
    /// Those who wait at the front, each for [`GRACE`] at most: they count among all, but to no address.
    front: AtomicUsize,
}

#[derive(Default)]
struct Pending {
    next: u64,
    waiting: HashMap<u64, (Option<IpAddr>, CancellationToken)>,
    order: VecDeque<u64>,
    by_address: HashMap<IpAddr, VecDeque<u64>>,
}

/// A place among those that wait; dropping it gives the place back.
pub struct Place<'a> {
    gate: &'a Gate,
    number: u64,
    /// Cancelled when another one needs the place.
    pub evicted: CancellationToken,
}

impl Gate {
    /// Takes a place; the oldest of all gives up its own if there are too many.
    pub fn enter(&self) -> Place<'_> {
        let mut pending = self.lock();
        let number = pending.next;
        pending.next += 1;
        let evicted = CancellationToken::new();
        pending.waiting.insert(number, (None, evicted.clone()));
        pending.order.push_back(number);
        if pending.waiting.len() + self.front.load(Ordering::Relaxed) > MAX_PENDING {
            let oldest = pending.oldest();
            pending.evict(oldest, "heads");
        }
        self.waiting.store(pending.waiting.len(), Ordering::Relaxed);
        Place {
            gate: self,
            number,
            evicted,
        }
    }

    /// One more at the front.
    pub fn enter_front(&self) {
        self.front.fetch_add(1, Ordering::Relaxed);
    }

    /// One less.
    pub fn leave_front(&self) {
        self.front.fetch_sub(1, Ordering::Relaxed);
    }

    /// True where there are more than may be: the oldest at the front has to take a place here.
    pub fn is_crowded(&self) -> bool {
        let front = self.front.load(Ordering::Relaxed);
        front > 0 && front + self.waiting.load(Ordering::Relaxed) > MAX_PENDING
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place<'_> {
    /// Counts the place to its address once it has lasted longer than [`GRACE`]; the oldest of that address
    /// gives up its own if there are too many.
    pub fn count_to(&self, address: IpAddr) {
        let mut pending = self.gate.lock();
        let Some((counted, _)) = pending.waiting.get_mut(&self.number) else {
            return;
        };
        *counted = Some(address);
        let own = pending.by_address.entry(address).or_default();
        own.push_back(self.number);
        if own.len() > MAX_PENDING_PER_ADDRESS {
            let oldest = own.pop_front();
            pending.evict(oldest, "heads_per_address");
        }
        let waiting = pending.waiting.len();
        self.gate.waiting.store(waiting, Ordering::Relaxed);
    }
}

impl Pending {
    fn oldest(&mut self) -> Option<u64> {
        while let Some(number) = self.order.pop_front() {
            if self.waiting.contains_key(&number) {
                return Some(number);
            }
        }
        None
    }

    fn evict(&mut self, number: Option<u64>, reason: &'static str) {
        let Some(number) = number else { return };
        if let Some((_, evicted)) = self.waiting.get(&number) {
            evicted.cancel();
            crate::telemetry::refuse(reason);
        }
        self.leave(number);
    }

    fn leave(&mut self, number: u64) {
        let Some((address, _)) = self.waiting.remove(&number) else {
            return;
        };
        if let Some(address) = address
            && let Some(own) = self.by_address.get_mut(&address)
        {
            own.retain(|other| *other != number);
            if own.is_empty() {
                self.by_address.remove(&address);
            }
        }
        // Those that left by themselves stay in `order` until it is mostly they.
        if self.order.len() > 2 * self.waiting.len() + 64 {
            let waiting = &self.waiting;
            self.order.retain(|other| waiting.contains_key(other));
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut pending = self.gate.lock();
        pending.leave(self.number);
        let waiting = pending.waiting.len();
        self.gate.waiting.store(waiting, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_goes_first_and_places_come_back() {
        let gate = Gate::default();
        let address = IpAddr::from([127, 0, 0, 1]);
        let enter = || {
            let place = gate.enter();
            place.count_to(address);
            place
        };
        let places: Vec<Place> = (0..MAX_PENDING_PER_ADDRESS).map(|_| enter()).collect();
        assert!(places.iter().all(|place| !place.evicted.is_cancelled()));
        let one_more = enter();
        assert!(places[0].evicted.is_cancelled());
        assert!(!places[1].evicted.is_cancelled() && !one_more.evicted.is_cancelled());
        drop(places);
        drop(one_more);
        let pending = gate.lock();
        assert!(pending.waiting.is_empty() && pending.by_address.is_empty());
    }

    #[test]
    fn those_at_the_front_count_among_all() {
        let gate = Gate::default();
        for _ in 0..MAX_PENDING {
            gate.enter_front();
        }
        assert!(!gate.is_crowded());
        let first = gate.enter();
        assert!(first.evicted.is_cancelled() && !gate.is_crowded());
        gate.enter_front();
        assert!(gate.is_crowded());
        gate.leave_front();
        gate.leave_front();
        let second = gate.enter();
        assert!(!second.evicted.is_cancelled());
    }

    #[test]
    fn the_whole_is_bounded() {
        let gate = Gate::default();
        let places: Vec<Place> = (0..=MAX_PENDING).map(|_| gate.enter()).collect();
        assert!(places[0].evicted.is_cancelled());
        assert_eq!(
            places
                .iter()
                .filter(|place| place.evicted.is_cancelled())
                .count(),
            1
        );
    }
}
