//! A herd after a death, those who do not follow a redirect, and those for whom there is no place.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use crate::harness::cluster::{Cluster, api, follow};
use crate::harness::node::Node;
use crate::harness::peer::{Head, Peer};
use crate::harness::source::{Source, listen_with, strip};
use crate::harness::tone::{self, FRAME};
use crate::harness::{address, eventually};

const MOUNT: &str = "/live.mp3";

/// Listeners that come at once.
const HERD: u16 = 1_000;

/// Most listeners of a relay; a twentieth of it may join in a second.
const MOST: u16 = 2_000;

async fn ask_as(node: &Node, n: u16, agent: &str) -> Head {
    let mut peer = Peer::connect_from(address(n), node.port).await;
    peer.send(format!(
        "GET {MOUNT} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: {agent}\r\n\r\n"
    ))
    .await;
    peer.head().await
}

#[tokio::test]
async fn a_thousand_come_at_once_after_a_kill_and_everybody_gets_a_place() {
    let limit = format!("max_listeners: {MOST}");
    let mut cluster = Cluster::start_with(4, "serve: never", &limit).await;
    let _source = Source::start(&cluster.primary, MOUNT).await;
    cluster.on_air(MOUNT).await;
    let mut lost = Vec::new();
    for n in 0..40 {
        lost.push(follow(address(n), cluster.primary.port, MOUNT, "").await);
    }
    let mut killed = cluster.relays.remove(0);
    killed.kill();
    let begin = Instant::now();
    let door = Arc::new(Semaphore::new(400));
    let port = cluster.primary.port;
    let coming = (0..HERD).map(|n| {
        let door = Arc::clone(&door);
        tokio::spawn(async move {
            let passing = door.acquire().await.unwrap();
            let agent = format!("User-Agent: herd/{n}\r\n");
            let mut peer = Peer::connect_from(address(n), port).await;
            peer.send(format!(
                "GET {MOUNT} HTTP/1.1\r\nHost: localhost\r\n{agent}\r\n"
            ))
            .await;
            let head = peer.head().await;
            assert_eq!(
                head.status, 302,
                "an error that pacing could have avoided: {head:?}"
            );
            drop(peer);
            let sent_at = begin.elapsed();
            let location = head.get("location").unwrap().to_owned();
            let rest = location.strip_prefix("http://127.0.0.1:").unwrap();
            let (digits, path) = rest.split_once('/').unwrap();
            let to: u16 = digits.parse().unwrap();
            let Ok(mut peer) = Peer::try_connect(address(n), to).await else {
                // Sent to the dead before anybody knew: it comes again.
                let guest = follow(address(n), port, MOUNT, &agent).await;
                drop(passing);
                return (guest.port, begin.elapsed(), guest.peer);
            };
            peer.send(format!(
                "GET /{path} HTTP/1.1\r\nHost: localhost\r\n{agent}\r\n"
            ))
            .await;
            let head = peer.head().await;
            assert_eq!(head.status, 200, "{head:?}");
            drop(passing);
            (to, sent_at, peer)
        })
    });
    let coming: Vec<_> = coming.collect();
    let mut joins: BTreeMap<u16, Vec<Duration>> = BTreeMap::new();
    let mut seated = Vec::new();
    for one in coming {
        let (to, at, peer) = one.await.unwrap();
        joins.entry(to).or_default().push(at);
        seated.push(peer);
    }
    println!(
        "{HERD} back, the last {:.2} s after the kill",
        begin.elapsed().as_secs_f64()
    );
    let rate = usize::from(MOST / 20);
    for (port, times) in &mut joins {
        times.sort();
        let within = |from: &Duration| {
            let second = *from + Duration::from_secs(1);
            times
                .iter()
                .filter(|at| *at >= from && **at < second)
                .count()
        };
        let busiest = times.iter().map(within).max().unwrap_or(0);
        println!(
            "port {port}: {} joins, {busiest} in its busiest second (bucket {rate}/s and as much at once)",
            times.len()
        );
        assert!(busiest <= 2 * rate + 10, "{busiest}");
    }
    assert_eq!(
        joins.values().map(Vec::len).sum::<usize>(),
        usize::from(HERD)
    );
    for mut peer in seated {
        tone::run(&peer.exact(FRAME).await);
    }
}

#[tokio::test]
async fn a_front_holds_its_listeners_over_its_own_ring() {
    let cluster = Cluster::start_with(1, "mode: proxy", "").await;
    let _source = Source::start(&cluster.primary, MOUNT).await;
    cluster.on_air(MOUNT).await;
    let (mut peer, head) = listen_with(cluster.primary.port, MOUNT, "Icy-MetaData: 1\r\n").await;
    assert_eq!(head.get("x-relayctl-reason"), Some("proxy"));
    assert_eq!(head.get("x-relayctl-node"), Some("head"));
    let metaint = head.get("icy-metaint").unwrap().parse().unwrap();
    let bytes = peer.exact(40_000).await;
    tone::run(&strip(&bytes, metaint).0);
    let pick = &api(&cluster.primary, "picks").await[0];
    assert_eq!(
        (&pick["mode"], &pick["node"]),
        (&"proxy".into(), &"head".into())
    );
    // Counted once, where its socket is.
    eventually("the table counts it once", async || {
        let rows = cluster.table().await;
        let counts: Vec<_> = rows
            .iter()
            .map(|row| (row["name"].clone(), row["listeners"].clone()))
            .collect();
        let one = counts.contains(&("head".into(), 1.into()));
        (one && counts.contains(&("relay-0".into(), 0.into()))).then_some(())
    })
    .await;
}

#[tokio::test]
async fn auto_holds_who_does_not_follow() {
    let cluster = Cluster::start_with(1, "mode: auto", "").await;
    let _source = Source::start(&cluster.primary, MOUNT).await;
    cluster.on_air(MOUNT).await;
    let known = ask_as(&cluster.primary, 1, "ESP8266Audio/1.9").await;
    assert_eq!(
        (known.status, known.get("x-relayctl-reason")),
        (200, Some("proxy-player"))
    );
    // One that is redirected and never arrives is held at last.
    eventually("it is held", async || {
        let head = ask_as(&cluster.primary, 2, "mystery/1").await;
        assert!([200, 302].contains(&head.status), "{head:?}");
        (head.get("x-relayctl-reason") == Some("proxy-lost")).then_some(())
    })
    .await;
    // One that arrives is not.
    for _ in 0..3 {
        let guest = follow(address(3), cluster.primary.port, MOUNT, "").await;
        assert_eq!(guest.port, cluster.relays[0].port);
    }
}

/// Somebody comes to the primary and goes where it is sent: why there, the port, and its connection.
async fn come(cluster: &Cluster, n: u16) -> (String, u16, Peer) {
    let own = cluster.primary.port;
    let mut peer = Peer::connect_from(address(n), own).await;
    peer.send(format!("GET {MOUNT} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
        .await;
    let head = peer.head().await;
    let reason = head.get("x-relayctl-reason").unwrap().to_owned();
    if head.status != 302 {
        assert_eq!(head.status, 200, "{head:?}");
        return (reason, own, peer);
    }
    let location = head.get("location").unwrap();
    let rest = location.strip_prefix("http://127.0.0.1:").unwrap();
    let (digits, path) = rest.split_once('/').unwrap();
    let port = digits.parse().unwrap();
    let mut peer = Peer::connect_from(address(n), port).await;
    peer.send(format!("GET /{path} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
        .await;
    let head = peer.head().await;
    assert_eq!(head.status, 200, "{reason}: {head:?}");
    (reason, port, peer)
}

/// A relay of twenty places: nineteen, then the one that it keeps, then the primary itself.
#[tokio::test]
async fn the_last_places_then_the_primary() {
    let cluster = Cluster::start_with(1, "", "max_listeners: 20").await;
    let _source = Source::start(&cluster.primary, MOUNT).await;
    cluster.on_air(MOUNT).await;
    let (relay, mut seated) = (cluster.relays[0].port, Vec::new());
    let has = async |listeners: u64| {
        eventually(&format!("the table says {listeners}"), async || {
            let rows = cluster.table().await;
            let row = rows.iter().find(|row| row["role"] == "relay")?;
            (row["listeners"] == listeners && row["full"] == true).then_some(())
        })
        .await;
    };
    for n in 0..19 {
        let (reason, port, peer) = come(&cluster, n).await;
        assert_eq!(port, relay, "{reason}");
        assert_ne!(reason, "soft-cap");
        seated.push(peer);
    }
    has(19).await;
    let (reason, port, peer) = come(&cluster, 19).await;
    assert_eq!((reason.as_str(), port), ("soft-cap", relay));
    seated.push(peer);
    has(20).await;
    let (reason, port, mut peer) = come(&cluster, 20).await;
    assert_eq!(
        (reason.as_str(), port),
        ("primary-serves", cluster.primary.port)
    );
    tone::run(&peer.exact(50 * FRAME).await);
}

#[tokio::test]
async fn whoever_finds_no_place_goes_to_the_overflow() {
    let settings = "serve: never\noverflow_url: http://elsewhere.example/live";
    let cluster = Cluster::start_with(1, settings, "max_listeners: 1").await;
    let _source = Source::start(&cluster.primary, MOUNT).await;
    cluster.on_air(MOUNT).await;
    let _guest = follow(address(1), cluster.primary.port, MOUNT, "").await;
    eventually("the next one is sent there", async || {
        let head = ask_as(&cluster.primary, 2, "late/1").await;
        let there = head.get("location") == Some("http://elsewhere.example/live");
        assert!(there || head.status == 302, "{head:?}");
        there.then_some(())
    })
    .await;
}
