//! In turn, by weight, smoothly: each turn adds every weight to its owner, and the richest pays the sum.

use std::collections::HashMap;

use crate::balancer::pool::Candidate;
use crate::base::ids::NodeId;

/// Whose turn it is.
pub(super) fn pick<'c>(
    candidates: &'c [Candidate],
    turns: &mut HashMap<NodeId, f64>,
) -> Option<&'c Candidate> {
    let mut total = 0.0;
    let mut best: Option<(f64, &'c Candidate)> = None;
    for candidate in candidates {
        let credit = turns.entry(candidate.node.id.clone()).or_default();
        *credit += candidate.weight;
        total += candidate.weight;
        if best.is_none_or(|(richest, _)| *credit > richest) {
            best = Some((*credit, candidate));
        }
    }
    let (_, chosen) = best?;
    if let Some(credit) = turns.get_mut(&chosen.node.id) {
        *credit -= total;
    }
    Some(chosen)
}
