//! Which reservation a client made lately: a cache of two generations, of which the older one is forgotten whole. To take
//! each out again by itself would touch a cold place of a large table for each.

use std::time::{Duration, Instant};

use super::hash::Table;

/// Most clients in one table; with so many it is forgotten early.
const MOST: usize = 100_000;

/// See the module.
#[derive(Debug)]
pub(super) struct Lately {
    span: Duration,
    young: Table<u64, u64>,
    old: Table<u64, u64>,
    /// When the young table began.
    since: Option<Instant>,
}

impl Lately {
    /// Remembers for `span` at least and for about twice as long at most, as long as there are not too many.
    pub fn new(span: Duration) -> Self {
        Self {
            span,
            young: Table::default(),
            old: Table::default(),
            since: None,
        }
    }

    /// `client` has made this one now.
    pub fn put(&mut self, client: u64, sequence: u64, now: Instant) {
        if self.young.len() >= MOST {
            self.age(now);
        }
        self.young.insert(client, sequence);
    }

    /// The last one that `client` made; it is found once.
    pub fn take(&mut self, client: u64) -> Option<u64> {
        let old = self.old.remove(&client);
        self.young.remove(&client).or(old)
    }

    /// Time passed.
    pub fn expire(&mut self, now: Instant) {
        let since = *self.since.get_or_insert(now);
        if now.saturating_duration_since(since) >= self.span {
            self.age(now);
        }
    }

    fn age(&mut self, now: Instant) {
        self.since = Some(now);
        std::mem::swap(&mut self.young, &mut self.old);
        self.young.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPAN: Duration = Duration::from_secs(2);

    #[test]
    fn for_its_span_at_least_and_once() {
        let start = Instant::now();
        let mut lately = Lately::new(SPAN);
        for millis in (0..20_000).step_by(100) {
            let now = start + Duration::from_millis(millis);
            lately.expire(now);
            lately.put(millis, millis + 1, now);
            let Some(known) = millis.checked_sub(1_900) else {
                continue;
            };
            assert_eq!(lately.take(known), Some(known + 1), "at {millis}");
            assert_eq!(lately.take(known), None);
        }
        let held = lately.young.len() + lately.old.len();
        assert!(held <= 40, "{held} are remembered");
        for seconds in [60, 120] {
            lately.expire(start + Duration::from_secs(seconds));
        }
        assert!(lately.young.is_empty() && lately.old.is_empty());
    }

    #[test]
    fn the_last_one_of_a_client_and_no_more_than_so_many() {
        let now = Instant::now();
        let mut lately = Lately::new(SPAN);
        lately.expire(now);
        lately.put(7, 1, now);
        lately.expire(now + SPAN);
        lately.put(7, 2, now + SPAN);
        assert_eq!((lately.take(7), lately.take(7)), (Some(2), None));
        for client in 0..3 * MOST as u64 {
            lately.put(client, client, now + SPAN);
        }
        assert!(lately.young.len() + lately.old.len() <= 2 * MOST);
        assert_eq!(lately.take(3 * MOST as u64 - 1), Some(3 * MOST as u64 - 1));
    }
}
