//! Proxy mode: a node in front holds the listeners, and the relay behind it may die, or be drained.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::task::JoinHandle;

use crate::harness::cluster::{Cluster, api};
use crate::harness::eventually;
use crate::harness::node::{Node, Plan, relayctl};
use crate::harness::peer::Peer;
use crate::harness::source::{Source, listen_with, on_air, strip};
use crate::harness::tone::{self, FRAME};

const MOUNT: &str = "/live.mp3";

/// Half of them with metadata.
const LISTENERS: usize = 200;

/// A front of the cluster, pulling from a relay.
async fn front(cluster: &Cluster) -> Node {
    let plan = Plan::relay(&cluster.primary)
        .name("front")
        .yaml("mode: proxy");
    let front = plan.start().await;
    on_air(front.port, MOUNT).await;
    behind(&front).await;
    front
}

/// The relay that the front pulls from, once it is one.
async fn behind(front: &Node) -> String {
    eventually("the front pulls from a relay", async || {
        let rows = api(front, "nodes").await;
        let row = rows.iter().find(|row| row["name"] == "front")?;
        let parent = row["parent"].as_str()?;
        parent.starts_with("relay-").then(|| parent.to_owned())
    })
    .await
}

/// A listener that reads until it is told to stop.
struct Ear {
    metaint: Option<usize>,
    task: JoinHandle<(Vec<u8>, Duration)>,
}

struct Audience {
    ears: Vec<Ear>,
    enough: Arc<AtomicBool>,
}

impl Audience {
    async fn at(front: &Node) -> Self {
        let enough = Arc::new(AtomicBool::new(false));
        let mut ears = Vec::new();
        for n in 0..LISTENERS {
            let more = if n % 2 == 0 {
                ""
            } else {
                "Icy-MetaData: 1\r\n"
            };
            let (peer, head) = listen_with(front.port, MOUNT, more).await;
            assert_eq!(head.get("x-relayctl-reason"), Some("proxy"));
            let metaint = head.get("icy-metaint").map(|text| text.parse().unwrap());
            let task = tokio::spawn(hear(peer, Arc::clone(&enough)));
            ears.push(Ear { metaint, task });
        }
        Self { ears, enough }
    }

    /// Everybody is still there, and heard one run; the longest pause of any.
    async fn all_contiguous(self) -> Duration {
        self.enough.store(true, Ordering::Relaxed);
        let mut longest = Duration::ZERO;
        for ear in self.ears {
            let (bytes, pause) = ear.task.await.expect("a listener was lost");
            let audio = match ear.metaint {
                Some(metaint) => strip(&bytes, metaint).0,
                None => bytes,
            };
            tone::run(&audio);
            longest = longest.max(pause);
        }
        longest
    }
}

async fn hear(mut peer: Peer, enough: Arc<AtomicBool>) -> (Vec<u8>, Duration) {
    let (mut bytes, mut pause) = (Vec::new(), Duration::ZERO);
    while !enough.load(Ordering::Relaxed) {
        let began = Instant::now();
        // Fails where the node closes.
        bytes.extend(peer.exact(4 * FRAME).await);
        pause = pause.max(began.elapsed());
    }
    (bytes, pause)
}

async fn failovers(cluster: &Cluster, from: &str) -> Vec<Value> {
    let events = api(&cluster.primary, "events").await;
    let is_one = |event: &Value| event["kind"] == "failover" && event["from"] == from;
    events.into_iter().filter(is_one).collect()
}

#[tokio::test]
async fn the_relay_behind_is_killed_and_nobody_of_two_hundred_notices() {
    let mut cluster = Cluster::start(3).await;
    let _source = Source::start(&cluster.primary, MOUNT).await;
    cluster.on_air(MOUNT).await;
    let front = front(&cluster).await;
    let audience = Audience::at(&front).await;
    let before = behind(&front).await;
    let index: usize = before.strip_prefix("relay-").unwrap().parse().unwrap();
    let begin = Instant::now();
    cluster.relays[index].kill();
    eventually("the front pulls from another one", async || {
        let failovers = failovers(&cluster, &before).await;
        failovers
            .iter()
            .any(|event| event["node"] == "front")
            .then_some(())
    })
    .await;
    let told = failovers(&cluster, &before).await;
    println!("{told:?}");
    assert!(
        told.iter().all(|event| event["lost_bytes"] == 0),
        "{told:?}"
    );
    let longest = audience.all_contiguous().await;
    println!(
        "{LISTENERS} listeners, half with metadata, all contiguous {:.2} s after the kill; longest pause {:.3} s",
        begin.elapsed().as_secs_f64(),
        longest.as_secs_f64()
    );
    assert_eq!(front.metric("relayctl_gap_bytes_total", "").await, 0.0);
    assert!(front.metric("relayctl_failovers_total", "").await >= 1.0);
}

#[tokio::test]
async fn ten_drains_behind_a_front_lose_nobody() {
    let cluster = Cluster::start(3).await;
    let _source = Source::start(&cluster.primary, MOUNT).await;
    cluster.on_air(MOUNT).await;
    let front = front(&cluster).await;
    let audience = Audience::at(&front).await;
    for turn in 0..10 {
        let before = behind(&front).await;
        order(&cluster.primary, &["drain", &before, "--detach"]).await;
        eventually(
            &format!("turn {turn}: the front leaves {before}"),
            async || {
                let rows = api(&front, "nodes").await;
                let row = rows.iter().find(|row| row["name"] == "front")?;
                (row["parent"].as_str()? != before).then_some(())
            },
        )
        .await;
        order(&cluster.primary, &["resume", &before]).await;
        eventually(&format!("turn {turn}: {before} is back"), async || {
            let rows = cluster.table().await;
            let row = rows.iter().find(|row| row["name"] == before.as_str())?;
            (row["state"] == "ready").then_some(())
        })
        .await;
    }
    let longest = audience.all_contiguous().await;
    println!(
        "ten drains, {LISTENERS} listeners, none lost; longest pause {:.3} s",
        longest.as_secs_f64()
    );
}

async fn order(node: &Node, words: &[&str]) {
    let mut command = relayctl();
    command.args(words).arg("--data-dir").arg(node.data_dir());
    let ended = tokio::task::spawn_blocking(move || command.output().unwrap());
    let output = ended.await.unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {stderr}");
}
