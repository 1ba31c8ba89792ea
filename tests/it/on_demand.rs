//! Mounts that are pulled only while somebody listens.

use std::time::Duration;

use crate::harness::cluster::{Cluster, api, follow};
use crate::harness::icecast::Icecast;
use crate::harness::node::{Node, Plan};
use crate::harness::peer::Peer;
use crate::harness::source::{Source, listen, source_head};
use crate::harness::tone::{self, FRAME};
use crate::harness::{address, eventually, within};

const MOUNT: &str = "/live.mp3";

/// A mount is let go half a minute after its last listener went.
const LET_GO: Duration = Duration::from_secs(300);

async fn received(node: &Node) -> f64 {
    node.metric("relayctl_received_bytes_total", "").await
}

/// Waits until a node's own list has the mount in a state, or has it not.
async fn state_of(node: &Node, mount: &str) -> Option<String> {
    let rows = api(node, "mounts").await;
    let row = rows.into_iter().find(|row| row["name"] == mount)?;
    row["state"].as_str().map(str::to_owned)
}

#[tokio::test]
async fn a_relay_pulls_while_somebody_listens() {
    let cluster = Cluster::start_with(1, "", "pull:\n  on_demand: true").await;
    let (primary, relay) = (&cluster.primary, &cluster.relays[0]);
    let source = Source::start(primary, MOUNT).await;
    let first = eventually("the primary sends its listeners to the relay", async || {
        let guest = follow(address(1), primary.port, MOUNT, "").await;
        (guest.port == relay.port).then_some(guest)
    });
    assert_eq!(received(relay).await, 0.0, "pulled for nobody");
    let mut first = first.await;
    tone::run(&first.peer.exact(200 * FRAME).await);
    assert!(received(relay).await > 0.0);
    // A second one comes to what is there.
    let mut second = follow(address(2), primary.port, MOUNT, "").await;
    assert_eq!(second.port, relay.port);
    tone::run(&second.peer.exact(50 * FRAME).await);
    drop((first, second));
    within(LET_GO, "the relay lets it go", async || {
        (state_of(relay, MOUNT).await.as_deref() != Some("live")).then_some(())
    })
    .await;
    let (before, sent) = (received(relay).await, source.sent());
    eventually("the source goes on", async || {
        (source.sent() > sent + 200).then_some(())
    })
    .await;
    assert_eq!(received(relay).await, before, "it still pulls");
    let mut third = follow(address(3), primary.port, MOUNT, "").await;
    assert_eq!(third.port, relay.port);
    tone::run(&third.peer.exact(50 * FRAME).await);
}

#[tokio::test]
async fn a_foreign_server_is_pulled_while_somebody_listens() {
    let far = Icecast::start().await;
    let _source = far.source(MOUNT, None, 0).await;
    let node = Plan::primary().yaml(&format!(
        "relay:\n  - url: http://127.0.0.1:{}{MOUNT}\n    mount: /far.mp3\n    on_demand: true",
        far.port
    ));
    let node = node.start().await;
    assert_eq!(far.listeners(MOUNT).await, Some(0));
    let (mut listener, head) = listen(node.port, "/far.mp3").await;
    assert_eq!(head.get("content-type"), Some("audio/mpeg"));
    tone::run(&listener.exact(100 * FRAME).await);
    far.listened(MOUNT, 1).await;
    drop(listener);
    within(LET_GO, "the far server is let go", async || {
        (far.listeners(MOUNT).await == Some(0)).then_some(())
    })
    .await;
    let (mut listener, _) = listen(node.port, "/far.mp3").await;
    tone::run(&listener.exact(50 * FRAME).await);
}

/// The one that is pulled always dies under its listeners: the backup goes on, frame by frame.
#[tokio::test]
async fn a_backup_takes_over_from_a_foreign_server_that_dies() {
    let (mut first, second) = (Icecast::start().await, Icecast::start().await);
    let _one = first.source(MOUNT, None, 0).await;
    let _two = second.source(MOUNT, None, 1_000_000).await;
    let url = |far: &Icecast| format!("http://127.0.0.1:{}{MOUNT}", far.port);
    let node = Plan::primary().yaml(&format!(
        "relay:\n  - url: {}\n    mount: /far.mp3\n    backup:\n      - {}",
        url(&first),
        url(&second)
    ));
    let node = node.start().await;
    // It is pulled for nobody.
    first.listened(MOUNT, 1).await;
    assert_eq!(second.listeners(MOUNT).await, Some(0));
    let (mut listener, _) = listen(node.port, "/far.mp3").await;
    let heard = tone::run(&listener.exact(50 * FRAME).await);
    assert!(heard.end() < 1_000_000, "{heard:?}");
    first.kill();
    // Whole frames only: none is torn where the one ends and the other begins.
    eventually("the backup is heard", async || {
        let run = tone::run(&listener.exact(FRAME).await);
        (run.first >= 1_000_000).then_some(())
    })
    .await;
    tone::run(&listener.exact(100 * FRAME).await);
    second.listened(MOUNT, 1).await;
}

/// The burst is the burst, however the ring of the relay fills: a minute of audio is there when the first ones come.
#[tokio::test]
async fn the_first_listeners_of_a_pull_begin_near_the_live_edge() {
    const MINUTE: u64 = 2_600;
    let cluster = Cluster::start_with(1, "", "pull:\n  on_demand: true").await;
    let (primary, relay) = (&cluster.primary, &cluster.relays[0]);
    let mut source = Peer::connect(primary.port).await;
    let head = source_head("PUT /live.mp3 HTTP/1.1", &primary.source_password(), "");
    source.send(head).await;
    assert_eq!(source.head().await.status, 200);
    source.send(tone::frames(0, MINUTE)).await;
    eventually("all of it is there", async || {
        let rows = api(primary, "mounts").await;
        let offset = rows.first()?["offset"].as_u64()?;
        (offset >= (MINUTE - 1) * FRAME as u64).then_some(())
    })
    .await;
    let listeners = (0..6).map(|_| listen(relay.port, MOUNT));
    for (mut listener, _) in futures_util::future::join_all(listeners).await {
        let first = tone::number_of(&listener.exact(FRAME).await);
        // 64 KiB, and a quarter of a second to the next place to start.
        let behind = MINUTE - first;
        assert!(behind < 190, "{behind} frames behind");
    }
}
