//! How fast newcomers are let in: the join bucket, and relays that have just begun. Counts are asserted, not times.

use std::time::{Duration, Instant};

use crate::harness::cluster::{Cluster, Guest, follow, nodes_of};
use crate::harness::node::Plan;
use crate::harness::peer::Peer;
use crate::harness::source::Source;
use crate::harness::tone::{self, FRAME};
use crate::harness::{address, eventually, within};

const MOUNT: &str = "/live.mp3";

/// Newcomers that one relay of 400 places gets in a second.
const BUCKET: f64 = 20.0;

/// What became of one of a herd.
struct Asked {
    /// The relay's address, or none where it was refused.
    sent_to: Option<String>,
    /// When it was told.
    at: Duration,
}

/// `http://127.0.0.1:PORT` of a URL.
fn origin_of(location: &str) -> String {
    location.split('/').take(3).collect::<Vec<_>>().join("/")
}

/// Three hundred come at once to two relays: each relay gets no more than its bucket has, from the first moment on;
/// whoever is left over is told when to come again.
#[tokio::test]
async fn a_herd_is_let_in_by_the_bucket() {
    let cluster = Cluster::start_with(2, "serve: never", "max_listeners: 400").await;
    let _source = Source::start(&cluster.primary, MOUNT).await;
    cluster.on_air(MOUNT).await;
    let (port, begin) = (cluster.primary.port, Instant::now());
    let herd = (0..300).map(|n| {
        tokio::spawn(async move {
            let mut peer = Peer::connect_from(address(n), port).await;
            peer.send(format!("GET {MOUNT} HTTP/1.1\r\nHost: x\r\n\r\n"))
                .await;
            let head = peer.head().await;
            let at = begin.elapsed();
            let sent_to = match head.status {
                302 => Some(origin_of(head.get("location").unwrap())),
                503 => {
                    assert_eq!(head.get("x-relayctl-reason"), Some("pacing"));
                    assert!(head.get("retry-after").is_some(), "{head:?}");
                    None
                }
                other => panic!("{other}: {head:?}"),
            };
            Asked { sent_to, at }
        })
    });
    let mut asked = Vec::new();
    for one in herd.collect::<Vec<_>>() {
        asked.push(one.await.unwrap());
    }
    let refused = asked.iter().filter(|one| one.sent_to.is_none()).count();
    let mut let_in = 0;
    for relay in &cluster.relays {
        let url = relay.url();
        let mut at: Vec<Duration> = asked
            .iter()
            .filter(|one| one.sent_to.as_deref() == Some(&url[..]))
            .map(|one| one.at)
            .collect();
        at.sort();
        println!("{url}: {} in {:?}", at.len(), at.last());
        for (count, at) in at.iter().enumerate() {
            let most = BUCKET * (1.0 + at.as_secs_f64()) + 1.0;
            assert!(count as f64 + 1.0 <= most, "{} by {at:?}", count + 1);
        }
        assert!(at.len() >= 20, "a whole bucket was there: {}", at.len());
        let_in += at.len();
    }
    assert_eq!(let_in + refused, 300, "{refused} were refused");
}

/// Of twenty newcomers a relay that has just begun gets some, although the other has twenty already: without a slow
/// start it would get all.
#[tokio::test]
async fn a_relay_that_has_just_begun_is_not_flooded() {
    let mut cluster = Cluster::start(1).await;
    let _source = Source::start(&cluster.primary, MOUNT).await;
    cluster.on_air(MOUNT).await;
    let port = cluster.primary.port;
    let mut guests: Vec<Guest> = Vec::new();
    for n in 0..20 {
        let guest = follow(address(n), port, MOUNT, "").await;
        assert_eq!(guest.port, cluster.relays[0].port);
        guests.push(guest);
    }
    // The rule holds from the second minute on.
    let minute = Duration::from_secs(300);
    within(minute, "both are older than a minute", async || {
        // Those who listen read on: nobody is closed as stalled.
        for guest in &mut guests {
            guest.peer.pending();
        }
        let rows = nodes_of(&cluster.primary).await;
        let old = |row: &&serde_json::Value| row["uptime_seconds"].as_u64() >= Some(61);
        (rows.iter().filter(old).count() == 2).then_some(())
    })
    .await;
    let late = Plan::relay(&cluster.primary).name("late").start().await;
    cluster.relays.push(late);
    cluster.ready().await;
    cluster.on_air(MOUNT).await;
    let (old, new) = (cluster.relays[0].port, cluster.relays[1].port);
    let mut got = 0;
    for n in 100..120 {
        let mut guest = follow(address(n), port, MOUNT, "").await;
        assert!([old, new].contains(&guest.port), "the primary serves");
        got += usize::from(guest.port == new);
        tone::run(&guest.peer.exact(FRAME).await);
        guests.push(guest);
    }
    println!("the new one got {got} of 20");
    assert!((1..=12).contains(&got), "{got} of 20");
    eventually("the table has them all", async || {
        let rows = nodes_of(&cluster.primary).await;
        let all: u64 = rows
            .iter()
            .filter_map(|row| row["listeners"].as_u64())
            .sum();
        (all == 40).then_some(())
    })
    .await;
}
