//! Where a newcomer goes: the balancer's decision, with what it needs to know gathered here.

use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::overload::Limit;
use super::{Control, Role};
use crate::balancer::hash::Table;
use crate::balancer::{self, Decision, OwnState, Pick};
use crate::base::ids::{MountId, NodeId};
use crate::base::reach::Reach;
use crate::engine::Mount;
use crate::telemetry::{Class, Most, NoRoom, Opening, Session};
use crate::wire::message::NodeRole;

/// The limit of listeners of one address block is reached, in a word.
pub const ADDRESS_FULL: &str = "address-full";

/// Somebody at the door.
#[derive(Debug, Clone)]
pub struct Visitor<'a> {
    /// What it wants.
    pub mount: &'a MountId,
    /// Path and query as sent.
    pub target: &'a str,
    /// Where it comes from.
    pub address: IpAddr,
    /// The circle that it is in.
    pub from: Reach,
    /// Its scheme.
    pub https: bool,
    /// `User-Agent`.
    pub agent: &'a str,
    /// `X-Playback-Session-Id`.
    pub session: Option<&'a str>,
    /// False for HEAD, probes and relays: they take no place.
    pub reserves: bool,
    /// Who it is.
    pub class: Class,
    /// Others wait in line already.
    pub behind: bool,
    /// Nodes that did not answer when it asked before.
    pub avoid: Vec<NodeId>,
}

/// Picks by the node's name and by how a listener gets there, `relayctl_picks_total`.
#[derive(Default)]
pub(super) struct Tallies(Mutex<Table<NodeId, Vec<(&'static str, u64)>>>);

/// Nodes whose picks are counted.
const MAX_TALLIES: usize = 4096;

impl Tallies {
    fn count(&self, node: &NodeId, mode: &'static str) {
        let mut kept = self.lock();
        if let Some(modes) = kept.get_mut(node) {
            match modes.iter_mut().find(|one| one.0 == mode) {
                Some((_, count)) => *count = count.saturating_add(1),
                None => modes.push((mode, 1)),
            }
        } else if kept.len() < MAX_TALLIES {
            kept.insert(node.clone(), vec![(mode, 1)]);
        }
    }

    /// Lets go of nodes that are not there any more.
    pub(super) fn retain(&self, is_there: impl Fn(&NodeId) -> bool) {
        self.lock().retain(|node, _| is_there(node));
    }

    fn lock(&self) -> MutexGuard<'_, Table<NodeId, Vec<(&'static str, u64)>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
        name: NodeId,
        /// Why there.
        reason: &'static str,
        /// Connect to it first: nobody else vouches for it.
        check_first: bool,
    },
    /// The operator's own place for those who find none.
    Overflow {
        /// The whole URL.
        location: String,
        /// Why not here.
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
                reason: "pacing",
            },
        }
    }
}

impl Control {
    /// See the module. `waited` is how long it has stood in line.
    pub fn place(&self, visitor: &Visitor<'_>, waited: Duration, now: Instant) -> Place {
        if visitor.class == Class::Relay {
            // A foreign server that relays us asked for this very node.
            return Place::Now(Verdict::Serve {
                reason: "relay-login",
            });
        }
        if visitor.class == Class::Probe {
            return Place::Now(Verdict::Serve { reason: "probe" });
        }
        let snapshot = self.snapshot.load();
        // Whoever carries the fallback gives it to those who ask for a mount whose source is lost.
        let own = self.engine.mount(visitor.mount);
        let stand_in = match own.as_ref().is_some_and(|own| own.is_playable()) {
            true => None,
            false => self.stands_for(visitor.mount),
        };
        let mount = stand_in.as_ref().unwrap_or(visitor.mount);
        let here = match stand_in {
            Some(_) => self.engine.mount(mount),
            None => own,
        };
        let can_serve = here.is_some() || self.is_offered(mount);
        let elsewhere = || snapshot.nodes.iter().any(|node| node.carries(mount));
        if !can_serve && !elsewhere() {
            return Place::Now(Verdict::NoMount);
        }
        let bitrate = here.map_or(0, |mount| mount.committed_rate());
        let ask = balancer::Ask {
            mount,
            bitrate,
            https: visitor.https,
            address: visitor.address,
            from: visitor.from,
            agent: visitor.agent,
            session: visitor.session,
            reserves: visitor.reserves,
            target: visitor.target,
            waited,
            behind: visitor.behind,
            avoid: &visitor.avoid,
            now,
            unix_millis: self.cluster_millis(),
            random: rand::random(),
        };
        let own = self.own_state(can_serve, bitrate, now);
        let decision = self.balancer().decide(&ask, &snapshot, &own);
        place(decision, |node, mode| {
            if visitor.reserves {
                self.tallies
                    .count(node.unwrap_or(&self.identity.name), mode);
                if node.is_some() && self.identity.role == Role::Relay {
                    self.reflected(self.why_reflected(own.full));
                }
            }
        })
    }

    /// Picks by node and way, as counted since the process began or since the node came.
    pub fn picks_counted(&self) -> Vec<(NodeId, &'static str, u64)> {
        let kept = self.tallies.lock();
        let all = kept.iter().flat_map(|(node, modes)| {
            let of = |(mode, count): &(&'static str, u64)| (node.clone(), *mode, *count);
            modes.iter().map(of)
        });
        all.collect()
    }

    /// True for a client that had a place and comes back for another: it goes to the head of the line.
    pub fn returns(&self, target: &str, now: Instant) -> bool {
        self.balancer().returns(target, now, self.cluster_millis())
    }

    /// True where a redirect needs the other node's own word first, since the primary is gone.
    pub fn vouches_for_nobody(&self, now: Instant) -> bool {
        self.identity.role == Role::Relay && self.is_orphan(now)
    }

    /// `full` where there was no place here for this mount.
    fn why_reflected(&self, full: bool) -> &'static str {
        if self.is_draining() {
            return "draining";
        }
        // A mount may need more bits than are left where a leaner one would fit.
        let fat = full.then_some(Limit::Bandwidth);
        self.over_limit().or(fat).map_or("no_mount", Limit::as_str)
    }

    fn own_state(&self, can_serve: bool, bitrate: u64, now: Instant) -> OwnState {
        let config = self.config.load();
        let listeners = self.telemetry.listeners();
        let full = self.over_limit().is_some() || self.exceeds_bandwidth(bitrate);
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

    /// True where one more listener of a mount of `bitrate` bits a second would break the committed bandwidth.
    fn exceeds_bandwidth(&self, bitrate: u64) -> bool {
        let most = self.config.load().max_bandwidth;
        if most == 0 {
            return false;
        }
        self.committed_bits().saturating_add(bitrate.max(1)) > most
    }

    /// Opens the session of a listener that is served here: within the limits of the node and of the mount, exactly,
    /// however many come at once.
    ///
    /// # Errors
    /// The limit that is reached, in a word.
    pub fn admit(
        &self,
        opening: &Opening<'_>,
        mount: &Mount,
        most_of_mount: Option<u64>,
        most_of_address: Option<u64>,
    ) -> Result<Session, &'static str> {
        let config = self.config.load();
        let is_listener = opening.class == Class::Listener;
        // Nobody else is let in between the sum and the place in it.
        let summed = config.max_bandwidth > 0 || most_of_mount.is_some();
        let _alone = (is_listener && summed).then(|| {
            self.admission
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
        });
        // Of the mount that was asked for: what is heard may be its fallback.
        let listeners = || self.telemetry.mount(opening.mount).listeners();
        if most_of_mount.is_some_and(|most| listeners() >= most) {
            return Err("mount-full");
        }
        if is_listener && self.exceeds_bandwidth(mount.committed_rate()) {
            return Err(Limit::Bandwidth.as_str());
        }
        let most = Most {
            node: config.max_listeners,
            address: most_of_address,
        };
        self.telemetry
            .open_within(opening, most)
            .map_err(|limit| match limit {
                NoRoom::Node => "full",
                NoRoom::Address => ADDRESS_FULL,
            })
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

fn place(decision: Decision, counted: impl Fn(Option<&NodeId>, &'static str)) -> Place {
    let (reason, mode) = (decision.reason().as_str(), decision.mode());
    match decision {
        Decision::Serve { .. } => {
            counted(None, mode);
            Place::Now(Verdict::Serve { reason })
        }
        Decision::Redirect {
            node,
            name,
            location,
            check_first,
            ..
        } => {
            counted(Some(&name), mode);
            Place::Now(Verdict::Redirect {
                location,
                node,
                name,
                reason,
                check_first,
            })
        }
        Decision::Wait { until, .. } => Place::Wait { until },
        Decision::Overflow { location, .. } => {
            counted(None, mode);
            Place::Now(Verdict::Overflow { location, reason })
        }
        Decision::Refuse { retry_after, .. } => Place::Now(Verdict::Refuse {
            retry_after,
            reason,
        }),
    }
}
