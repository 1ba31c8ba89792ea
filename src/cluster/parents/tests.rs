//! The rule over hand-made tables, and its laws over trees that grow, change and disagree.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::base::ids::Epoch;
use crate::cluster::snapshot::MountView;
use crate::wire::message::{Capabilities, Limits, PublicUrls};

fn id(text: &str) -> NodeId {
    text.parse().unwrap()
}

fn live() -> MountId {
    MountId::new("/live.mp3").unwrap()
}

fn node(name: &str, parent: Option<&str>, places: u32) -> NodeView {
    let mount = MountView {
        listeners: 0,
        sent_bytes: 0,
        bitrate: 128_000,
        epoch: Epoch(1),
        offset: 0,
        content_type: String::new(),
        state: MountState::Live,
        parent: parent.map(id),
        depth: 0,
        lag_millis: 0,
        counts: Default::default(),
    };
    NodeView {
        id: id(name),
        name: id(name),
        role: match parent {
            None => NodeRole::Primary,
            Some(_) => NodeRole::Relay,
        },
        state: State::Ready,
        suspected: false,
        trouble: None,
        incarnation: 1,
        public_urls: PublicUrls::default(),
        version: String::new(),
        weight: 100,
        limits: Limits {
            max_listeners: 100,
            max_bandwidth: 0,
            max_children: places,
            max_cpu: 0,
        },
        capabilities: Capabilities::EMBEDDED,
        listeners: 0,
        descriptors_left: None,
        cpu_ratio: 0.0,
        bandwidth_bits: 0,
        uptime: Duration::ZERO,
        reported: Instant::now(),
        mounts: BTreeMap::from([(live(), mount)]),
        on_demand: false,
        full: false,
        limit: String::new(),
        draining: false,
        reflect: None,
        parent: parent.map(id),
        peer_url: None,
        children: 0,
        region: String::new(),
        counts: Default::default(),
    }
}

/// The table of these nodes, with each one's children counted.
fn table(mut nodes: Vec<NodeView>) -> Snapshot {
    let parents: Vec<NodeId> = nodes
        .iter()
        .filter_map(|node| node.parent.clone())
        .collect();
    for node in &mut nodes {
        let children = parents.iter().filter(|parent| **parent == node.id).count();
        node.children = u32::try_from(children).unwrap();
    }
    nodes.sort_by(|a, b| a.id.cmp(&b.id));
    Snapshot {
        version: 1,
        nodes: nodes.into_iter().map(Arc::new).collect(),
        panic: false,
    }
}

fn ask(snapshot: &Snapshot, own: &str, current: Option<&str>, assigned: Option<&str>) -> Parents {
    let (current, assigned) = (current.map(id), assigned.map(id));
    choose(
        &Seeker {
            own: &id(own),
            region: "",
            mount: &live(),
            current: current.as_ref(),
            assigned: assigned.as_ref(),
            front: false,
        },
        snapshot,
    )
}

fn names(parents: &Parents) -> Vec<&str> {
    parents.order.iter().map(NodeId::as_str).collect()
}

#[test]
fn shallow_before_deep_free_before_full_and_never_a_descendant() {
    let snapshot = table(vec![
        node("head", None, 2),
        node("a", Some("head"), 4),
        node("b", Some("head"), 1),
        node("b1", Some("b"), 4),
        node("a1", Some("a"), 4),
        node("a11", Some("a1"), 4),
    ]);
    // The head and `b` are full: behind all others, but there.
    assert_eq!(names(&ask(&snapshot, "new", None, None))[0], "a");
    let order = ask(&snapshot, "new", None, None);
    assert_eq!(names(&order)[4..], ["head", "b"]);
    assert_eq!(order.better, None);
    // Those below `a` are no parents for it.
    assert_eq!(
        names(&ask(&snapshot, "a", Some("head"), None)),
        ["head", "b1", "b"]
    );
    // The operator's word comes first, what is there second.
    let order = ask(&snapshot, "a11", Some("a1"), Some("b1"));
    assert_eq!(names(&order)[..2], ["b1", "a1"]);
    let circle = ask(&snapshot, "a", Some("head"), Some("a11"));
    assert_eq!(names(&circle)[0], "head");
}

#[test]
fn a_nearer_place_that_is_free_is_worth_a_move_and_no_other() {
    let mut nodes = vec![
        node("head", None, 2),
        node("a", Some("head"), 4),
        node("a1", Some("a"), 4),
    ];
    assert_eq!(
        ask(&table(nodes.clone()), "a1", Some("a"), None).better,
        Some(id("head"))
    );
    nodes.push(node("b", Some("head"), 4));
    // The head is full now; `b` is as deep as `a`.
    assert_eq!(
        ask(&table(nodes.clone()), "a1", Some("a"), None).better,
        None
    );
    // A parent that drains is left for any that is willing.
    let drained = nodes.iter_mut().find(|node| node.id == id("a")).unwrap();
    drained.state = State::Draining;
    let order = ask(&table(nodes.clone()), "a1", Some("a"), None);
    assert_eq!((names(&order)[0], &order.better), ("a", &Some(id("b"))));
    assert_eq!(ask(&table(nodes), "a1", Some("a"), Some("a")).better, None);
}

#[test]
fn the_own_region_is_worth_a_step_and_a_half() {
    let mut nodes = vec![
        node("head", None, 16),
        node("a", Some("head"), 4),
        node("a1", Some("a"), 4),
    ];
    for node in &mut nodes {
        node.region = if node.id == id("head") { "us" } else { "eu" }.into();
    }
    let find = |nodes: &[NodeView]| {
        let own = id("new");
        let mount = live();
        let seeker = Seeker {
            own: &own,
            region: "eu",
            mount: &mount,
            current: None,
            assigned: None,
            front: false,
        };
        choose(&seeker, &table(nodes.to_vec())).order
    };
    assert_eq!(find(&nodes), [id("a"), id("head"), id("a1")]);
    nodes[1].region = "us".into();
    assert_eq!(find(&nodes)[0], id("head"));
}

#[test]
fn who_waits_for_an_order_moves_only_away_from_one_that_drains() {
    let mut nodes = vec![
        node("head", None, 16),
        node("a", Some("head"), 4),
        node("a1", Some("a"), 4),
        node("b", Some("head"), 4),
    ];
    let better = |nodes: &[NodeView], order| {
        let parents = ask(&table(nodes.to_vec()), "new", Some("a1"), order);
        assert_eq!(parents.leaving, nodes[2].state == State::Draining);
        parents.better
    };
    assert_eq!(better(&nodes, None), Some(id("head")));
    assert_eq!(better(&nodes, Some("b")), None);
    nodes[2].state = State::Draining;
    assert_eq!(better(&nodes, Some("b")), Some(id("head")));
    // The order holds until that parent is dead.
    assert_eq!(better(&nodes, Some("a1")), None);
}

#[test]
fn equals_are_drawn_by_their_places() {
    let mut nodes = vec![node("head", None, 4)];
    for name in ["a", "b", "c", "d"] {
        nodes.push(node(name, Some("head"), if name == "a" { 48 } else { 16 }));
    }
    let snapshot = table(nodes);
    let mut firsts: BTreeMap<String, u32> = BTreeMap::new();
    for seeker in 0..1200 {
        let order = ask(&snapshot, &format!("s{seeker}"), None, None);
        *firsts.entry(names(&order)[0].to_owned()).or_default() += 1;
    }
    assert_eq!(firsts.len(), 4);
    assert!((520..680).contains(&firsts["a"]), "{firsts:?}");
    assert!(firsts.values().all(|count| *count > 140), "{firsts:?}");
}

/// Every node of a cluster settles by the rule, one after the other, over a common table.
fn settle(places: &[u32], order: &[usize]) -> Vec<NodeView> {
    let mut nodes = vec![node("head", None, places[0])];
    for &at in order {
        let name = format!("n{at}");
        let chosen = ask(&table(nodes.clone()), &name, None, None);
        // A full one says no; the next is asked.
        let snapshot = table(nodes.clone());
        let parent = chosen.order.iter().find(|parent| {
            let row = snapshot.find(parent).unwrap();
            row.children < row.limits.max_children
        });
        let parent = parent.map(|parent| parent.as_str().to_owned());
        if let Some(parent) = parent {
            nodes.push(node(&name, Some(&parent), places[at + 1]));
        }
    }
    nodes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_tree_that_grew_has_no_circle_and_is_as_shallow_as_its_bounds_allow(
        count in 1_usize..60, bound in 2_u32..6, head in 1_u32..6
    ) {
        let mut places = vec![bound; count + 1];
        places[0] = head;
        let order: Vec<usize> = (0..count).collect();
        let nodes = settle(&places, &order);
        prop_assert_eq!(nodes.len(), count + 1);
        let snapshot = table(nodes);
        let mut room = vec![u64::from(head)];
        while room.iter().sum::<u64>() < count as u64 {
            room.push(room[room.len() - 1] * u64::from(bound));
        }
        for node in &snapshot.nodes {
            prop_assert!(node.children <= node.limits.max_children);
            let way = way(&snapshot, &live(), &node.id).unwrap();
            prop_assert!(way.len() - 1 <= room.len(), "{:?}", way);
            // Settled: nobody wants to move, and one who joins moves nobody.
            let parent = node.parent.clone();
            let stays = ask(&snapshot, node.id.as_str(), parent.as_ref().map(NodeId::as_str), None);
            prop_assert_eq!(stays.better, None);
            prop_assert!(parent.is_none() || stays.order.first() == parent.as_ref());
        }
    }

    #[test]
    fn one_join_or_death_moves_only_who_must(count in 4_usize..40, bound in 2_u32..5, gone in 0_usize..40) {
        let places = vec![bound; count + 2];
        let order: Vec<usize> = (0..count).collect();
        let before = settle(&places, &order);
        let mut after = before.clone();
        let dead = id(&format!("n{}", gone % count));
        after.iter_mut().find(|node| node.id == dead).unwrap().state = State::Dead;
        let with = settle(&places, &(0..=count).collect::<Vec<_>>());
        for (tables, what) in [(&after, "death"), (&with, "join")] {
            let snapshot = table(tables.clone());
            for node in &before {
                let Some(parent) = &node.parent else { continue };
                let chosen = ask(&snapshot, node.id.as_str(), Some(parent.as_str()), None);
                prop_assert_eq!(chosen.order.first(), Some(parent), "{}", what);
                prop_assert!(what == "death" || chosen.better.is_none());
                prop_assert!(!chosen.order.contains(&dead) || what == "join" || *parent == dead);
            }
        }
    }

    #[test]
    fn no_table_however_wrong_gives_oneself_or_a_descendant(
        links in proptest::collection::vec(0_usize..12, 11), own in 0_usize..11, current in 0_usize..12
    ) {
        // Parents drawn at random: circles, orphans, whole trees.
        let name = |at: usize| if at == 0 { "head".to_owned() } else { format!("n{}", at - 1) };
        let mut nodes = vec![node("head", None, 4)];
        for (at, link) in links.iter().enumerate() {
            nodes.push(node(&format!("n{at}"), Some(&name(*link)), 4));
        }
        let snapshot = table(nodes);
        let own_name = format!("n{own}");
        let current = name(current);
        let chosen = ask(&snapshot, &own_name, None, Some(&current));
        prop_assert!(chosen.order.contains(&id("head")));
        prop_assert!(chosen.order.len() <= MAX_PARENTS);
        for parent in &chosen.order {
            prop_assert!(!leads_through(&snapshot, &live(), parent, &id(&own_name)), "{}", parent);
        }
    }
}

#[test]
fn a_front_pulls_from_relays_by_their_load_and_leaves_a_drained_one_at_once() {
    let relay = |name: &str, listeners: u64| {
        let mut view = node(name, Some("head"), 16);
        view.limits.max_listeners = 1_000;
        view.listeners = listeners;
        view
    };
    let of = |snapshot: &Snapshot, own: &str, current: Option<&str>| {
        let (own, current) = (id(own), current.map(id));
        let seeker = Seeker {
            own: &own,
            region: "",
            mount: &live(),
            current: current.as_ref(),
            assigned: None,
            front: true,
        };
        choose(&seeker, snapshot)
    };
    let mut nodes = vec![node("head", None, 16), relay("busy", 900), relay("free", 0)];
    let snapshot = table(nodes.clone());
    let mut first = [0, 0];
    for n in 0..200 {
        let order = of(&snapshot, &format!("front-{n}"), None).order;
        assert_eq!(order[2].as_str(), "head", "the origin is the last resort");
        first[usize::from(order[0].as_str() == "free")] += 1;
    }
    // A tenth of the places, a tenth of the fronts.
    assert!(first[0] > 5 && first[0] < 40, "{first:?}");
    // Who began at the origin moves to a relay; who is at a relay stays.
    assert!(of(&snapshot, "front", Some("head")).better.is_some());
    let settled = of(&snapshot, "front", Some("free"));
    assert_eq!((settled.better, settled.leaving), (None, false));
    nodes[2].state = State::Draining;
    let drained = of(&table(nodes), "front", Some("free"));
    assert_eq!((drained.better, drained.leaving), (Some(id("busy")), true));
}
