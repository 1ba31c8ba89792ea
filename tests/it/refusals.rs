//! Sources that are refused or ended: each its status, and a body that says what to do.

use crate::harness::node::{Node, Plan};
use crate::harness::peer::{Head, Peer};
use crate::harness::source::{Framing, Source, basic, on_air, source_head};
use crate::harness::tone::{self, FRAME};

/// The answer to a source's head; `login` is its `Authorization` line.
async fn answer(node: &Node, first: &str, login: &str, kind: &str) -> (Head, String) {
    let request = format!("{first}\r\nHost: localhost\r\n{login}Content-Type: {kind}\r\n\r\n");
    Peer::connect(node.port).await.ask(request).await
}

#[tokio::test]
async fn a_wrong_password_is_401_before_any_continue() {
    let node = Plan::primary().start().await;
    let wrong = basic("wrong");
    let admin = crate::harness::source::login("admin", &node.source_password());
    for login in ["", &wrong, &admin, "Authorization: Basic %%%\r\n"] {
        for first in [
            "PUT /live.mp3 HTTP/1.1",
            "SOURCE /live.mp3 HTTP/1.0",
            "SOURCE /live.mp3 ICE/1.0",
        ] {
            let expect = format!("{login}Expect: 100-continue\r\n");
            let (head, body) = answer(&node, first, &expect, "audio/mpeg").await;
            assert_eq!(head.status, 401, "{first} {login}");
            assert!(head.get("www-authenticate").is_some(), "{head:?}");
            assert!(body.contains("relayctl token show source"), "{body}");
        }
    }
    node.refused("source_password", 12.0).await;
}

#[tokio::test]
async fn a_mount_in_use_is_403() {
    let node = Plan::primary().start().await;
    let source = Source::start(&node, "/live.mp3").await;
    let (head, body) = answer(
        &node,
        "PUT /live.mp3 HTTP/1.1",
        &basic(&node.source_password()),
        "audio/mpeg",
    )
    .await;
    assert_eq!(head.status, 403);
    assert!(
        body.contains("in use") && body.contains("stop it"),
        "{body}"
    );
    node.refused("source_in_use", 1.0).await;
    // The one who was there first noticed nothing.
    let before = source.sent();
    let (mut listener, _) = crate::harness::source::listen(node.port, "/live.mp3").await;
    crate::harness::eventually("the first source goes on", async || {
        (tone::run(&listener.exact(FRAME).await).first > before).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_type_that_nobody_can_play_is_415() {
    let node = Plan::primary().start().await;
    let login = basic(&node.source_password());
    for kind in ["text/html", "image/png", "application/json"] {
        let (head, body) = answer(&node, "PUT /live.mp3 HTTP/1.1", &login, kind).await;
        assert_eq!(head.status, 415, "{kind}");
        assert!(body.contains(kind), "{body}");
    }
    node.refused("source_type", 3.0).await;
}

#[tokio::test]
async fn one_source_too_many_is_503() {
    let node = Plan::primary().yaml("max_sources: 1").start().await;
    let _source = Source::start(&node, "/one.mp3").await;
    let (head, body) = answer(
        &node,
        "PUT /two.mp3 HTTP/1.1",
        &basic(&node.source_password()),
        "audio/mpeg",
    )
    .await;
    assert_eq!(head.status, 503);
    assert!(body.contains("max_sources"), "{body}");
    node.refused("sources", 1.0).await;
}

#[tokio::test]
async fn a_path_of_the_server_takes_no_source() {
    let node = Plan::primary().start().await;
    let login = basic(&node.source_password());
    let paths = [
        "/",
        "/health",
        "/readyz",
        "/metrics",
        "/admin/x",
        "/cluster/v1/beat",
        "/stats",
        "/live.m3u",
        "/x.pls",
    ];
    for path in paths {
        let (head, body) =
            answer(&node, &format!("PUT {path} HTTP/1.1"), &login, "audio/mpeg").await;
        assert_eq!(head.status, 403, "{path}: {body}");
        assert!(body.contains("choose a mount"), "{path}: {body}");
    }
}

#[tokio::test]
async fn a_body_that_stalls_is_408_after_the_source_timeout() {
    let node = Plan::primary()
        .yaml("source:\n  timeout: 400ms")
        .start()
        .await;
    for (framing, mount) in [
        (Framing::Raw, "/raw.mp3"),
        (Framing::Chunked, "/chunked.mp3"),
    ] {
        let mut peer = Peer::connect(node.port).await;
        let more = if framing == Framing::Chunked {
            "Transfer-Encoding: chunked\r\n"
        } else {
            ""
        };
        peer.send(source_head(
            &format!("PUT {mount} HTTP/1.1"),
            &node.source_password(),
            more,
        ))
        .await;
        if framing == Framing::Raw {
            assert_eq!(peer.head().await.status, 200);
        }
        let source = Source::over(peer, framing, 0);
        on_air(node.port, mount).await;
        source.pause();
        let said = source.answer().await;
        assert!(said.contains("408 "), "{framing:?}: {said}");
        assert!(said.contains("source.timeout"), "{framing:?}: {said}");
    }
}

#[tokio::test]
async fn a_source_that_never_sends_is_told_about_proxies() {
    // It may take its time for the larger of both.
    let node = Plan::primary()
        .yaml("hold: 1s\nsource:\n  timeout: 500ms")
        .start()
        .await;
    let mut peer = Peer::connect(node.port).await;
    peer.send(source_head(
        "PUT /live.mp3 HTTP/1.1",
        &node.source_password(),
        "",
    ))
    .await;
    assert_eq!(peer.head().await.status, 200);
    let said = String::from_utf8(peer.rest().await).unwrap();
    assert!(said.contains("408 ") && said.contains("proxy"), "{said}");
}

#[tokio::test]
async fn garbage_is_415_and_names_the_type() {
    let node = Plan::primary().start().await;
    let mut peer = Peer::connect(node.port).await;
    peer.send(source_head(
        "PUT /live.mp3 HTTP/1.1",
        &node.source_password(),
        "",
    ))
    .await;
    assert_eq!(peer.head().await.status, 200);
    // No byte of it could begin a frame.
    let _ = peer.try_send(&[0x55; 128 * 1024]).await;
    let said = String::from_utf8(peer.rest().await).unwrap();
    assert!(
        said.contains("415 ") && said.contains("Content-Type"),
        "{said}"
    );
    let (head, _) = node.get("/live.mp3").await;
    assert_eq!(head.status, 404);
}
