//! Players that open a stream twice: the second connection of a playback session ends the first.
//!
//! Apple's players probe with one request and play with another, both under one `X-Playback-Session-Id`;
//! answered alike, both would stay and count twice.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::base::ids::MountId;
use crate::telemetry::{EndReason, SessionRecord};

/// Sessions remembered at most.
const MAX_SESSIONS: usize = 16 * 1024;

/// See the module.
#[derive(Default)]
pub(super) struct Playbacks(Mutex<HashMap<(String, MountId), Weak<SessionRecord>>>);

impl Playbacks {
    /// Notes the newest connection of a playback session and kicks the one before it; true if there was one.
    pub fn supersede(&self, session: &str, record: &Arc<SessionRecord>) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_SESSIONS {
            known.retain(|_, record| record.strong_count() > 0);
        }
        if known.len() >= MAX_SESSIONS {
            return false;
        }
        let key = (session.chars().take(64).collect(), record.mount.clone());
        let before = known
            .insert(key, Arc::downgrade(record))
            .and_then(|weak| weak.upgrade());
        before
            .inspect(|record| record.end(EndReason::Superseded))
            .is_some()
    }
}
