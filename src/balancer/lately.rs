//! Which reservation a client made lately: a cache of fixed size, in which each client is looked for in one line of the
//! processor's cache, since at every pick somebody is looked for who is not there. Whose a reservation is and how old, it says
//! itself; so a place takes eight bytes here, and time need not empty it.

use std::hash::BuildHasher;

use super::hash::Seeded;

/// Places of a bucket. A client has no other ones; the oldest makes room.
const PLACES: usize = 8;

/// Half a mebibyte together: all reservations of two seconds at ten thousand a second, but for one of some hundreds.
const BUCKETS: usize = 8_192;

/// One reservation: a mark of its client, never 0, and the lower half of its sequence. Zeros are nobody.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    mark: u32,
    sequence: u32,
}

/// Those whose clients fall together.
#[derive(Debug, Clone, Copy, Default)]
#[repr(align(64))]
struct Bucket([Place; PLACES]);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Lately {
    seed: Seeded,
    /// Empty until the first reservation: most nodes never make one.
    buckets: Vec<Bucket>,
}

impl Lately {
    /// `client` has made the reservation `sequence` now, the newest of all.
    pub fn put(&mut self, client: u64, sequence: u64) {
        if self.buckets.is_empty() {
            self.buckets = vec![Bucket::default(); BUCKETS];
        }
        let (mark, bucket) = self.of(client);
        let Some(places) = bucket else { return };
        let sequence = low(sequence);
        let age = |place: &Place| match place.mark {
            0 => u32::MAX,
            _ => sequence.wrapping_sub(place.sequence),
        };
        let own = places.iter().position(|place| place.mark == mark);
        let oldest = || (0..PLACES).max_by_key(|at| places.get(*at).map(age));
        if let Some(place) = own.or_else(oldest).and_then(|at| places.get_mut(at)) {
            *place = Place { mark, sequence };
        }
    }

    /// What seems to be the last one that `client` made; it is found once. `newest` is the last that anybody made.
    pub fn take(&mut self, client: u64, newest: u64) -> Option<u64> {
        let (mark, bucket) = self.of(client);
        let place = bucket?.iter_mut().find(|place| place.mark == mark)?;
        let age = low(newest).wrapping_sub(std::mem::take(place).sequence);
        newest.checked_sub(age.into())
    }

    fn of(&mut self, client: u64) -> (u32, Option<&mut [Place; PLACES]>) {
        let hash = self.seed.hash_one(client);
        let bucket = self.buckets.get_mut(low(hash) as usize % BUCKETS);
        (low(hash >> 32) | 1, bucket.map(|Bucket(places)| places))
    }
}

#[allow(clippy::cast_possible_truncation)]
fn low(whole: u64) -> u32 {
    whole as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sequences pass the end of their lower half on the way.
    const FIRST: u64 = (7 << 32) - 10_000;

    #[test]
    fn the_last_one_of_a_client_and_once() {
        let mut lately = Lately::default();
        assert_eq!(lately.take(7, FIRST), None);
        assert_eq!(lately.buckets.len(), 0);
        lately.put(7, FIRST);
        lately.put(7, FIRST + 1);
        assert_eq!(lately.take(7, FIRST + 20_000), Some(FIRST + 1));
        assert_eq!(lately.take(7, FIRST + 20_000), None);
    }

    #[test]
    fn nearly_all_of_two_seconds_at_ten_thousand_a_second() {
        let mut lately = Lately::default();
        for number in 0..100_000 {
            lately.put(number, FIRST + number);
        }
        let newest = FIRST + 99_999;
        let found = (80_000..100_000)
            .filter(|number| lately.take(*number, newest) == Some(FIRST + number))
            .count();
        assert!(found > 19_000, "{found} of 20,000");
        assert_eq!(lately.buckets.len(), BUCKETS);
    }

    #[test]
    fn a_bucket_is_a_line_of_the_cache() {
        assert_eq!((size_of::<Bucket>(), align_of::<Bucket>()), (64, 64));
    }
}
