//! Drawn by weight.

use super::Draw;
use crate::balancer::pool::Candidate;

/// Any of them, the heavier the likelier.
pub(super) fn pick<'c>(candidates: &'c [Candidate], draw: &mut Draw) -> Option<&'c Candidate> {
    pick_but(candidates, None, draw)
}

/// Any but the one at index `but`.
pub(super) fn pick_but<'c>(
    candidates: &'c [Candidate],
    but: Option<usize>,
    draw: &mut Draw,
) -> Option<&'c Candidate> {
    let others = || {
        let all = candidates.iter().enumerate();
        all.filter(move |(at, _)| Some(*at) != but)
            .map(|(_, candidate)| candidate)
    };
    let total: f64 = others().map(|candidate| candidate.weight).sum();
    let mut left = draw.unit() * total;
    for candidate in others() {
        left -= candidate.weight;
        if left < 0.0 {
            return Some(candidate);
        }
    }
    // Rounding may leave a crumb after the last one.
    others().next_back()
}
