//! The primary dies: its relays play on, and it has everything back when it returns.

use std::time::Instant;

use crate::harness::cluster::{Cluster, follow};
use crate::harness::peer::Peer;
use crate::harness::source::{Source, listen};
use crate::harness::tone::{self, FRAME};
use crate::harness::{address, eventually};

const MOUNT: &str = "/live.mp3";

#[tokio::test]
async fn relays_play_on_without_their_primary_and_are_back_in_its_table() {
    let mut cluster = Cluster::start(3).await;
    let source = Source::start(&cluster.primary, MOUNT).await;
    cluster.on_air(MOUNT).await;
    let mut guests = Vec::new();
    for n in 0..6 {
        guests.push(follow(address(n), cluster.primary.port, MOUNT, "").await);
    }
    for guest in &mut guests {
        tone::run(&guest.peer.exact(100 * FRAME).await);
    }
    cluster.primary.kill();
    drop(source);
    // Who comes to a relay now is served from what it has.
    for relay in &cluster.relays {
        let (mut newcomer, _) = listen(relay.port, MOUNT).await;
        tone::run(&newcomer.exact(100 * FRAME).await);
        assert_eq!(relay.get("/health").await.0.status, 200);
    }
    let begin = Instant::now();
    let Cluster { relays, primary } = cluster;
    let primary = primary.again().await;
    let ready = begin.elapsed();
    let cluster = Cluster { relays, primary };
    eventually("the table is whole again", async || {
        let rows = cluster.table().await;
        let relays = rows
            .iter()
            .filter(|row| row["role"] == "relay" && row["state"] == "ready");
        let listeners: Vec<u64> = relays.filter_map(|row| row["listeners"].as_u64()).collect();
        (listeners == [2, 2, 2]).then_some(())
    })
    .await;
    println!(
        "ready after {:.2} s, whole after {:.2} s",
        ready.as_secs_f64(),
        begin.elapsed().as_secs_f64()
    );
    // A source of the same kind: those who stayed hear it, from its first frame on.
    let _source = Source::start_at(&cluster.primary, MOUNT, 2_000_000).await;
    for guest in &mut guests {
        let mut before = 0;
        eventually("the new source is heard", async || {
            let run = tone::run(&guest.peer.exact(FRAME).await);
            if run.first < 2_000_000 {
                before += 1;
                return None;
            }
            assert_eq!(run.first, 2_000_000, "the beginning was lost");
            Some(())
        })
        .await;
        let more = guest.peer.exact(50 * FRAME).await;
        assert_eq!(
            tone::run(&more).first,
            2_000_001,
            "after {before} frames of the old one"
        );
    }
}

#[tokio::test]
async fn a_relay_that_was_killed_gets_nobody() {
    let mut cluster = Cluster::start(3).await;
    let _source = Source::start(&cluster.primary, MOUNT).await;
    cluster.on_air(MOUNT).await;
    let dead = cluster.relays.remove(0);
    let port = dead.port;
    drop_hard(dead);
    eventually("it is out of the pool", async || {
        let rows = cluster.table().await;
        let row = rows.iter().find(|row| row["name"] == "relay-0")?;
        (row["state"] != "ready").then_some(())
    })
    .await;
    for n in 0..12 {
        let mut guest = follow(address(n), cluster.primary.port, MOUNT, "").await;
        assert_ne!(guest.port, port);
        tone::run(&guest.peer.exact(FRAME).await);
    }
}

fn drop_hard(mut node: crate::harness::node::Node) {
    node.kill();
}

/// With the primary dead its relays route by the table that they have: one that is well serves whoever comes, one that
/// is forced to reflect sends newcomers to another that answers a connect, and not to one that died meanwhile.
#[tokio::test]
async fn any_relay_routes_any_listener_while_the_primary_is_down() {
    let mut cluster = Cluster::start(3).await;
    let _source = Source::start(&cluster.primary, MOUNT).await;
    cluster.on_air(MOUNT).await;
    cluster.primary.asked(&["reflect", "relay-0", "on"]).await;
    let reflecting = cluster.relays[0].port;
    eventually("the relay sends newcomers elsewhere", async || {
        let guest = follow(address(1), reflecting, MOUNT, "").await;
        (guest.port != reflecting).then_some(())
    })
    .await;
    cluster.primary.kill();
    drop_hard(cluster.relays.remove(1));
    let well = cluster.relays[1].port;
    let begin = Instant::now();
    // Until the primary is known to be dead (10 s) its last table is believed.
    eventually("newcomers are sent to the one that answers", async || {
        for n in 2..8 {
            let mut peer = Peer::connect_from(address(n), reflecting).await;
            peer.send(format!(
                "GET {MOUNT} HTTP/1.1\r\nHost: 127.0.0.1:{reflecting}\r\n\r\n"
            ))
            .await;
            let head = peer.head().await;
            assert_eq!(head.status, 302, "{head:?}");
            let location = head.get("location")?;
            if !location.starts_with(&format!("http://127.0.0.1:{well}/")) {
                return None;
            }
        }
        Some(())
    })
    .await;
    println!(
        "only to the living after {:.2} s",
        begin.elapsed().as_secs_f64()
    );
    let mut guest = follow(address(9), reflecting, MOUNT, "").await;
    assert_eq!(guest.port, well);
    tone::run(&guest.peer.exact(50 * FRAME).await);
    let (mut direct, head) = listen(well, MOUNT).await;
    assert_eq!(head.get("x-relayctl-node"), Some("relay-2"));
    tone::run(&direct.exact(50 * FRAME).await);
}
