//! One ask on its way to an answer: what follows from the ask and this node alone.

use std::sync::Arc;
use std::time::Duration;

use super::decision::{Ask, Decision, OwnState, Reason, Serve};
use super::pool::{Pool, Want};
use super::rows::reach_of;
use super::strategy::Draw;
use crate::base::reach::Reach;
use crate::cluster::snapshot::{NodeView, Snapshot};
use crate::wire::message::NodeRole;

/// `Retry-After` is drawn from this many seconds on.
const RETRY_FLOOR: u32 = 5;

/// And up to this many more.
const RETRY_SPREAD: u32 = 10;

/// One ask on its way to an answer.
pub(super) struct Turn<'a> {
    /// Where the listener goes for whom there is no place.
    pub overflow: Option<String>,
    pub ask: &'a Ask<'a>,
    pub snapshot: &'a Snapshot,
    pub own: &'a OwnState,
    pub hops: u8,
    /// The circle that the listener is in, or a narrower one where nobody is reached from there.
    pub from: Reach,
    /// Who asks, and who asks for which mount, hashed, where something is reserved.
    pub listener: u64,
    pub client: u64,
    pub draw: Draw,
}

impl Turn<'_> {
    pub fn want(&self) -> Want<'_> {
        Want {
            panic: self.snapshot.panic,
            bitrate: self.ask.bitrate,
            https: self.ask.https,
            from: self.from,
            own: &self.own.id,
            avoid: self.ask.avoid,
            now: self.ask.now,
            reserves: self.ask.reserves,
        }
    }

    /// This node serves before it looks for another.
    pub fn here_first(&self) -> Option<Reason> {
        let able = self.may_serve() && !self.own.full;
        match self.own.role {
            NodeRole::Relay if able => Some(Reason::RelayServes),
            NodeRole::Primary if able && self.own.serve == Serve::Always => {
                Some(Reason::ServeAlways)
            }
            _ => None,
        }
    }

    /// It has the mount, and nothing but its limits speaks against serving it.
    pub fn may_serve(&self) -> bool {
        let never = self.own.role == NodeRole::Primary && self.own.serve == Serve::Never;
        self.own.can_serve && !self.own.draining && !never
    }

    /// Takes a listener from the Internet to be within a private network, where no node at all tells a URL that is reached
    /// from the Internet: a private one may be reached by a way of its own, and the only other answer is no.
    pub fn narrow(&mut self) -> bool {
        let https = self.ask.https;
        let is_public = |node: &Arc<NodeView>| {
            node.public_urls.of_scheme(https).is_some() && reach_of(node, https) == Reach::Internet
        };
        let narrows = self.from == Reach::Internet && !self.snapshot.nodes.iter().any(is_public);
        if narrows {
            self.from = Reach::Network;
        }
        narrows
    }

    pub fn may_wait(&self, longest: Duration) -> bool {
        self.ask.reserves && self.ask.waited < longest
    }

    /// Every other place has been tried: up to the hard cap it ends here.
    pub fn end_of_the_road(&mut self) -> Decision {
        if self.may_serve() && !self.own.hard_full {
            return Decision::Serve {
                reason: Reason::HopLimit,
            };
        }
        self.refusal(Reason::HopLimit)
    }

    pub fn refuse(&self, pool: &Pool) -> Decision {
        let reason = if pool.wait.is_some() {
            Reason::Pacing
        } else if self.own.draining {
            Reason::Draining
        } else if pool.full || self.own.full {
            Reason::Full
        } else if pool.no_scheme {
            Reason::NoScheme
        } else if pool.no_reach {
            Reason::NoReach
        } else {
            Reason::NoRelay
        };
        self.refusal(reason)
    }

    fn refusal(&self, reason: Reason) -> Decision {
        if let Some(location) = &self.overflow {
            return Decision::Overflow {
                location: location.clone(),
                reason,
            };
        }
        let more = self.draw.clone().below(u64::from(RETRY_SPREAD) + 1);
        Decision::Refuse {
            status: 503,
            retry_after: RETRY_FLOOR.saturating_add(u32::try_from(more).unwrap_or(0)),
            reason,
        }
    }
}
