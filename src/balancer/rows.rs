//! What a pick has to know of each node, worked out once for each of its reports rather than for each pick.
//!
//! A row holds on to the view that it was made of, so equal pointers mean an equal node: with every snapshot only
//! the rows of nodes that have reported anew are made again.

use std::sync::Arc;
use std::time::Instant;

use super::pool::{Ledger, Tier, belongs};
use super::reservations::Reservations;
use crate::base::ids::{MountId, NodeId};
use crate::base::reach::Reach;
use crate::cluster::snapshot::{NodeView, Snapshot};
use crate::wire::message::NodeRole;

/// Mounts whose rows are kept; the one asked for longest ago is dropped first.
const MAX_MOUNTS: usize = 8;

/// One node, with one mount in mind.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub node: Arc<NodeView>,
    /// A bit for each tier, without and within a panic.
    fits: u8,
    /// Bits a second of the mount there, 0 where unknown.
    pub bitrate: u64,
    /// Reach of its URL by http, and by https.
    reach: [Reach; 2],
    /// Bits a second that its listeners are owed by its own word.
    pub committed: u64,
    /// Where its account and its tally stand.
    pub account: usize,
    pub tally: usize,
}

impl Row {
    fn of(
        node: &Arc<NodeView>,
        own: &NodeId,
        mount: &MountId,
        ledger: &mut Ledger,
        open: &mut Reservations,
    ) -> Self {
        let mut fits = 0;
        for tier in Tier::ALL {
            for panic in [false, true] {
                // Who asks is never sent to itself.
                if node.id != *own && belongs(node, tier, panic, mount) {
                    fits |= bit(tier, panic);
                }
            }
        }
        Self {
            node: Arc::clone(node),
            fits,
            bitrate: node.mounts.get(mount).map_or(0, |mount| mount.bitrate),
            reach: [false, true].map(|https| reach_of(node, https)),
            committed: node.committed_bits(),
            account: ledger.place(&node.id),
            tally: open.place(&node.id),
        }
    }

    /// True if a client of the circle `from` reaches its URL of this scheme.
    pub fn is_reached_from(&self, from: Reach, https: bool) -> bool {
        let [http, secure] = self.reach;
        from.reaches(if https { secure } else { http })
    }

    /// See [`belongs`]; never who asks.
    pub fn belongs(&self, tier: Tier, panic: bool) -> bool {
        self.fits & bit(tier, panic) != 0
    }
}

/// Reach of a node's URL of this scheme.
pub(super) fn reach_of(node: &NodeView, https: bool) -> Reach {
    let url = node.public_urls.of_scheme(https);
    url.map(Reach::of_url).unwrap_or_default()
}

fn bit(tier: Tier, panic: bool) -> u8 {
    let place = (tier as u8) << 1 | u8::from(panic);
    1_u8.wrapping_shl(place.into())
}

/// All nodes, with one mount in mind, in the order of the snapshot.
#[derive(Debug, Clone)]
pub(super) struct Rows {
    mount: MountId,
    pub all: Vec<Row>,
    /// When the last report of any relay came.
    pub newest_report: Option<Instant>,
}

/// The rows of the mounts that are asked for, the newest first.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    own: Option<NodeId>,
    kept: Vec<Arc<Rows>>,
}

impl Prepared {
    /// The rows of `snapshot` for `mount`, asked for by the node `own`.
    pub fn rows(
        &mut self,
        snapshot: &Snapshot,
        own: &NodeId,
        mount: &MountId,
        ledger: &mut Ledger,
        open: &mut Reservations,
    ) -> Arc<Rows> {
        if self.own.as_ref() != Some(own) {
            self.own = Some(own.clone());
            self.kept.clear();
        }
        match self.kept.iter().position(|rows| rows.mount == *mount) {
            Some(0) => {}
            Some(at) => {
                if let Some(part) = self.kept.get_mut(..=at) {
                    part.rotate_right(1);
                }
            }
            None => {
                self.kept.truncate(MAX_MOUNTS - 1);
                let new = Rows {
                    mount: mount.clone(),
                    all: Vec::new(),
                    newest_report: None,
                };
                self.kept.insert(0, Arc::new(new));
            }
        }
        let Some(rows) = self.kept.first_mut() else {
            // There is one since just now.
            return Arc::new(Rows {
                mount: mount.clone(),
                all: Vec::new(),
                newest_report: None,
            });
        };
        if !rows.are_of(snapshot) {
            Arc::make_mut(rows).renew(snapshot, own, ledger, open);
        }
        Arc::clone(rows)
    }

    /// A node is no more: the places of its account and its tally may be another's soon.
    pub fn clear(&mut self) {
        self.kept.clear();
    }
}

impl Rows {
    fn are_of(&self, snapshot: &Snapshot) -> bool {
        self.all.len() == snapshot.nodes.len()
            && self
                .all
                .iter()
                .zip(&snapshot.nodes)
                .all(|(row, node)| Arc::ptr_eq(&row.node, node))
    }

    fn renew(
        &mut self,
        snapshot: &Snapshot,
        own: &NodeId,
        ledger: &mut Ledger,
        open: &mut Reservations,
    ) {
        let mut of = |node: &Arc<NodeView>| Row::of(node, own, &self.mount, ledger, open);
        self.all.truncate(snapshot.nodes.len());
        for (row, node) in self.all.iter_mut().zip(&snapshot.nodes) {
            if !Arc::ptr_eq(&row.node, node) {
                *row = of(node);
            }
        }
        let known = self.all.len();
        self.all.extend(snapshot.nodes.iter().skip(known).map(of));
        let relays = self.all.iter().map(|row| &row.node);
        self.newest_report = relays
            .filter(|node| node.role == NodeRole::Relay)
            .map(|node| node.reported)
            .max();
    }
}
