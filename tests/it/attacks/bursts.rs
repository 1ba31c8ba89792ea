//! One address that opens and drops listeners to draw bursts, or holds places.

use crate::harness::node::Plan;
use crate::harness::peer::Peer;
use crate::harness::under_attack::{MOUNT, UnderAttack};

const LIMITS: &str = "limits:\n  address_joins: 5\n  address_burst: 100\n  address_listeners: 80";

#[tokio::test]
async fn one_address_draws_a_bounded_number_of_bursts() {
    // The fifty who play are of this address as well.
    let scene = UnderAttack::primary(Plan::primary().yaml(LIMITS)).await;
    let began = std::time::Instant::now();
    let (mut bursts, mut refused) = (0, 0);
    for _ in 0..2000 {
        let mut peer = Peer::connect(scene.node.port).await;
        peer.send(format!("GET {MOUNT} HTTP/1.1\r\nHost: a\r\n\r\n"))
            .await;
        let head = peer.head().await;
        match head.status {
            200 => bursts += 1,
            429 => {
                let wait: u64 = head.get("retry-after").unwrap().parse().unwrap();
                assert!((1..=10).contains(&wait), "{wait}");
                refused += 1;
            }
            other => panic!("{other}"),
        }
    }
    let seconds = began.elapsed().as_secs();
    println!("{bursts} bursts and {refused} refusals in {seconds} s");
    assert!(bursts <= 50 + 5 * (seconds + 2), "{bursts}");
    scene.node.refused("address-rate", 1500.0).await;
    let (_, report) = scene.finish("2,000 listeners who go at once").await;
    assert!(report.peak_mib < report.first_mib + 32, "{report:?}");
}

#[tokio::test]
async fn one_address_holds_a_bounded_number_of_places() {
    let plan = Plan::primary().yaml("limits:\n  address_listeners: 60");
    let scene = UnderAttack::primary(plan).await;
    let (mut held, mut refused) = (Vec::new(), 0);
    for _ in 0..100 {
        let mut peer = Peer::connect(scene.node.port).await;
        peer.send(format!("GET {MOUNT} HTTP/1.1\r\nHost: a\r\n\r\n"))
            .await;
        match peer.head().await.status {
            200 => held.push(peer),
            429 => refused += 1,
            other => panic!("{other}"),
        }
    }
    // With the fifty who play there already.
    assert_eq!((held.len(), refused), (10, 90));
    scene.node.refused("address-full", 90.0).await;
    // A place that is given up is free again.
    drop(held.pop());
    crate::harness::eventually("a place is free", async || {
        let mut peer = Peer::connect(scene.node.port).await;
        peer.send(format!("GET {MOUNT} HTTP/1.1\r\nHost: a\r\n\r\n"))
            .await;
        (peer.head().await.status == 200).then(|| held.push(peer))
    })
    .await;
    let (_, report) = scene.finish("100 places of one address").await;
    assert!(report.peak_mib < report.first_mib + 32, "{report:?}");
}
