//! Clients that ask and never read.

use crate::harness::node::{Node, Plan};
use crate::harness::peer::Peer;
use crate::harness::under_attack::{UnderAttack, descriptors};
use crate::harness::within;

/// Ten seconds of no progress, and the machine's own pace.
const GONE: std::time::Duration = std::time::Duration::from_secs(100);

/// So many of the same request at once, on a connection that takes as little as there can be.
async fn pipelined(node: &Node, path: &str, times: usize) -> Peer {
    let mut peer = Peer::connect_narrow(node.port).await;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    peer.push(request.repeat(times).as_bytes());
    peer
}

#[tokio::test]
async fn two_hundred_that_pipeline_and_never_read_are_gone() {
    let scene = UnderAttack::primary(Plan::primary()).await;
    let before = descriptors(scene.node.pid());
    let mut peers = Vec::new();
    for _ in 0..100 {
        peers.push(pipelined(&scene.node, "/api/v1/openapi.json", 170).await);
        peers.push(pipelined(&scene.node, "/", 250).await);
    }
    within(GONE, "clients that never read are gone", async || {
        let slow = scene
            .node
            .metric("relayctl_refusals_total", "reason=\"slow_answer\"")
            .await;
        let crowded = scene
            .node
            .metric(
                "relayctl_refusals_total",
                "reason=\"connections_per_address\"",
            )
            .await;
        (slow >= 32.0 && slow + crowded >= 150.0 && descriptors(scene.node.pid()) < before + 20)
            .then_some(())
    })
    .await;
    drop(peers);
    let (_, report) = scene.finish("200 that pipeline and never read").await;
    assert!(report.peak_mib < report.first_mib + 64, "{report:?}");
}
