//! Behind a trusted proxy every consumer of a client's address sees the client, and none the proxy: sessions, log, places,
//! rates, guesses, sources, picks by address, players that return.

use serde_json::Value;

use crate::harness::cluster::Cluster;
use crate::harness::eventually;
use crate::harness::node::{Node, Plan};
use crate::harness::peer::{Head, Peer};
use crate::harness::source::{Framing, Source, login, source_head};
use crate::harness::tone::{self, FRAME};

const MOUNT: &str = "/live.mp3";

const TRUSTED: &str = "trusted_proxies: 127.0.0.0/8";

/// Addresses of one client as proxies write them, and as every consumer must see them.
const FORWARDED: [(&str, &str); 5] = [
    ("192.0.2.7", "192.0.2.7"),
    ("192.0.2.7:4711", "192.0.2.7"),
    ("::ffff:192.0.2.7", "192.0.2.7"),
    ("2001:db8::7", "2001:db8::7"),
    ("[2001:db8::7]:4711", "2001:db8::7"),
];

/// A client of whom the proxy, which is this machine, says `client`; with the head of the answer.
async fn by_proxy(port: u16, client: &str, target: &str, more: &str) -> (Peer, Head) {
    let mut peer = Peer::connect(port).await;
    peer.send(format!(
        "GET {target} HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: {client}\r\n{more}\r\n"
    ))
    .await;
    let head = peer.head().await;
    (peer, head)
}

async fn trusting(more: &str) -> (Node, Source) {
    let node = Plan::primary()
        .yaml(&format!("{TRUSTED}\n{more}"))
        .start()
        .await;
    let source = Source::start(&node, MOUNT).await;
    (node, source)
}

#[tokio::test]
async fn sessions_and_the_access_log() {
    let (node, _source) = trusting("access_log:\n  format: json").await;
    for (written, address) in FORWARDED {
        let more = format!("User-Agent: {written}\r\n");
        let (mut peer, head) = by_proxy(node.port, written, MOUNT, &more).await;
        assert_eq!(head.status, 200);
        tone::run(&peer.exact(FRAME).await);
        let told: Value =
            serde_json::from_str(&node.asked(&["get", "listeners", "-o", "json"]).await).unwrap();
        let rows = told["listeners"].as_array().unwrap();
        let own = rows.iter().find(|row| row["user_agent"] == written);
        assert_eq!(own.expect("its session")["address"], address, "{written}");
        peer.reset();
        let line = eventually("its access line", async || {
            let printed = node.printed();
            let mut lines = printed.lines().skip(1);
            let line = lines.find(|line| line.contains(&format!("\"{written}\"")))?;
            Some(line.to_owned())
        })
        .await;
        assert!(line.contains(&format!("\"{address}\"")), "{line}");
    }
}

#[tokio::test]
async fn places_of_one_address() {
    let (node, _source) = trusting("limits:\n  address_listeners: 1").await;
    let (_first, head) = by_proxy(node.port, "192.0.2.7", MOUNT, "").await;
    assert_eq!(head.status, 200);
    for written in ["192.0.2.7", "::ffff:192.0.2.7", "192.0.2.7:80"] {
        let (_, head) = by_proxy(node.port, written, MOUNT, "").await;
        assert_eq!(head.status, 429, "{written}");
    }
    let (_other, head) = by_proxy(node.port, "192.0.2.8", MOUNT, "").await;
    assert_eq!(head.status, 200);
    // The proxy itself is a listener as well, and as such has a place of its own.
    let mut own = Peer::connect(node.port).await;
    own.send(format!("GET {MOUNT} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
        .await;
    assert_eq!(own.head().await.status, 200);
    node.refused("address-full", 3.0).await;
}

#[tokio::test]
async fn bursts_of_one_address() {
    let (node, _source) = trusting("limits:\n  address_joins: 1\n  address_burst: 1").await;
    let mut refused = 0;
    for n in 1..=40 {
        let (_, head) = by_proxy(node.port, "2001:db8::7", MOUNT, "").await;
        refused += u32::from(head.status == 429);
        let (_, head) = by_proxy(node.port, &format!("2001:db8:{n:x}::1"), MOUNT, "").await;
        assert_eq!(head.status, 200, "{n}");
    }
    println!("{refused} of 40 refused");
    assert!(refused > 0);
}

#[tokio::test]
async fn guesses() {
    let (node, _source) = trusting("").await;
    let wrong = login("admin", "wrong");
    eventually("its guesses are slowed", async || {
        let (_, head) = by_proxy(node.port, "192.0.2.7", "/admin/stats", &wrong).await;
        (head.status == 429).then_some(())
    })
    .await;
    // Another client of the same proxy, and the proxy itself, are asked for their password as ever.
    let (_, head) = by_proxy(node.port, "192.0.2.8", "/admin/stats", &wrong).await;
    assert_eq!(head.status, 401);
    let login = login("admin", &node.secret("admin-password"));
    let (_, head) = by_proxy(node.port, "192.0.2.9", "/admin/stats", &login).await;
    assert_eq!(head.status, 200);
    let events = node.asked(&["get", "events"]).await;
    assert!(events.contains("192.0.2.7"), "{events}");
    assert!(node.log().contains("client=192.0.2.7 "), "{}", node.log());
    assert!(!node.log().contains("client=127."), "{}", node.log());
}

#[tokio::test]
async fn sources() {
    let node = Plan::primary().yaml(TRUSTED).start().await;
    let mut peer = Peer::connect(node.port).await;
    let more =
        "X-Forwarded-For: 192.0.2.7\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n";
    let first = format!("PUT {MOUNT} HTTP/1.1");
    peer.send(source_head(&first, &node.source_password(), more))
        .await;
    assert_eq!(peer.head().await.status, 100);
    let _source = Source::over(peer, Framing::Chunked, 0);
    let mut login = login("admin", &node.secret("admin-password"));
    login += "Connection: close\r\n";
    eventually("its address is told", async || {
        let (mut peer, _) = by_proxy(node.port, "192.0.2.9", "/admin/stats", &login).await;
        let body = String::from_utf8_lossy(&peer.rest().await).into_owned();
        body.contains("<source_ip>192.0.2.7</source_ip>")
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn picks_by_address() {
    // The relays are on loopback: only who is there as well is sent to them.
    let primary = "trusted_proxies: 127.0.0.1\nstrategy: ip-hash";
    let cluster = Cluster::start_with(2, primary, "").await;
    let _source = Source::start(&cluster.primary, MOUNT).await;
    cluster.on_air(MOUNT).await;
    let sent_to = async |client: &str| {
        let (_, head) = by_proxy(cluster.primary.port, client, MOUNT, "").await;
        assert_eq!(head.status, 302, "{head:?}");
        let location = head.get("location").unwrap();
        location.split('?').next().unwrap().to_owned()
    };
    let mut nodes = std::collections::BTreeSet::new();
    for n in 0..32 {
        let client = format!("127.51.100.{n}");
        let node = sent_to(&client).await;
        assert_eq!(node, sent_to(&format!("::ffff:{client}")).await, "{client}");
        nodes.insert(node);
    }
    assert_eq!(nodes.len(), 2, "{nodes:?}");
}

#[tokio::test]
async fn players_that_return() {
    let (node, _source) = trusting("").await;
    let session = "X-Playback-Session-Id: 4711-ABC\r\n";
    let (mut first, _) = by_proxy(node.port, "192.0.2.7", MOUNT, session).await;
    tone::run(&first.exact(2 * FRAME).await);
    // The same word of another client ends nothing.
    let (mut stranger, _) = by_proxy(node.port, "192.0.2.8", MOUNT, session).await;
    tone::run(&stranger.exact(2 * FRAME).await);
    tone::run(&first.exact(20 * FRAME).await);
    let (mut again, _) = by_proxy(node.port, "192.0.2.7:99", MOUNT, session).await;
    tone::run(&again.exact(2 * FRAME).await);
    first.rest().await;
    tone::run(&stranger.exact(20 * FRAME).await);
}
