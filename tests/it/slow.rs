//! Listeners that stop reading: nobody else notices, they are closed with their reason, what they held comes back.

use std::time::Duration;

use crate::harness::node::{Node, Plan};
use crate::harness::peer::Peer;
use crate::harness::program::{output_of, tool};
use crate::harness::source::{Source, listen};
use crate::harness::tone::{self, FRAME};
use crate::harness::{eventually, within};

const MOUNT: &str = "/live.mp3";

/// What one listener that never reads may pin at our end: its queue, as the kernel accounts it.
const MOST_PINNED: u64 = 128 * 1024;

/// Listeners whose socket is as small as may be, and who ask and never read.
async fn deaf(node: &Node, count: usize) -> Vec<Peer> {
    let mut peers = Vec::new();
    for _ in 0..count {
        let mut peer = Peer::connect_narrow(node.port).await;
        peer.send(format!("GET {MOUNT} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
            .await;
        peers.push(peer);
    }
    peers
}

async fn stalled(node: &Node) -> f64 {
    node.metric("relayctl_slow_listeners_total", "action=\"stalled\"")
        .await
}

#[tokio::test]
async fn twenty_among_two_hundred_stop_reading() {
    let node = Plan::primary().yaml("listener:\n  stall: 3s").start().await;
    let _source = Source::start(&node, MOUNT).await;
    let mut readers = Vec::new();
    for _ in 0..180 {
        let (mut peer, _) = listen(node.port, MOUNT).await;
        // Everybody reads all the time, in a task of its own, and keeps what was heard.
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            let mut heard = Vec::new();
            let mut stopped = stopped;
            loop {
                tokio::select! {
                    part = peer.exact(10 * FRAME) => heard.extend(part),
                    _ = &mut stopped => return heard,
                }
            }
        });
        readers.push((stop, task));
    }
    let files = node.metric("process_open_fds", "").await;
    let deaf = deaf(&node, 20).await;
    eventually("all are counted", async || {
        (node.metric("relayctl_listeners", "").await == 200.0).then_some(())
    })
    .await;
    // The ring holds at least 40 s; a stall of 3 s is noticed long before that.
    within(Duration::from_secs(40), "the deaf are closed", async || {
        (stalled(&node).await == 20.0).then_some(())
    })
    .await;
    eventually("their places and descriptors are free", async || {
        let listeners = node.metric("relayctl_listeners", "").await;
        let open = node.metric("process_open_fds", "").await;
        (listeners == 180.0 && open <= files + 1.0).then_some(())
    })
    .await;
    drop(deaf);
    let mut edges = Vec::new();
    for (stop, task) in readers {
        stop.send(()).unwrap();
        // Contiguous to the byte, or `run` fails.
        let run = tone::run(&task.await.unwrap());
        assert!(run.count > 100, "{run:?}");
        edges.push(run.end());
    }
    assert_eq!(stalled(&node).await, 20.0, "nobody else was closed");
    assert_eq!(
        node.metric("relayctl_slow_listeners_total", "").await,
        20.0,
        "and nobody jumped"
    );
    let (first, last) = (edges.iter().min().unwrap(), edges.iter().max().unwrap());
    println!("the readers end between frames {first} and {last}");
}

#[tokio::test]
async fn one_that_never_reads_pins_little() {
    let node = Plan::primary().start().await;
    let source = Source::start(&node, MOUNT).await;
    let (mut witness, _) = listen(node.port, MOUNT).await;
    let deaf = deaf(&node, 1).await;
    let asked = source.sent();
    // Half a megabyte and more passes it by: far more than any socket's beginning.
    while source.sent() < asked + 2_000 {
        witness.exact(20 * FRAME).await;
    }
    let mut command = tool("ss", "iproute2");
    command.args([
        "-tmnH",
        "state",
        "established",
        "sport",
        "=",
        &format!(":{}", node.port),
    ]);
    let text = String::from_utf8(output_of(command).await).unwrap();
    let queues: Vec<u64> = text
        .split(",w")
        .skip(1)
        .map(|rest| {
            let digits = rest.split(',').next().unwrap();
            digits.parse().unwrap_or_else(|_| panic!("{text}"))
        })
        .collect();
    println!("queues at our end, bytes: {queues:?}");
    let most = queues.iter().max().expect("sockets of the node");
    assert!(
        *most > 16 * 1024,
        "nothing waits, so nothing was tested: {text}"
    );
    assert!(*most <= MOST_PINNED, "{text}");
    drop(deaf);
}
