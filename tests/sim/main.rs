//! Clusters of ten to five hundred nodes over the program's own rules (table, liveness, parents, decisions,
//! reservations), with simulated time and links.
//!
//! Each run prints its seed, and `SIM_SEED=<seed>` replays one. Faults are data. What must always hold is checked
//! after every step of a tenth of a second.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod broken;
mod check;
mod faults;
mod herd;
mod newcomers;
mod pull;
mod sizes;
mod world;

use check::Violation;
use faults::{Fault, Plan};
use newcomers::Doors;
use world::{Broken, World};

/// The seeds of a run: all, or the one to be replayed.
fn seeds(all: std::ops::RangeInclusive<u64>) -> Vec<u64> {
    match std::env::var("SIM_SEED") {
        Ok(seed) => vec![seed.parse().expect("SIM_SEED is a number")],
        Err(_) => all.collect(),
    }
}

/// Lets a cluster of `nodes` come up, and goes through `plan`.
fn run(seed: u64, nodes: usize, plan: &Plan) -> World {
    println!("seed {seed}: {nodes} nodes, {} faults", plan.len());
    let world = try_run(seed, nodes, plan, Broken::None);
    world.unwrap_or_else(|violation| panic!("{:?}: {}", violation.of, violation.what))
}

/// The same, in a world that may break a rule: what did not hold, at the first step where it did not.
fn try_run(seed: u64, nodes: usize, plan: &Plan, broken: Broken) -> Result<World, Violation> {
    let mut world = World::new(seed, nodes);
    (world.broken, world.churn) = (broken, true);
    let mut doors = Doors::new(nodes);
    let mut due = plan.iter().peekable();
    let end = plan.last().map_or(0, |(at, _)| *at) + 60_000;
    while world.millis() < end {
        while let Some((_, fault)) = due.next_if(|(at, _)| *at <= world.millis()) {
            world.apply(fault);
        }
        world.step()?;
        doors.step(&mut world)?;
    }
    world.settled();
    println!(
        "seed {seed}: {}, {} redirected, longest answer {} ms",
        world.summary(),
        doors.redirected,
        doors.longest
    );
    Ok(world)
}

#[test]
fn two_hundred_relays_and_the_primary_feeds_sixteen() {
    let world = run(7, 200, &Vec::new());
    assert_eq!(world.most_children, 16);
    assert_eq!(
        world.depth(),
        3,
        "16, 256: two levels of relays would hold 272"
    );
}

#[test]
fn faults_drawn_by_seed() {
    for seed in seeds(1..=8) {
        let nodes = [10, 16, 25, 40, 60, 90, 140, 200][(seed % 8) as usize];
        run(seed, nodes, &faults::drawn(seed, nodes));
    }
}

#[test]
fn five_hundred_nodes_and_half_of_them_die_at_once() {
    for seed in seeds(51..=51) {
        let half = (1..=250).map(|node| (20_000, Fault::Kill(node * 2 - 1)));
        let world = run(seed, 500, &half.collect());
        assert_eq!(world.lost, 0, "nobody hears a relay die");
    }
}

#[test]
fn the_primary_is_gone_for_minutes() {
    for seed in seeds(61..=63) {
        let plan = vec![
            (20_000, Fault::PrimaryGone),
            (30_000, Fault::Kill(3)),
            (40_000, Fault::Cut(5)),
            (80_000, Fault::Mend(5)),
            (140_000, Fault::PrimaryBack),
            (150_000, Fault::Restart(3)),
        ];
        run(seed, 40, &plan);
    }
}
