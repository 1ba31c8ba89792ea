//! A relay's standing with its primary: not asked yet, waiting to join, or a member.

use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::{Control, Role};
use crate::base::wall::unix_millis;
use crate::wire::message::Happening;

/// Silence of the primary from which on a relay says so: three beats missed, as a relay is suspected there.
const SILENT: Duration = Duration::from_millis(3_600);

/// Standing of a node with its primary.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Standing {
    /// The first request to join has no answer yet.
    #[default]
    Asking,
    /// The primary did not take this node in, or was not to be had; it is asked again.
    Waiting(Waiting),
    /// The primary has taken this node in. A primary is always here.
    Member,
}

/// A join that did not succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// URL of the primary.
    pub primary: String,
    /// Outcome of the last request, and the next thing to do.
    pub reason: String,
    /// Set where no later request can end otherwise.
    pub refusal: Option<Refusal>,
    /// Unix milliseconds of the first failure since this node was no member.
    pub since: u64,
}

impl std::fmt::Display for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "waiting to join {}: {}", self.primary, self.reason)
    }
}

/// A refusal that asking again does not change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The token, the id or the name is refused: 401, 403 or 409.
    Denied,
    /// The token would travel in clear over the Internet.
    ClearText,
}

impl Control {
    /// The standing now, and every change of it.
    pub fn watch_standing(&self) -> watch::Receiver<Standing> {
        self.standing.subscribe()
    }

    /// The join that did not succeed, on a relay that is no member now.
    pub fn waiting(&self) -> Option<Waiting> {
        match &*self.standing.borrow() {
            Standing::Waiting(waiting) => Some(waiting.clone()),
            Standing::Asking | Standing::Member => None,
        }
    }

    /// A join did not succeed.
    pub fn waits_to_join(&self, primary: &str, reason: &str, refusal: Option<Refusal>) {
        self.standing.send_if_modified(|standing| {
            let since = match standing {
                Standing::Waiting(before) => before.since,
                Standing::Asking | Standing::Member => unix_millis(),
            };
            let waiting = Standing::Waiting(Waiting {
                primary: primary.to_owned(),
                reason: reason.to_owned(),
                refusal,
                since,
            });
            let changed = *standing != waiting;
            *standing = waiting;
            changed
        });
    }

    /// Says that this node still waits, in log and events.
    pub fn tell_waiting(&self) {
        if let Some(waiting) = self.waiting() {
            let (primary, reason) = (&waiting.primary, &waiting.reason);
            match waiting.refusal {
                None => tracing::warn!(primary, "not joined yet, trying on: {reason}"),
                Some(_) => tracing::warn!(primary, "not joined yet: {reason}"),
            }
            self.remember(Happening::WaitingToJoin {
                primary: waiting.primary,
                why: waiting.reason,
            });
        }
    }

    /// The primary did not answer, or refused, what this relay reports.
    pub fn primary_fails(&self, primary: &str, why: &str, is_refusal: bool) {
        let what = match is_refusal {
            true => "refuses what this relay reports",
            false => "does not answer",
        };
        tracing::warn!(
            primary,
            error = why,
            "the primary {what}; this relay plays on"
        );
        self.remember(Happening::PrimarySilent {
            primary: primary.to_owned(),
            why: why.to_owned(),
        });
    }

    /// The primary takes what this relay reports again.
    pub fn primary_answers(&self, primary: &str) {
        self.happened(Happening::PrimaryBack {
            primary: primary.to_owned(),
        });
    }

    /// How long a relay that has joined has not heard its primary, where that is longer than it should be.
    pub fn primary_silence(&self, now: Instant) -> Option<Duration> {
        if self.identity.role == Role::Primary || *self.standing.borrow() != Standing::Member {
            return None;
        }
        let heard = *self
            .heard_at
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let silence = now.saturating_duration_since(heard?);
        (silence >= SILENT).then_some(silence)
    }
}
