//! Proxy mode: a node in front holds the listeners, and the relay behind it may die, or be drained.

use std::time::Instant;

use serde_json::Value;

use crate::harness::audience::Audience;
use crate::harness::cluster::{Cluster, api};
use crate::harness::eventually;
use crate::harness::node::{Node, Plan, relayctl};
use crate::harness::source::{Source, listen_with, on_air};

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

/// Two hundred at the front, half of them with metadata.
async fn audience_at(front: &Node) -> Audience {
    let mut audience = Audience::default();
    for n in 0..LISTENERS {
        let more = if n % 2 == 0 {
            ""
        } else {
            "Icy-MetaData: 1\r\n"
        };
        let (peer, head) = listen_with(front.port, MOUNT, more).await;
        assert_eq!(head.get("x-relayctl-reason"), Some("proxy"));
        assert_eq!(head.get("icy-metaint").is_some(), n % 2 == 1);
        audience.seat(peer, &head);
    }
    audience
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
    let audience = audience_at(&front).await;
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
    let heard = audience.all_contiguous().await;
    println!(
        "{LISTENERS} listeners, half with metadata, all contiguous {:.2} s after the kill; longest pause {:.3} s, \
         with metadata {:.3} s",
        begin.elapsed().as_secs_f64(),
        heard.longest.as_secs_f64(),
        heard.longest_with_metadata.as_secs_f64()
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
    let audience = audience_at(&front).await;
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
    let heard = audience.all_contiguous().await;
    println!(
        "ten drains and resumes, {LISTENERS} listeners, none lost, {} frames without a gap; longest pause {:.3} s, with \
         metadata {:.3} s",
        heard.frames,
        heard.longest.as_secs_f64(),
        heard.longest_with_metadata.as_secs_f64()
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
