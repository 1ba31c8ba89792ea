//! Which node takes a listener: a pure decision with its reason.
//!
//! `decision` is the question and the answer, `rules` the way from one to the other; `pool` says who is able (`rows`
//! has what it needs of each node at hand, `last_pool` what was found a moment ago), `strategy` picks one of them,
//! `reservations` counts redirects in flight (`lately` whose they are), `bucket` paces newcomers, `token` and `location`
//! make the address, `memory` knows who never arrived.
//!
//! Must never: open a socket, wait, read a clock or draw randomness. Neighbours: `cluster` (the snapshot
//! and the keys), `edge` (asks and carries out), `admin` (lists the picks), `app` (passes beats and ticks).

// Numbers of other nodes are added here: a sum that could wrap does not compile. (Overflow checks in release builds
// would end the node instead, and they hold for a whole crate, the fan-out included.)
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

mod bucket;
pub mod decision;
pub mod hash;
mod last_pool;
mod lately;
pub mod location;
mod memory;
pub mod players;
pub mod pool;
pub mod reservations;
mod returning;
mod rows;
mod rules;
pub mod strategy;
#[cfg(test)]
mod tests;
pub mod token;
mod turn;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

pub use decision::{Ask, Decision, Mode, Overflow, OwnState, Pick, Reason, Serve};
pub use strategy::Strategy;

use crate::base::address::block_of;
use crate::base::ids::NodeId;
use crate::cluster::keys::KeyRing;
use crate::cluster::snapshot::Snapshot;
use crate::wire::message::{Beat, MAX_CONFIRMED};
use memory::Memory;
use pool::Ledger;
use reservations::{Reservations, Tally};
use strategy::Turns;
use token::{Used, node_hash};

/// What keeps the hash of a session apart from that of an agent; any number.
const SESSION: u64 = 0x7365_7373_696f_6e00;

/// Picks that are remembered.
pub const MAX_PICKS: usize = 1_000;

/// How the balancer decides.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Among relays that are able.
    pub strategy: Strategy,
    /// Pace of the beats: after three without any report counts are too old for least-conn.
    pub beat: Duration,
    /// Longest wait for a place.
    pub queue_wait: Duration,
    /// How a listener reaches its audio.
    pub mode: Mode,
    /// Where the last go.
    pub overflow: Overflow,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            strategy: Strategy::default(),
            beat: Duration::from_secs(1),
            queue_wait: Duration::from_secs(5),
            mode: Mode::default(),
            overflow: Overflow::default(),
        }
    }
}

/// Everything that a node remembers in order to decide. One a node, behind one lock.
#[derive(Debug)]
pub struct Balancer {
    config: Config,
    ring: KeyRing,
    ledger: Ledger,
    prepared: rows::Prepared,
    last_pool: last_pool::LastPool,
    open: Reservations,
    memory: Memory,
    used: Used,
    returning: returning::Returning,
    turns: Turns,
    /// Tokens whose listener is here: issuer and sequence, until the issuer has heard it.
    confirmed: VecDeque<(u64, u64)>,
    picks: VecDeque<Pick>,
    settled: u64,
}

impl Balancer {
    /// `incarnation` is the unix milliseconds of the process' start.
    pub fn new(config: Config, incarnation: u64) -> Self {
        Self {
            config,
            ring: KeyRing::default(),
            ledger: Ledger::default(),
            prepared: rows::Prepared::default(),
            last_pool: last_pool::LastPool::default(),
            open: Reservations::new(incarnation),
            memory: Memory::default(),
            used: Used::default(),
            returning: returning::Returning::default(),
            turns: Turns::default(),
            confirmed: VecDeque::new(),
            picks: VecDeque::new(),
            settled: 0,
        }
    }

    /// Decides differently from now on.
    pub fn set_config(&mut self, config: Config) {
        self.config = config;
    }

    /// The cluster keys: made on the primary, received on a relay.
    pub fn set_keys(&mut self, ring: KeyRing) {
        self.ring = ring;
    }

    /// Where this listener goes. A redirect is a reservation from now on.
    pub fn decide(&mut self, ask: &Ask<'_>, snapshot: &Snapshot, own: &OwnState) -> Decision {
        let decision = self.choose(ask, snapshot, own);
        if ask.reserves && !matches!(decision, Decision::Wait { .. }) {
            self.note(ask, own, &decision);
        }
        decision
    }

    /// A beat that the table accepted: its counts and its confirmations at one stroke, since applied apart
    /// they count somebody twice or not at all.
    pub fn on_beat(&mut self, beat: &Beat, now: Instant) {
        for listener in self.open.confirm(&beat.id, &beat.confirmed) {
            if self.config.mode == Mode::Auto {
                self.memory.arrived(listener, now);
            }
        }
        let bits = beat.mounts.iter().fold(0_u64, |sum, mount| {
            sum.saturating_add(mount.listeners.saturating_mul(mount.bitrate))
        });
        self.ledger.report(&beat.id, beat.listeners, bits);
        if !beat.capabilities.tokens {
            self.open.settle(|node| (*node == beat.id).then_some(now));
        }
    }

    /// A node died or left: nothing more is on its way there.
    pub fn on_gone(&mut self, node: &NodeId) {
        self.open.drop_node(node);
        self.ledger.forget(node);
        self.prepared.clear();
        self.turns.forget(node);
    }

    /// Time passed. Called once a second or more often.
    pub fn tick(&mut self, now: Instant, unix_millis: u64) {
        self.open.expire(now);
        self.memory.expire(now);
        self.used.expire(unix_millis);
        self.returning.expire(now);
    }

    /// The last decisions, oldest first.
    pub fn picks(&self) -> impl DoubleEndedIterator<Item = &Pick> {
        self.picks.iter()
    }

    /// Reservations of `issuer` whose listener is here: for the next beat.
    pub fn confirmed_for(&self, issuer: &NodeId) -> Vec<u64> {
        let issuer = node_hash(issuer);
        let its = self.confirmed.iter().filter(|(by, _)| *by == issuer);
        its.map(|(_, sequence)| *sequence)
            .take(MAX_CONFIRMED)
            .collect()
    }

    /// The issuer has these: they need not be told again. `sequences` as they were told.
    pub fn acknowledged(&mut self, sequences: &[u64]) {
        let told: std::collections::HashSet<&u64> = sequences.iter().collect();
        self.confirmed
            .retain(|(_, sequence)| !told.contains(sequence));
    }

    /// What is in flight to a node, and how often nobody came.
    pub fn tally(&self, node: &NodeId) -> Tally {
        self.open.tally(node)
    }

    /// Reservations in flight.
    pub fn reserved(&self) -> usize {
        self.open.len()
    }

    /// True for a listener that was redirected at least twice in 30 s and never arrived: `mode: auto`
    /// proxies it.
    pub fn is_lost(&self, address: IpAddr, agent: &str, now: Instant) -> bool {
        self.memory.is_lost(listener_hash(address, agent), now)
    }

    /// True for a client that shows a token of ours that has expired or was used, at most once a minute: it had a
    /// place, and goes to the head of the line.
    pub fn returns(&mut self, target: &str, now: Instant, unix_millis: u64) -> bool {
        let token = location::token_of(target)
            .map(|text| token::Token::verify(text, &self.ring, unix_millis));
        match token {
            Some(Ok(token) | Err(token::TokenFault::Expired(token))) => {
                self.returning.admits(&token, now)
            }
            _ => false,
        }
    }

    fn note(&mut self, ask: &Ask<'_>, own: &OwnState, decision: &Decision) {
        let node = match decision {
            Decision::Serve { .. } => Some(own.id.clone()),
            Decision::Redirect { node, .. } => Some(node.clone()),
            Decision::Wait { .. } | Decision::Refuse { .. } | Decision::Overflow { .. } => None,
        };
        if self.picks.len() >= MAX_PICKS {
            self.picks.pop_front();
        }
        self.picks.push_back(Pick {
            unix_millis: ask.unix_millis,
            mount: ask.mount.clone(),
            node,
            mode: decision.mode(),
            reason: decision.reason(),
        });
    }
}

/// A listener, by address and agent.
fn listener_hash(address: IpAddr, agent: &str) -> u64 {
    let address = match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    };
    hash_on(xxh3_64(&address), agent)
}

/// An address block, hashed; none for loopback, behind which may be a proxy on this machine that speaks for many.
fn block_hash(address: IpAddr) -> Option<u64> {
    let octets = match block_of(address) {
        IpAddr::V4(v4) if v4.is_loopback() => return None,
        // Its block is that of the unspecified address.
        IpAddr::V6(_) if address.is_loopback() => return None,
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    };
    Some(xxh3_64(&octets))
}

/// Who asks for which mount: by the player's own session if it names one, else by `listener`.
fn client_hash(ask: &Ask<'_>, listener: u64) -> u64 {
    let who = match ask.session {
        Some(session) => hash_on(SESSION, session),
        None => listener,
    };
    hash_on(hash_on(who, ask.mount.service()), ask.mount.path())
}

/// The hash of what came before, and of `text`, whose length counts.
fn hash_on(before: u64, text: &str) -> u64 {
    xxh3_64_with_seed(text.as_bytes(), before)
}
