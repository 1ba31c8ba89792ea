//! Mounts with settings of their own.

use crate::harness::node::{Node, Plan};
use crate::harness::peer::Peer;
use crate::harness::source::{Framing, Source, listen, on_air, source_head};
use crate::harness::tone::{self, FRAME};

/// A source of MP3 that says something else of itself; it ends after `frames`.
async fn send(node: &Node, mount: &str, kind: &str, frames: u64) {
    let mut peer = Peer::connect(node.port).await;
    let head = source_head(
        &format!("PUT {mount} HTTP/1.1"),
        &node.source_password(),
        "Icy-Name: Theirs\r\nIcy-Genre: dub\r\n",
    );
    peer.send(head.replace("audio/mpeg", kind)).await;
    assert_eq!(peer.head().await.status, 200);
    peer.send(tone::frames(0, frames)).await;
    peer.finish().await;
    peer.rest().await;
}

#[tokio::test]
async fn burst_type_and_name_are_the_operators() {
    let node = Plan::primary().yaml(
        "mounts:\n  - path: /own.mp3\n    burst: 40KiB\n    content_type: audio/mpeg\n    name: Ours\n    public: true\n  \
         - path: /usual.mp3",
    );
    let node = node.start().await;
    send(&node, "/own.mp3", "audio/x-unheard-of", 600).await;
    send(&node, "/usual.mp3", "audio/mpeg", 600).await;
    for (mount, name, public, most) in [
        ("/own.mp3", "Ours", Some("1"), 40 * 1024),
        ("/usual.mp3", "Theirs", None, 64 * 1024),
    ] {
        on_air(node.port, mount).await;
        let (mut listener, head) = listen(node.port, mount).await;
        assert_eq!(head.get("content-type"), Some("audio/mpeg"), "{mount}");
        assert_eq!(head.get("icy-name"), Some(name), "{mount}");
        assert_eq!(head.get("icy-genre"), Some("dub"), "{mount}");
        assert_eq!(head.get("icy-pub"), public, "{mount}");
        // The source has gone: what comes is the burst and no more, to the last frame.
        let mut heard = listener.exact(FRAME).await;
        while tone::run(&heard).end() < 600 {
            heard.extend(listener.exact(FRAME).await);
        }
        let short = most - heard.len();
        assert!(short < 5_000, "{mount}: {} of {most}", heard.len());
    }
}

/// A v1 source and a source by way of a relay are no exception.
#[tokio::test]
async fn however_the_source_comes() {
    let primary = Plan::primary()
        .yaml("mounts:\n  - path: /stream\n    name: Ours\n  - path: /live.mp3\n    name: Ours");
    let primary = primary.start().await;
    let relay = Plan::relay(&primary).start().await;
    let mut peer = Peer::connect(primary.port).await;
    peer.send(format!("{}\r\n", primary.source_password()))
        .await;
    assert_eq!(peer.exact(20).await, b"OK2\r\nicy-caps:11\r\n\r\n");
    peer.send("icy-name: Theirs\r\ncontent-type:audio/mpeg\r\n\r\n")
        .await;
    let _one = Source::over(peer, Framing::Raw, 0);
    let mut peer = Peer::connect(relay.port).await;
    peer.send(source_head(
        "SOURCE /live.mp3 ICE/1.0",
        &primary.source_password(),
        "ice-name: Theirs\r\n",
    ))
    .await;
    assert_eq!(peer.head().await.status, 200);
    let _two = Source::over(peer, Framing::Raw, 0);
    for mount in ["/stream", "/live.mp3"] {
        on_air(relay.port, mount).await;
        let (mut listener, head) = listen(relay.port, mount).await;
        assert_eq!(head.get("icy-name"), Some("Ours"), "{mount}");
        tone::run(&listener.exact(20 * FRAME).await);
    }
}
