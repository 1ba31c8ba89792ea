//! The same listener to the same relay: weighted rendezvous, so that a relay that dies moves only its own,
//! and bounded, so that a crowd behind one address does not sink one relay.

use std::net::IpAddr;

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::balancer::pool::Candidate;

/// No relay gets more than this times its share.
const BOUND: f64 = 1.25;

/// Hash of a listener's address (IPv6: its network of 64 bits) and the service.
pub(super) fn key(address: IpAddr, service: &str) -> u64 {
    let address = match address.to_canonical() {
        IpAddr::V4(v4) => u64::from(v4.to_bits()),
        IpAddr::V6(v6) => (v6.to_bits() >> 64) as u64,
    };
    xxh3_64_with_seed(service.as_bytes(), xxh3_64(&address.to_be_bytes()))
}

/// The highest score among those below their bound.
pub(super) fn pick(candidates: &[Candidate], key: u64) -> Option<&Candidate> {
    let total: f64 = candidates.iter().map(|one| one.full_weight).sum();
    let loads = candidates.iter().map(|one| one.load);
    let load = loads.fold(0_u64, u64::saturating_add);
    let has_room = |one: &&Candidate| {
        let share = one.full_weight / total;
        (one.load as f64) < (BOUND * load.saturating_add(1) as f64 * share).ceil()
    };
    let by_score = |a: &&Candidate, b: &&Candidate| score(a, key).total_cmp(&score(b, key));
    let below = candidates.iter().filter(has_room).max_by(by_score);
    below.or_else(|| candidates.iter().max_by(by_score))
}

/// -w / ln(u) with u drawn from the hash of listener and relay. The full weight counts, not that of slow
/// start: else listeners would wander while a relay warms up.
fn score(candidate: &Candidate, key: u64) -> f64 {
    let hash = xxh3_64_with_seed(candidate.node.id.as_str().as_bytes(), key);
    let unit = ((hash >> 11) | 1) as f64 / (1_u64 << 53) as f64;
    -candidate.full_weight / unit.ln()
}
