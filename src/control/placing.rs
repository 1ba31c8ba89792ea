//! Where a newcomer goes.

use std::net::IpAddr;
use std::time::Instant;

use super::{Control, Role};
use crate::base::ids::MountId;
use crate::telemetry::Class;

/// Somebody at the door.
#[derive(Debug, Clone)]
pub struct Visitor {
    /// What it wants.
    pub mount: MountId,
    /// Path and query as sent.
    pub target: String,
    /// Where it comes from.
    pub address: IpAddr,
    /// Its scheme.
    pub https: bool,
    /// `User-Agent`.
    pub agent: String,
    /// `X-Playback-Session-Id`.
    pub session: Option<String>,
    /// Our token, if it brings one.
    pub token: Option<String>,
    /// False for HEAD, probes and relays: they take no place.
    pub reserves: bool,
    /// Who it is.
    pub class: Class,
}

/// What becomes of a newcomer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Audio from here.
    Serve {
        /// Why here.
        reason: &'static str,
    },
    /// Audio from there.
    Redirect {
        /// The whole URL.
        location: String,
        /// The node's name.
        node: String,
        /// Why there.
        reason: &'static str,
    },
    /// Nobody carries the mount.
    NoMount,
    /// No place.
    Refuse {
        /// Seconds.
        retry_after: u32,
        /// Why not.
        reason: &'static str,
    },
}

/// A verdict, or the moment to ask again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Settled.
    Now(Verdict),
    /// Every join bucket is empty until then.
    Wait {
        /// Ask again then.
        until: Instant,
    },
}

impl Place {
    /// The verdict; who cannot wait is refused.
    pub fn verdict(self) -> Verdict {
        match self {
            Self::Now(verdict) => verdict,
            Self::Wait { .. } => Verdict::Refuse {
                retry_after: 5,
                reason: "join-bucket",
            },
        }
    }
}

impl Control {
    /// See the module.
    pub fn place(&self, _visitor: &Visitor, _now: Instant) -> Place {
        Place::Now(Verdict::Serve {
            reason: "primary-serves",
        })
    }

    /// The number of the next beat, and the reservations that it confirms.
    pub fn next_report(&self) -> (u64, Vec<u64>) {
        (
            self.reports
                .fetch_add(1, std::sync::atomic::Ordering::Relaxed)
                + 1,
            Vec::new(),
        )
    }

    /// A beat was not acknowledged: what it confirmed goes with the next.
    pub fn confirm_again(&self, _confirmed: Vec<u64>) {}

    /// Marks a request as a probe of ours.
    pub fn probe_token(&self) -> String {
        String::new()
    }

    /// True for a token that the primary signed for its probe.
    pub fn is_probe(&self, _token: Option<&str>) -> bool {
        false
    }

    /// Why this node takes no listeners now; `None` where it does.
    pub fn not_ready(&self) -> Option<&'static str> {
        if self.is_draining() {
            return Some("draining");
        }
        let waits = self.identity.role == Role::Relay && !self.has_table();
        waits.then_some("waiting for the primary's table")
    }

    /// What a beat says about listeners and reservations, applied as one.
    pub(super) fn balance_beat(&self, _beat: &crate::wire::message::Beat, _confirmed: &[u64]) {}

    /// A node left the table for good.
    pub(super) fn forget_node(&self, _id: &crate::base::ids::NodeId) {}
}
