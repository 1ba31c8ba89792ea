//! The primary dies: its relays play on, and it has everything back when it returns.

use std::time::Instant;

use crate::harness::cluster::{Cluster, follow};
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
