//! Two are drawn by weight, the less loaded wins. Old counts hurt it least, so it stands in where reports
//! are late or several nodes choose at once.

use super::{Draw, random};
use crate::balancer::pool::Candidate;

/// The better of two.
pub(super) fn pick<'c>(candidates: &'c [Candidate], draw: &mut Draw) -> Option<&'c Candidate> {
    let first = random::pick(candidates, draw)?;
    let at = candidates.iter().position(|one| std::ptr::eq(one, first));
    let Some(second) = random::pick_but(candidates, at, draw) else {
        return Some(first);
    };
    let (one, other) = (first.score(), second.score());
    let second_wins = other < one || (other == one && draw.below(2) == 0);
    Some(if second_wins { second } else { first })
}
