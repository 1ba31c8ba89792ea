//! The same attacks by TLS: deadlines and places hold below it.

use crate::harness::node::Plan;
use crate::harness::peer::Peer;
use crate::harness::source::Source;
use crate::harness::tls::Certificate;
use crate::harness::under_attack::{MOUNT, UnderAttack};

/// The beginning of a hello of 512 bytes.
const HALF_HELLO: [u8; 11] = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];

#[tokio::test]
async fn half_hellos_slow_bodies_and_clients_that_never_read() {
    let certificate = Certificate::new();
    let node = Plan::primary().yaml(&certificate.yaml()).start().await;
    let source = Source::start(&node, MOUNT).await;
    let scene = UnderAttack::of(node, Some(source)).await;
    let mut peers = Vec::new();
    for _ in 0..500 {
        let mut peer = Peer::connect(scene.node.port).await;
        let _ = peer.try_send(&HALF_HELLO).await;
        peers.push(peer);
    }
    scene.node.refused("heads_per_address", 400.0).await;
    peers.clear();
    let tunnel = certificate.tunnel(scene.node.port).await;
    let token = scene.node.secret("join-token");
    let mut slow = Peer::connect(tunnel).await;
    let head = format!(
        "POST /cluster/v1/join HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{{"
    );
    slow.send(head).await;
    for _ in 0..20 {
        let mut peer = Peer::connect_narrow(tunnel).await;
        let request = "GET /api/v1/openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n";
        peer.push(request.repeat(500).as_bytes());
        peers.push(peer);
    }
    assert_eq!(slow.head().await.status, 408);
    scene.node.refused("slow_body", 1.0).await;
    scene.node.refused("slow_answer", 20.0).await;
    let name = "500 half hellos, a slow body and 20 that never read, by TLS";
    let (_, report) = scene.finish(name).await;
    assert!(report.peak_mib < report.first_mib + 96, "{report:?}");
}
