//! What the primary's own fetches say of one public URL of a node.

use std::time::{Duration, Instant};

use crate::base::ids::NodeId;

/// Failures in a row until a URL that answered before counts as unreachable.
const PROBE_FALLS: u32 = 2;

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct Reach {
    /// `None` before the first fetch.
    pub(super) answered: Option<bool>,
    /// Why it does not answer.
    pub(super) trouble: Option<String>,
    /// True once it has answered.
    pub(super) worked: bool,
    failures: u32,
    due: Instant,
}

impl Reach {
    /// Nothing is known but what is believed.
    pub(super) fn new(trusted: bool, now: Instant) -> Self {
        Self {
            answered: trusted.then_some(true),
            trouble: None,
            worked: false,
            failures: 0,
            due: now,
        }
    }

    /// True if it is to be fetched now. Later fetches keep a phase of their own, so that those of a hundred nodes
    /// do not fall together.
    pub(super) fn take_turn(&mut self, id: &NodeId, now: Instant, every: Duration) -> bool {
        if now < self.due {
            return false;
        }
        let mut wait = every;
        if self.answered.is_none() {
            let hash = xxhash_rust::xxh3::xxh3_64(id.as_str().as_bytes());
            let phase = u32::try_from(hash % 256).unwrap_or(0);
            wait = every.mul_f64(0.25 + 0.75 * f64::from(phase) / 256.0);
        }
        self.due = now.checked_add(wait).unwrap_or(now);
        true
    }

    /// It answered as it should, or did not, and why.
    pub(super) fn fetched(&mut self, trouble: Option<String>) {
        let Some(trouble) = trouble else {
            self.answered = Some(true);
            self.worked = true;
            self.failures = 0;
            self.trouble = None;
            return;
        };
        self.failures = self.failures.saturating_add(1);
        if self.answered != Some(true) || self.failures >= PROBE_FALLS {
            self.answered = Some(false);
            self.trouble = Some(trouble);
        }
    }

    /// Taken as reachable without a fetch.
    pub(super) fn trust(&mut self) {
        self.answered = Some(true);
    }
}
