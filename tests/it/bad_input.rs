//! Bad input: each has its answer and its counter, and a listener beside it hears no difference.

use std::time::{Duration, Instant};

use crate::harness::node::{Node, Plan};
use crate::harness::peer::{Peer, ask};
use crate::harness::source::{Source, listen, source_head};
use crate::harness::tone::{self, FRAME};
use crate::harness::{eventually, within};

const MOUNT: &str = "/live.mp3";

/// A node with a source, and a listener who hears all of it.
struct Scene {
    node: Node,
    _source: Source,
    listener: Peer,
    heard: Vec<u8>,
}

impl Scene {
    async fn open(yaml: &str) -> Self {
        let node = Plan::primary().yaml(yaml).start().await;
        let source = Source::start(&node, MOUNT).await;
        let (mut listener, _) = listen(node.port, MOUNT).await;
        let heard = listener.exact(FRAME).await;
        Self {
            node,
            _source: source,
            listener,
            heard,
        }
    }

    /// The listener has heard no gap and goes on hearing; nothing was said twice or wrong.
    async fn close(mut self, reason: &str, times: f64) {
        self.heard.extend(self.listener.exact(100 * FRAME).await);
        tone::run(&self.heard);
        assert_eq!(self.node.get("/health").await.0.status, 200);
        assert!(!self.node.log().contains("panicked"), "{}", self.node.log());
        self.node.refused(reason, times).await;
    }
}

/// Bytes without a pattern, the same in every run.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

#[tokio::test]
async fn random_bytes() {
    let scene = Scene::open("").await;
    let mut refused = 0.0;
    for seed in 1..40 {
        let mut bytes = noise(2000, seed * 7919);
        // Beginnings that are something (a TLS hello, a PROXY header) have tests of their own.
        bytes[0] |= 0x80;
        let mut peer = Peer::connect(scene.node.port).await;
        peer.send(&bytes).await;
        let answer = String::from_utf8_lossy(&peer.rest().await).into_owned();
        assert!(answer.starts_with("HTTP/1.0 400 "), "{answer}");
        refused += 1.0;
    }
    scene.close("garbage", refused).await;
}

#[tokio::test]
async fn a_tls_hello_on_the_plain_port() {
    let scene = Scene::open("").await;
    let mut peer = Peer::connect(scene.node.port).await;
    peer.send([&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xFC, 3, 3][..], &noise(500, 3)].concat())
        .await;
    assert_eq!(peer.rest().await, b"");
    scene.close("tls", 1.0).await;
}

#[tokio::test]
async fn a_head_of_ten_megabytes() {
    let scene = Scene::open("").await;
    let mut peer = Peer::connect(scene.node.port).await;
    peer.send("GET /live.mp3 HTTP/1.1\r\nHost: localhost\r\n")
        .await;
    let line = format!("X-Filler: {}\r\n", "y".repeat(8000));
    let mut sent = 0;
    while sent < 10 * 1024 * 1024 && peer.try_send(line.as_bytes()).await.is_ok() {
        sent += line.len();
    }
    // Given up long before its end; the answer came, unless the reset of what was still in flight ate it.
    assert!(sent < 10 * 1024 * 1024, "all of it was read");
    scene.close("bad_head", 1.0).await;
}

#[tokio::test]
async fn a_head_just_over_the_limit_is_431() {
    let scene = Scene::open("").await;
    let filler = format!("X-Filler: {}\r\n", "y".repeat(1000)).repeat(70);
    let (head, body) = ask(scene.node.port, format!("GET / HTTP/1.1\r\n{filler}\r\n")).await;
    assert_eq!(head.status, 431, "{body}");
    let (head, body) = ask(
        scene.node.port,
        format!("GET /{} HTTP/1.1\r\n\r\n", "y".repeat(70_000)),
    )
    .await;
    assert!([414, 431].contains(&head.status), "{} {body}", head.status);
    scene.close("bad_head", 2.0).await;
}

#[tokio::test]
async fn half_a_head() {
    let scene = Scene::open("").await;
    let mut peer = Peer::connect(scene.node.port).await;
    peer.send("GET /live.mp3 HTTP/1.1\r\nHost: loc").await;
    peer.finish().await;
    assert_eq!(peer.rest().await, b"");
    scene.close("half_head", 1.0).await;
}

#[tokio::test]
async fn a_slow_head_is_408() {
    let scene = Scene::open("").await;
    let begin = Instant::now();
    let mut peer = Peer::connect(scene.node.port).await;
    let mut turns = tokio::time::interval(Duration::from_secs(1));
    let answer = within(
        Duration::from_secs(100),
        "the slow head is ended",
        async || {
            turns.tick().await;
            let sent = peer.try_send(b"G").await;
            let answer = peer.pending();
            (sent.is_err() || !answer.is_empty()).then_some(answer)
        },
    )
    .await;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(answer.starts_with("HTTP/1.0 408 "), "{answer:?}");
    println!("after {:.1} s", begin.elapsed().as_secs_f64());
    scene.close("slow_head", 1.0).await;
}

#[tokio::test]
async fn a_source_that_sends_garbage() {
    let scene = Scene::open("").await;
    let mut peer = Peer::connect(scene.node.port).await;
    peer.send(source_head(
        "PUT /noise.mp3 HTTP/1.1",
        &scene.node.source_password(),
        "",
    ))
    .await;
    assert_eq!(peer.head().await.status, 200);
    // Noise without the one byte that every frame begins with.
    let noise: Vec<u8> = noise(200_000, 5)
        .into_iter()
        .map(|byte| byte & 0x7F)
        .collect();
    let _ = peer.try_send(&noise).await;
    peer.rest().await;
    let ends = scene
        .node
        .metric("relayctl_source_ends_total", "reason=\"garbage\"")
        .await;
    assert_eq!(ends, 1.0);
    let (head, _) = scene.node.get("/noise.mp3").await;
    assert_eq!(head.status, 404);
    scene.close("unknown_mount", 1.0).await;
}

#[tokio::test]
async fn a_listener_that_never_reads() {
    let mut scene = Scene::open("listener:\n  stall: 1s").await;
    let mut sleeper = Peer::connect_narrow(scene.node.port).await;
    sleeper
        .send(format!("GET {MOUNT} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
        .await;
    eventually("it is ended", async || {
        scene.heard.extend(scene.listener.exact(20 * FRAME).await);
        let stalled = scene
            .node
            .metric("relayctl_slow_listeners_total", "action=\"stalled\"")
            .await;
        (stalled == 1.0).then_some(())
    })
    .await;
    eventually("its place is free", async || {
        scene.heard.extend(scene.listener.exact(20 * FRAME).await);
        (scene.node.metric("relayctl_listeners", "").await == 1.0).then_some(())
    })
    .await;
    ask(scene.node.port, "GET /none HTTP/1.0\r\n\r\n").await;
    scene.close("unknown_mount", 1.0).await;
}

#[tokio::test]
async fn an_unknown_mount_is_404() {
    let scene = Scene::open("").await;
    for path in ["/none.mp3", "/live.mp", "/LIVE.mp3", "/a/b/c/d"] {
        let (head, body) = scene.node.get(path).await;
        assert_eq!(head.status, 404, "{path}");
        assert!(body.contains("no source"), "{body}");
    }
    scene.close("unknown_mount", 4.0).await;
}

#[tokio::test]
async fn paths_that_lead_out_or_hide_a_zero_are_400() {
    let scene = Scene::open("").await;
    let paths = [
        "/../etc/passwd",
        "/a/../live.mp3",
        "/%2e%2e/live.mp3",
        "/live.mp3%00",
        "/live%00.mp3",
        "/..",
    ];
    for path in paths {
        let (head, body) = scene.node.get(path).await;
        assert_eq!(head.status, 400, "{path}: {body}");
    }
    let login = source_head(
        "PUT /a/../b.mp3 HTTP/1.1",
        &scene.node.source_password(),
        "",
    );
    let (head, _) = ask(scene.node.port, login).await;
    assert_eq!(head.status, 400);
    scene.close("route", paths.len() as f64 + 1.0).await;
}

#[tokio::test]
async fn methods_that_no_mount_has() {
    let scene = Scene::open("").await;
    for method in ["POST", "DELETE", "PATCH"] {
        let request = format!("{method} {MOUNT} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
        let (head, _) = ask(scene.node.port, request).await;
        assert_eq!(head.status, 405, "{method}");
    }
    scene.close("route", 3.0).await;
}

#[tokio::test]
async fn a_body_that_is_framed_twice() {
    let scene = Scene::open("").await;
    let more = "Content-Length: 10\r\nTransfer-Encoding: chunked\r\n";
    let head = source_head(
        "PUT /smuggled.mp3 HTTP/1.1",
        &scene.node.source_password(),
        more,
    );
    let (head, body) = ask(scene.node.port, head).await;
    assert_eq!(head.status, 400, "{body}");
    scene.close("source_framing", 1.0).await;
}

#[tokio::test]
async fn a_proxy_header_of_a_stranger() {
    let scene = Scene::open("").await;
    let request =
        "PROXY TCP4 192.0.2.7 192.0.2.8 1234 80\r\nGET /live.mp3 HTTP/1.1\r\nHost: x\r\n\r\n";
    let (head, body) = ask(scene.node.port, request).await;
    assert_eq!(head.status, 400);
    assert!(body.contains("trusted_proxies"), "{body}");
    scene.close("proxy_untrusted", 1.0).await;
}

/// Heads that stand still take places of one address only, and the oldest of them goes.
#[tokio::test]
async fn a_storm_of_half_heads_shuts_nobody_out() {
    let mut scene = Scene::open("").await;
    let mut standing = Vec::new();
    for _ in 0..100 {
        let mut peer = Peer::connect_from(crate::harness::address(9), scene.node.port).await;
        peer.send("GET /").await;
        standing.push(peer);
    }
    scene.node.refused("heads_per_address", 36.0).await;
    assert_eq!(standing[0].rest().await, b"");
    let (mut newcomer, _) = listen(scene.node.port, MOUNT).await;
    tone::run(&newcomer.exact(10 * FRAME).await);
    scene.heard.extend(scene.listener.exact(FRAME).await);
    scene.close("heads_per_address", 36.0).await;
}
