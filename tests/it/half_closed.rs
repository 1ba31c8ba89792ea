//! Clients that close their writing side behind their request, as `nc -N` and old players do: each is answered, and a listener
//! goes on.

use crate::harness::cluster::Cluster;
use crate::harness::node::{Node, Plan};
use crate::harness::peer::{Head, Peer};
use crate::harness::source::{Framing, Source, basic, framed, login, on_air, source_head};
use crate::harness::tls::Certificate;
use crate::harness::tone::{self, FRAME};

const MOUNT: &str = "/live.mp3";

/// Says all of it, closes its writing side, and reads a head.
async fn say(port: u16, request: &str) -> (Peer, Head) {
    let mut peer = Peer::connect(port).await;
    peer.send(request).await;
    peer.finish().await;
    let head = peer.head().await;
    (peer, head)
}

/// Everything that ends by itself, asked at `port`.
async fn each_is_answered(port: u16, node: &Node) {
    let admin = login("admin", &node.secret("admin-password"));
    let title = "GET /admin/metadata?mode=updinfo&mount=/live.mp3&song=x HTTP/1.0\r\n";
    let title = format!("{title}{}\r\n", basic(&node.source_password()));
    let order = "POST /api/v1/listeners/999999/kick HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n";
    let order = format!("{order}{admin}Content-Length: 2\r\n\r\n{{}}");
    let with = |first: &str, more: &str| format!("{first} HTTP/1.1\r\nHost: x\r\n{more}\r\n");
    for (request, statuses) in [
        (with("GET /", ""), [200, 200]),
        (with("HEAD /", ""), [200, 200]),
        (with("OPTIONS /live.mp3", ""), [204, 204]),
        ("GET /health HTTP/1.0\r\n\r\n".to_owned(), [200, 200]),
        (with("GET /status-json.xsl", ""), [200, 200]),
        (with("GET /live.mp3.m3u", ""), [200, 200]),
        (with("GET /api/v1/status", &admin), [200, 200]),
        (with("GET /api/v1/status", ""), [401, 401]),
        (with("GET /nothing.mp3", ""), [404, 404]),
        (with("HEAD /live.mp3", ""), [200, 302]),
        (with("POST /live.mp3", ""), [405, 405]),
        (title, [200, 200]),
        (order, [404, 404]),
    ] {
        let (mut peer, head) = say(port, &request).await;
        assert!(statuses.contains(&head.status), "{request}: {head:?}");
        peer.rest().await;
    }
}

/// A listener at `port` who has said all, and hears more than what is given at once.
async fn hears_on(port: u16) {
    let (mut peer, head) = say(port, &format!("GET {MOUNT} HTTP/1.0\r\n\r\n")).await;
    assert_eq!(head.status, 200, "{head:?}");
    tone::run(&peer.exact(250 * FRAME).await);
}

#[tokio::test]
async fn everybody_is_answered_and_a_listener_goes_on() {
    let certificate = Certificate::new();
    let node = Plan::primary().yaml(&certificate.yaml()).start().await;
    let _source = Source::start(&node, MOUNT).await;
    let tunnel = certificate.tunnel(node.port).await;
    for port in [node.port, tunnel] {
        each_is_answered(port, &node).await;
        hears_on(port).await;
    }
}

#[tokio::test]
async fn all_requests_are_answered_that_came_in_one_piece() {
    let node = Plan::primary().start().await;
    let one = "GET /nothing.mp3 HTTP/1.1\r\nHost: x\r\n\r\n";
    let health = "GET /health HTTP/1.1\r\nHost: x\r\n\r\n";
    let (mut peer, head) = say(node.port, &format!("{health}{health}{one}")).await;
    assert_eq!(head.status, 200, "{head:?}");
    let rest = String::from_utf8(peer.rest().await).unwrap();
    assert_eq!(rest.matches("HTTP/1.1 200 OK").count(), 1, "{rest}");
    assert_eq!(rest.matches("HTTP/1.1 404").count(), 1, "{rest}");
}

#[tokio::test]
async fn by_a_relay_too() {
    let cluster = Cluster::start(1).await;
    let (primary, relay) = (&cluster.primary, &cluster.relays[0]);
    // A source that was carried, with its last word.
    let password = primary.source_password();
    let mut peer = Peer::connect(relay.port).await;
    let more = "Transfer-Encoding: chunked\r\n";
    peer.send(source_head("PUT /other.mp3 HTTP/1.1", &password, more))
        .await;
    peer.send(framed(&tone::frames(0, 20), Framing::Chunked))
        .await;
    peer.finish().await;
    let head = peer.head().await;
    assert_eq!(head.status, 200, "{head:?}");
    let _source = Source::start(primary, MOUNT).await;
    cluster.on_air(MOUNT).await;
    on_air(primary.port, MOUNT).await;
    hears_on(relay.port).await;
    let (_, head) = say(primary.port, &format!("GET {MOUNT} HTTP/1.0\r\n\r\n")).await;
    assert_eq!(head.status, 302, "{head:?}");
    // A title, carried to the primary.
    let title = "GET /admin/metadata?mode=updinfo&mount=/live.mp3&song=x HTTP/1.0\r\n";
    let (mut peer, head) = say(relay.port, &format!("{title}{}\r\n", basic(&password))).await;
    assert_eq!(head.status, 200, "{:?}", peer.rest().await);
}
