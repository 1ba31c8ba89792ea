//! Times as counts: buckets of three per cent, small enough to send between processes and to add up.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Buckets between a power of two and the next.
const STEPS: u64 = 32;

/// How often which time was seen, in microseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Histogram {
    /// Bucket to count; most are empty.
    counts: BTreeMap<u64, u64>,
}

impl Histogram {
    /// Counts `micros` `times` times.
    pub fn add(&mut self, micros: u64, times: u64) {
        *self.counts.entry(bucket(micros)).or_default() += times;
    }

    /// Counts all of another.
    pub fn merge(&mut self, other: &Self) {
        for (bucket, count) in &other.counts {
            *self.counts.entry(*bucket).or_default() += count;
        }
    }

    /// How many times were seen.
    pub fn count(&self) -> u64 {
        self.counts.values().sum()
    }

    /// The time in microseconds that `share` (0 to 1) of all do not exceed; `None` if none was seen.
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss
    )]
    pub fn quantile(&self, share: f64) -> Option<u64> {
        let wanted = (self.count() as f64 * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (bucket, count) in &self.counts {
            seen += count;
            if seen >= wanted {
                return Some(value(*bucket));
            }
        }
        None
    }
}

/// Exact below 64, then 32 to each power of two.
fn bucket(micros: u64) -> u64 {
    if micros < 2 * STEPS {
        return micros;
    }
    let exponent = u64::from(micros.ilog2()) - 5;
    exponent * STEPS + (micros >> exponent)
}

/// The largest time of a bucket.
fn value(bucket: u64) -> u64 {
    if bucket < 2 * STEPS {
        return bucket;
    }
    let exponent = bucket / STEPS - 1;
    ((bucket - exponent * STEPS + 1) << exponent) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_what_it_says() {
        for micros in (0..5_000).chain([65_535, 65_536, 1 << 40]) {
            let upper = value(bucket(micros));
            assert!(
                upper >= micros && upper <= micros + micros / 32,
                "{micros}: {upper}"
            );
        }
        assert_eq!(bucket(64), bucket(65));
        assert_ne!(bucket(65), bucket(66));
    }

    #[test]
    fn quantiles_of_the_sum_of_two() {
        let (mut one, mut two) = (Histogram::default(), Histogram::default());
        assert_eq!(one.quantile(0.5), None);
        one.add(10, 98);
        two.add(20, 1);
        two.add(1_000_000, 1);
        one.merge(&two);
        assert_eq!(one.count(), 100);
        assert_eq!(
            (one.quantile(0.5), one.quantile(0.98)),
            (Some(10), Some(10))
        );
        assert_eq!(one.quantile(0.99), Some(20));
        let last = one.quantile(1.0).unwrap();
        assert!((1_000_000..1_031_250).contains(&last), "{last}");
        let text = serde_json::to_string(&one).unwrap();
        assert_eq!(serde_json::from_str::<Histogram>(&text).unwrap(), one);
    }
}
