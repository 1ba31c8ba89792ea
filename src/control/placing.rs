//! Where a newcomer goes: the balancer's decision, with what it needs to know gathered here.

use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::overload::Limit;
use super::{Control, Role};
use crate::balancer::{self, Decision, OwnState, Pick};
use crate::base::ids::{MountId, NodeId};
use crate::telemetry::Class;
use crate::wire::message::NodeRole;

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
    /// False for HEAD, probes and relays: they take no place.
    pub reserves: bool,
    /// Who it is.
    pub class: Class,
    /// Nodes that did not answer when it asked before.
    pub avoid: Vec<NodeId>,
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
        /// The node.
        node: NodeId,
        /// Its name.
        name: String,
        /// Why there.
        reason: &'static str,
        /// Connect to it first: nobody else vouches for it.
        check_first: bool,
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
                reason: "pacing",
            },
        }
    }
}

impl Control {
    /// See the module. `waited` is how long it has stood in line.
    pub fn place(&self, visitor: &Visitor, waited: Duration, now: Instant) -> Place {
        if visitor.class == Class::Relay {
            // A foreign server that relays us asked for this very node.
            return Place::Now(Verdict::Serve {
                reason: "relay-login",
            });
        }
        if visitor.class == Class::Probe {
            return Place::Now(Verdict::Serve { reason: "probe" });
        }
        let snapshot = self.snapshot();
        let here = self.engine.mount(&visitor.mount);
        let elsewhere = snapshot
            .nodes
            .iter()
            .any(|node| node.carries(&visitor.mount));
        let can_serve = here.is_some() || self.is_offered(&visitor.mount);
        if !can_serve && !elsewhere {
            return Place::Now(Verdict::NoMount);
        }
        let ask = balancer::Ask {
            mount: &visitor.mount,
            bitrate: here.map_or(0, |mount| mount.bitrate()),
            https: visitor.https,
            address: visitor.address,
            agent: &visitor.agent,
            session: visitor.session.as_deref(),
            reserves: visitor.reserves,
            target: &visitor.target,
            waited,
            avoid: &visitor.avoid,
            now,
            unix_millis: self.cluster_millis(),
            random: rand::random(),
        };
        let own = self.own_state(can_serve, now);
        let decision = self.balancer().decide(&ask, &snapshot, &own);
        self.note(&decision, visitor.reserves);
        place(decision, &snapshot)
    }

    fn own_state(&self, can_serve: bool, now: Instant) -> OwnState {
        let config = self.config.load();
        let listeners = self.telemetry.listeners();
        let full = self.over_limit().is_some();
        OwnState {
            id: self.identity.id.clone(),
            role: match self.identity.role {
                Role::Primary => NodeRole::Primary,
                Role::Relay => NodeRole::Relay,
            },
            serve: config.serve,
            can_serve,
            full,
            hard_full: listeners >= config.max_listeners,
            draining: self.is_draining(),
            primary_gone: self.identity.role == Role::Relay && self.is_orphan(now),
            uptime: now.saturating_duration_since(self.telemetry.started),
        }
    }

    fn note(&self, decision: &Decision, counts: bool) {
        let sends_on = matches!(decision, Decision::Redirect { .. });
        if counts && sends_on && self.identity.role == Role::Relay {
            self.reflected(if self.is_draining() {
                "draining"
            } else {
                self.over_limit().map_or("no_mount", Limit::as_str)
            });
        }
        let node = match decision {
            Decision::Serve { .. } => self.identity.name.to_string(),
            Decision::Redirect { node, .. } => self
                .snapshot()
                .find(node)
                .map_or_else(|| node.to_string(), |view| view.name.to_string()),
            Decision::Wait { .. } | Decision::Refuse { .. } => return,
        };
        if counts {
            metrics::counter!("relayctl_picks_total", "node" => node, "mode" => decision.mode())
                .increment(1);
        }
    }

    /// The last decisions, newest first.
    pub fn picks(&self) -> Vec<Pick> {
        self.balancer().picks().rev().cloned().collect()
    }

    /// The number of the next beat, and the reservations that it confirms: those of the primary's tokens
    /// whose listeners are here.
    pub fn next_report(&self) -> (u64, Vec<u64>) {
        let seq = self.reports.fetch_add(1, Ordering::Relaxed) + 1;
        let confirmed = self
            .primary_id()
            .map(|primary| self.balancer().confirmed_for(&primary));
        (seq, confirmed.unwrap_or_default())
    }

    /// The primary has heard these.
    pub fn acknowledged(&self, confirmed: &[u64]) {
        self.balancer().acknowledged(confirmed);
    }

    /// Why this node takes no listeners now; `None` where it does.
    pub fn not_ready(&self) -> Option<&'static str> {
        if self.is_draining() {
            return Some("draining");
        }
        let waits = self.identity.role == Role::Relay && !self.has_table();
        waits.then_some("waiting for the primary's table")
    }
}

fn place(decision: Decision, snapshot: &crate::cluster::snapshot::Snapshot) -> Place {
    let reason = decision.reason().as_str();
    match decision {
        Decision::Serve { .. } => Place::Now(Verdict::Serve { reason }),
        Decision::Redirect {
            node,
            location,
            check_first,
            ..
        } => {
            let name = snapshot
                .find(&node)
                .map_or_else(|| node.to_string(), |view| view.name.to_string());
            Place::Now(Verdict::Redirect {
                location,
                node,
                name,
                reason,
                check_first,
            })
        }
        Decision::Wait { until, .. } => Place::Wait { until },
        Decision::Refuse { retry_after, .. } => Place::Now(Verdict::Refuse {
            retry_after,
            reason,
        }),
    }
}
