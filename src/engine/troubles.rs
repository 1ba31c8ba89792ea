//! What went wrong with sources, until somebody asks: events are made of it above.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use super::format::Unplayable;
use crate::base::ids::MountId;

/// Most that are kept; the oldest go first.
const KEPT: usize = 64;

/// A source of which nothing can be played any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// Its mount.
    pub mount: MountId,
    /// Reason why nobody can play it.
    pub why: Unplayable,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Troubles(Mutex<VecDeque<Trouble>>);

impl Troubles {
    pub fn add(&self, trouble: Trouble) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT {
            kept.pop_front();
        }
        kept.push_back(trouble);
    }

    pub fn take(&self) -> Vec<Trouble> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.drain(..).collect()
    }
}
