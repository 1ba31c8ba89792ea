//! Where a newcomer goes.

use std::net::IpAddr;
use std::time::Instant;

use super::Control;
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

    /// What must happen a few times a second.
    pub fn tick(&self, now: Instant) {
        self.engine.tick(now);
    }

    /// True for a token that the primary signed for its probe.
    pub fn is_probe(&self, _token: Option<&str>) -> bool {
        false
    }

    /// Why this node takes no listeners now; `None` where it does.
    pub fn not_ready(&self) -> Option<&'static str> {
        self.is_draining().then_some("draining")
    }

    /// Where the origin is, for a relay.
    pub fn origin(&self) -> Option<(String, u16)> {
        None
    }
}
