//! Listeners: what they are answered, where they begin, and what they live through.

use crate::harness::node::Plan;
use crate::harness::peer::{Head, Peer, ask};
use crate::harness::source::{Framing, Source, listen, listen_with, off_air, on_air, source_head};
use crate::harness::tone::{self, FRAME, TEN_SECONDS};
use crate::harness::{address, eventually};

const MOUNT: &str = "/live.mp3";

fn is_endless(head: &Head) {
    assert_eq!(head.get("transfer-encoding"), None, "{head:?}");
    assert_eq!(head.get("content-length"), None, "{head:?}");
    assert_eq!(head.get("accept-ranges"), None, "{head:?}");
    assert!(
        !head
            .get("connection")
            .is_some_and(|word| word.eq_ignore_ascii_case("keep-alive"))
    );
}

#[tokio::test]
async fn the_status_line_speaks_the_clients_version() {
    let node = Plan::primary().start().await;
    let _source = Source::start(&node, MOUNT).await;
    for version in ["HTTP/1.0", "HTTP/1.1"] {
        let mut peer = Peer::connect(node.port).await;
        peer.send(format!(
            "GET {MOUNT} {version}\r\nConnection: keep-alive\r\n\r\n"
        ))
        .await;
        let head = peer.head().await;
        assert_eq!(head.line, format!("{version} 200 OK"));
        assert_eq!(head.get("content-type"), Some("audio/mpeg"));
        assert!(
            head.get("x-relayctl-node")
                .is_some_and(|name| !name.is_empty()),
            "{head:?}"
        );
        is_endless(&head);
        tone::run(&peer.exact(50 * FRAME).await);
    }
}

#[tokio::test]
async fn only_the_few_that_need_it_are_told_icy() {
    let node = Plan::primary().start().await;
    let _source = Source::start(&node, MOUNT).await;
    for (agent, line) in [
        ("Windows-Media-Player/12.0", "ICY 200 OK"),
        ("shoutcastsource", "ICY 200 OK"),
        ("WinampMPEG/5.0", "HTTP/1.1 200 OK"),
        ("VLC/3.0.18 LibVLC/3.0.18", "HTTP/1.1 200 OK"),
    ] {
        let (_peer, head) =
            listen_with(node.port, MOUNT, &format!("User-Agent: {agent}\r\n")).await;
        assert_eq!(head.line, line, "{agent}");
    }
}

#[tokio::test]
async fn a_burst_begins_at_a_frame_and_the_stream_follows_it() {
    let node = Plan::primary().start().await;
    let source = Source::start(&node, MOUNT).await;
    eventually("more than a burst was sent", async || {
        (source.sent() >= TEN_SECONDS).then_some(())
    })
    .await;
    source.pause();
    // Bytes in flight: the node has read all when two newcomers begin alike.
    let begin = async || {
        let (mut peer, _) = listen(node.port, MOUNT).await;
        tone::run(&peer.exact(FRAME).await).first
    };
    eventually("the node has read all", async || {
        (begin().await == begin().await).then_some(())
    })
    .await;
    let (mut listener, _) = listen(node.port, MOUNT).await;
    let burst = listener.exact(160 * FRAME).await;
    let first = tone::run(&burst).first;
    // 64 KiB, whole frames only.
    let frames = source.sent() - first;
    assert!(
        (160..=65_536 / FRAME as u64).contains(&frames),
        "a burst of {frames} frames"
    );
    source.play();
    let more = listener.exact(200 * FRAME).await;
    tone::run(&[burst, more].concat());
}

#[tokio::test]
async fn head_is_the_same_head_and_no_listener() {
    let node = Plan::primary().start().await;
    let _source = Source::start(&node, MOUNT).await;
    let (_listener, of_get) = listen_with(node.port, MOUNT, "Icy-MetaData: 1\r\n").await;
    let mut peer = Peer::connect(node.port).await;
    peer.send(format!(
        "HEAD {MOUNT} HTTP/1.1\r\nHost: localhost\r\nIcy-MetaData: 1\r\n\r\n"
    ))
    .await;
    let of_head = peer.head().await;
    assert_eq!(peer.rest().await, b"");
    let shown = |head: &Head| -> Vec<(String, String)> {
        let fields = head.fields.iter().filter(|(name, _)| {
            !["date", "x-relayctl-reason"].contains(&name.to_ascii_lowercase().as_str())
        });
        fields.cloned().collect()
    };
    assert_eq!(
        (of_head.line.as_str(), shown(&of_head)),
        (of_get.line.as_str(), shown(&of_get))
    );
    let listeners = node.metric("relayctl_listeners", "").await;
    assert_eq!(listeners, 1.0);
}

#[tokio::test]
async fn browsers_may_ask_from_any_page() {
    let node = Plan::primary().start().await;
    let _source = Source::start(&node, MOUNT).await;
    let request = format!(
        "OPTIONS {MOUNT} HTTP/1.1\r\nHost: localhost\r\nOrigin: https://radio.example\r\n\
         Access-Control-Request-Method: GET\r\nAccess-Control-Request-Headers: icy-metadata\r\n\r\n"
    );
    let mut peer = Peer::connect(node.port).await;
    peer.send(request).await;
    let preflight = peer.head().await;
    assert_eq!(preflight.status, 204);
    let (_listener, audio) = listen(node.port, MOUNT).await;
    for head in [&preflight, &audio] {
        let all: Vec<_> = head
            .fields
            .iter()
            .filter(|(name, _)| name.eq_ignore_ascii_case("access-control-allow-origin"))
            .collect();
        assert_eq!(all.len(), 1, "twice breaks playback: {head:?}");
        assert_eq!(all[0].1, "*");
    }
    let has = |name, word: &str| {
        preflight
            .get(name)
            .is_some_and(|list| list.to_ascii_lowercase().contains(word))
    };
    assert!(has("access-control-allow-methods", "get"), "{preflight:?}");
    assert!(
        has("access-control-allow-headers", "icy-metadata"),
        "{preflight:?}"
    );
    assert!(
        audio
            .get("access-control-expose-headers")
            .is_some_and(|list| list.contains("Icy-MetaInt"))
    );
    // An error is read by the page's script, too.
    let (missing, _) = node.get("/none.mp3").await;
    assert_eq!(
        (missing.status, missing.get("access-control-allow-origin")),
        (404, Some("*"))
    );
}

/// A 206 costs iOS its titles, and a length makes a file of the stream.
#[tokio::test]
async fn range_is_ignored() {
    let node = Plan::primary().start().await;
    let _source = Source::start(&node, MOUNT).await;
    for range in ["bytes=0-1", "bytes=0-", "bytes=1000-"] {
        let (mut peer, head) = listen_with(node.port, MOUNT, &format!("Range: {range}\r\n")).await;
        assert_eq!(
            (head.status, head.get("content-range")),
            (200, None),
            "{range}"
        );
        is_endless(&head);
        tone::run(&peer.exact(20 * FRAME).await);
    }
}

/// Apple's players probe with one connection and play with another.
#[tokio::test]
async fn the_second_connection_of_a_playback_session_ends_the_first() {
    let node = Plan::primary().start().await;
    let _source = Source::start(&node, MOUNT).await;
    let session = "X-Playback-Session-Id: 4711-ABC\r\n";
    let (mut probe, _) =
        listen_with(node.port, MOUNT, &format!("{session}Range: bytes=0-1\r\n")).await;
    let (mut other, _) = listen_with(node.port, MOUNT, "X-Playback-Session-Id: 4712\r\n").await;
    let (mut player, _) =
        listen_with(node.port, MOUNT, &format!("{session}icy-metadata: 1\r\n")).await;
    tone::run(&probe.rest().await);
    tone::run(&player.exact(30 * FRAME).await);
    tone::run(&other.exact(200 * FRAME).await);
    assert_eq!(node.metric("relayctl_listeners", "").await, 2.0);
}

#[tokio::test]
async fn old_paths_play_the_default_mount() {
    let node = Plan::primary().start().await;
    let _source = Source::start(&node, "/stream").await;
    for path in ["/;", "/;stream.mp3", "/;stream.nsv"] {
        let (mut peer, head) = listen(node.port, path).await;
        assert_eq!(head.get("content-type"), Some("audio/mpeg"), "{path}");
        tone::run(&peer.exact(10 * FRAME).await);
    }
}

#[tokio::test]
async fn a_listener_lives_through_a_gap_of_the_source() {
    let node = Plan::primary().start().await;
    let source = Source::start(&node, MOUNT).await;
    let (mut listener, _) = listen(node.port, MOUNT).await;
    let before = listener.exact(50 * FRAME).await;
    let (_, next) = source.finish().await;
    eventually("the source is lost", async || {
        node.get("/health")
            .await
            .1
            .contains("\"lost\"")
            .then_some(())
    })
    .await;
    // One who comes in the gap gets the burst, and waits.
    let (mut newcomer, _) = listen(node.port, MOUNT).await;
    let burst = newcomer.exact(FRAME).await;
    let _source = Source::start_at(&node, MOUNT, next).await;
    let target = next + 50;
    for (peer, mut heard) in [(&mut listener, before), (&mut newcomer, burst)] {
        // Byte for byte, as if there had been no gap.
        while tone::run(&heard).end() < target {
            heard.extend(peer.exact(FRAME).await);
        }
    }
}

#[tokio::test]
async fn after_the_hold_listeners_get_a_clean_end() {
    let node = Plan::primary().yaml("hold: 500ms").start().await;
    let source = Source::start(&node, MOUNT).await;
    let (mut listener, _) = listen(node.port, MOUNT).await;
    let mut heard = listener.exact(FRAME).await;
    let (_, next) = source.finish().await;
    heard.extend(listener.rest().await);
    assert_eq!(heard.len() % FRAME, 0, "the end is within a frame");
    assert_eq!(tone::run(&heard).end(), next, "the last frames were lost");
    off_air(node.port, MOUNT).await;
}

#[tokio::test]
async fn a_full_mount_and_a_full_node_say_so() {
    let yaml = "mounts:\n  - path: /live.mp3\n    max_listeners: 1";
    let node = Plan::primary().yaml(yaml).start().await;
    let _source = Source::start(&node, MOUNT).await;
    let (mut first, _) = listen(node.port, MOUNT).await;
    tone::run(&first.exact(FRAME).await);
    let (head, body) = node.get(MOUNT).await;
    assert_eq!(head.status, 503, "{body}");
    assert!(
        head.get("retry-after")
            .is_some_and(|text| text.parse::<u32>().is_ok()),
        "{head:?}"
    );
    assert!(head.get("x-relayctl-reason").is_some(), "{head:?}");
    // A place that is given back is given again.
    drop(first);
    eventually("the place is free", async || {
        let mut peer = Peer::connect(node.port).await;
        peer.send(format!("GET {MOUNT} HTTP/1.0\r\n\r\n")).await;
        (peer.head().await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_source_of_another_format_ends_its_listeners_cleanly() {
    let node = Plan::primary().start().await;
    let source = Source::start(&node, MOUNT).await;
    let (mut listener, _) = listen(node.port, MOUNT).await;
    let mut heard = listener.exact(FRAME).await;
    source.finish().await;
    let mut peer = Peer::connect(node.port).await;
    let head = source_head("PUT /live.mp3 HTTP/1.1", &node.source_password(), "")
        .replace("audio/mpeg", "audio/aac");
    peer.send(head).await;
    assert_eq!(peer.head().await.status, 200);
    peer.send(include_bytes!("../fixtures/tone.aac")).await;
    heard.extend(listener.rest().await);
    tone::run(&heard);
    let head = on_air(node.port, MOUNT).await;
    assert_eq!(head.get("content-type"), Some("audio/aac"));
}

#[tokio::test]
async fn many_listeners_hear_the_same() {
    let node = Plan::primary().start().await;
    let mut peer = Peer::connect(node.port).await;
    peer.send(source_head(
        "PUT /live.mp3 HTTP/1.1",
        &node.source_password(),
        "",
    ))
    .await;
    assert_eq!(peer.head().await.status, 200);
    let _source = Source::over(peer, Framing::Raw, 0);
    on_air(node.port, MOUNT).await;
    let listeners = (0..100).map(|n| {
        let port = node.port;
        tokio::spawn(async move {
            let mut peer = Peer::connect_from(address(n), port).await;
            peer.send(format!("GET {MOUNT} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
                .await;
            assert_eq!(peer.head().await.status, 200);
            tone::run(&peer.exact(400 * FRAME).await)
        })
    });
    let listeners: Vec<_> = listeners.collect();
    for listener in listeners {
        assert_eq!(listener.await.unwrap().count, 400);
    }
    let (head, _) = ask(node.port, "GET /health HTTP/1.0\r\n\r\n").await;
    assert_eq!(head.status, 200);
}
