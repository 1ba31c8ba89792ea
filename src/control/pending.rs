//! Orders that a node has not followed yet, as far as its beats say.

use super::{Control, Role};
use crate::cluster::snapshot::NodeView;

impl Control {
    /// True on a primary while a relay has not said that it follows its last order.
    pub fn is_pending(&self, node: &NodeView) -> bool {
        if self.identity.role == Role::Relay || node.id == self.identity.id {
            return false;
        }
        let drains = self.drains();
        let wanted = drains.orders.reflects.get(&node.id).copied();
        let reflects = node
            .reflect
            .is_none_or(|follows| follows == wanted.unwrap_or_default());
        let is_drained = drains.orders.drains.contains_key(&node.id);
        let drained = !is_drained || node.draining;
        !reflects || !drained || drains.resuming.contains(&node.id)
    }
}
