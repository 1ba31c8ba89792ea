//! A bug that a stranger finds: it ends the stranger's connection, or the process that cannot live without what broke.
//!
//! The binary under test panics where `RCTL_DRILL` says so; a release has no such place.

use serde_json::Value;

use crate::harness::cluster::api;
use crate::harness::eventually;
use crate::harness::node::Plan;
use crate::harness::peer::Peer;
use crate::harness::source::Source;
use crate::harness::under_attack::UnderAttack;

/// Connections that meet the bug.
const STRANGERS: usize = 100;

#[tokio::test]
async fn a_panic_in_the_task_of_a_connection_ends_that_connection() {
    let scene = UnderAttack::primary(Plan::primary().variable("RCTL_DRILL", "/api/v1/drill")).await;
    for _ in 0..STRANGERS {
        let mut peer = Peer::connect(scene.node.port).await;
        peer.send("GET /api/v1/drill HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .await;
        assert_eq!(peer.rest().await, b"", "it is closed without an answer");
    }
    let panics = scene
        .node
        .metric("relayctl_panics_total", "reason=\"connection\"")
        .await;
    assert_eq!(panics, STRANGERS as f64);
    eventually("it is an event", async || {
        let events = api(&scene.node, "events").await;
        let is_told = |event: &Value| {
            event["kind"] == "panicked"
                && event["why"]
                    .as_str()
                    .unwrap()
                    .contains("drill of `/api/v1/drill`")
        };
        events.iter().any(is_told).then_some(())
    })
    .await;
    let log = scene.node.log();
    let lines = log.matches("what one connection met ended it").count();
    assert!((1..=20).contains(&lines), "{lines} lines: {log}");
    scene.finish("100 connections that meet a bug").await;
}

/// A node that loses this part; its log.
async fn ends(part: &str, plan: Plan) -> String {
    let plan = plan.variable("RCTL_DRILL", part);
    let mut program = plan.spawn();
    let status = program.ended().await;
    let log = program.stderr();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains(&format!("drill of `{part}`")), "{log}");
    assert!(
        log.contains("this node cannot live without a part that panicked, and ends"),
        "{log}"
    );
    log
}

#[tokio::test]
async fn a_node_that_has_lost_a_part_ends() {
    let tick = ends("tick", Plan::primary()).await;
    assert!(tick.contains("ERROR"), "{tick}");
    let front = ends("front", Plan::primary()).await;
    assert!(
        front.contains("thread=\"front\"") || front.contains("thread=front"),
        "{front}"
    );
    ends("disk", Plan::primary()).await;
    let primary = Plan::primary().start().await;
    ends("member", Plan::relay(&primary)).await;
}

#[tokio::test]
async fn a_shard_that_panics_ends_the_node_and_its_listeners_see_the_end() {
    let mut node = Plan::primary()
        .variable("RCTL_DRILL", "shard")
        .start()
        .await;
    let _source = Source::start(&node, "/live.mp3").await;
    let mut peer = Peer::connect(node.port).await;
    peer.send("GET /live.mp3 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await;
    // Whatever came, the connection ends.
    peer.rest().await;
    let status = node.ended().await;
    assert_eq!(status.code(), Some(1), "{}", node.log());
    assert!(node.log().contains("fanout-"), "{}", node.log());
}
