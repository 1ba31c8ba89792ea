//! Sources that are taken: every way to send a body, and who may follow whom.

use crate::harness::node::{Node, Plan};
use crate::harness::peer::{Head, Peer};
use crate::harness::source::{Framing, Source, basic, listen, on_air, source_head};
use crate::harness::tone::{self, FRAME, TEN_SECONDS};

const MOUNT: &str = "/live.mp3";

/// A listener hears ten frames of the tone.
async fn heard(node: &Node) {
    let (mut listener, head) = listen(node.port, MOUNT).await;
    assert_eq!(head.get("content-type"), Some("audio/mpeg"));
    tone::run(&listener.exact(10 * FRAME).await);
}

async fn connected(node: &Node, first: &str, more: &str) -> Peer {
    let mut peer = Peer::connect(node.port).await;
    peer.send(source_head(first, &node.source_password(), more))
        .await;
    peer
}

async fn asked_to_continue(peer: &mut Peer) {
    let interim = peer.head().await;
    assert_eq!(interim.line, "HTTP/1.1 100 Continue");
}

#[tokio::test]
async fn put_without_framing_is_welcomed_at_once() {
    for expect in ["", "Expect: 100-continue\r\n"] {
        let node = Plan::primary().start().await;
        let mut peer = connected(&node, "PUT /live.mp3 HTTP/1.1", expect).await;
        if !expect.is_empty() {
            asked_to_continue(&mut peer).await;
        }
        assert_eq!(peer.head().await.line, "HTTP/1.1 200 OK");
        let source = Source::over(peer, Framing::Raw, 0);
        on_air(node.port, MOUNT).await;
        heard(&node).await;
        drop(source);
    }
}

#[tokio::test]
async fn a_chunked_put_is_answered_at_its_end() {
    for expect in ["", "Expect: 100-continue\r\n"] {
        let node = Plan::primary().start().await;
        let more = format!("{expect}Transfer-Encoding: chunked\r\n");
        let mut peer = connected(&node, "PUT /live.mp3 HTTP/1.1", &more).await;
        if !expect.is_empty() {
            asked_to_continue(&mut peer).await;
        }
        let source = Source::over(peer, Framing::Chunked, 0);
        on_air(node.port, MOUNT).await;
        heard(&node).await;
        let (answer, _) = source.finish().await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    }
}

#[tokio::test]
async fn a_put_with_a_length_is_answered_at_its_end() {
    let node = Plan::primary().start().await;
    let body = tone::frames(0, TEN_SECONDS);
    let more = format!("Expect: 100-continue\r\nContent-Length: {}\r\n", body.len());
    let mut peer = connected(&node, "PUT /live.mp3 HTTP/1.1", &more).await;
    asked_to_continue(&mut peer).await;
    peer.send(&body[..body.len() - 1]).await;
    on_air(node.port, MOUNT).await;
    heard(&node).await;
    assert!(peer.pending().is_empty(), "answered before the end");
    peer.send(&body[body.len() - 1..]).await;
    assert_eq!(peer.head().await.line, "HTTP/1.1 200 OK");
}

#[tokio::test]
async fn the_source_method_in_both_of_its_versions() {
    for version in ["HTTP/1.0", "ICE/1.0"] {
        let node = Plan::primary().start().await;
        let mut peer = connected(&node, &format!("SOURCE /live.mp3 {version}"), "").await;
        // Encoders compare the line, and some take no other version (`HTTP/1.1` made Liquidsoap's AAC break).
        assert_eq!(peer.head().await.line, "HTTP/1.0 200 OK");
        let _source = Source::over(peer, Framing::Raw, 0);
        on_air(node.port, MOUNT).await;
        heard(&node).await;
    }
}

#[tokio::test]
async fn what_a_source_says_of_itself_reaches_its_listeners() {
    let node = Plan::primary().start().await;
    let more = "ice-name: Caf\u{e9} 24\r\nice-genre: jazz\r\nice-bitrate: 128\r\nice-public: 1\r\n\
                ice-url: http://cafe.example/\r\nice-audio-info: ice-samplerate=48000;ice-bitrate=128\r\n";
    let mut peer = connected(&node, "SOURCE /live.mp3 ICE/1.0", more).await;
    assert_eq!(peer.head().await.status, 200);
    let _source = Source::over(peer, Framing::Raw, 0);
    let head = on_air(node.port, MOUNT).await;
    let fields = [
        "icy-name",
        "icy-genre",
        "icy-br",
        "icy-pub",
        "icy-url",
        "ice-audio-info",
    ];
    let said: Vec<_> = fields
        .iter()
        .map(|name| head.get(name).unwrap_or("-"))
        .collect();
    let expected = [
        "Caf\u{e9} 24",
        "jazz",
        "128",
        "1",
        "http://cafe.example/",
        "ice-samplerate=48000;ice-bitrate=128",
    ];
    assert_eq!(said, expected);
}

/// What libshout does: it asks without a password and reads from the 401 how to go on, on the same socket.
#[tokio::test]
async fn a_challenge_leaves_the_connection_open() {
    let node = Plan::primary().start().await;
    let mut peer = Peer::connect(node.port).await;
    let question = "PUT /live.mp3 HTTP/1.1\r\nHost: localhost\r\nContent-Type: audio/mpeg\r\n\
                    Content-Length: 0\r\nConnection: Keep-Alive\r\n\r\n";
    let (head, _) = peer.ask(question).await;
    assert_eq!(head.status, 401);
    let allowed = head.get("allow").unwrap();
    for method in ["GET", "PUT", "OPTIONS", "SOURCE"] {
        assert!(
            allowed.split(", ").any(|word| word == method),
            "{method} is not in {allowed}"
        );
    }
    assert!(
        head.get("www-authenticate")
            .unwrap()
            .starts_with("Basic realm="),
        "{head:?}"
    );
    let login = source_head(
        "PUT /live.mp3 HTTP/1.1",
        &node.source_password(),
        "Expect: 100-continue\r\n",
    );
    peer.send(login).await;
    asked_to_continue(&mut peer).await;
    assert_eq!(peer.head().await.status, 200);
    let _source = Source::over(peer, Framing::Raw, 0);
    on_air(node.port, MOUNT).await;
    heard(&node).await;
}

#[tokio::test]
async fn a_silent_source_is_taken_over() {
    let node = Plan::primary()
        .yaml("source:\n  stale: 300ms")
        .start()
        .await;
    let first = Source::start(&node, MOUNT).await;
    let (mut listener, _) = listen(node.port, MOUNT).await;
    tone::run(&listener.exact(20 * FRAME).await);
    first.pause();
    let second = taken_over(&node, MOUNT).await;
    let answer = first.answer().await;
    assert!(answer.contains("took this mount over"), "{answer}");
    // The listener who was there goes on with the new source.
    let end = second.sent();
    crate::harness::eventually("the listener hears the new source", async || {
        let audio = listener.exact(FRAME).await;
        (tone::run(&audio).first >= end).then_some(())
    })
    .await;
}

/// Connects until the mount is given up by the one who has it.
async fn taken_over(node: &Node, mount: &str) -> Source {
    let line = format!("PUT {mount} HTTP/1.1");
    crate::harness::eventually("the mount is taken over", async || {
        let mut peer = connected(node, &line, "").await;
        let head: Head = peer.head().await;
        (head.status == 200).then(|| Source::over(peer, Framing::Raw, 1_000_000))
    })
    .await
}

#[tokio::test]
async fn takeover_replaces_a_live_source() {
    let node = Plan::primary().yaml("takeover: true").start().await;
    let first = Source::start(&node, MOUNT).await;
    let mut peer = connected(&node, "PUT /live.mp3 HTTP/1.1", "").await;
    assert_eq!(peer.head().await.status, 200);
    let _second = Source::over(peer, Framing::Raw, 0);
    let answer = first.answer().await;
    assert!(answer.contains("took this mount over"), "{answer}");
}

#[tokio::test]
async fn a_mount_may_have_a_password_of_its_own() {
    let yaml = "mounts:\n  - path: /own.mp3\n    password: just-mine";
    let node = Plan::primary().yaml(yaml).start().await;
    let of = |password: String| {
        format!(
            "PUT /own.mp3 HTTP/1.1\r\nHost: x\r\n{}Content-Type: audio/mpeg\r\n\r\n",
            basic(&password)
        )
    };
    let mut peer = Peer::connect(node.port).await;
    peer.send(of(node.source_password())).await;
    assert_eq!(peer.head().await.status, 401);
    let mut peer = Peer::connect(node.port).await;
    peer.send(of("just-mine".into())).await;
    assert_eq!(peer.head().await.status, 200);
}
