//! The strategies by name: each picks one of several candidates that are all able.
//!
//! Must never: judge whether a candidate is able (`balancer::pool` did), or draw randomness of its own.

mod hash;
mod least;
mod p2c;
mod pack;
mod random;
mod round_robin;

use std::collections::HashMap;
use std::net::IpAddr;
use std::str::FromStr;

use super::decision::Reason;
use super::pool::Candidate;
use crate::base::ids::NodeId;

/// How a relay is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Strategy {
    /// Fewest listeners and reservations for its weight.
    #[default]
    LeastConn,
    /// Fewest bits for its weight.
    LeastBandwidth,
    /// In turn, by weight.
    RoundRobin,
    /// Drawn by weight.
    Random,
    /// The less loaded of two drawn ones.
    P2c,
    /// By the listener's address: weighted rendezvous, none above 1.25 of its share.
    IpHash,
    /// The fullest below nine tenths, so that the others can be switched off.
    Pack,
}

/// A word is no strategy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no strategy: write least-conn, least-bandwidth, round-robin, random, p2c, ip-hash or pack"
)]
pub struct StrategyError(String);

impl Strategy {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::LeastConn,
        Self::LeastBandwidth,
        Self::RoundRobin,
        Self::Random,
        Self::P2c,
        Self::IpHash,
        Self::Pack,
    ];

    /// The name in settings, which is also the reason of its picks.
    pub fn as_str(self) -> &'static str {
        self.reason().as_str()
    }

    /// Of its picks.
    pub fn reason(self) -> Reason {
        match self {
            Self::LeastConn => Reason::LeastConn,
            Self::LeastBandwidth => Reason::LeastBandwidth,
            Self::RoundRobin => Reason::RoundRobin,
            Self::Random => Reason::Random,
            Self::P2c => Reason::P2c,
            Self::IpHash => Reason::IpHash,
            Self::Pack => Reason::Pack,
        }
    }
}

impl FromStr for Strategy {
    type Err = StrategyError;

    fn from_str(text: &str) -> Result<Self, StrategyError> {
        let found = Self::ALL.into_iter().find(|one| one.as_str() == text);
        found.ok_or_else(|| StrategyError(text.into()))
    }
}

impl std::fmt::Display for Strategy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What some strategies remember: whose turn it is.
#[derive(Debug, Default)]
pub struct Turns(HashMap<NodeId, f64>);

impl Turns {
    /// The node is no more.
    pub fn forget(&mut self, node: &NodeId) {
        self.0.remove(node);
    }
}

/// One of `candidates`; `None` only if there is none.
pub fn pick<'c>(
    strategy: Strategy,
    candidates: &'c [Candidate],
    address: IpAddr,
    service: &str,
    draw: &mut Draw,
    turns: &mut Turns,
) -> Option<&'c Candidate> {
    match strategy {
        Strategy::LeastConn => least::by(candidates, draw, Candidate::score),
        Strategy::LeastBandwidth => least::by(candidates, draw, Candidate::bandwidth_score),
        Strategy::RoundRobin => round_robin::pick(candidates, &mut turns.0),
        Strategy::Random => random::pick(candidates, draw),
        Strategy::P2c => p2c::pick(candidates, draw),
        Strategy::IpHash => hash::pick(candidates, hash::key(address, service)),
        Strategy::Pack => pack::pick(candidates, draw),
    }
}

/// Several draws out of the one random number of an ask (splitmix64).
#[derive(Debug, Clone)]
pub struct Draw(u64);

impl Draw {
    /// From the number.
    pub fn new(random: u64) -> Self {
        Self(random)
    }

    /// 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to just below 1.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// From 0 to `n` - 1; 0 for 0.
    pub fn below(&mut self, n: u64) -> u64 {
        self.bits().checked_rem(n).unwrap_or(0)
    }
}
