//! Relays: how they join, what they carry, and what they hand up.

use crate::harness::cluster::{Cluster, nodes_of};
use crate::harness::eventually;
use crate::harness::node::Plan;
use crate::harness::peer::{Peer, ask};
use crate::harness::source::{
    Framing, Source, listen, listen_with, off_air, on_air, set_title, source_head, strip,
};
use crate::harness::tone::{self, FRAME};
use crate::harness::two_free_ports;

const MOUNT: &str = "/live.mp3";

#[tokio::test]
async fn a_relay_carries_what_its_primary_has() {
    let cluster = Cluster::start_with(2, "hold: 1s", "hold: 1s").await;
    let source = Source::start(&cluster.primary, MOUNT).await;
    cluster.on_air(MOUNT).await;
    for relay in &cluster.relays {
        let (mut listener, head) = listen(relay.port, MOUNT).await;
        assert_eq!(head.get("content-type"), Some("audio/mpeg"));
        tone::run(&listener.exact(300 * FRAME).await);
    }
    // Another one comes, the first one goes.
    let _talk = Source::start(&cluster.primary, "/talk.mp3").await;
    cluster.on_air("/talk.mp3").await;
    source.finish().await;
    for relay in &cluster.relays {
        off_air(relay.port, MOUNT).await;
        let (mut listener, _) = listen(relay.port, "/talk.mp3").await;
        tone::run(&listener.exact(FRAME).await);
    }
}

#[tokio::test]
async fn a_gap_of_the_source_is_no_gap_on_a_relay() {
    let cluster = Cluster::start(1).await;
    let source = Source::start(&cluster.primary, MOUNT).await;
    cluster.on_air(MOUNT).await;
    let (mut listener, _) = listen(cluster.relays[0].port, MOUNT).await;
    let mut heard = listener.exact(100 * FRAME).await;
    let (_, next) = source.finish().await;
    eventually("the source is lost", async || {
        cluster
            .primary
            .get("/health")
            .await
            .1
            .contains("\"lost\"")
            .then_some(())
    })
    .await;
    let _source = Source::start_at(&cluster.primary, MOUNT, next).await;
    while tone::run(&heard).end() < next + 100 {
        heard.extend(listener.exact(FRAME).await);
    }
}

#[tokio::test]
async fn headers_and_titles_are_carried() {
    let cluster = Cluster::start_with(2, "", "metaint: 4096").await;
    let primary = &cluster.primary;
    let mut peer = Peer::connect(primary.port).await;
    let more = "ice-name: Relayed\r\nice-genre: dub\r\nice-bitrate: 128\r\n";
    peer.send(source_head(
        "SOURCE /live.mp3 ICE/1.0",
        &primary.source_password(),
        more,
    ))
    .await;
    assert_eq!(peer.head().await.status, 200);
    let source = Source::over(peer, Framing::Raw, 0);
    cluster.on_air(MOUNT).await;
    let ask = "Icy-MetaData: 1\r\n";
    let mut listeners = Vec::new();
    for relay in &cluster.relays {
        let (peer, head) = listen_with(relay.port, MOUNT, ask).await;
        let fields = ["icy-name", "icy-genre", "icy-br", "icy-metaint"]
            .map(|name| head.get(name).unwrap_or("-"));
        assert_eq!(fields, ["Relayed", "dub", "128", "4096"]);
        listeners.push(peer);
    }
    for title in ["one", "two", "three"] {
        set_title(primary.port, MOUNT, &primary.source_password(), title).await;
        let from = source.sent();
        eventually("the source goes on", async || {
            (source.sent() > from + 60).then_some(())
        })
        .await;
    }
    for peer in &mut listeners {
        let mut bytes = Vec::new();
        let mut said: Vec<String> = Vec::new();
        while said.len() < 3 {
            bytes.extend(peer.exact(4096).await);
            let (audio, titles) = strip(&bytes, 4096);
            tone::run(&audio);
            said = titles
                .into_iter()
                .map(|(_, title)| title)
                .filter(|title| !title.is_empty())
                .collect();
        }
        assert_eq!(said, ["one", "two", "three"]);
    }
}

#[tokio::test]
async fn a_relay_that_comes_first_waits_and_says_so() {
    let port = two_free_ports();
    let token = "a-token-that-the-operator-gave-both-of-them";
    let relay = Plan::joining(port, token).start().await;
    eventually("it says that it waits", async || {
        relay.log().contains("not joined yet").then_some(())
    })
    .await;
    assert_eq!(relay.get("/health").await.0.status, 200);
    assert_eq!(relay.get("/readyz").await.0.status, 503);
    let primary = Plan::primary()
        .port(port)
        .flag("--token", token)
        .start()
        .await;
    let _source = Source::start(&primary, MOUNT).await;
    on_air(relay.port, MOUNT).await;
    assert_eq!(relay.get("/readyz").await.0.status, 200);
    relay.is_ready().await;
}

#[tokio::test]
async fn a_wrong_token_is_refused_and_said() {
    let primary = Plan::primary().start().await;
    let relay = Plan::joining(primary.port, "rctl1.nobody.000000000000")
        .start()
        .await;
    primary.refused("join_token", 1.0).await;
    eventually("the relay says why", async || {
        relay.log().contains("token").then_some(())
    })
    .await;
    let rows = nodes_of(&primary).await;
    assert!(rows.iter().all(|row| row["role"] == "primary"), "{rows:?}");
    assert_eq!(relay.get("/readyz").await.0.status, 503);
}

#[tokio::test]
async fn a_beat_from_an_unknown_node_is_refused() {
    let primary = Plan::primary().start().await;
    let body = "{\"v\":1,\"id\":\"nobody\",\"incarnation\":1,\"seq\":1}";
    let request = |path: &str, token: &str, body: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: close\r\n\
             Authorization: Bearer {token}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    for token in ["", "x", "rctl1.a.b"] {
        let (head, _) = ask(primary.port, request("/cluster/v1/beat", token, body)).await;
        assert!([401, 400, 422].contains(&head.status), "{head:?}");
        let (head, _) = ask(primary.port, request("/cluster/v1/join", token, "{}")).await;
        assert!((400..500).contains(&head.status), "{head:?}");
    }
    // The stream and the feed are for members, too.
    for path in [
        "/cluster/v1/feed",
        "/cluster/v1/stream/live.mp3?epoch=0&offset=0",
    ] {
        let (head, _) = primary.get(path).await;
        assert_eq!(head.status, 401, "{path}");
    }
}

#[tokio::test]
async fn a_source_and_its_titles_that_land_on_a_relay_reach_the_primary() {
    let cluster = Cluster::start_with(1, "", "metaint: 4096").await;
    let (primary, relay) = (&cluster.primary, &cluster.relays[0]);
    for (first, framing, more) in [
        ("SOURCE /raw.mp3 ICE/1.0", Framing::Raw, ""),
        (
            "PUT /put.mp3 HTTP/1.1",
            Framing::Raw,
            "Expect: 100-continue\r\n",
        ),
    ] {
        let mut peer = Peer::connect(relay.port).await;
        peer.send(source_head(first, &primary.source_password(), more))
            .await;
        let mut head = peer.head().await;
        if head.status == 100 {
            head = peer.head().await;
        }
        assert_eq!(head.status, 200, "{first}");
        let mount = first.split(' ').nth(1).unwrap();
        let _source = Source::over(peer, framing, 0);
        for node in [primary, relay] {
            on_air(node.port, mount).await;
        }
        set_title(
            relay.port,
            mount,
            &primary.source_password(),
            "by way of a relay",
        )
        .await;
        let (mut listener, _) = listen_with(relay.port, mount, "Icy-MetaData: 1\r\n").await;
        let mut bytes = Vec::new();
        eventually("the title is heard", async || {
            bytes.extend(listener.exact(4096).await);
            let (audio, titles) = strip(&bytes, 4096);
            tone::run(&audio);
            titles
                .iter()
                .any(|(_, title)| title == "by way of a relay")
                .then_some(())
        })
        .await;
    }
    // And a Shoutcast v1 source.
    let mut peer = Peer::connect(relay.port).await;
    peer.send(format!("{}\r\n", primary.source_password()))
        .await;
    assert_eq!(peer.exact(20).await, b"OK2\r\nicy-caps:11\r\n\r\n");
    peer.send("content-type:audio/mpeg\r\n\r\n").await;
    let _source = Source::over(peer, Framing::Raw, 0);
    on_air(primary.port, "/stream").await;
}

#[tokio::test]
async fn a_source_on_a_relay_without_its_primary_is_told_where_to_go() {
    let relay = Plan::joining(two_free_ports(), "some-token").start().await;
    let (head, body) = ask(relay.port, source_head("PUT /live.mp3 HTTP/1.1", "x", "")).await;
    assert_eq!(head.status, 502);
    assert!(body.contains("http://127.0.0.1:"), "{body}");
}

#[tokio::test]
async fn a_relay_that_is_told_to_end_leaves_the_table_at_once() {
    let mut cluster = Cluster::start(2).await;
    let mut leaving = cluster.relays.remove(0);
    assert!(leaving.terminate().await.success());
    eventually("it has left", async || {
        let rows = cluster.table().await;
        rows.iter()
            .all(|row| row["name"] != "relay-0")
            .then_some(())
    })
    .await;
    // The last one too: nobody is missed.
    let mut last = cluster.relays.remove(0);
    assert!(last.terminate().await.success());
    eventually("nobody is left", async || {
        (cluster.table().await.len() == 1).then_some(())
    })
    .await;
    assert!(cluster.primary.terminate().await.success());
    let log = cluster.primary.log();
    assert!(!log.contains("fewer than half"), "{log}");
    assert!(!log.contains("suspect"), "{log}");
}

/// A primary that ends closes its relays' connections itself: that is no reason to suspect them.
#[tokio::test]
async fn a_primary_that_is_told_to_end_suspects_nobody() {
    let mut cluster = Cluster::start(1).await;
    assert!(cluster.primary.terminate().await.success());
    let log = cluster.primary.log();
    assert!(!log.contains("suspect"), "{log}");
}

#[tokio::test]
async fn two_live_nodes_of_one_name_are_not_taken() {
    let cluster = Cluster::start(1).await;
    let twin = Plan::relay(&cluster.primary).name("relay-0").start().await;
    eventually("the twin is told", async || {
        twin.log().contains("relay-0").then_some(())
    })
    .await;
    assert_eq!(
        cluster
            .table()
            .await
            .iter()
            .filter(|row| row["name"] == "relay-0")
            .count(),
        1
    );
    assert_eq!(twin.get("/readyz").await.0.status, 503);
}

#[tokio::test]
async fn a_relay_without_a_url_serves_who_comes_and_gets_nobody() {
    let cluster = Cluster::start_with(1, "", "public_url: none").await;
    let _source = Source::start(&cluster.primary, MOUNT).await;
    cluster.on_air(MOUNT).await;
    let row = cluster
        .table()
        .await
        .into_iter()
        .find(|r| r["role"] == "relay")
        .unwrap();
    assert_eq!(row["public_url"], "", "{row}");
    // By the platform's balancer to the relay itself, and by the primary to the primary.
    for node in [&cluster.relays[0], &cluster.primary] {
        let (mut listener, head) = listen(node.port, MOUNT).await;
        assert_eq!(head.status, 200);
        tone::run(&listener.exact(100 * FRAME).await);
    }
}
