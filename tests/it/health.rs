//! Health: green from process start, whatever the source does, whoever asks however.

use serde_json::Value;

use crate::harness::eventually;
use crate::harness::node::{Node, Plan};
use crate::harness::peer::{Head, Peer, ask};
use crate::harness::source::{Source, listen, off_air};
use crate::harness::tone::{self, FRAME};

const PATHS: [&str; 3] = ["/health", "/healthz", "/readyz"];

async fn health(node: &Node) -> Value {
    let (head, body) = node.get("/health").await;
    assert_eq!(head.status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

async fn source_is(node: &Node, word: &str) {
    eventually(&format!("the source is {word}"), async || {
        (health(node).await["source"] == word).then_some(())
    })
    .await;
}

#[tokio::test]
async fn green_before_a_source_with_it_and_after_it() {
    let node = Plan::primary().yaml("hold: 1s").start().await;
    let first = health(&node).await;
    assert_eq!(
        (&first["status"], &first["role"], &first["source"]),
        (&"ok".into(), &"primary".into(), &"waiting".into())
    );
    assert_eq!(node.get("/health/source").await.0.status, 503);
    let source = Source::start(&node, "/live.mp3").await;
    source_is(&node, "live").await;
    assert_eq!(node.get("/health/source").await.0.status, 200);
    assert_eq!(
        node.get("/health/source?mount=/live.mp3").await.0.status,
        200
    );
    assert_eq!(
        node.get("/health/source?mount=/other.mp3").await.0.status,
        503
    );
    drop(source);
    source_is(&node, "lost").await;
    off_air(node.port, "/live.mp3").await;
    // The hold is over, too.
    source_is(&node, "lost").await;
    for path in PATHS {
        assert_eq!(node.get(path).await.0.status, 200, "{path}");
    }
    assert_eq!(node.get("/health/source").await.0.status, 503);
}

fn ends(head: &Head) -> usize {
    assert!(head.get("transfer-encoding").is_none(), "{head:?}");
    head.get("content-length").unwrap().parse().unwrap()
}

#[tokio::test]
async fn every_kind_of_check_is_answered() {
    let node = Plan::primary().start().await;
    for path in PATHS.into_iter().chain(["/"]) {
        for version in ["HTTP/1.0", "HTTP/1.1"] {
            // Without Host, as HAProxy and old balancers ask.
            let of = |method: &str| format!("{method} {path} {version}\r\n\r\n");
            let (get, body) = ask(node.port, of("GET")).await;
            assert_eq!(get.line, format!("{version} 200 OK"), "{path}");
            assert_eq!(ends(&get), body.len());
            assert_ne!(body.len(), 0);
            let mut peer = Peer::connect(node.port).await;
            peer.send(of("HEAD")).await;
            let head = peer.head().await;
            assert_eq!((head.status, ends(&head)), (200, body.len()), "{path}");
            assert_eq!(peer.rest().await, b"", "HEAD has no body");
            let (options, _) = ask(node.port, of("OPTIONS")).await;
            assert_eq!(options.status, 200, "{path}");
            assert!(options.get("allow").unwrap().contains("GET"), "{options:?}");
        }
    }
}

#[tokio::test]
async fn the_page_is_a_page_for_whoever_is_no_player() {
    let node = Plan::primary().start().await;
    let _source = Source::start(&node, "/stream").await;
    for agent in [
        "Mozilla/5.0",
        "curl/8.5.0",
        "kube-probe/1.29",
        "Compass/1.0",
        "",
    ] {
        let request = format!("GET / HTTP/1.1\r\nHost: x\r\nUser-Agent: {agent}\r\n\r\n");
        let (head, body) = ask(node.port, request).await;
        assert_eq!(head.line, "HTTP/1.1 200 OK", "{agent}");
        assert!(
            head.get("content-type").unwrap().starts_with("text/html"),
            "{agent}: {head:?}"
        );
        assert_eq!(ends(&head), body.len());
    }
}

#[tokio::test]
async fn checks_leave_no_line_and_no_count() {
    let node = Plan::primary().start().await;
    // Lines are written behind the node's back: the last one of its start has to be there.
    eventually("its start is in the log", async || {
        node.log().contains("to=\"ready\"").then_some(())
    })
    .await;
    let before = (node.log(), node.printed());
    for _ in 0..20 {
        drop(Peer::connect(node.port).await);
        Peer::connect(node.port).await.reset();
        assert_eq!(
            ask(node.port, "OPTIONS / HTTP/1.0\r\n\r\n").await.0.status,
            200
        );
        assert_eq!(
            ask(node.port, "GET /health HTTP/1.0\r\n\r\n")
                .await
                .0
                .status,
            200
        );
    }
    assert_eq!((node.log(), node.printed()), before);
    assert_eq!(node.metric("relayctl_refusals_total", "").await, 0.0);
}

/// A listener's place is no reason for a check to fail.
#[tokio::test]
async fn health_is_outside_every_limit() {
    let node = Plan::primary().yaml("max_listeners: 1").start().await;
    let _source = Source::start(&node, "/live.mp3").await;
    let (mut listener, _) = listen(node.port, "/live.mp3").await;
    tone::run(&listener.exact(FRAME).await);
    for path in PATHS {
        assert_eq!(node.get(path).await.0.status, 200, "{path}");
    }
}

#[tokio::test]
async fn a_node_that_is_told_to_end_ends() {
    let mut node = Plan::primary().start().await;
    let _source = Source::start(&node, "/live.mp3").await;
    let (mut listener, _) = listen(node.port, "/live.mp3").await;
    tone::run(&listener.exact(FRAME).await);
    let status = node.terminate().await;
    assert!(status.success(), "{status}");
    listener.rest().await;
}
