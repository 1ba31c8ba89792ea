//! A tree of relays on machines of their own, and forty listeners on its leaves: whatever dies or stalls between
//! the source and them, they hear every byte.

use std::time::Duration;

use rustix::process::Signal;

use crate::harness::cluster::{api, nodes_of};
use crate::harness::net::SlowLink;
use crate::harness::node::Plan;
use crate::harness::station::{BEYOND, Encoder, LONG, Station};
use crate::harness::within;

/// The primary's settings.
const HEAD: &str = "max_children: 2\nhold: 8s";

/// The primary feeds m1 and m2, those n1 and n2, those the leaves; m2 stands behind a link that can be slowed.
async fn deep() -> (Station, Encoder, SlowLink) {
    let mut station = Station::start(HEAD).await;
    let encoder = Encoder::start(station.head(), 0).await;
    let slow = station.net.slow_place("m2").await;
    station.relay("m1", 4).await;
    let plan = Plan::relay_at(station.head(), &slow.place).yaml("max_children: 4");
    station.add(plan, "m2").await;
    station
        .wait_for("the upper half", |parents| {
            ["m1", "m2"]
                .iter()
                .all(|name| parents.get(*name).is_some_and(|p| p == "p"))
        })
        .await;
    for (name, children) in [
        ("n1", 4),
        ("n2", 4),
        ("l1", 4),
        ("l2", 4),
        ("l3", 4),
        ("l4", 4),
    ] {
        station.relay(name, children).await;
    }
    station
        .wait_for("everybody is fed", |parents| parents.len() == 8)
        .await;
    // Whoever is full of leaves takes a node as soon as those have gone down.
    station
        .reparent(&[
            ("n1", "m1"),
            ("n2", "m2"),
            ("l1", "n1"),
            ("l2", "n1"),
            ("l3", "n2"),
            ("l4", "n2"),
        ])
        .await;
    let rows = nodes_of(station.head()).await;
    let deepest = rows.iter().filter_map(|row| row["depth"].as_u64()).max();
    assert_eq!(deepest, Some(3), "{rows:?}");
    let children = rows.iter().find(|row| row["name"] == "p").unwrap();
    assert_eq!(children["children"], 2);
    (station, encoder, slow)
}

#[tokio::test]
async fn whatever_stands_between_dies_or_stalls_no_byte_is_lost() {
    let (mut station, encoder, slow) = deep().await;
    station.listen(&["l1", "l2", "l3", "l4"], 10).await;
    station.all_at("the beginning", encoder.sent()).await;

    let (before, moves) = (station.begin(), station.moves("l1").await);
    station.nodes.get_mut("n1").unwrap().kill();
    station
        .all_at("over the death", encoder.sent() + BEYOND)
        .await;
    assert_eq!(station.report("kill -9 of a middle relay", before).await, 0);
    assert!(station.moves("l1").await > moves, "it was not fed by n1");

    let (before, moves) = (station.begin(), station.moves("l3").await);
    let victim = station.parent_of("l3").await;
    assert_ne!(victim, "p");
    let place = station.net.find(&victim);
    place.cut();
    station
        .all_at("over the cut", encoder.sent() + BEYOND)
        .await;
    assert_eq!(station.report("a cut link", before).await, 0);
    assert!(station.moves("l3").await > moves, "the cut was not felt");
    place.mend();

    let (before, moves) = (station.begin(), station.moves("l1").await);
    let victim = station.parent_of("l1").await;
    assert_ne!(victim, "p");
    let place = station.net.find(&victim);
    place.stall();
    station
        .all_at("over the stall", encoder.sent() + BEYOND)
        .await;
    assert_eq!(
        station
            .report("a link that stalls without closing", before)
            .await,
        0
    );
    assert!(station.moves("l1").await > moves, "the stall was not felt");
    place.flow();

    // Listeners behind the link that is to be slow, wherever the faults before have brought everybody else.
    station.is_ready("m2").await;
    station.listen(&["m2"], 5).await;
    station.all_at("the beginning at m2", encoder.sent()).await;
    let before = station.begin();
    slow.set(200, 20);
    station
        .all_at("over the slow link", encoder.sent() + 2 * BEYOND)
        .await;
    assert_eq!(station.report("200 ms delay and 2 % loss", before).await, 0);

    assert_eq!(station.closed(), 0);
    for leaf in ["l1", "l2", "l3", "l4"] {
        let node = station.node(leaf);
        let (gap, moves) = (
            node.metric("relayctl_gap_bytes_total", "").await,
            node.metric("relayctl_failovers_total", "").await,
        );
        println!("{leaf}: {gap} bytes of gap, {moves} failovers");
        assert_eq!(gap, 0.0, "{leaf}");
        let mounts = api(node, "mounts").await;
        assert_eq!(mounts[0]["gap_bytes"], 0);
    }
    drop(encoder);
    station.compare().await;
}

#[tokio::test]
async fn the_primary_stops_dies_and_its_source_comes_and_goes() {
    let mut station = Station::start(HEAD).await;
    let encoder = Encoder::start(station.head(), 0).await;
    for name in ["m1", "m2", "l1", "l2"] {
        let place = station.net.place(name);
        let plan = Plan::relay_at(station.head(), &place).yaml("hold: 8s");
        station.add(plan, name).await;
    }
    station
        .wait_for("everybody is fed", |parents| parents.len() == 4)
        .await;
    station.listen(&["l1", "l2"], 10).await;
    station.all_at("the beginning", encoder.sent()).await;

    let before = station.begin();
    station.head().signal(Signal::STOP);
    // What is on the way when it stops is still heard; then nothing, for longer than a parent may be silent.
    within(LONG, "silence", async || {
        let mut silent = station.ears.iter().map(|ear| ear.heard.silence());
        silent
            .all(|silence| silence > Duration::from_secs(4))
            .then_some(())
    })
    .await;
    station.head().signal(Signal::CONT);
    station
        .all_at("over the stop", encoder.sent() + BEYOND)
        .await;
    assert_eq!(
        station
            .report("the primary stopped and continued", before)
            .await,
        0
    );
    assert_eq!(station.closed(), 0);
    // It blames nobody for the time that it was away itself.
    let events = api(station.head(), "events").await;
    let died = events.iter().filter(|event| event["kind"] == "died");
    assert_eq!(died.count(), 0, "{events:?}");

    let before = station.begin();
    let next = encoder.finish().await;
    let encoder = Encoder::start(station.head(), next).await;
    station
        .all_at("over the reconnect", encoder.sent() + BEYOND)
        .await;
    assert_eq!(
        station.report("source reconnect within hold", before).await,
        0
    );
    assert_eq!(station.closed(), 0);

    let before = station.begin();
    let head = station.nodes.remove("p").unwrap().again().await;
    station.nodes.insert("p", head);
    let next = encoder.sent();
    drop(encoder);
    let encoder = Encoder::start(station.head(), next).await;
    station
        .all_at("over the restart", encoder.sent() + BEYOND)
        .await;
    station
        .report("the primary killed and restarted", before)
        .await;
    assert_eq!(station.closed(), 0);

    let before = station.begin();
    encoder.finish().await;
    within(LONG, "the end after the hold", async || {
        (station.closed() == station.ears.len()).then_some(())
    })
    .await;
    station
        .report("source away for longer than hold", before)
        .await;
}
