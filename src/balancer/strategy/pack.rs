//! Fill one before the next is touched, so that a pool can shrink.

use super::{Draw, least};
use crate::balancer::pool::Candidate;

/// Share of its capacity that a relay is filled to.
const SOFT_CAP: f64 = 0.9;

/// The fullest below the soft cap; with all above it, the emptiest.
pub(super) fn pick<'c>(candidates: &'c [Candidate], draw: &mut Draw) -> Option<&'c Candidate> {
    least::by(candidates, draw, |candidate| {
        let filled = candidate.load as f64 / candidate.capacity.max(1) as f64;
        if filled < SOFT_CAP { -filled } else { filled }
    })
}
