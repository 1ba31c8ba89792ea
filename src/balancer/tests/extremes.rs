//! Messages of nodes that lie about every number: refused, or harmless to the sums and the choice.

use serde_json::json;

use super::*;
use crate::cluster::copy::TableCopy;
use crate::cluster::table::{self, Event, Table};
use crate::wire::bounds::{Clock, MAX_LISTENERS};
use crate::wire::message::{BeatAnswer, FeedLine, JoinAnswer, JoinRequest};

const CLOCK: Clock = Clock {
    unix_millis: UNIX,
    stamped: Epoch(0),
};

/// Numbers at the edges of types and ranges, and ordinary ones.
fn number() -> impl proptest::strategy::Strategy<Value = u64> {
    prop_oneof![
        3 => 0_u64..200,
        1 => Just(MAX_LISTENERS),
        1 => Just(MAX_LISTENERS + 1),
        1 => Just(UNIX),
        1 => Just(UNIX + 86_400_001),
        1 => Just(u64::from(u32::MAX)),
        1 => Just(1 << 60),
        1 => Just(u64::MAX / 2),
        1 => (u64::MAX - 2)..=u64::MAX,
        1 => any::<u64>(),
    ]
}

fn share() -> impl proptest::strategy::Strategy<Value = f64> {
    prop_oneof![3 => 0.0..=1.0, 1 => Just(-1.0), 1 => Just(f64::MAX), 1 => Just(1.0e-300)]
}

fn beat_of(name: &str, n: &[u64], cpu: f64) -> Option<Beat> {
    let text = json!({
        "v": 1, "id": name, "incarnation": n[0], "seq": n[1], "sent_unix_millis": n[2], "name": name,
        "data_port": 8000, "uptime_millis": n[3], "cpu_ratio": cpu, "bandwidth_bits": n[4],
        "limits": {"max_listeners": n[5], "max_bandwidth": n[6], "max_children": n[7], "max_cpu": n[8]},
        "weight": n[9], "descriptors_left": n[10], "listeners": n[11], "children": n[12],
        "confirmed": [n[13], n[14]],
        "mounts": [{"mount": "/live.mp3", "state": "live", "listeners": n[15], "sent_bytes": n[16],
            "epoch": n[17], "offset": n[18], "bitrate": n[19], "depth": n[20], "lag_millis": n[21]}],
        "events": [{"seq": n[22], "unix_millis": n[23], "kind": "epoch_changed", "mount": "/live.mp3",
            "from": n[24], "to": n[25]},
            {"seq": n[1], "unix_millis": n[2], "kind": "drain_began", "who": name, "by": "local",
            "listeners": n[3], "spread_seconds": n[4]}],
    });
    // What is no `u32` is refused before any check.
    serde_json::from_value(text).ok()
}

/// A table with an honest relay and with those whose beats were believed.
fn table_of(beats: &[Beat], now: Instant) -> Table {
    let mut table = Table::new(
        table::Config {
            probe_every: None,
            ..table::Config::default()
        },
        Default::default(),
    );
    for beat in beats {
        table.step(
            now,
            Event::Beat {
                beat: beat.clone(),
                seen: "10.0.0.7".parse().unwrap(),
                connection: 1,
            },
        );
    }
    table
}

proptest! {
    #[test]
    fn a_lying_relay_gets_nobody_beyond_its_place(
        numbers in prop::collection::vec(prop::collection::vec(number(), 26), 3),
        cpu in share(),
    ) {
        let mut stage = Stage::new(&[]);
        let honest = [&[UNIX, 1][..], &[0; 3], &[1_000], &[0; 20]].concat();
        let mut beats = vec![beat_of("honest", &honest, 0.0).unwrap()];
        for (at, numbers) in numbers.iter().enumerate() {
            beats.extend(beat_of(&format!("liar-{at}"), numbers, cpu));
        }
        beats.retain(|beat| beat.check(&CLOCK).is_ok());
        prop_assert_eq!(beats[0].id.as_str(), "honest");
        for beat in &beats {
            prop_assert!(beat.listeners <= MAX_LISTENERS);
            for mount in &beat.mounts {
                prop_assert!(mount.epoch <= CLOCK.latest_epoch());
            }
        }
        let mut table = table_of(&beats, stage.now);
        let snapshot = table.snapshot();
        let sum: u128 = snapshot.nodes.iter().map(|node| u128::from(node.listeners)).sum();
        prop_assert_eq!(u128::from(snapshot.totals().listeners), sum);
        for node in &snapshot.nodes {
            prop_assert!(node.listeners <= node.limits.max_listeners);
            prop_assert!((1..=1_000).contains(&node.weight));
        }
        for beat in &beats {
            stage.balancer.on_beat(beat, stage.now);
        }
        stage.views = snapshot.nodes.iter().map(|node| (**node).clone()).collect();
        let mut given: BTreeMap<String, u64> = BTreeMap::new();
        for number in 0..50 {
            if let Decision::Redirect { node, .. } = stage.ask(&who(number)) {
                *given.entry(node.to_string()).or_default() += 1;
            }
        }
        for view in &stage.views {
            let got = given.get(view.id.as_str()).copied().unwrap_or(0);
            let room = view.limits.max_listeners - view.listeners;
            prop_assert!(got <= room, "{} got {got} of {room}", view.id);
        }
        table.step(stage.now + Duration::from_secs(1), Event::Tick);
        // And the relays that hear of it.
        let changes = table.changes_since(0, stage.now);
        let line = FeedLine::Nodes { version: 1, complete: true, panic: false, nodes: changes.nodes };
        prop_assert!(line.check().is_ok());
        let mut copy = TableCopy::default();
        copy.apply(line, stage.now);
        prop_assert_eq!(u128::from(copy.snapshot().totals().listeners), sum);
    }

    #[test]
    fn whatever_else_is_said_is_refused_or_harmless(
        n in prop::collection::vec(number(), 20),
        cpu in share(),
    ) {
        let now = Instant::now();
        let join = json!({"v": n[0], "id": "a", "name": "a", "incarnation": n[1], "version": "1", "data_port": n[2],
            "limits": {"max_listeners": n[3], "max_bandwidth": n[4], "max_children": n[5], "max_cpu": n[6]},
            "weight": n[7], "uptime_millis": n[8]});
        if let Ok(join) = serde_json::from_value::<JoinRequest>(join)
            && join.check(&CLOCK).is_ok()
        {
            let mut table = table_of(&[], now);
            table.step(now, Event::Joined { request: join, seen: "10.0.0.7".parse().unwrap() });
            for node in table.snapshot().nodes {
                let later = now + Duration::from_secs(60);
                prop_assert!(node.uptime_at(later) >= Duration::from_secs(60));
                prop_assert!(node.limits.max_listeners <= MAX_LISTENERS);
            }
        }
        let row = json!({"id": "a", "name": "a", "state": "ready", "weight": n[0], "listeners": n[1],
            "limits": {"max_listeners": n[2], "max_bandwidth": n[3], "max_children": n[4]},
            "public_urls": {"http": "http://a:8000"},
            "descriptors_left": n[5], "cpu_ratio": cpu, "bandwidth_bits": n[6], "uptime_millis": n[7],
            "age_millis": n[8], "children": n[9],
            "mounts": [{"mount": "/live.mp3", "state": "live", "listeners": n[10], "bitrate": n[11], "depth": n[12]}]});
        let line = json!({"kind": "nodes", "version": n[13], "complete": true, "nodes": [row, row]});
        if let Ok(line) = serde_json::from_value::<FeedLine>(line) {
            prop_assert!(line.check().is_ok());
            let mut copy = TableCopy::default();
            copy.apply(line, now);
            let mut stage = Stage::new(&[]);
            stage.views = copy.snapshot().nodes.iter().map(|node| (**node).clone()).collect();
            for view in &stage.views {
                prop_assert!(view.listeners <= MAX_LISTENERS && view.weight <= 1_000);
            }
            stage.ask(&who(1));
        }
        let info = json!({"kind": "mounts", "v": 1, "complete": true,
            "mounts": [{"mount": "/live.mp3", "epoch": n[14], "bitrate": n[15]}]});
        let info: FeedLine = serde_json::from_value(info).unwrap();
        prop_assert_eq!(info.check().is_ok(), n[14] <= crate::wire::bounds::MAX_MILLIS
            && n[15] <= crate::wire::bounds::MAX_RATE);
        let answer = json!({"v": 1, "ack": n[16], "table_version": n[17], "unix_millis": n[18],
            "drain": {"since_unix_millis": n[0], "spread_millis": n[1], "listeners": n[2]}});
        let answer: BeatAnswer = serde_json::from_value(answer).unwrap();
        if answer.check().is_ok() {
            prop_assert!(answer.unix_millis <= crate::wire::bounds::MAX_MILLIS);
            prop_assert!(answer.drain.unwrap().listeners <= MAX_LISTENERS);
        }
        let answer = json!({"v": 1, "id": "a", "credential": "c", "primary_id": "p", "primary_name": "p",
            "cluster_keys": [], "beat_millis": n[3], "public_url": "", "probe": {}, "unix_millis": n[19]});
        let answer: JoinAnswer = serde_json::from_value(answer).unwrap();
        prop_assert_eq!(answer.check().is_ok(), n[3] <= 60_000 && n[19] <= crate::wire::bounds::MAX_MILLIS);
    }
}

/// The reproduction: a relay that is full to the brim by its own huge word, and one whose limit was lowered below what
/// it carries. Neither is chosen.
#[test]
fn a_full_relay_is_not_chosen_however_large_its_numbers_are() {
    let mut stage = Stage::new(&[("huge", 0), ("lowered", 80), ("small", 0)]);
    for (at, (listeners, most)) in [(u64::MAX, u64::MAX), (80, 50), (0, 100)]
        .into_iter()
        .enumerate()
    {
        stage.views[at].listeners = listeners;
        stage.views[at].limits.max_listeners = most;
        stage.views[at].weight = 1_000;
    }
    for number in 0..15 {
        assert_eq!(stage.node(&who(number)), "small");
    }
}

/// A relay counts for its weight only up to what the operator of the primary permits.
#[test]
fn the_operator_caps_the_weight() {
    let now = Instant::now();
    let mut numbers = [&[UNIX, 1][..], &[0; 24]].concat();
    (numbers[5], numbers[9]) = (100, 1_000);
    let beat = beat_of("heavy", &numbers, 0.0).unwrap();
    let mut table = Table::new(
        table::Config {
            max_weight: 150,
            ..table::Config::default()
        },
        Default::default(),
    );
    let seen = "10.0.0.7".parse().unwrap();
    table.step(
        now,
        Event::Beat {
            beat,
            seen,
            connection: 1,
        },
    );
    assert_eq!(table.snapshot().nodes[0].weight, 150);
}
