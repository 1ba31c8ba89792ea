use serde_json::json;

use super::*;
use crate::cluster::snapshot::NodeView;
use crate::wire::message::{MountCounts, NodeRow};

fn live() -> MountId {
    MountId::new("/live.mp3").unwrap()
}

/// A relay that reported `listeners` of `/live.mp3` at `at`.
fn node(name: &str, incarnation: u64, listeners: u64, at: Instant) -> NodeView {
    let row: NodeRow = serde_json::from_value(json!({
        "id": name, "name": name, "state": "ready",
        "limits": {"max_listeners": 100},
        "mounts": [{"mount": "/live.mp3", "listeners": listeners, "state": "live"}],
    }))
    .unwrap();
    let mut node = NodeView::from_row(row, at);
    node.incarnation = incarnation;
    node.reported = at;
    node
}

fn counted(mut node: NodeView, sessions: u64, connections: u64) -> Arc<NodeView> {
    let mount = node.mounts.get_mut(&live()).unwrap();
    mount.counts = MountCounts {
        sessions,
        ..MountCounts::default()
    };
    mount.sent_bytes = sessions * 1000;
    node.counts.connections = connections;
    Arc::new(node)
}

fn table(nodes: Vec<NodeView>) -> Arc<Snapshot> {
    Arc::new(Snapshot {
        nodes: nodes.into_iter().map(Arc::new).collect(),
        ..Snapshot::default()
    })
}

#[test]
fn totals_go_on_over_restarts_and_losses_of_nodes() {
    let now = Instant::now();
    let mut station = Station::default();
    let known = HashSet::from([live()]);
    let mut hear = |nodes: &[Arc<NodeView>]| {
        let nodes: Vec<&Arc<NodeView>> = nodes.iter().collect();
        station.hear(&nodes, &known);
        let sums = station.totals.get(&live()).copied().unwrap_or_default();
        (sums.sessions, sums.sent_bytes, station.counts.connections)
    };
    let a = |incarnation, sessions| counted(node("a", incarnation, 1, now), sessions, sessions * 2);
    let b = counted(node("b", 1, 1, now), 3, 30);
    assert_eq!(hear(&[a(1, 5), b.clone()]), (8, 8_000, 40));
    // The same report adds nothing, a later one what is new in it.
    assert_eq!(hear(&[a(1, 5), b.clone()]), (8, 8_000, 40));
    assert_eq!(hear(&[a(1, 6), b.clone()]), (9, 9_000, 42));
    // A new process counts from zero, however much it has counted when it is heard first.
    assert_eq!(hear(&[a(2, 7), b.clone()]), (16, 16_000, 56));
    // The mount's counters were let go there and begin anew.
    assert_eq!(hear(&[a(2, 2), b.clone()]), (18, 18_000, 56));
    assert_eq!(hear(&[b]), (18, 18_000, 56));
    assert_eq!(hear(&[]), (18, 18_000, 56));
}

#[test]
fn a_mount_that_nobody_has_leaves_nothing() {
    let mut station = Station::default();
    let now = Instant::now();
    let a = counted(node("a", 1, 1, now), 5, 5);
    station.hear(&[&a], &HashSet::new());
    station.peaks(&table(vec![node("a", 1, 1, now)]), now);
    assert_eq!(station.totals.len(), 1);
    let mut idle = node("a", 1, 1, now);
    idle.mounts.clear();
    station.hear(&[&Arc::new(idle)], &HashSet::new());
    assert!(station.totals.is_empty() && station.peaks.is_empty());
    assert!(station.heard.values().all(|heard| heard.mounts.is_empty()));
}

/// Each second's table, and the peak that is told then.
fn peaks(tables: Vec<Vec<NodeView>>, start: Instant) -> Vec<u64> {
    let mut station = Station::default();
    let seconds = (0..).map(|second| start + Duration::from_secs(second));
    let looks = tables.into_iter().zip(seconds);
    looks
        .map(|(nodes, now)| station.peaks(&table(nodes), now)[&live()])
        .collect()
}

#[test]
fn the_peak_is_that_of_the_sum() {
    let start = Instant::now();
    let at = |second| start + Duration::from_secs(second);
    let tables = [
        (2, 3),
        (4, 0),
        (0, 4),
        (0, 0),
        (0, 0),
        (0, 0),
        (0, 0),
        (0, 0),
        (1, 1),
    ];
    let tables = (0..).zip(tables);
    let tables = tables.map(|(s, (a, b))| vec![node("a", 1, a, at(s)), node("b", 1, b, at(s))]);
    // Neither that of one node (4), nor the sum of the nodes' own peaks (8).
    assert_eq!(peaks(tables.collect(), start), [5; 9]);
}

#[test]
fn listeners_that_come_over_from_a_dead_node_count_once() {
    let start = Instant::now();
    let at = |second| start + Duration::from_secs(second);
    let dead = || {
        let mut node = node("a", 1, 0, at(1));
        node.state = State::Dead;
        node.mounts.clear();
        node
    };
    let suspect = || {
        let mut node = node("a", 1, 5, at(1));
        (node.state, node.suspected) = (State::Suspect, true);
        node
    };
    let mut tables = vec![
        vec![node("a", 1, 5, at(0)), node("b", 1, 0, at(0))],
        vec![node("a", 1, 5, at(1)), node("b", 1, 0, at(1))],
        // Its listeners are at the other one before anybody knows.
        vec![node("a", 1, 5, at(1)), node("b", 1, 5, at(2))],
        vec![suspect(), node("b", 1, 5, at(3))],
    ];
    tables.extend((4..12).map(|s| vec![dead(), node("b", 1, 5, at(s))]));
    let told = peaks(tables, start);
    assert_eq!(told[3..], [5; 9], "{told:?}");
    // One that begins anew at once is no other case.
    let mut tables = vec![vec![node("a", 1, 5, at(0)), node("b", 1, 0, at(0))]];
    tables.push(vec![node("a", 1, 5, at(0)), node("b", 1, 5, at(1))]);
    tables.extend((2..9).map(|s| vec![node("a", 2, 0, at(s)), node("b", 1, 5, at(s))]));
    let told = peaks(tables, start);
    assert_eq!(told[2..], [5; 7], "{told:?}");
}

#[test]
fn listeners_of_a_node_that_is_emptied_count_once() {
    let start = Instant::now();
    let at = |second| start + Duration::from_secs(second);
    let draining = |listeners, second| {
        let mut node = node("a", 1, listeners, at(second));
        node.state = State::Draining;
        node
    };
    let mut tables = vec![vec![node("a", 1, 5, at(0)), node("b", 1, 0, at(0))]];
    tables.push(vec![node("a", 1, 5, at(0)), node("b", 1, 5, at(1))]);
    tables.extend((2..9).map(|s| vec![draining(0, s), node("b", 1, 5, at(s))]));
    let told = peaks(tables, start);
    assert_eq!(told[2..], [5; 7], "{told:?}");
}
