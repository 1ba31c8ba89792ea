//! Many at once: connections that ask again, bursts of newcomers, limits that hold, and no descriptor left.

use std::net::{IpAddr, Ipv4Addr};

use rustix::process::{Resource, Rlimit};
use tokio::task::JoinSet;

use crate::harness::cluster::Cluster;
use crate::harness::node::{Node, Plan};
use crate::harness::peer::{Head, Peer};
use crate::harness::source::Source;
use crate::harness::{address, eventually};

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn get(target: &str, version: &str, more: &str) -> String {
    format!("GET {target} {version}\r\nHost: localhost\r\n{more}\r\n")
}

/// So many connections at once, each from where `from` says; each asks for the mount and keeps what it gets.
async fn burst(node: &Node, count: u16, from: fn(u16) -> IpAddr) -> Vec<(Peer, Head)> {
    let mut all = JoinSet::new();
    for n in 0..count {
        let port = node.port;
        all.spawn(async move {
            let mut peer = Peer::connect_from(from(n), port).await;
            let more = format!("User-Agent: player {n}\r\n");
            peer.send(get("/live.mp3", "HTTP/1.1", &more)).await;
            let head = peer.head().await;
            (peer, head)
        });
    }
    all.join_all().await
}

fn with(status: u16, all: &[(Peer, Head)]) -> usize {
    all.iter().filter(|(_, head)| head.status == status).count()
}

#[tokio::test]
async fn a_connection_asks_again_after_a_redirect_and_after_an_answer_of_the_api() {
    let cluster = Cluster::start(1).await;
    let _source = Source::start(&cluster.primary, "/live.mp3").await;
    cluster.on_air("/live.mp3").await;
    let mut peer = Peer::connect(cluster.primary.port).await;
    for target in [
        "/live.mp3",
        "/status-json.xsl",
        "/live.mp3?x=1",
        "/health",
        "/live.mp3.m3u",
    ] {
        let (head, body) = peer.ask(get(target, "HTTP/1.1", "")).await;
        let expected = if target.starts_with("/live.mp3") && !target.ends_with(".m3u") {
            302
        } else {
            200
        };
        assert_eq!(head.status, expected, "{target}: {body}");
        assert_eq!(head.get("connection"), Some("keep-alive"), "{target}");
    }
    // Several requests in one piece are answered in their order.
    let two = get("/live.mp3", "HTTP/1.1", "") + &get("/healthz", "HTTP/1.1", "");
    let (head, _) = peer.ask(two).await;
    assert_eq!(head.status, 302);
    let (head, body) = peer.ask("").await;
    assert_eq!((head.status, body.as_str()), (200, "{\"status\":\"ok\"}"));
    // HTTP/1.0 says that it wants to; who says `close` means it.
    let wants = "Connection: keep-alive\r\n";
    let (head, _) = peer.ask(get("/live.mp3", "HTTP/1.0", wants)).await;
    assert_eq!(
        (head.status, head.get("connection")),
        (302, Some("keep-alive"))
    );
    let (head, _) = peer
        .ask(get("/live.mp3", "HTTP/1.1", "Connection: close\r\n"))
        .await;
    assert_eq!((head.status, head.get("connection")), (302, Some("close")));
    assert!(peer.rest().await.is_empty());
    for target in ["/live.mp3", "/status-json.xsl"] {
        let mut old = Peer::connect(cluster.primary.port).await;
        let (head, _) = old.ask(get(target, "HTTP/1.0", "")).await;
        assert_eq!(head.get("connection"), Some("close"), "{target}");
        assert!(old.rest().await.is_empty(), "{target}");
    }
}

/// Answers of one round leave together: each reaches the one who asked for it, round after round.
#[tokio::test]
async fn in_a_storm_on_kept_connections_each_gets_its_own_answers() {
    const PEERS: u16 = 100;
    let cluster = Cluster::start(2).await;
    let _source = Source::start(&cluster.primary, "/live.mp3").await;
    cluster.on_air("/live.mp3").await;
    let mut all = JoinSet::new();
    for n in 0..PEERS {
        let port = cluster.primary.port;
        all.spawn(async move {
            let mut peer = Peer::connect_from(address(n), port).await;
            for round in 0..20 {
                let who = format!("?who={n}-{round}&");
                let more = format!("User-Agent: player {n}\r\n");
                let target = format!("/live.mp3{}", who.trim_end_matches('&'));
                peer.send(get(&target, "HTTP/1.1", &more)).await;
                let (head, _) = peer.ask("").await;
                assert_eq!(head.get("connection"), Some("keep-alive"));
                let location = head.get("location").unwrap_or_default();
                assert!(location.contains(&who), "{n}, {round}: {}", head.status);
            }
            // The last one ends the connection, behind all that was answered.
            let last = get("/live.mp3?who=last", "HTTP/1.1", "Connection: close\r\n");
            let (head, _) = peer.ask(last).await;
            assert!(
                head.get("location")
                    .unwrap_or_default()
                    .contains("?who=last&")
            );
            assert!(peer.rest().await.is_empty());
        });
    }
    all.join_all().await;
}

#[tokio::test]
async fn requests_that_fill_a_read_to_the_byte_are_all_answered() {
    // What the front reads at once is sixteen of these.
    const EACH: usize = 512;
    let cluster = Cluster::start(2).await;
    let _source = Source::start(&cluster.primary, "/live.mp3").await;
    cluster.on_air("/live.mp3").await;
    let padded = |n: u32| {
        let target = format!("/live.mp3?who={n}");
        let bare = get(&target, "HTTP/1.1", "X-Pad: \r\n").len();
        let pad = format!("X-Pad: {}\r\n", "y".repeat(EACH - bare));
        get(&target, "HTTP/1.1", &pad)
    };
    let requests: Vec<String> = (0..17).map(padded).collect();
    assert!(requests.iter().all(|request| request.len() == EACH));
    let mut peer = Peer::connect(cluster.primary.port).await;
    // Only of a connection that it knows already the readiness queue does not say again that more is there.
    let (head, _) = peer.ask(padded(99)).await;
    assert_eq!(head.status, 302);
    peer.send(requests.concat()).await;
    for n in 0..17 {
        let (head, _) = peer.ask("").await;
        let location = head.get("location").unwrap_or_default();
        assert!(location.contains(&format!("?who={n}&")), "{n}: {location}");
    }
}

#[tokio::test]
async fn one_who_stood_in_line_keeps_its_connection() {
    // A relay of 400 places is given 20 newcomers at once and 20 a second from then on.
    let cluster = Cluster::start_with(1, "serve: never", "max_listeners: 400").await;
    let _source = Source::start(&cluster.primary, "/live.mp3").await;
    cluster.on_air("/live.mp3").await;
    let mut peer = Peer::connect(cluster.primary.port).await;
    for n in 0..30 {
        let more = format!("User-Agent: player {n}\r\n");
        let (head, _) = peer.ask(get("/live.mp3", "HTTP/1.1", &more)).await;
        assert_eq!(
            (head.status, head.get("connection")),
            (302, Some("keep-alive")),
            "{n}"
        );
    }
}

#[tokio::test]
async fn audio_may_follow_on_a_connection_that_was_kept() {
    let node = Plan::primary().start().await;
    let _source = Source::start(&node, "/live.mp3").await;
    crate::harness::source::on_air(node.port, "/live.mp3").await;
    let mut peer = Peer::connect(node.port).await;
    for target in ["/status-json.xsl", "/readyz"] {
        let (head, _) = peer.ask(get(target, "HTTP/1.1", "")).await;
        assert_eq!(
            (head.status, head.get("connection")),
            (200, Some("keep-alive"))
        );
    }
    peer.send(get("/live.mp3", "HTTP/1.1", "")).await;
    let head = peer.head().await;
    assert_eq!((head.status, head.get("connection")), (200, Some("close")));
    crate::harness::tone::run(&peer.exact(10 * crate::harness::tone::FRAME).await);
}

#[tokio::test]
async fn a_thousand_at_once_are_all_let_in() {
    let node = Plan::primary().start().await;
    let _source = Source::start(&node, "/live.mp3").await;
    crate::harness::source::on_air(node.port, "/live.mp3").await;
    for from in [|_: u16| LOCALHOST, address] {
        let all = burst(&node, 1000, from).await;
        assert_eq!(with(200, &all), 1000);
    }
    for reason in ["heads", "heads_per_address", "evicted_head", "slow_head"] {
        node.refused(reason, 0.0).await;
    }
}

#[tokio::test]
async fn limits_hold_in_a_storm() {
    // A stream of 128 kbit/s: 101 of them are 12.928 Mbit/s, one more would be 13.056.
    let limits = [
        ("max_listeners: 100", 100),
        ("max_bandwidth: 13Mbit", 101),
        ("mounts:\n  - path: /live.mp3\n    max_listeners: 99", 99),
    ];
    for (limit, most) in limits {
        let node = Plan::primary().yaml(limit).start().await;
        let _source = Source::start(&node, "/live.mp3").await;
        eventually("the mount plays", async || {
            let request = "HEAD /live.mp3 HTTP/1.0\r\n\r\n";
            let (head, _) = crate::harness::peer::ask(node.port, request).await;
            (head.status == 200).then_some(())
        })
        .await;
        let all = burst(&node, 2000, address).await;
        assert_eq!(
            (with(200, &all), with(503, &all)),
            (most, 2000 - most),
            "{limit}"
        );
        let mut places = all.into_iter().filter(|(_, head)| head.status == 200);
        // A place that is given up is taken again, and no more than that.
        drop(places.next());
        eventually("the place is free again", async || {
            let left = node
                .metric("relayctl_listeners", "mount=\"/live.mp3\"")
                .await;
            (left as usize == most - 1).then_some(())
        })
        .await;
        let again = burst(&node, 10, address).await;
        assert!(with(200, &again) <= 1, "{limit}");
    }
}

#[tokio::test]
async fn without_descriptors_health_is_answered_and_it_is_said_once() {
    let node = Plan::primary().start().await;
    let pid = rustix::process::Pid::from_raw(node.pid()).unwrap();
    let open = std::fs::read_dir(format!("/proc/{}/fd", node.pid())).unwrap();
    let few = open.count() as u64 + 20;
    let limit = |current| Rlimit {
        current: Some(current),
        maximum: Some(20_000),
    };
    let before = rustix::process::prlimit(Some(pid), Resource::Nofile, limit(few)).unwrap();
    // Half heads are no idle connections: they keep their descriptors.
    let mut halves = Vec::new();
    for _ in 0..40 {
        let mut peer = Peer::connect(node.port).await;
        let _ = peer.try_send(b"GET /half HTTP/1.1\r\n").await;
        halves.push(peer);
    }
    eventually("the want is counted", async || {
        // The question itself may be the one that is told.
        let (head, _) = crate::harness::peer::ask(node.port, "GET /health HTTP/1.0\r\n\r\n").await;
        (head.status == 200 && node.log().contains("no descriptor left")).then_some(())
    })
    .await;
    rustix::process::prlimit(Some(pid), Resource::Nofile, before).unwrap();
    drop(halves);
    let (head, _) = node.get("/status-json.xsl").await;
    assert_eq!(head.status, 200);
    assert_eq!(node.log().matches("no descriptor left").count(), 1);
}
