//! Where a node stands in the stream, and whom it may therefore be fed by: the rule that keeps the tree free of
//! circles at every moment, whatever the tables say.
//!
//! A node hands on only what it has, so what feeds it is never behind it. Who follows only those that are *ahead*
//! can never follow somebody below itself: all of those are level with it at best. Of nodes that are level the
//! nearer to the origin counts as ahead, where "near" is the least depth that a node has told anybody since it got
//! as far as it is: a node that has become deeper at the same byte must not be followed by its own old parents.
//! This is the feasibility condition of loop-free routing (RFC 8966, section 3.5.1), with the address of the
//! newest byte as the sequence number.
//!
//! What another said of itself may be old: an edge only grows, so it stands at least there.

use std::cmp::Reverse;

use crate::base::ids::Position;

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    at: Position,
    /// The least number of steps to the origin that was told to children while at `at`.
    depth: usize,
}

impl Default for Standing {
    /// Nothing yet: anybody is ahead.
    fn default() -> Self {
        Self {
            at: Position::default(),
            depth: usize::MAX,
        }
    }
}

impl Standing {
    /// This node has what lies before `at`, and tells its children that it is `depth` steps from the origin.
    pub fn reached(&mut self, at: Position, depth: usize) {
        if at > self.at {
            *self = Self { at, depth };
        } else {
            self.depth = self.depth.min(depth);
        }
    }

    /// True if this node may be fed by one that said it has what lies before `edge`, `depth` steps from the origin.
    pub fn may_follow(&self, edge: Position, depth: usize) -> bool {
        (edge, Reverse(depth)) > (self.at, Reverse(self.depth))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::base::ids::Epoch;

    fn at(offset: u64) -> Position {
        Position {
            epoch: Epoch(1),
            offset,
        }
    }

    #[test]
    fn ahead_by_a_byte_or_level_and_nearer() {
        let mut own = Standing::default();
        assert!(own.may_follow(at(0), 5));
        own.reached(at(100), 3);
        for (edge, depth, may) in [
            (at(99), 0, false),
            (at(100), 2, true),
            (at(100), 3, false),
            (at(101), 30, true),
            (
                Position {
                    epoch: Epoch(2),
                    offset: 0,
                },
                30,
                true,
            ),
        ] {
            assert_eq!(own.may_follow(edge, depth), may, "{edge:?} {depth}");
        }
        // Deeper at the same byte: who was told three may be below it.
        own.reached(at(100), 7);
        assert!(!own.may_follow(at(100), 4));
        own.reached(at(101), 7);
        assert!(own.may_follow(at(101), 6));
    }

    /// A node of the model below: its link, and what it last said of itself.
    #[derive(Debug, Clone, Copy, Default)]
    struct Node {
        standing: Standing,
        offset: u64,
        depth: usize,
        parent: Option<usize>,
        said: Option<(u64, usize)>,
    }

    /// Nodes that speak, follow whomever the rule allows by what they heard of them, and hand on what they have, in
    /// any order. True if a circle came about.
    fn runs_in_a_circle(steps: &[(u8, usize, usize)], obeys: bool) -> bool {
        // Who was never fed has told nobody anything.
        let mut nodes = [Node::default(); 7];
        nodes[0].said = Some((0, 0));
        for &(what, one, other) in steps {
            let (one, other) = (one % 7, other % 7);
            match what {
                // The origin, or a parent, has more; a head comes before the bytes.
                0..=3 if one == 0 => nodes[0].offset += 1,
                0..=3 => {
                    let Some(parent) = nodes[one].parent else {
                        continue;
                    };
                    let above = nodes[parent];
                    let node = &mut nodes[one];
                    node.depth = above.depth + 1;
                    node.standing.reached(at(node.offset), node.depth);
                    if above.offset > node.offset {
                        node.offset += 1;
                        node.standing.reached(at(node.offset), node.depth);
                    }
                }
                4 if one == 0 || nodes[one].parent.is_some() => {
                    nodes[one].said = Some((nodes[one].offset, nodes[one].depth));
                }
                4 => {}
                5 => nodes[one].parent = None,
                _ if one == 0 || one == other => {}
                _ => {
                    let Some((edge, depth)) = nodes[other].said else {
                        continue;
                    };
                    let is_fed = other == 0 || nodes[other].parent.is_some();
                    if is_fed && (!obeys || nodes[one].standing.may_follow(at(edge), depth)) {
                        let node = &mut nodes[one];
                        (node.parent, node.depth) = (Some(other), depth + 1);
                        node.standing.reached(at(node.offset), node.depth);
                    }
                }
            }
            let in_circle = |start: usize| {
                let mut way = std::iter::successors(nodes[start].parent, |at| nodes[*at].parent);
                way.by_ref().take(8).count() == 8
            };
            if (0..7).any(in_circle) {
                return true;
            }
        }
        false
    }

    fn steps() -> impl Strategy<Value = Vec<(u8, usize, usize)>> {
        proptest::collection::vec((0_u8..9, 0_usize..7, 0_usize..7), 0..400)
    }

    proptest! {
        #[test]
        fn whoever_moves_when_on_whatever_old_word_there_is_no_circle(steps in steps()) {
            prop_assert!(!runs_in_a_circle(&steps, true));
        }
    }

    #[test]
    fn without_the_rule_the_same_model_runs_in_circles() {
        let steps = [(6, 1, 0), (4, 1, 0), (6, 2, 1), (4, 2, 0), (6, 1, 2)];
        assert!(runs_in_a_circle(&steps, false));
        assert!(!runs_in_a_circle(&steps, true));
    }
}
