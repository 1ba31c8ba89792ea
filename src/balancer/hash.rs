//! Hashing for tables that are asked at every pick, by ids and by hashes of listeners.
//!
//! A multiplication folded upon itself, eight bytes at a time, under a seed that nobody outside knows: several
//! times cheaper than the standard library's, which defends against those who choose the keys; here they are
//! ids of nodes that were let in, descriptors, or hashes already.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};

/// A table of the balancer.
pub type Table<K, V> = HashMap<K, V, Seeded>;

/// Odd, and its bits without a pattern: the fraction of the golden ratio.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// Makes hashers of one seed.
#[derive(Debug, Clone)]
pub struct Seeded(u64);

impl Default for Seeded {
    fn default() -> Self {
        Self(RandomState::new().hash_one(FACTOR))
    }
}

impl BuildHasher for Seeded {
    type Hasher = Folded;

    fn build_hasher(&self) -> Folded {
        Folded(self.0)
    }
}

/// See the module.
#[derive(Debug)]
pub struct Folded(u64);

impl Folded {
    fn fold(&mut self, word: u64) {
        let wide = u128::from(self.0 ^ word).wrapping_mul(u128::from(FACTOR));
        self.0 = (wide >> 64) as u64 ^ wide as u64;
    }
}

impl Hasher for Folded {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.fold(u64::from_le_bytes(*word));
        }
        let rest = rest
            .iter()
            .fold(0, |word, byte| word << 8 | u64::from(*byte));
        self.fold(rest ^ ((bytes.len() as u64) << 56));
    }

    fn write_u8(&mut self, byte: u8) {
        self.fold(byte.into());
    }

    fn write_u64(&mut self, word: u64) {
        self.fold(word);
    }

    fn write_usize(&mut self, word: usize) {
        self.fold(word as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_spread_over_all_bits() {
        let seeded = Seeded::default();
        for shift in [0, 20, 57] {
            let mut buckets = [0_u32; 128];
            for key in 0..12_800_u64 {
                let hash = seeded.hash_one(key << 5);
                buckets[((hash >> shift) & 127) as usize] += 1;
            }
            let most = buckets.iter().max().unwrap();
            assert!(*most < 200, "{most} of 100 in one of 128");
        }
        assert_ne!(seeded.hash_one("node-1"), seeded.hash_one("node-2"));
        assert_ne!(seeded.hash_one("a"), seeded.hash_one("a\0"));
    }
}
