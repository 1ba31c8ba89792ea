//! Listeners who come with a token: first in line where they come back for another place, and never sent round.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::harness::cluster::Cluster;
use crate::harness::node::Node;
use crate::harness::peer::{Head, Peer};
use crate::harness::source::Source;
use crate::harness::tone::{self, FRAME};
use crate::harness::{address, eventually};

const MOUNT: &str = "/live.mp3";

/// Newcomers at once: more than one relay's bucket of 20 and what it gets in the 5 s of the line.
const HERD: u16 = 90;

/// Somebody asks; the connection and the head.
async fn ask(n: u16, port: u16, target: &str) -> (Peer, Head) {
    let mut peer = Peer::connect_from(address(n), port).await;
    peer.send(format!(
        "GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n"
    ))
    .await;
    let head = peer.head().await;
    (peer, head)
}

/// Port and target of a redirect.
fn place_of(head: &Head) -> (u16, String) {
    let location = head.get("location").unwrap();
    let rest = location.strip_prefix("http://127.0.0.1:").unwrap();
    let (digits, path) = rest.split_once('/').unwrap();
    (digits.parse().unwrap(), format!("/{path}"))
}

#[tokio::test]
async fn whoever_lost_its_relay_passes_before_those_who_wait() {
    let mut cluster = Cluster::start_with(2, "serve: never", "max_listeners: 400").await;
    let _source = Source::start(&cluster.primary, MOUNT).await;
    cluster.on_air(MOUNT).await;
    let port = cluster.primary.port;
    let (_, head) = ask(1, port, MOUNT).await;
    let (relay, target) = place_of(&head);
    assert!(target.contains("rt="), "{target}");
    let (mut peer, head) = ask(1, relay, &target).await;
    assert_eq!(head.status, 200, "{head:?}");
    tone::run(&peer.exact(50 * FRAME).await);
    let dies = cluster.relays.iter().position(|node| node.port == relay);
    let mut dead = cluster.relays.remove(dies.unwrap());
    dead.kill();
    tone::run(&peer.ended().await);
    eventually("its relay is out of the pool", async || {
        let rows = cluster.table().await;
        let ready = |row: &&serde_json::Value| row["role"] == "relay" && row["state"] == "ready";
        (rows.iter().filter(ready).count() == 1).then_some(())
    })
    .await;
    let answered = Arc::new(AtomicUsize::new(0));
    let herd = (100..100 + HERD).map(|n| {
        let answered = Arc::clone(&answered);
        tokio::spawn(async move {
            let (_peer, head) = ask(n, port, MOUNT).await;
            answered.fetch_add(1, Ordering::SeqCst);
            head.status
        })
    });
    let herd: Vec<_> = herd.collect();
    eventually("the bucket is empty, and there is a line", async || {
        (answered.load(Ordering::SeqCst) >= 20).then_some(())
    })
    .await;
    let before = answered.load(Ordering::SeqCst);
    let (_, head) = ask(1, port, &target).await;
    let after = answered.load(Ordering::SeqCst);
    println!("of {HERD} {before} had an answer when it came back, {after} when it had its own");
    assert_eq!(head.status, 302, "{head:?}");
    // The same token at the relay that is left, while others wait for it: it plays at once.
    let old = &target;
    let left = cluster.relays[0].port;
    let (mut direct, answer) = ask(2, left, old).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    tone::run(&direct.exact(FRAME).await);
    let (relay, target) = place_of(&head);
    let (mut peer, head) = ask(1, relay, &target).await;
    assert_eq!(head.status, 200, "{head:?}");
    tone::run(&peer.exact(FRAME).await);
    let waited = usize::from(HERD) - before;
    assert!(waited >= 30, "nobody waited: {before} were through");
    assert!(
        after - before <= waited / 3,
        "it stood behind {}",
        after - before
    );
    for one in herd {
        let status = one.await.unwrap();
        assert!([302, 503].contains(&status), "{status}");
    }
}

/// Follows whatever it is told; how often, and the last status.
async fn wander(n: u16, mut port: u16, mut target: String) -> (usize, u16) {
    for hops in 0..10 {
        let (_peer, head) = ask(n, port, &target).await;
        if head.status != 302 {
            return (hops, head.status);
        }
        (port, target) = place_of(&head);
    }
    panic!("sent round and round: {target}");
}

/// Waits until a relay that reflects knows that only `well` does not, or that all do.
async fn reflects(relay: &Node, well: Option<u16>) {
    let once = async || {
        let mut peer = Peer::connect(relay.port).await;
        let request = format!("HEAD {MOUNT} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        peer.send(request).await;
        let head = peer.head().await;
        match well {
            Some(well) => head.status == 302 && place_of(&head).0 == well,
            None => head.status == 503,
        }
    };
    eventually("the relay sends nobody to one that reflects", async || {
        for _ in 0..10 {
            if !once().await {
                return None;
            }
        }
        Some(())
    })
    .await;
}

#[tokio::test]
async fn three_hops_and_somebody_serves_or_refuses() {
    let cluster = Cluster::start_with(4, "serve: never", "").await;
    let _source = Source::start(&cluster.primary, MOUNT).await;
    cluster.on_air(MOUNT).await;
    let well = cluster.relays[3].port;
    for name in ["relay-0", "relay-1", "relay-2"] {
        cluster.primary.asked(&["reflect", name, "on"]).await;
    }
    for relay in &cluster.relays[..3] {
        reflects(relay, Some(well)).await;
    }
    // Each of the three sends it to the fourth, whatever token of another it has, and counts.
    let mut target = MOUNT.to_owned();
    for relay in &cluster.relays[..3] {
        let (_, head) = ask(1, relay.port, &target).await;
        assert_eq!(head.status, 302, "{head:?}");
        let (port, next) = place_of(&head);
        assert_eq!(port, well);
        assert_eq!(next.matches("rt=").count(), 1, "{next}");
        target = next;
    }
    cluster.primary.asked(&["reflect", "relay-3", "on"]).await;
    // The third hop was the last one: no relay sends it on, and the one that promised the place keeps it.
    for relay in &cluster.relays[..3] {
        let (_, head) = ask(1, relay.port, &target).await;
        assert!([200, 503].contains(&head.status), "{head:?}");
        println!(
            "after three hops: {} {:?}",
            head.status,
            head.get("x-relayctl-reason")
        );
    }
    let (_, head) = ask(1, well, &target).await;
    assert_eq!(head.status, 200, "{head:?}");
    // Nor does anybody go in circles who comes without one.
    for (n, relay) in (10..).zip(&cluster.relays) {
        let (hops, status) = wander(n, relay.port, MOUNT.to_owned()).await;
        assert!(
            hops <= 3 && [200, 503].contains(&status),
            "{hops} hops, {status}"
        );
    }
    let (hops, status) = wander(20, cluster.primary.port, MOUNT.to_owned()).await;
    assert!(
        hops <= 3 && [200, 503].contains(&status),
        "{hops} hops, {status}"
    );
}
