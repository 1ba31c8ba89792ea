//! Nobody is sent, and no page points, to a URL that leads to the listener's own computer.

use serde_json::Value;

use crate::harness::cluster::{api, follow};
use crate::harness::net::Net;
use crate::harness::node::{Node, Plan};
use crate::harness::peer::{Head, Peer, ask};
use crate::harness::source::{Framing, Source, on_air, source_head};
use crate::harness::{address, eventually, two_free_ports};

const MOUNT: &str = "/live.mp3";

/// A listener of whom a proxy in front says that it is somewhere else.
const AWAY: &str = "X-Forwarded-For: 203.0.113.9\r\n";

async fn head_of(node: &Node, path: &str, host: &str, more: &str) -> Head {
    let mut peer = Peer::connect_to(node.address()).await;
    peer.send(format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\n{more}Connection: close\r\n\r\n"
    ))
    .await;
    peer.head().await
}

async fn body_of(node: &Node, path: &str, host: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    let (head, body) = Peer::connect_to(node.address()).await.ask(request).await;
    assert_eq!(head.status, 200, "{body}");
    body
}

/// The relay of the README's third step: on the primary's own machine, told by no URL of its own.
#[tokio::test]
async fn a_relay_on_loopback_gets_only_who_is_on_its_machine() {
    let port = two_free_ports();
    let primary = Plan::primary()
        .port(port)
        .name("head")
        .flag("--public-url", "http://radio.example.org:8000")
        .start()
        .await;
    let relay = Plan::relay(&primary).name("relay-1").start().await;
    let _source = Source::start(&primary, MOUNT).await;
    on_air(relay.port, MOUNT).await;
    // Who is on the same machine is sent there as ever.
    eventually("the relay gets listeners", async || {
        let guest = follow(address(1), primary.port, MOUNT, "").await;
        (guest.port == relay.port).then_some(())
    })
    .await;
    for _ in 0..5 {
        let head = head_of(&primary, MOUNT, "radio.example.org:8000", AWAY).await;
        assert_eq!((head.status, head.get("location")), (200, None), "{head:?}");
        assert_eq!(head.get("x-relayctl-reason"), Some("no-reach"));
    }
    let picks = api(&primary, "picks").await;
    assert_eq!(picks[0]["reason"], "no-reach", "{picks:?}");
    let warning = format!(
        "listeners elsewhere cannot reach http://127.0.0.1:{}",
        relay.port
    );
    for words in [&["status"][..], &["get", "nodes"]] {
        for node in [&primary, &relay] {
            let said = eventually("it is said", async || {
                let said = node.asked(words).await;
                said.contains(&warning).then_some(said)
            })
            .await;
            assert!(said.contains("--public-url"), "{said}");
        }
    }
    let log = relay.log();
    assert!(
        log.contains("joined, but listeners elsewhere cannot reach"),
        "{log}"
    );
    let rows = api(&primary, "nodes").await;
    let row = rows.iter().find(|row| row["name"] == "relay-1").unwrap();
    assert!(row["warning"].as_str().unwrap().contains(&warning));
    assert_eq!(row["trouble"], Value::Null);
}

/// A machine without a route to the world: what others are told is the address of its interface, and a relay that joined
/// by loopback is not for them.
#[tokio::test]
async fn the_machines_own_address_is_told_and_loopback_is_not() {
    let mut net = Net::new();
    let place = net.place("one");
    let primary = Plan::primary().name("head").at(&place).everywhere();
    let primary = primary.start().await;
    let own = format!("http://{}:{}", place.address, primary.port);
    let printed = primary.printed();
    assert!(
        printed.contains(&format!("relayctl join --primary {own} ")),
        "{printed}"
    );
    let hint = format!("no public URL is set: relays and redirected listeners are told {own}");
    assert!(primary.log().contains(&hint), "{}", primary.log());
    let url = format!("http://127.0.0.1:{}", primary.port);
    let relay = Plan::joining_at(&url, &primary.secret("join-token"))
        .name("relay-1")
        .at(&place)
        .everywhere()
        .start()
        .await;
    relay.is_ready().await;
    let password = primary.source_password();
    let mut peer = Peer::connect_to(primary.address()).await;
    peer.send(source_head("SOURCE /live.mp3 ICE/1.0", &password, ""))
        .await;
    assert_eq!(peer.head().await.status, 200);
    let _source = Source::over(peer, Framing::Raw, 0);
    eventually("the relay is ready and has the mount", async || {
        let rows = api(&primary, "nodes").await;
        let row = rows.into_iter().find(|row| row["name"] == "relay-1")?;
        let has = row["mounts"]
            .as_array()?
            .iter()
            .any(|own| own["bitrate"] != 0);
        (row["state"] == "ready" && has).then_some(())
    })
    .await;
    let head = head_of(&primary, MOUNT, "radio", "").await;
    assert_eq!(
        (head.status, head.get("x-relayctl-reason")),
        (200, Some("no-reach"))
    );
    let said = primary.asked(&["get", "nodes"]).await;
    assert!(
        said.contains("relay-1: listeners elsewhere cannot reach http://127.0.0.1:"),
        "{said}"
    );
}

/// The same for a private URL where the primary has one that everybody reaches.
#[tokio::test]
async fn nobody_from_the_internet_is_sent_to_a_private_url() {
    let mut net = Net::new();
    let (first, second) = (net.place("head"), net.place("relay"));
    let primary = Plan::primary()
        .name("head")
        .flag("--public-url", "http://radio.example.org:8000")
        .at(&first)
        .start()
        .await;
    let relay = Plan::relay_at(&primary, &second).name("relay-1");
    let relay = relay.start().await;
    let private = relay.url();
    let password = primary.source_password();
    let mut peer = Peer::connect_to(primary.address()).await;
    peer.send(source_head("SOURCE /live.mp3 ICE/1.0", &password, ""))
        .await;
    assert_eq!(peer.head().await.status, 200);
    let _source = Source::over(peer, Framing::Raw, 0);
    let near = "X-Forwarded-For: 10.1.2.9\r\n";
    eventually("who is near is sent there", async || {
        let head = head_of(&primary, MOUNT, "radio.example.org", near).await;
        let location = head.get("location").unwrap_or_default();
        location
            .starts_with(&format!("{private}{MOUNT}"))
            .then_some(())
    })
    .await;
    let head = head_of(&primary, MOUNT, "radio.example.org", AWAY).await;
    assert_eq!(head.status, 200, "{head:?}");
    let said = primary.asked(&["get", "nodes"]).await;
    assert!(
        said.contains(&format!("listeners on the Internet cannot reach {private}")),
        "{said}"
    );
}

#[tokio::test]
async fn without_a_public_url_pages_name_the_host_that_was_asked() {
    let node = Plan::primary().start().await;
    let _source = Source::start(&node, MOUNT).await;
    on_air(node.port, MOUNT).await;
    for host in [
        "stream.example:8600",
        "192.0.2.9:8600",
        "[2001:db8::1]:8600",
        "radio.example",
    ] {
        let url = format!("http://{host}{MOUNT}");
        for path in [
            "/live.mp3.m3u",
            "/live.mp3.pls",
            "/live.mp3.xspf",
            "/status-json.xsl",
        ] {
            let body = body_of(&node, path, host).await;
            assert!(body.contains(&url), "{path} of {host}: {body}");
        }
    }
    // Without any, the node says what it takes for its own.
    let (_, body) = ask(node.port, "GET /live.mp3.m3u HTTP/1.0\r\n\r\n").await;
    assert_eq!(body, format!("{}{MOUNT}\r\n", node.url()));
    assert!(
        node.log().contains("this node listens on 127.0.0.1 alone"),
        "{}",
        node.log()
    );
    let set = Plan::primary()
        .flag("--public-url", "http://set.example:1")
        .start()
        .await;
    let _source = Source::start(&set, MOUNT).await;
    on_air(set.port, MOUNT).await;
    let body = body_of(&set, "/live.mp3.m3u", "stream.example:8600").await;
    assert_eq!(body, "http://set.example:1/live.mp3\r\n");
}
