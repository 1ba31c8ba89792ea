//! Whom a relay pulls from: near ones first, nobody else for a source that stalls, another one without asking anyone;
//! and what is lost where nobody has it any more.

use std::time::Duration;

use serde_json::Value;

use crate::harness::cluster::{Cluster, api, nodes_of};
use crate::harness::eventually;
use crate::harness::node::{Node, Plan};
use crate::harness::source::{Source, on_air};
use crate::harness::station::{BEYOND, Ear, Encoder, LONG, MOUNT, Station};
use crate::harness::tone::FRAME;
use crate::harness::within;

/// The primary feeds m1 and m2, and those the leaves.
async fn two_levels(leaves: &[(&'static str, &'static str)]) -> (Station, Encoder) {
    let mut station = Station::start("max_children: 2").await;
    let encoder = Encoder::start(station.head(), 0).await;
    for name in ["m1", "m2"] {
        station.relay(name, 4).await;
    }
    station
        .wait_for("the upper half", |parents| {
            let fed = |name: &&str| parents.get(*name).is_some_and(|parent| parent == "p");
            ["m1", "m2"].iter().all(fed)
        })
        .await;
    for (leaf, _) in leaves {
        station.relay(leaf, 4).await;
    }
    station.reparent(leaves).await;
    (station, encoder)
}

async fn state_of(head: &Node, name: &str) -> Option<String> {
    let rows = nodes_of(head).await;
    let row = rows.into_iter().find(|row| row["name"] == name)?;
    row["state"].as_str().map(str::to_owned)
}

/// The leaf's way to the primary is gone, and only that; then its parent dies.
#[tokio::test]
async fn a_relay_finds_another_parent_with_its_primary_out_of_reach() {
    let (mut station, encoder) = two_levels(&[("l", "m1")]).await;
    station.listen(&["l"], 10).await;
    station.all_at("the beginning", encoder.sent()).await;
    let (leaf, head) = (station.net.find("l"), station.net.find("p"));
    leaf.lose(&head);
    within(LONG, "the primary gives it up", async || {
        let state = state_of(station.head(), "l").await;
        (state.as_deref() == Some("dead")).then_some(())
    })
    .await;
    let before = station.begin();
    station.nodes.get_mut("m1").unwrap().kill();
    station
        .all_at("over the death", encoder.sent() + BEYOND)
        .await;
    let lost = station
        .report("kill -9 of the parent, the primary out of reach", before)
        .await;
    assert_eq!((lost, station.closed()), (0, 0));
    // Newcomers are taken as ever.
    let newcomer = Ear::open(station.node("l")).await;
    station.ears.push(newcomer);
    leaf.regain(&head);
    station.is_ready("l").await;
    assert_eq!(station.parent_of("l").await, "m2");
    // What happened meanwhile is told now.
    let told = eventually("the primary hears of it", async || {
        let events = api(station.head(), "events").await;
        let ours = |event: &Value| event["kind"] == "failover" && event["node"] == "l";
        let told = events.into_iter().filter(ours);
        told.into_iter().find(|event| event["from"] == "m1")
    })
    .await;
    println!("{told}");
    assert_eq!(
        (&told["to"], &told["lost_bytes"]),
        (&"m2".into(), &0.into())
    );
    drop(encoder);
    station.compare().await;
}

/// Everybody falls silent at once: it is the source, and nobody looks for another parent.
#[tokio::test]
async fn a_source_that_stalls_moves_nobody() {
    let leaves = [("l1", "m1"), ("l2", "m2"), ("l3", "m2")];
    let (mut station, encoder) = two_levels(&leaves).await;
    station.listen(&["l1", "l2", "l3"], 5).await;
    station.all_at("the beginning", encoder.sent()).await;
    let moves = async |station: &Station| {
        let mut moves = Vec::new();
        for name in ["m1", "m2", "l1", "l2", "l3"] {
            moves.push(station.moves(name).await);
        }
        moves
    };
    let (before, moved) = (station.begin(), moves(&station).await);
    encoder.pause();
    within(LONG, "silence", async || {
        let mut silent = station.ears.iter().map(|ear| ear.heard.silence());
        // Twice as long as a parent may be silent.
        let long = |silence| silence > Duration::from_secs(6);
        silent.all(long).then_some(())
    })
    .await;
    encoder.play();
    station
        .all_at("over the stall", encoder.sent() + BEYOND)
        .await;
    let lost = station.report("a source that stalls", before).await;
    assert_eq!((lost, station.closed()), (0, 0));
    assert_eq!(moves(&station).await, moved, "somebody was moved");
    for (leaf, parent) in leaves {
        assert_eq!(station.parent_of(leaf).await, parent);
    }
    drop(encoder);
    station.compare().await;
}

/// A relay is cut off until its next byte has left its parent's ring: the gap is counted, and listeners go on behind it.
#[tokio::test]
async fn what_nobody_has_any_more_is_counted_and_listeners_go_on() {
    // The relay's own ring is of the usual size: who listens there is behind nothing when it is filled again at once.
    let mut station = Station::start("ring: {seconds: 60s, max_bytes: 256KiB}").await;
    // Five times as fast as it plays.
    let encoder = Encoder::paced(station.head(), 0, 8).await;
    let place = station.net.place("m");
    let plan = Plan::relay_at(station.head(), &place);
    station.add(plan, "m").await;
    station
        .wait_for("it is fed", |parents| parents.contains_key("m"))
        .await;
    station.listen(&["m"], 5).await;
    station.all_at("the beginning", encoder.sent()).await;
    let before = station.begin();
    place.cut();
    let beyond = encoder.sent() + 3 * 256 * 1024 / FRAME as u64;
    within(LONG, "the ring is filled three times", async || {
        (encoder.sent() > beyond).then_some(())
    })
    .await;
    place.mend();
    station
        .all_at("over the gap", encoder.sent() + BEYOND)
        .await;
    let lost = station
        .report("a link that is cut for longer than the ring", before)
        .await;
    assert_eq!(station.closed(), 0);
    let node = station.node("m");
    let gap = node.metric("relayctl_gap_bytes_total", "").await;
    let seconds = node.metric("relayctl_gap_seconds", MOUNT).await;
    println!(
        "gap of {gap} bytes, {seconds} s; each of five listeners lacks {} bytes",
        lost / 5
    );
    assert!(gap > 0.0 && gap % FRAME as f64 == 0.0, "{gap}");
    assert_eq!(lost as f64, 5.0 * gap);
    // 128 kbit/s, and marks every 250 ms.
    assert!((seconds - gap / 16_000.0).abs() < 0.5, "{seconds} s");
    let mounts = api(node, "mounts").await;
    assert_eq!(mounts[0]["gap_bytes"].as_f64(), Some(gap));
    let events = api(station.head(), "events").await;
    println!("{:?}", events.last());
}

#[tokio::test]
async fn nodes_of_one_region_feed_each_other_and_the_commands_show_the_tree() {
    let mut cluster = Cluster::start_with(0, "max_children: 2", "").await;
    let _source = Source::start(&cluster.primary, MOUNT).await;
    for (name, region) in [("upper-eu", "eu"), ("upper-us", "us")] {
        let plan = Plan::relay(&cluster.primary).name(name);
        let relay = plan.yaml(&format!("region: {region}")).start().await;
        on_air(relay.port, MOUNT).await;
        cluster.relays.push(relay);
    }
    cluster.on_air(MOUNT).await;
    let leaves = [
        ("a", "us"),
        ("b", "eu"),
        ("c", "us"),
        ("d", "us"),
        ("e", "eu"),
        ("f", "us"),
    ];
    for (name, region) in leaves {
        let plan = Plan::relay(&cluster.primary).name(name);
        let relay = plan.yaml(&format!("region: {region}")).start().await;
        cluster.relays.push(relay);
    }
    cluster.ready().await;
    cluster.on_air(MOUNT).await;
    eventually("each is fed by its own region", async || {
        let rows = cluster.table().await;
        let fed = |(name, region): &(&str, &str)| {
            let row = rows.iter().find(|row| row["name"] == *name);
            row.is_some_and(|row| row["parent"] == format!("upper-{region}") && row["depth"] == 2)
        };
        leaves.iter().all(fed).then_some(())
    })
    .await;
    let wide = cluster.primary.asked(&["get", "nodes", "-o", "wide"]).await;
    println!("{wide}");
    let mut lines = wide.lines();
    let titles = lines.next().unwrap();
    for title in ["PARENT", "DEPTH", "LAG", "LAG MS"] {
        assert!(titles.contains(title), "{title}: {titles}");
    }
    let leaf = lines.find(|line| line.starts_with("a ")).unwrap();
    assert!(leaf.contains("upper-us"), "{leaf}");
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        let line = line.unwrap_or_else(|| panic!("no `{name}` in {text}"));
        line[name.len()..].trim().to_owned()
    };
    let one = eventually("how far it is behind is known", async || {
        let one = cluster.primary.asked(&["describe", "node", "a"]).await;
        let figures = ["lag bytes:", "lag millis:"].map(|name| field(&one, name));
        let known = figures.iter().all(|text| text.parse::<u64>().is_ok());
        known.then_some(one)
    })
    .await;
    println!("{one}");
    assert_eq!(field(&one, "parent:"), "upper-us");
    assert_eq!(field(&one, "depth:"), "2");
}
