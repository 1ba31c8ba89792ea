//! The table as a relay has it: what the feed said, row by row.
//!
//! It outlives the feed. With the primary gone its rows grow old, and whoever decides sees that by their
//! age.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use super::snapshot::{NodeView, Snapshot};
use crate::base::ids::NodeId;
use crate::wire::message::{FeedLine, MAX_ROWS, NodeRow};

/// Nodes that have left the table and are remembered.
const MAX_DEPARTED: usize = 1_024;

/// The rows.
#[derive(Debug, Clone, Default)]
pub struct TableCopy {
    version: u64,
    panic: bool,
    complete: bool,
    nodes: BTreeMap<NodeId, Arc<NodeView>>,
    /// Nodes that have left the table: they may be alive and only out of the primary's reach.
    departed: VecDeque<NodeId>,
}

impl TableCopy {
    /// Takes a line of the feed; true if the table changed. Lines about other things change nothing.
    pub fn apply(&mut self, line: FeedLine, now: Instant) -> bool {
        match line {
            FeedLine::Nodes {
                version,
                complete,
                panic,
                nodes,
            } => {
                self.version = version;
                self.panic = panic;
                self.rows(complete, nodes, now);
                true
            }
            FeedLine::NodeGone { id } => {
                let known = self.nodes.remove(&id).is_some();
                if known {
                    self.depart(id);
                }
                known
            }
            _ => false,
        }
    }

    /// True once a whole table came: before that a relay is not ready.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// True for a node that is in the table, or was until it fell silent.
    pub fn is_member(&self, id: &NodeId) -> bool {
        self.nodes.contains_key(id) || self.departed.contains(id)
    }

    fn depart(&mut self, id: NodeId) {
        self.departed.retain(|known| *known != id);
        if self.departed.len() >= MAX_DEPARTED {
            self.departed.pop_front();
        }
        self.departed.push_back(id);
    }

    /// For the balancer and the API.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            version: self.version,
            nodes: self.nodes.values().cloned().collect(),
            panic: self.panic,
        }
    }

    fn rows(&mut self, complete: bool, rows: Vec<NodeRow>, now: Instant) {
        if complete {
            let before: Vec<NodeId> = self.nodes.keys().cloned().collect();
            self.nodes.clear();
            let now: BTreeSet<&NodeId> = rows.iter().map(|row| &row.id).collect();
            for id in before.into_iter().filter(|id| !now.contains(id)) {
                self.depart(id);
            }
            self.complete = true;
        }
        for row in rows {
            if row.check().is_err() || self.nodes.len() >= MAX_ROWS {
                continue;
            }
            let view = NodeView::from_row(row, now);
            self.nodes.insert(view.id.clone(), Arc::new(view));
        }
    }
}
