//! The lowest score wins, ties are drawn: two balancers with equal views must not agree on one relay.

use super::Draw;
use crate::balancer::pool::Candidate;

/// The candidate with the lowest `score`.
pub(super) fn by<'c>(
    candidates: &'c [Candidate],
    draw: &mut Draw,
    score: impl Fn(&Candidate) -> f64,
) -> Option<&'c Candidate> {
    let mut best: Option<(f64, &'c Candidate)> = None;
    let mut equals = 1_u64;
    for candidate in candidates {
        let now = score(candidate);
        match best {
            Some((lowest, _)) if now > lowest => {}
            Some((lowest, _)) if now == lowest => {
                equals = equals.saturating_add(1);
                if draw.below(equals) == 0 {
                    best = Some((now, candidate));
                }
            }
            _ => {
                best = Some((now, candidate));
                equals = 1;
            }
        }
    }
    best.map(|(_, candidate)| candidate)
}
