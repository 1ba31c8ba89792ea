//! What goes wrong, as data.

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

/// One thing that happens to a node; relays are counted from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Its process dies: its sockets are reset.
    Kill(usize),
    /// A new process of the same node.
    Restart(usize),
    /// Its link carries nothing, and nobody is told.
    Cut(usize),
    /// It does again.
    Mend(usize),
    /// Its link carries half of what plays.
    Slow(usize),
    /// And enough again.
    Quick(usize),
    /// Its clock is wrong by so many milliseconds.
    Skew(usize, i64),
    /// The operator drains it.
    Drain(usize),
    /// And takes it back.
    Resume(usize),
    /// The primary's process dies.
    PrimaryGone,
    /// A new one, with the old one's data directory.
    PrimaryBack,
}

/// Milliseconds and what happens then, in order.
pub type Plan = Vec<(u64, Fault)>;

/// Ten faults and their ends.
pub fn drawn(seed: u64, nodes: usize) -> Plan {
    let mut chance = StdRng::seed_from_u64(seed);
    let mut plan = Plan::new();
    for round in 0..10 {
        let at = 20_000 + round * 6_000 + chance.random_range(0..4_000);
        let node = chance.random_range(1..=nodes);
        let lasts = chance.random_range(2_000..20_000);
        match chance.random_range(0..7) {
            0 => plan.extend([(at, Fault::Kill(node)), (at + lasts, Fault::Restart(node))]),
            1 => plan.extend([(at, Fault::Cut(node)), (at + lasts, Fault::Mend(node))]),
            2 => plan.extend([(at, Fault::Slow(node)), (at + lasts, Fault::Quick(node))]),
            3 => plan.push((at, Fault::Skew(node, chance.random_range(-90_000..90_000)))),
            4 => plan.extend([(at, Fault::Drain(node)), (at + lasts, Fault::Resume(node))]),
            // One that flaps.
            5 => plan.extend((0..4).flat_map(|turn| {
                let turn = at + turn * 1_500;
                [(turn, Fault::Cut(node)), (turn + 700, Fault::Mend(node))]
            })),
            _ => {
                let few = (nodes / 5).max(1);
                plan.extend((0..few).map(|other| (at, Fault::Kill(1 + (node + other) % nodes))));
            }
        }
    }
    plan.sort_by_key(|(at, _)| *at);
    plan
}
