//! Series end when their mount or node is gone for `forget`, on every node.

use crate::harness::address;
use crate::harness::cluster::{Cluster, follow};
use crate::harness::eventually;
use crate::harness::node::Node;
use crate::harness::source::{Source, on_air};
use crate::harness::tone::{self, FRAME};

/// A line of `/metrics` that names `label`, if there is one.
async fn line_of(node: &Node, label: &str) -> Option<String> {
    let (_, text) = node.get("/metrics").await;
    text.lines()
        .find(|line| line.contains(label))
        .map(str::to_owned)
}

/// Waits until no series of these nodes has the label any more.
async fn ends(nodes: &[&Node], label: &str) {
    for node in nodes {
        eventually(&format!("no series has {label}"), async || {
            line_of(node, label).await.is_none().then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_mount_that_is_gone_is_forgotten() {
    let settings = "hold: 1s\nforget: 1s";
    let cluster = Cluster::start_with(1, settings, settings).await;
    let (primary, relay) = (&cluster.primary, &cluster.relays[0]);
    let _stays = Source::start(primary, "/stays.mp3").await;
    let goes = Source::start(primary, "/goes.mp3").await;
    cluster.on_air("/stays.mp3").await;
    cluster.on_air("/goes.mp3").await;
    let mut guest = follow(address(1), primary.port, "/goes.mp3", "").await;
    tone::run(&guest.peer.exact(50 * FRAME).await);
    for node in [primary, relay] {
        assert!(line_of(node, "mount=\"/goes.mp3\"").await.is_some());
    }
    goes.finish().await;
    guest.peer.rest().await;
    ends(&[primary, relay], "/goes.mp3\"").await;
    for node in [primary, relay] {
        assert!(line_of(node, "mount=\"/stays.mp3\"").await.is_some());
    }
    // Sums over the node do not fall, and the mount may come again.
    let (_, health) = primary.get("/health").await;
    assert!(health.contains("\"source\":\"live\""), "{health}");
    let _again = Source::start(primary, "/goes.mp3").await;
    on_air(relay.port, "/goes.mp3").await;
    let mut guest = follow(address(1), primary.port, "/goes.mp3", "").await;
    tone::run(&guest.peer.exact(50 * FRAME).await);
}

#[tokio::test]
async fn a_mount_with_a_listener_is_not_forgotten() {
    let cluster = Cluster::start_with(
        0,
        "hold: 1s\nforget: 1s\nmounts:\n  - {path: /a.mp3, fallback: /b.mp3}",
        "",
    )
    .await;
    let primary = &cluster.primary;
    let own = Source::start(primary, "/a.mp3").await;
    let _other = Source::start(primary, "/b.mp3").await;
    let mut guest = follow(address(1), primary.port, "/a.mp3", "").await;
    own.finish().await;
    eventually("the listener hears the fallback", async || {
        guest.peer.exact(FRAME).await;
        let moves = primary.metric(
            "relayctl_fallback_moves_total",
            "mount=\"/a.mp3\",action=\"away\"",
        );
        (moves.await == 1.0).then_some(())
    })
    .await;
    // A mount that went later is forgotten, and this one is not.
    Source::start(primary, "/c.mp3").await.finish().await;
    ends(&[primary], "/c.mp3\"").await;
    let sessions = "relayctl_sessions_total";
    assert_eq!(primary.metric(sessions, "mount=\"/a.mp3\"").await, 1.0);
    drop(guest);
    ends(&[primary], "mount=\"/a.mp3\"}").await;
}

#[tokio::test]
async fn a_node_that_is_gone_is_forgotten() {
    let mut cluster = Cluster::start_with(2, "forget: 1s", "").await;
    let _source = Source::start(&cluster.primary, "/live.mp3").await;
    cluster.on_air("/live.mp3").await;
    let mut guests = Vec::new();
    for n in 1..=4 {
        guests.push(follow(address(n), cluster.primary.port, "/live.mp3", "").await);
    }
    let picks = "relayctl_picks_total{node=\"relay-0\"";
    assert!(line_of(&cluster.primary, picks).await.is_some());
    cluster.relays[0].kill();
    ends(&[&cluster.primary], "node=\"relay-0\"").await;
    let picks = "relayctl_picks_total{node=\"relay-1\"";
    assert!(line_of(&cluster.primary, picks).await.is_some());
    ends(&[&cluster.relays[1]], "node=\"relay-0\"").await;
}
