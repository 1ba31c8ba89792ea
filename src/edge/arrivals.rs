//! The token bucket of new listeners of each address block, which also bounds the bursts that one address can draw.
//!
//! Kept as one moment for each block (the generic cell rate algorithm, ITU-T I.371): the time at which its bucket
//! would be full again. A block whose moment has passed is as one that was never seen.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::base::address::block_of;

/// Blocks that are remembered at most, about 4 MB; beyond that newcomers of other blocks pass.
const MAX_BLOCKS: usize = 64 * 1024;

/// Limits of one address block: a /32, and a /64 of IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressLimits {
    /// Listeners at once; none is no limit.
    pub listeners: Option<u64>,
    /// New listeners a second; 0 is no limit.
    pub joins: u32,
    /// New listeners at once, after a while without any; at least 1.
    pub burst: u32,
    /// The bucket is for loopback addresses too. Without it they have none, since behind them may be a proxy on this
    /// machine that `trusted_proxies` does not name.
    pub loopback: bool,
}

impl AddressLimits {
    /// New listeners a second of `address`; 0 is no limit.
    fn joins_of(&self, address: IpAddr) -> u32 {
        match address.to_canonical().is_loopback() && !self.loopback {
            true => 0,
            false => self.joins,
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Arrivals(Mutex<Buckets>);

impl Arrivals {
    /// Takes a token from the bucket of `address`.
    ///
    /// # Errors
    /// The time until there is one.
    pub fn admit(
        &self,
        address: IpAddr,
        limits: &AddressLimits,
        now: Instant,
    ) -> Result<(), Duration> {
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let joins = limits.joins_of(address);
        buckets.take(block_of(address), joins, limits.burst, now)
    }
}

/// The rule: time comes in as an argument.
#[derive(Debug, Default)]
struct Buckets {
    /// Time at which each bucket is full again.
    full_at: HashMap<IpAddr, Instant>,
    swept: Option<Instant>,
}

impl Buckets {
    fn take(&mut self, block: IpAddr, rate: u32, burst: u32, now: Instant) -> Result<(), Duration> {
        if rate == 0 {
            return Ok(());
        }
        if self.full_at.len() >= MAX_BLOCKS && !self.full_at.contains_key(&block) {
            self.sweep(now);
            if self.full_at.len() >= MAX_BLOCKS {
                return Ok(());
            }
        }
        let each = Duration::from_secs(1) / rate;
        let whole = each.saturating_mul(burst.max(1));
        let full_at = self.full_at.entry(block).or_insert(now);
        let after = (*full_at).max(now) + each;
        let owed = after.saturating_duration_since(now);
        if owed > whole {
            return Err(owed - whole);
        }
        *full_at = after;
        Ok(())
    }

    /// Forgets full buckets, at most once a second.
    fn sweep(&mut self, now: Instant) {
        let recent = |at: Instant| now.saturating_duration_since(at) < Duration::from_secs(1);
        if self.swept.is_some_and(recent) {
            return;
        }
        self.swept = Some(now);
        self.full_at.retain(|_, full_at| *full_at > now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(number: usize) -> IpAddr {
        let number = u32::try_from(number).unwrap();
        IpAddr::from((0x0a00_0000 + number).to_be_bytes())
    }

    #[test]
    fn a_burst_and_then_the_rate() {
        let (start, mut buckets) = (Instant::now(), Buckets::default());
        let mut admitted = |at: Duration, tries: usize| {
            let mut takes = (0..tries).map(|_| buckets.take(block(1), 20, 500, start + at));
            takes.by_ref().filter(Result::is_ok).count()
        };
        // What took 1,970 bursts in ten seconds has 500 and twenty a second.
        let mut all = 0;
        for tenth in 0..100 {
            all += admitted(Duration::from_millis(tenth * 100), 20);
        }
        assert!((697..=700).contains(&all), "{all}");
        // After a rest of half the way it has half of the burst.
        let later = Duration::from_millis(9_900) + Duration::from_millis(12_500);
        assert_eq!(admitted(later, 1000), 250);
        assert_eq!(admitted(later + Duration::from_secs(3600), 1000), 500);
    }

    #[test]
    fn the_wait_is_told_and_others_do_not_wait() {
        let (now, mut buckets) = (Instant::now(), Buckets::default());
        assert!((0..5).all(|_| buckets.take(block(1), 2, 5, now).is_ok()));
        let wait = buckets.take(block(1), 2, 5, now).unwrap_err();
        assert_eq!(wait, Duration::from_millis(500));
        assert!(buckets.take(block(1), 2, 5, now + wait).is_ok());
        assert!(buckets.take(block(2), 2, 5, now).is_ok());
        assert!((0..5000).all(|_| buckets.take(block(3), 0, 1, now).is_ok()));
    }

    #[test]
    fn the_table_is_bounded() {
        let (start, mut buckets) = (Instant::now(), Buckets::default());
        for number in 0..MAX_BLOCKS + 1000 {
            assert!(buckets.take(block(number), 1, 2, start).is_ok());
        }
        assert_eq!(buckets.full_at.len(), MAX_BLOCKS);
        // Those that are there are bounded all the same.
        assert!(buckets.take(block(7), 1, 2, start).is_ok());
        assert!(buckets.take(block(7), 1, 2, start).is_err());
        let later = start + Duration::from_secs(2);
        assert!(buckets.take(block(MAX_BLOCKS + 5), 1, 2, later).is_ok());
        assert!(buckets.full_at.len() < 1000, "{}", buckets.full_at.len());
    }

    #[test]
    fn ipv6_counts_by_its_64() {
        let limits = AddressLimits {
            listeners: None,
            joins: 1,
            burst: 2,
            loopback: false,
        };
        let (arrivals, now) = (Arrivals::default(), Instant::now());
        let admit = |text: &str| arrivals.admit(text.parse().unwrap(), &limits, now).is_ok();
        assert!(admit("2001:db8::1") && admit("2001:db8::2"));
        assert!(!admit("2001:db8::3"));
        assert!(admit("2001:db8:0:1::3"));
        assert!((0..9).all(|_| admit("::ffff:127.0.0.1")));
    }
}
