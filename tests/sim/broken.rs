//! Each law is looked at: a world that breaks its rule on purpose is found out.

use super::check::Law;
use super::faults::{self, Fault, Plan};
use super::try_run;
use super::world::Broken;

/// The first world that breaks a law breaks this one.
fn found(broken: Broken, law: Law, plan: impl Fn(u64, usize) -> Plan) {
    let nodes = 40;
    for seed in 1..=12 {
        let Err(violation) = try_run(seed, nodes, &plan(seed, nodes), broken) else {
            continue;
        };
        assert_eq!(violation.of, law, "{}", violation.what);
        println!("{broken:?}: {}", violation.what);
        return;
    }
    panic!("twelve worlds with {broken:?} broke nothing");
}

/// A third of the nodes die at once and the primary with them: whoever is left looks for another by an old table.
fn upheaval(seed: u64, nodes: usize) -> Plan {
    let mut plan = vec![(20_000, Fault::PrimaryGone)];
    let third = (0..nodes / 3).map(|nth| 1 + (seed as usize + nth * 3) % nodes);
    plan.extend(third.map(|node| (21_000, Fault::Kill(node))));
    plan.push((50_000, Fault::PrimaryBack));
    plan
}

#[test]
fn a_node_that_follows_whoever_takes_it_makes_a_circle() {
    found(Broken::Standing, Law::NoCircle, upheaval);
}

#[test]
fn so_does_one_that_looks_into_no_path_either() {
    found(Broken::StandingAndPath, Law::NoCircle, upheaval);
}

#[test]
fn and_in_the_same_worlds_the_rule_makes_none() {
    for seed in 1..=4 {
        try_run(seed, 40, &upheaval(seed, 40), Broken::None).unwrap();
    }
}

#[test]
fn one_child_too_many_is_seen() {
    found(Broken::Bound, Law::ChildrenBound, faults::drawn);
}

#[test]
fn one_who_asks_nobody_after_its_parent_died_is_seen() {
    found(Broken::Failover, Law::Fed, faults::drawn);
}

#[test]
fn listeners_that_are_never_counted_off_are_seen() {
    found(Broken::Counts, Law::CountsTrue, faults::drawn);
}

#[test]
fn one_sent_to_a_node_that_drains_is_seen() {
    let plan = |_, nodes: usize| {
        (1..=nodes / 2)
            .map(|node| (20_000, Fault::Drain(node)))
            .collect()
    };
    found(Broken::Draining, Law::SentToReady, plan);
}

#[test]
fn one_sent_to_a_dead_node_is_seen() {
    let plan = |_, nodes: usize| {
        (1..=nodes / 2)
            .map(|node| (20_000, Fault::Kill(node)))
            .collect()
    };
    found(Broken::Dead, Law::SentToReady, plan);
}
