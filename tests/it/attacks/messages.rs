//! Members that lie: about epochs, about listeners, about everything that is a number.

use serde_json::json;

use super::member::{beat, member, report};
use crate::harness::cluster::{Cluster, nodes_of};
use crate::harness::eventually;
use crate::harness::node::Plan;
use crate::harness::peer::Peer;
use crate::harness::source::{Source, listen};
use crate::harness::tone::FRAME;
use crate::harness::under_attack::{MOUNT, UnderAttack};

/// Memory that a thousand refused messages may cost, in MiB.
const MEMORY: u64 = 48;

#[tokio::test]
async fn an_epoch_that_would_outlive_all_others_is_refused() {
    let mut cluster = Cluster::start(1).await;
    let source = Source::start(&cluster.primary, MOUNT).await;
    cluster.on_air(MOUNT).await;
    let relay = cluster.relays.remove(0);
    let scene = UnderAttack::of(relay, Some(source)).await;
    let primary = cluster.primary;
    let credential = member(&primary, "liar").await;
    for (seq, epoch) in (1..).zip([u64::MAX, u64::MAX - 1, 1 << 60, 4_000_000_000_000]) {
        let mut lie = report("liar", seq);
        lie["mounts"] = json!([{"mount": "/x", "state": "live", "epoch": epoch}]);
        let (status, answer) = beat(&primary, &credential, &lie).await;
        assert_eq!(status, 400, "{answer}");
        assert!(
            answer["error"].as_str().unwrap().contains("a day ahead"),
            "{answer}"
        );
    }
    let honest = report("liar", 9);
    assert_eq!(beat(&primary, &credential, &honest).await.0, 200);
    primary.refused("bad_message", 4.0).await;
    let kept = std::fs::read_to_string(primary.data_dir().join("epoch")).unwrap();
    assert!(
        kept.trim().parse::<u64>().unwrap() < 4_000_000_000_000,
        "{kept}"
    );
    let (relay, report) = scene.finish("epochs of the far future").await;
    assert!(report.peak_mib < report.first_mib + MEMORY, "{report:?}");
    // What the lie was for: after a restart of the primary its relays took all audio for old.
    let (mut peer, _) = listen(relay.port, MOUNT).await;
    peer.exact(10 * FRAME).await;
    let primary = primary.again().await;
    let _source = Source::start(&primary, MOUNT).await;
    // More than a burst: the relay has the new audio.
    peer.exact(200 * 1024).await;
}

/// A data directory that an earlier version let be poisoned: the node says so, and stamps honest epochs again.
#[tokio::test]
async fn a_poisoned_epoch_file_is_healed_at_the_start() {
    let plan = Plan::primary();
    std::fs::create_dir_all(plan.data_dir()).unwrap();
    let file = plan.data_dir().join("epoch");
    std::fs::write(&file, u64::MAX.to_string()).unwrap();
    let node = plan.start().await;
    assert!(
        node.log().contains("more than a day ahead"),
        "{}",
        node.log()
    );
    let _source = Source::start(&node, MOUNT).await;
    eventually("the file has an honest epoch", async || {
        let text = std::fs::read_to_string(&file).ok()?;
        let epoch: u64 = text.trim().parse().ok()?;
        (epoch < 4_000_000_000_000).then_some(())
    })
    .await;
    let rows = crate::harness::cluster::api(&node, "mounts").await;
    assert!(
        rows[0]["epoch"].as_u64().unwrap() < 4_000_000_000_000,
        "{rows:?}"
    );
}

#[tokio::test]
async fn a_full_relay_draws_nobody_whatever_it_claims() {
    let plan = Plan::primary().yaml("cluster: {max_weight: 200}");
    let scene = UnderAttack::primary(plan).await;
    // It answers its own URL's probes through the primary: only its numbers are false.
    let credential = member(&scene.node, "liar").await;
    let lie = |seq: u64, listeners: u64, most: u64| {
        let mut lie = report("liar", seq);
        lie["public_urls"] = json!({"withheld": true});
        lie["limits"] = json!({"max_listeners": most});
        lie["listeners"] = json!(listeners);
        lie["weight"] = json!(1_000);
        lie["mounts"] =
            json!([{"mount": MOUNT, "state": "live", "listeners": listeners, "bitrate": 128_000}]);
        lie
    };
    let huge = lie(1, u64::MAX, u64::MAX);
    assert_eq!(beat(&scene.node, &credential, &huge).await.0, 400);
    // Within the range: cut to the limit that it joined with, since one may be lowered while listeners stay, and full.
    let (status, answer) = beat(&scene.node, &credential, &lie(2, 10_000_000, 50)).await;
    assert_eq!(status, 200, "{answer}");
    let rows = nodes_of(&scene.node).await;
    let row = rows.iter().find(|row| row["id"] == "liar").unwrap();
    assert_eq!(
        (&row["listeners"], &row["weight"]),
        (&json!(100), &json!(200))
    );
    for number in 1..=500_u64 {
        let name = [
            "listeners",
            "bandwidth_bits",
            "uptime_millis",
            "children",
            "cpu_ratio",
        ][(number % 5) as usize];
        let mut lie = lie(2 + number, 1, 50);
        lie[name] = match name {
            "cpu_ratio" => json!(-1.0),
            "children" => json!(u32::MAX),
            _ => json!(u64::MAX - number),
        };
        let (status, answer) = beat(&scene.node, &credential, &lie).await;
        assert_eq!(status, 400, "{name}: {answer}");
    }
    for number in 0..40 {
        let mut peer = Peer::connect_from(crate::harness::address(number), scene.node.port).await;
        peer.send(format!("GET {MOUNT} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
            .await;
        assert_eq!(peer.head().await.status, 200, "sent to the full one");
    }
    let (_, report) = scene.finish("500 messages with false numbers").await;
    assert!(report.peak_mib < report.first_mib + MEMORY, "{report:?}");
}
