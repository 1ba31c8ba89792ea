//! How fast nodes may join: a token bucket for each client address and for each join token.
//!
//! The bucket of an address fills more slowly than that of a token, so that one address alone never takes the joins of
//! all who share its token.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::base::address::block_of;
use crate::base::ids::NodeId;

/// Most buckets; the one that was used longest ago gives way.
const MAX_BUCKETS: usize = 4_096;

/// Joins at once and joins a second.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Rate {
    burst: f64,
    a_second: f64,
}

/// Of one address (/32, or /64 of IPv6).
const OF_ADDRESS: Rate = Rate {
    burst: 64.0,
    a_second: 2.0,
};

/// By one join token.
const OF_TOKEN: Rate = Rate {
    burst: 256.0,
    a_second: 16.0,
};

/// Of one node that shows its own credential.
const OF_NODE: Rate = Rate {
    burst: 16.0,
    a_second: 1.0,
};

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    Address(IpAddr),
    Token(String),
    Node(NodeId),
}

impl Key {
    fn rate(&self) -> Rate {
        match self {
            Self::Address(_) => OF_ADDRESS,
            Self::Token(_) => OF_TOKEN,
            Self::Node(_) => OF_NODE,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    level: f64,
    at: Instant,
}

/// See the module.
#[derive(Debug, Default)]
pub struct JoinRates {
    buckets: HashMap<Key, Bucket>,
}

impl JoinRates {
    /// A join from `address` by the join token of this public id.
    ///
    /// # Errors
    /// How long to wait where it came too early; then nothing is taken.
    pub fn by_token(&mut self, address: IpAddr, token: &str, now: Instant) -> Result<(), Duration> {
        self.take(
            &[
                Key::Address(block_of(address)),
                Key::Token(token.to_owned()),
            ],
            now,
        )
    }

    /// A join of a node that shows its own credential.
    ///
    /// # Errors
    /// As [`Self::by_token`].
    pub fn by_credential(&mut self, node: &NodeId, now: Instant) -> Result<(), Duration> {
        self.take(&[Key::Node(node.clone())], now)
    }

    fn take(&mut self, keys: &[Key], now: Instant) -> Result<(), Duration> {
        let mut wait = Duration::ZERO;
        for key in keys {
            let rate = key.rate();
            let missing = 1.0 - self.level(key, now);
            if missing > 0.0 {
                wait = wait.max(Duration::from_secs_f64(missing / rate.a_second));
            }
        }
        if wait > Duration::ZERO {
            return Err(wait);
        }
        for key in keys {
            let level = self.level(key, now) - 1.0;
            self.make_room(key);
            self.buckets.insert(key.clone(), Bucket { level, at: now });
        }
        Ok(())
    }

    fn level(&self, key: &Key, now: Instant) -> f64 {
        let rate = key.rate();
        self.buckets.get(key).map_or(rate.burst, |bucket| {
            let passed = now.saturating_duration_since(bucket.at).as_secs_f64();
            (bucket.level + passed * rate.a_second).min(rate.burst)
        })
    }

    fn make_room(&mut self, key: &Key) {
        if self.buckets.len() < MAX_BUCKETS || self.buckets.contains_key(key) {
            return;
        }
        let oldest = self.buckets.iter().min_by_key(|(_, bucket)| bucket.at);
        if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
            self.buckets.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_address_does_not_take_the_joins_of_all() {
        let (mut rates, mut now) = (JoinRates::default(), Instant::now());
        let (bad, good) = (address("192.0.2.1"), address("192.0.2.2"));
        let mut taken = 0;
        // A minute of 1,000 tries a second.
        for _ in 0..60_000 {
            taken += u32::from(rates.by_token(bad, "t", now).is_ok());
            now += Duration::from_millis(1);
        }
        assert!((183..=185).contains(&taken), "{taken}");
        assert_eq!(rates.by_token(good, "t", now), Ok(()));
        let early = (0..3).find_map(|_| rates.by_token(bad, "t", now).err());
        let wait = early.unwrap();
        assert!(wait <= Duration::from_millis(500), "{wait:?}");
    }

    #[test]
    fn a_token_is_limited_over_all_addresses_and_a_network_of_ipv6_is_one() {
        let (mut rates, now) = (JoinRates::default(), Instant::now());
        let mut taken = 0;
        for number in 0..1_000_u32 {
            let from = IpAddr::from(0x0a00_0000_u32.saturating_add(number).to_be_bytes());
            taken += u32::from(rates.by_token(from, "t", now).is_ok());
        }
        assert_eq!(taken, 256);
        let mut rates = JoinRates::default();
        let tries = (0..100).filter(|number| {
            let from = address(&format!("2001:db8::{number:x}"));
            rates.by_token(from, "t", now).is_ok()
        });
        assert_eq!(tries.count(), 64);
    }

    #[test]
    fn the_buckets_are_bounded() {
        let (mut rates, now) = (JoinRates::default(), Instant::now());
        for number in 0..10_000 {
            let _ = rates.by_token(address("192.0.2.1"), &format!("t{number}"), now);
            let _ = rates.by_credential(&format!("n{number}").parse().unwrap(), now);
        }
        assert!(rates.buckets.len() <= MAX_BUCKETS);
    }
}
