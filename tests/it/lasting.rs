//! What an operator wants and watches lasts over restarts, and what a cluster does when its head is drained or all are
//! over their limit.

use crate::harness::cluster::{Cluster, follow};
use crate::harness::node::Node;
use crate::harness::peer::{Head, Peer};
use crate::harness::program::Program;
use crate::harness::source::Source;
use crate::harness::tone::{self, FRAME};
use crate::harness::{address, eventually};

const MOUNT: &str = "/live.mp3";

/// Waits until the table names that parent of a relay.
async fn has_parent(cluster: &Cluster, name: &str, parent: &str) {
    eventually("the parent", async || {
        let rows = cluster.table().await;
        let row = rows.iter().find(|row| row["name"] == name)?;
        (row["parent"] == parent).then_some(())
    })
    .await;
}

/// What a newcomer is told at once.
async fn ask(node: &Node, n: u16) -> Head {
    let mut peer = Peer::connect_from(address(n), node.port).await;
    peer.send(format!("GET {MOUNT} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"))
        .await;
    peer.head().await
}

#[tokio::test]
async fn a_watch_is_told_at_once_and_goes_on_over_a_restart() {
    let mut cluster = Cluster::start(0).await;
    let words = ["get", "events", "--watch", "-o", "json"];
    let mut watch = Program::start(cluster.primary.words(&words));
    let source = Source::start(&cluster.primary, MOUNT).await;
    eventually("the source is told of", async || {
        watch.stdout().contains("\"source_up\"").then_some(())
    })
    .await;
    drop(source);
    cluster.primary = cluster.primary.again().await;
    let _source = Source::start(&cluster.primary, "/second.mp3").await;
    eventually("the new process' events", async || {
        assert_eq!(watch.status(), None, "{}", watch.stderr());
        watch.stdout().contains("/second.mp3").then_some(())
    })
    .await;
    // Every event stands there once.
    let text = watch.stdout();
    let ids: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["id"].clone())
        .collect();
    let mut once = ids.clone();
    once.sort_by_key(ToString::to_string);
    once.dedup();
    assert_eq!(once.len(), ids.len(), "{text}");
    watch.kill();
}

#[tokio::test]
async fn the_word_on_a_parent_outlives_the_primary_and_then_the_relay() {
    let mut cluster = Cluster::start(2).await;
    let source = Source::start(&cluster.primary, MOUNT).await;
    cluster.on_air(MOUNT).await;
    has_parent(&cluster, "relay-1", "head").await;
    let words = ["reparent", "relay-1", "--to", "relay-0"];
    cluster.primary.asked(&words).await;
    has_parent(&cluster, "relay-1", "relay-0").await;
    drop(source);
    cluster.primary = cluster.primary.again().await;
    let _source = Source::start(&cluster.primary, MOUNT).await;
    has_parent(&cluster, "relay-1", "relay-0").await;
    // Only the primary can tell the new process: by the rule it would pull from the head.
    let relay = cluster.relays.remove(1).again().await;
    cluster.relays.push(relay);
    has_parent(&cluster, "relay-1", "relay-0").await;
    assert_eq!(cluster.relays.len(), 2);
}

#[tokio::test]
async fn a_drained_primary_keeps_its_source_and_listeners_and_sends_newcomers_on() {
    let cluster = Cluster::start_with(1, "serve: always", "").await;
    let primary = &cluster.primary;
    let _source = Source::start(primary, MOUNT).await;
    cluster.on_air(MOUNT).await;
    let mut guest = follow(address(1), primary.port, MOUNT, "").await;
    assert_eq!(guest.port, primary.port);
    primary.asked(&["drain", "head"]).await;
    assert_eq!(primary.get("/readyz").await.0.status, 503);
    assert_eq!(primary.get("/healthz").await.0.status, 200);
    let mut newcomer = follow(address(2), primary.port, MOUNT, "").await;
    assert_eq!(newcomer.port, cluster.relays[0].port, "it is sent on");
    // The relay is fed by the drained head, and its own listener hears on.
    for guest in [&mut guest, &mut newcomer] {
        tone::run(&guest.peer.exact(200 * FRAME).await);
    }
    assert_eq!(primary.metric("relayctl_source_up", "").await, 1.0);
    primary.asked(&["resume", "head"]).await;
    assert_eq!(primary.get("/readyz").await.0.status, 200);
    let back = follow(address(3), primary.port, MOUNT, "").await;
    assert_eq!(back.port, primary.port);
}

#[tokio::test]
async fn where_all_are_over_their_limit_everybody_is_told_when_to_come_back() {
    let cluster = Cluster::start_with(3, "serve: never", "").await;
    let _source = Source::start(&cluster.primary, MOUNT).await;
    cluster.on_air(MOUNT).await;
    for name in ["relay-0", "relay-1", "relay-2"] {
        cluster.primary.asked(&["reflect", name, "on"]).await;
    }
    let mut n = 10;
    for node in cluster.relays.iter().chain([&cluster.primary]) {
        eventually("refused, and never in a circle", async || {
            n += 1;
            let head = ask(node, n).await;
            // Until the word is everywhere one may still be sent to another.
            (head.status == 503).then(|| {
                let after: u32 = head.get("retry-after").unwrap().parse().unwrap();
                assert!((5..=15).contains(&after), "{after}");
            })
        })
        .await;
    }
}
