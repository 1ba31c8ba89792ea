//! Every kind of fault in clusters of every size, one after the other and in each other's wake.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::faults::{Fault, Plan};
use super::{run, seeds};

/// What there is, by its name.
fn kind(fault: &Fault) -> &'static str {
    match fault {
        Fault::Kill(_) => "kill",
        Fault::Restart(_) => "restart",
        Fault::Cut(_) => "cut",
        Fault::Mend(_) => "mend",
        Fault::Slow(_) => "slow",
        Fault::Quick(_) => "quick",
        Fault::Skew(..) => "clock skew",
        Fault::Drain(_) => "drain",
        Fault::Resume(_) => "resume",
        Fault::PrimaryGone => "primary gone",
        Fault::PrimaryBack => "primary back",
    }
}

/// A tenth of the nodes has each of the lesser faults, then half of all die at once, then the primary is away (for two
/// minutes, with hundreds of nodes for half of one), and a tenth dies or is cut off meanwhile.
fn all_kinds(seed: u64, nodes: usize) -> Plan {
    let mut chance = StdRng::seed_from_u64(seed);
    let mut order: Vec<usize> = (1..=nodes).collect();
    for at in (1..order.len()).rev() {
        order.swap(at, chance.random_range(0..=at));
    }
    let tenth = nodes.div_ceil(10);
    let group = |number: usize| order.iter().skip(number * tenth).take(tenth).copied();
    let back = if nodes < 200 { 225_000 } else { 135_000 };
    let mended = (back - 5_000).min(165_000);
    let mut plan = Plan::new();
    for node in group(0) {
        plan.extend([(20_000, Fault::Kill(node)), (38_000, Fault::Restart(node))]);
    }
    for node in group(1) {
        plan.extend([(22_000, Fault::Cut(node)), (37_000, Fault::Mend(node))]);
    }
    for node in group(2) {
        plan.extend([(24_000, Fault::Slow(node)), (36_000, Fault::Quick(node))]);
    }
    for node in group(3) {
        let by = chance.random_range(-90_000..90_000);
        plan.extend([
            (26_000, Fault::Skew(node, by)),
            (back + 5_000, Fault::Skew(node, 0)),
        ]);
    }
    for node in group(4) {
        plan.extend([(28_000, Fault::Drain(node)), (40_000, Fault::Resume(node))]);
    }
    // Those that flap.
    for node in group(5) {
        for turn in 0..5 {
            let at = 30_000 + turn * 1_500;
            plan.extend([(at, Fault::Cut(node)), (at + 700, Fault::Mend(node))]);
        }
    }
    for node in order.iter().take(nodes / 2) {
        plan.extend([
            (60_000, Fault::Kill(*node)),
            (85_000, Fault::Restart(*node)),
        ]);
    }
    plan.extend([(105_000, Fault::PrimaryGone), (back, Fault::PrimaryBack)]);
    for node in group(6) {
        plan.extend([
            (115_000, Fault::Kill(node)),
            (back + 10_000, Fault::Restart(node)),
        ]);
    }
    for node in group(7) {
        plan.extend([(125_000, Fault::Cut(node)), (mended, Fault::Mend(node))]);
    }
    plan.sort_by_key(|(at, _)| *at);
    plan
}

/// A run of each size; says what went wrong in it, and what held after every step.
fn at(sizes: &[usize], first_seed: u64) {
    for (seed, nodes) in (first_seed..).zip(sizes) {
        for seed in seeds(seed..=seed) {
            let plan = all_kinds(seed, *nodes);
            let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
            for (_, fault) in &plan {
                *kinds.entry(kind(fault)).or_default() += 1;
            }
            assert_eq!(kinds.len(), 11, "{kinds:?}");
            println!("{nodes} nodes: {kinds:?}");
            let world = run(seed, *nodes, &plan);
            println!(
                "{nodes} nodes: after each of {} steps: no circle, nobody over its children (the primary fed {} at \
                 most), counts true, nobody sent to the dead or the draining, fed within 20 s (longest {} ms), every \
                 join answered; {} ms of audio lost",
                world.millis() / super::world::STEP,
                world.most_children,
                world.worst,
                world.lost
            );
            // Nobody is away for as long as a ring lasts.
            assert_eq!(world.lost, 0);
        }
    }
}

#[test]
fn every_fault_with_ten_to_a_hundred_nodes() {
    at(&[10, 30, 100], 71);
}

#[test]
fn every_fault_with_two_hundred_and_fifty_nodes() {
    at(&[250], 74);
}

#[test]
fn every_fault_with_five_hundred_nodes() {
    at(&[500], 75);
}
