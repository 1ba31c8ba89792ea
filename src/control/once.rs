//! Marks that serve once: those that were used are remembered for as long as they would be valid.

use std::collections::VecDeque;

use xxhash_rust::xxh3::xxh3_128;

/// Most marks that are remembered. Only marks with a right MAC get here; beyond, the oldest is forgotten.
const MAX_USED: usize = 4_096;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Once {
    /// Hash, and the second of its use, oldest first.
    used: VecDeque<(u128, u64)>,
}

impl Once {
    /// Uses a mark that is valid for so many seconds before and after its own time; false if it was used before.
    pub fn take(&mut self, mark: &str, now: u64, valid: u64) -> bool {
        let longest = valid.saturating_mul(2);
        while let Some((_, at)) = self.used.front()
            && now.abs_diff(*at) > longest
        {
            self.used.pop_front();
        }
        let hash = xxh3_128(mark.as_bytes());
        if self.used.iter().any(|(known, _)| *known == hash) {
            return false;
        }
        if self.used.len() >= MAX_USED {
            self.used.pop_front();
        }
        self.used.push_back((hash, now));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_while_it_is_valid_and_bounded() {
        let mut once = Once::default();
        assert!(once.take("a", 100, 10));
        assert!(!once.take("a", 120, 10));
        assert!(once.take("b", 121, 10));
        for number in 0..10_000 {
            assert!(once.take(&number.to_string(), 121, 10));
        }
        assert_eq!(once.used.len(), MAX_USED);
    }
}
