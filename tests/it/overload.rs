//! A relay over one of its limits: newcomers go to another one, who is there stays, and below it they are taken again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::Value;

use crate::harness::cluster::{Cluster, Guest, api, follow, nodes_of};
use crate::harness::group::Group;
use crate::harness::node::{Node, Plan};
use crate::harness::peer::Peer;
use crate::harness::source::Source;
use crate::harness::tone::{self, FRAME};
use crate::harness::{address, eventually};

const MOUNT: &str = "/live.mp3";

/// Two relays, both on air; `limited` is the first one's plan.
async fn two(limited: impl FnOnce(Plan) -> Plan) -> (Cluster, Source) {
    let mut cluster = Cluster::start(0).await;
    let plan = limited(Plan::relay(&cluster.primary).name("relay-0"));
    cluster.relays.push(plan.start().await);
    let other = Plan::relay(&cluster.primary).name("relay-1").start().await;
    cluster.relays.push(other);
    cluster.ready().await;
    let source = Source::start(&cluster.primary, MOUNT).await;
    cluster.on_air(MOUNT).await;
    eventually("each knows that the other plays", async || {
        for (node, other) in [(0, "relay-1"), (1, "relay-0")] {
            let rows = nodes_of(&cluster.relays[node]).await;
            let row = rows.into_iter().find(|row| row["name"] == other)?;
            let plays = row["mounts"].as_array()?.iter();
            let plays = plays.filter(|own| own["name"] == MOUNT && own["bitrate"] != 0);
            if row["state"] != "ready" || plays.count() == 0 {
                return None;
            }
        }
        Some(())
    })
    .await;
    (cluster, source)
}

/// What the primary was told of a node's limits: the limit, and whether it was exceeded or is not any more.
async fn told(cluster: &Cluster, node: &str) -> Vec<(String, bool)> {
    let events = api(&cluster.primary, "events").await;
    let ours = |event: &&Value| event["kind"] == "overload" && event["node"] == node;
    let told = events.iter().filter(ours).map(|event| {
        let reason = event["reason"].as_str().unwrap().to_owned();
        (reason, event["on"].as_bool().unwrap())
    });
    told.collect()
}

async fn is_told(cluster: &Cluster, node: &str, reason: &str, on: bool) {
    eventually(&format!("{node} says {reason}: {on}"), async || {
        let told = told(cluster, node).await;
        (told.last() == Some(&(reason.to_owned(), on))).then_some(())
    })
    .await;
}

async fn reflected(node: &Node, reason: &str) -> f64 {
    let labels = format!("reason=\"{reason}\"");
    node.metric("relayctl_reflections_total", &labels).await
}

/// A limit that `most` listeners reach; who comes then, to the relay or to the primary, is sent to the other one.
async fn a_limit_of_listeners(limit: &str, reason: &str, most: u16) {
    let (cluster, _source) = two(|plan| plan.yaml(limit)).await;
    let [limited, other] = [&cluster.relays[0], &cluster.relays[1]];
    let mut there: Vec<Guest> = Vec::new();
    for n in 0..most {
        let guest = follow(address(n), limited.port, MOUNT, "").await;
        assert_eq!(guest.port, limited.port, "{limit}: number {n} of {most}");
        there.push(guest);
    }
    // At once: nobody waits for the primary to know.
    for n in 100..110 {
        let guest = follow(address(n), limited.port, MOUNT, "").await;
        assert_eq!(guest.port, other.port, "{limit}");
    }
    assert_eq!(reflected(limited, reason).await, 10.0, "{limit}");
    is_told(&cluster, "relay-0", reason, true).await;
    for n in 200..210 {
        let guest = follow(address(n), cluster.primary.port, MOUNT, "").await;
        assert_eq!(guest.port, other.port, "{limit}");
    }
    let mut heard = 0;
    for guest in &mut there {
        let bytes = guest.peer.pending();
        let more = guest.peer.exact(50 * FRAME).await;
        heard += tone::run(&[bytes, more].concat()).count;
    }
    there.truncate(usize::from(most / 2));
    is_told(&cluster, "relay-0", reason, false).await;
    let back = follow(address(300), limited.port, MOUNT, "").await;
    assert_eq!(back.port, limited.port, "{limit}");
    println!("{limit}: {most} taken, 10 sent on, {heard} frames heard meanwhile without a gap");
}

#[tokio::test]
async fn at_its_most_listeners_a_relay_sends_newcomers_on() {
    // A twentieth of the places is for those who were promised one.
    a_limit_of_listeners("max_listeners: 20", "listeners", 19).await;
}

#[tokio::test]
async fn at_its_bandwidth_a_relay_sends_newcomers_on() {
    // 15 listeners of 128 kbit/s are 1.92 Mbit/s; one more would be 2.048.
    a_limit_of_listeners("max_bandwidth: 2Mbit", "bandwidth", 15).await;
}

/// Requests that are no listeners, one after the other on a few connections, until it is dropped.
struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
}

impl Load {
    fn on(node: &Node, connections: usize) -> Self {
        let load = Self {
            stop: Arc::default(),
            answered: Arc::default(),
        };
        for _ in 0..connections {
            let (stop, answered) = (Arc::clone(&load.stop), Arc::clone(&load.answered));
            let port = node.port;
            tokio::spawn(async move {
                let mut peer = Peer::connect(port).await;
                while !stop.load(Ordering::Relaxed) {
                    let request = "GET /status-json.xsl HTTP/1.1\r\nHost: localhost\r\n\r\n";
                    assert_eq!(peer.ask(request).await.0.status, 200);
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        load
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// A relay that may take a quarter of a processor is asked more than that permits.
#[tokio::test]
async fn over_its_share_of_the_processors_a_relay_sends_newcomers_on_until_it_is_calm() {
    let group = Arc::new(Group::with_quota(25));
    let limits = "limits:\n  cpu: 70%";
    let (cluster, _source) = two(|plan| plan.yaml(limits).within(&group)).await;
    let [limited, other] = [&cluster.relays[0], &cluster.relays[1]];
    let ratio = async || limited.metric("relayctl_node_cpu_ratio", "relay-0").await;
    eventually("its beginning is over", async || {
        (ratio().await < 0.5).then_some(())
    })
    .await;
    let mut there: Vec<Guest> = Vec::new();
    for n in 0..10 {
        let guest = follow(address(n), limited.port, MOUNT, "").await;
        assert_eq!(guest.port, limited.port);
        there.push(guest);
    }
    let load = Load::on(limited, 4);
    is_told(&cluster, "relay-0", "cpu", true).await;
    println!(
        "{:.2} of its share in use, after {} requests",
        ratio().await,
        load.answered.load(Ordering::Relaxed)
    );
    for (n, port) in (100..).zip([limited.port, limited.port, cluster.primary.port]) {
        let guest = follow(address(n), port, MOUNT, "").await;
        assert_eq!(guest.port, other.port);
    }
    assert!(reflected(limited, "cpu").await >= 2.0);
    drop(load);
    is_told(&cluster, "relay-0", "cpu", false).await;
    let back = follow(address(200), limited.port, MOUNT, "").await;
    assert_eq!(back.port, limited.port);
    let mut heard = 0;
    for guest in &mut there {
        let bytes = guest.peer.pending();
        let more = guest.peer.exact(50 * FRAME).await;
        heard += tone::run(&[bytes, more].concat()).count;
    }
    println!(
        "{:.2} after it; {heard} frames heard meanwhile without a gap",
        ratio().await
    );
}

/// `reflect off`: newcomers are taken up to the last place, and no further; `auto` is the rule again.
#[tokio::test]
async fn an_operator_may_fill_a_relay_to_its_last_place() {
    let (cluster, _source) = two(|plan| plan.yaml("max_listeners: 20")).await;
    let [limited, other] = [&cluster.relays[0], &cluster.relays[1]];
    let mut there: Vec<Guest> = Vec::new();
    for n in 0..19 {
        there.push(follow(address(n), limited.port, MOUNT, "").await);
    }
    assert!(there.iter().all(|guest| guest.port == limited.port));
    let sent_on = follow(address(100), limited.port, MOUNT, "").await;
    assert_eq!(sent_on.port, other.port);
    cluster.primary.asked(&["reflect", "relay-0", "off"]).await;
    let mut n = 200;
    let last = eventually("the last place is given", async || {
        n += 1;
        let guest = follow(address(n), limited.port, MOUNT, "").await;
        (guest.port == limited.port).then_some(guest)
    })
    .await;
    for n in 1_000..1_005 {
        let guest = follow(address(n), limited.port, MOUNT, "").await;
        assert_eq!(guest.port, other.port, "there is no more");
    }
    cluster.primary.asked(&["reflect", "relay-0", "auto"]).await;
    drop(last);
    eventually("it sends on below its last place again", async || {
        n += 1;
        let guest = follow(address(n), limited.port, MOUNT, "").await;
        (guest.port == other.port).then_some(())
    })
    .await;
    for guest in &mut there {
        tone::run(&guest.peer.exact(50 * FRAME).await);
    }
}
