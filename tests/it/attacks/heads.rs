//! Heads that never end, from one address.

use crate::harness::node::Plan;
use crate::harness::peer::Peer;
use crate::harness::under_attack::UnderAttack;

#[tokio::test]
async fn two_thousand_unfinished_heads() {
    let scene = UnderAttack::primary(Plan::primary()).await;
    let mut peers = Vec::new();
    for _ in 0..2000 {
        let mut peer = Peer::connect(scene.node.port).await;
        // One that was evicted while others came is what the scene is about.
        let _ = peer.try_send(b"GET /live.mp3 HTTP/1.1\r\nHost: l").await;
        peers.push(peer);
    }
    scene.node.refused("heads_per_address", 1000.0).await;
    let (_, report) = scene.finish("2,000 unfinished heads").await;
    // All of them at once where they come within the grace, some 33 KiB each in a debug build.
    assert!(report.peak_mib < report.first_mib + 144, "{report:?}");
}
