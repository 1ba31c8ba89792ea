//! Bodies that never come, with and without a credential.

use crate::harness::node::{Node, Plan};
use crate::harness::peer::Peer;
use crate::harness::under_attack::UnderAttack;
use crate::harness::{address, eventually};

/// A megabyte is announced; what follows the head never ends it.
fn head(path: &str, bearer: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {bearer}\r\n\
         Content-Type: application/json\r\nContent-Length: 1048576\r\n\r\n"
    )
}

/// Almost all of that megabyte.
fn unfinished() -> Vec<u8> {
    let mut body = b"{\"v\":1,\"id\":\"".to_vec();
    body.resize((1 << 20) - 16, b'a');
    body
}

/// Unfinished bodies to `paths` in turn by the same bearer; those whose connection was not closed at once.
async fn attack(node: &Node, paths: &[&str], bearer: &str, count: usize) -> Vec<Peer> {
    let body = unfinished();
    let mut peers = Vec::new();
    for (n, path) in (0..count).zip(paths.iter().cycle()) {
        let mut peer = Peer::connect(node.port).await;
        let _ = peer.try_send(head(path, bearer).as_bytes()).await;
        // As much as is taken at once: nobody reads the rest where the bearer is wrong.
        peer.push(&body);
        if n % 100 == 0 {
            peers.iter_mut().for_each(Peer::go_on);
        }
        peers.push(peer);
    }
    peers
}

const PATHS: [&str; 4] = [
    "/cluster/v1/join",
    "/cluster/v1/beat",
    "/api/v1/tokens",
    "/api/v1/nodes/x/drain",
];

#[tokio::test]
async fn fifteen_hundred_bodies_without_a_credential_cost_nothing() {
    let scene = UnderAttack::primary(Plan::primary()).await;
    let peers = attack(&scene.node, &PATHS, "nobody", 1500).await;
    // Each was told so and let go: 401, and 429 once the guesses of this address are delayed.
    let mut refused = 0;
    for mut peer in peers {
        let said = String::from_utf8_lossy(&peer.rest().await).into_owned();
        // A reset may take the answer with it: the client sent on what nobody reads.
        refused += usize::from(said.starts_with("HTTP/1.1 4"));
    }
    assert!(refused > 1000, "{refused} of 1500 were told 401 or 429");
    let (_, report) = scene.finish("1,500 unfinished bodies of strangers").await;
    assert!(report.peak_mib < report.first_mib + 48, "{report:?}");
}

#[tokio::test]
async fn bodies_with_a_join_token_are_bounded_in_all() {
    let scene = UnderAttack::primary(Plan::primary()).await;
    let token = scene.node.secret("join-token");
    let _peers = attack(&scene.node, &PATHS[..1], &token, 1500).await;
    // The budget of bytes and the bound of the address both bear on them.
    eventually("most of them have gone", async || {
        let mut gone = 0.0;
        for reason in ["connections_per_address", "pending_bytes"] {
            let labels = format!("reason=\"{reason}\"");
            gone += scene.node.metric("relayctl_refusals_total", &labels).await;
        }
        (gone >= 1000.0).then_some(())
    })
    .await;
    let pending = scene.node.metric("relayctl_pending_bytes", "").await;
    assert!(pending <= 33_554_432.0, "{pending}");
    let (_, report) = scene.finish("1,500 unfinished joins with a token").await;
    assert!(report.peak_mib < report.first_mib + 160, "{report:?}");
}

#[tokio::test]
async fn from_many_addresses_the_budget_of_bytes_holds() {
    let scene = UnderAttack::primary(Plan::primary()).await;
    let token = scene.node.secret("join-token");
    let (body, head) = (unfinished(), head("/cluster/v1/join", &token));
    let mut peers = Vec::new();
    for n in 0..300 {
        let mut peer = Peer::connect_from(address(n), scene.node.port).await;
        let _ = peer.try_send(head.as_bytes()).await;
        peer.push(&body);
        peers.push(peer);
    }
    eventually("bodies give way to the budget", async || {
        peers.iter_mut().for_each(|peer| peer.go_on());
        let labels = "reason=\"pending_bytes\"";
        let gone = scene.node.metric("relayctl_refusals_total", labels).await;
        let pending = scene.node.metric("relayctl_pending_bytes", "").await;
        assert!(pending <= 33_554_432.0, "{pending}");
        (gone >= 100.0).then_some(())
    })
    .await;
    let (_, report) = scene
        .finish("300 unfinished joins from 300 addresses")
        .await;
    assert!(report.peak_mib < report.first_mib + 96, "{report:?}");
}

#[tokio::test]
async fn a_node_of_half_a_gigabyte_lives() {
    let node = Plan::primary().start().await;
    let pid = rustix::process::Pid::from_raw(node.pid()).unwrap();
    let data = rustix::process::Rlimit {
        current: Some(512 << 20),
        maximum: Some(512 << 20),
    };
    rustix::process::prlimit(Some(pid), rustix::process::Resource::Data, data).unwrap();
    let source =
        crate::harness::source::Source::start(&node, crate::harness::under_attack::MOUNT).await;
    let scene = UnderAttack::of(node, Some(source)).await;
    let _strangers = attack(&scene.node, &PATHS, "nobody", 1500).await;
    let token = scene.node.secret("join-token");
    let _joiners = attack(&scene.node, &PATHS[..1], &token, 500).await;
    let (_, report) = scene
        .finish("2,000 unfinished bodies, 512 MiB of data")
        .await;
    assert!(report.peak_mib < 256, "{report:?}");
}

#[tokio::test]
async fn credentials_are_judged_before_any_byte_of_a_body() {
    let node = Plan::primary().start().await;
    for path in PATHS {
        for (method, framing) in [
            ("POST", "Content-Length: 1048576"),
            ("POST", "Transfer-Encoding: chunked"),
            ("POST", "Content-Length: 5\r\nExpect: 100-continue"),
            ("PUT", "Content-Length: 1048576"),
        ] {
            if method == "PUT" && path.starts_with("/cluster/") {
                continue;
            }
            let mut peer = Peer::connect(node.port).await;
            let request = format!(
                "{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer wrong\r\n\
                 Content-Type: application/json\r\n{framing}\r\n\r\n"
            );
            peer.send(request).await;
            let head = peer.head().await;
            // The later ones are delayed as guesses, which is judged before the body as well.
            let expected: &[u16] = if method == "PUT" { &[405] } else { &[401, 429] };
            let status = head.status;
            assert!(
                expected.contains(&status),
                "{status} {method} {path} {framing}"
            );
            // And nothing is kept open for what might still come.
            let body = peer.rest().await;
            assert!(!body.starts_with(b"HTTP/1.1"), "{method} {path} {framing}");
        }
    }
    // A body where none is expected is nobody's, and ends the connection with its answer.
    let mut peer = Peer::connect(node.port).await;
    peer.send(
        "GET /status-json.xsl HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1048576\r\n\r\n{",
    )
    .await;
    assert_eq!(peer.head().await.status, 200);
    peer.rest().await;
}

#[tokio::test]
async fn a_slow_body_is_408() {
    let scene = UnderAttack::primary(Plan::primary()).await;
    let token = scene.node.secret("join-token");
    let mut peer = Peer::connect(scene.node.port).await;
    peer.send(head("/cluster/v1/join", &token)).await;
    peer.send("{").await;
    assert_eq!(peer.head().await.status, 408);
    scene.node.refused("slow_body", 1.0).await;
    scene.finish("a body of one byte").await;
}
