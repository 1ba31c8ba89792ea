//! The table as a relay has it: what the feed said, row by row.
//!
//! It outlives the feed. With the primary gone its rows grow old, and whoever decides sees that by their
//! age.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use super::snapshot::{NodeView, Snapshot};
use crate::base::ids::NodeId;
use crate::wire::message::{FeedLine, MAX_ROWS, NodeRow};

/// The rows.
#[derive(Debug, Clone, Default)]
pub struct TableCopy {
    version: u64,
    panic: bool,
    complete: bool,
    nodes: BTreeMap<NodeId, Arc<NodeView>>,
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
            FeedLine::NodeGone { id } => self.nodes.remove(&id).is_some(),
            _ => false,
        }
    }

    /// True once a whole table came: before that a relay is not ready.
    pub fn is_complete(&self) -> bool {
        self.complete
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
            self.nodes.clear();
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
