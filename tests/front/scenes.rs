//! The same scenes through each proxy.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::cluster::{Cluster, api};
use crate::harness::node::Node;
use crate::harness::own_paths::{CLOSED, OPEN, is_forwarded};
use crate::harness::peer::{Peer, ask};
use crate::harness::source::{Framing, Source, login, off_air, on_air, source_head};
use crate::harness::tone::{self, FRAME};
use crate::harness::{address, eventually, within};
use crate::proxy::{Kind, Proxy};

const MOUNT: &str = "/live.mp3";

const TRUSTED: &str = "trusted_proxies: [127.0.0.1/32]\nhold: 1s";

async fn cluster(settings: &str) -> Cluster {
    Cluster::start_with(2, settings, settings).await
}

/// A listener from `from` through the proxy, with its head read.
async fn listener(from: IpAddr, proxy: &Proxy) -> Peer {
    on_air(proxy.listeners, MOUNT).await;
    let mut peer = Peer::connect_from(from, proxy.listeners).await;
    peer.send(format!("GET {MOUNT} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
        .await;
    let head = peer.head().await;
    assert_eq!(head.status, 200, "{head:?}");
    assert_eq!(head.get("transfer-encoding"), None, "{head:?}");
    assert_eq!(head.get("content-length"), None, "{head:?}");
    peer
}

/// A source from `from` through the proxy's TCP side.
async fn source(first: &str, from: IpAddr, proxy: &Proxy, primary: &Node) -> Source {
    let mut peer = Peer::connect_from(from, proxy.sources).await;
    peer.send(source_head(first, &primary.source_password(), ""))
        .await;
    assert_eq!(peer.head().await.status, 200, "{first}");
    Source::over(peer, Framing::Raw, 0)
}

/// Where the primary says that the source comes from.
async fn source_address(primary: &Node) -> String {
    let login = login("admin", &primary.secret("admin-password"));
    eventually("the source's address is told", async || {
        let (_, body) = ask(
            primary.port,
            format!("GET /admin/stats HTTP/1.0\r\n{login}\r\n"),
        )
        .await;
        let (_, rest) = body.split_once("<source_ip>")?;
        Some(rest.split_once('<')?.0.to_owned())
    })
    .await
}

/// The rows of all listeners.
async fn listeners(primary: &Node) -> Vec<Value> {
    api(primary, "listeners").await
}

/// The files as they are, and longer than their 75 s.
async fn ninety_seconds_pass(kind: Kind) {
    plays(kind, "75s", Duration::from_secs(90)).await;
}

async fn a_stream_outlives_every_timeout(kind: Kind) {
    plays(kind, "4s", Duration::from_secs(15)).await;
}

/// A source by the TCP side and a listener by the other, both in one connection all the time.
async fn plays(kind: Kind, patience: &str, time: Duration) {
    let cluster = cluster("trusted_proxies: [127.0.0.1/32]").await;
    let proxy = Proxy::start_with(kind, &cluster, patience).await;
    let _source = source(
        "SOURCE /live.mp3 ICE/1.0",
        address(1),
        &proxy,
        &cluster.primary,
    )
    .await;
    let mut guest = listener(address(2), &proxy).await;
    let mut heard = guest.exact(FRAME).await;
    let begin = Instant::now();
    within(time * 3, "the time that it is to play", async || {
        heard.extend(guest.pending());
        (begin.elapsed() > time).then_some(())
    })
    .await;
    heard.extend(guest.exact(FRAME).await);
    // 41 frames a second as it plays; the tone's source is faster.
    let frames = tone::run(&heard).count;
    assert!(frames > time.as_secs() * 41, "{frames} frames");
    println!(
        "{kind:?}: {frames} frames without a gap in {:?}",
        begin.elapsed()
    );
}

async fn both_sides_keep_the_clients_address(kind: Kind) {
    let cluster = cluster(TRUSTED).await;
    let proxy = Proxy::start(kind, &cluster).await;
    let (studio, home) = (address(11), address(12));
    let source = source("PUT /live.mp3 HTTP/1.1", studio, &proxy, &cluster.primary).await;
    assert_eq!(source_address(&cluster.primary).await, studio.to_string());
    let mut guest = listener(home, &proxy).await;
    tone::run(&guest.exact(20 * FRAME).await);
    let rows = listeners(&cluster.primary).await;
    let addresses: Vec<&Value> = rows.iter().map(|row| &row["address"]).collect();
    assert_eq!(addresses, [&Value::from(home.to_string())], "{rows:?}");
    // A client cannot say it is somebody else.
    let mut liar = Peer::connect_from(address(13), proxy.listeners).await;
    liar.send(format!(
        "GET {MOUNT} HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 203.0.113.9\r\n\r\n"
    ))
    .await;
    assert_eq!(liar.head().await.status, 200);
    let rows = listeners(&cluster.primary).await;
    let told = |wanted: IpAddr| rows.iter().any(|row| row["address"] == wanted.to_string());
    assert!(
        rows.len() == 2 && told(home) && told(address(13)),
        "{rows:?}"
    );
    source.finish().await;
}

async fn without_trust_the_proxy_is_the_client(kind: Kind) {
    let cluster = cluster("").await;
    let proxy = Proxy::start(kind, &cluster).await;
    let mut peer = Peer::connect_from(address(21), proxy.sources).await;
    peer.send(source_head(
        "PUT /live.mp3 HTTP/1.1",
        &cluster.primary.source_password(),
        "",
    ))
    .await;
    // The PROXY header is no request from somebody who is not believed.
    let answer = String::from_utf8_lossy(&peer.rest().await).into_owned();
    assert!(!answer.contains(" 200 "), "{answer}");
    let _source = Source::start(&cluster.primary, MOUNT).await;
    let _guest = listener(address(22), &proxy).await;
    let rows = listeners(&cluster.primary).await;
    assert_eq!(
        (rows.len(), &rows[0]["address"]),
        (1, &"127.0.0.1".into()),
        "{rows:?}"
    );
}

async fn every_kind_of_source_passes(kind: Kind) {
    let cluster = cluster(TRUSTED).await;
    let proxy = Proxy::start(kind, &cluster).await;
    let primary = &cluster.primary;
    for first in [
        "SOURCE /live.mp3 HTTP/1.0",
        "SOURCE /live.mp3 ICE/1.0",
        "PUT /live.mp3 HTTP/1.1",
    ] {
        let source = source(first, address(31), &proxy, primary).await;
        on_air(proxy.listeners, MOUNT).await;
        source.finish().await;
        off_air(primary.port, MOUNT).await;
    }
    for port in [proxy.sources, proxy.sources + 1] {
        let mut peer = Peer::connect(port).await;
        peer.send(format!("{}\r\n", primary.source_password()))
            .await;
        assert_eq!(peer.exact(20).await, b"OK2\r\nicy-caps:11\r\n\r\n");
        peer.send("content-type:audio/mpeg\r\n\r\n").await;
        let source = Source::over(peer, Framing::Raw, 0);
        on_air(proxy.listeners, "/stream").await;
        source.finish().await;
        off_air(primary.port, "/stream").await;
    }
}

async fn no_spelling_reaches_administration_or_the_wire_between_nodes(kind: Kind) {
    let cluster = cluster("").await;
    let proxy = Proxy::start(kind, &cluster).await;
    for first in CLOSED {
        assert!(!is_forwarded(proxy.listeners, first).await, "{first}");
    }
    for first in OPEN {
        assert!(is_forwarded(proxy.listeners, first).await, "{first}");
    }
}

async fn nobody_asks_a_node_for_tls(kind: Kind) {
    let cluster = cluster(TRUSTED).await;
    let proxy = Proxy::start(kind, &cluster).await;
    // A node that is asked so often says 429 at last.
    for _ in 0..3 * 25 {
        let mut peer = Peer::connect(proxy.listeners).await;
        peer.send(
            "OPTIONS /live.mp3 HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: TLS/1.0\r\n\r\n",
        )
        .await;
        assert_eq!(peer.head().await.status, 204);
    }
}

macro_rules! through_each {
    ($($scene:ident)*) => {
        mod haproxy {
            $(#[tokio::test] async fn $scene() { super::$scene(super::Kind::Haproxy).await })*
        }
        mod nginx {
            $(#[tokio::test] async fn $scene() { super::$scene(super::Kind::Nginx).await })*
        }
    };
}

through_each! {
    nobody_asks_a_node_for_tls
    ninety_seconds_pass
    a_stream_outlives_every_timeout
    both_sides_keep_the_clients_address
    without_trust_the_proxy_is_the_client
    every_kind_of_source_passes
    no_spelling_reaches_administration_or_the_wire_between_nodes
}
