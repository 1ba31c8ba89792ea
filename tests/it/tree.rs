//! A tree of relays on machines of their own, and forty listeners on its leaves: whatever dies or stalls between
//! the source and them, they hear every byte.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use crate::harness::cluster::{api, nodes_of};
use crate::harness::net::{Net, SlowLink};
use crate::harness::node::{Node, Plan, relayctl};
use crate::harness::peer::Peer;
use crate::harness::program::output_of;
use crate::harness::source::source_head;
use crate::harness::tone::{self, FRAME};
use crate::harness::within;

const MOUNT: &str = "/live.mp3";

/// Longest wait for anything here: a link that stalls takes three seconds to be noticed.
const LONG: Duration = Duration::from_secs(90);

/// Frames that every listener must have heard beyond a fault before it counts as over: six seconds.
const BEYOND: u64 = 250;

/// A source a fifth faster than it plays.
struct Encoder {
    next: Arc<AtomicU64>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Encoder {
    async fn start(primary: &Node, first: u64) -> Self {
        let mut peer = Peer::connect_to(primary.address()).await;
        let password = primary.source_password();
        peer.send(source_head(&format!("PUT {MOUNT} HTTP/1.1"), &password, ""))
            .await;
        assert_eq!(peer.head().await.status, 200);
        let next = Arc::new(AtomicU64::new(first));
        let (stop, stopped) = watch::channel(false);
        let sent = Arc::clone(&next);
        let task = tokio::spawn(async move {
            let mut turns = interval(Duration::from_millis(40));
            turns.set_missed_tick_behavior(MissedTickBehavior::Burst);
            while !*stopped.borrow() {
                turns.tick().await;
                let from = sent.load(Ordering::Relaxed);
                if peer.try_send(&tone::frames(from, 2)).await.is_err() {
                    return;
                }
                sent.store(from + 2, Ordering::Relaxed);
            }
            peer.finish().await;
            peer.rest().await;
        });
        Self { next, stop, task }
    }

    fn sent(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }

    /// Ends its body; the number of the frame that would have been next.
    async fn finish(self) -> u64 {
        self.stop.send_replace(true);
        self.task.await.unwrap();
        self.next.load(Ordering::Relaxed)
    }
}

/// What a listener heard.
#[derive(Default)]
struct Heard {
    /// Number of the frame after the last whole one.
    next: AtomicU64,
    /// Bytes that did not come, or came other than they were sent.
    lost: AtomicU64,
    /// Milliseconds.
    longest_silence: AtomicU64,
    /// When something came last.
    last: Mutex<Option<Instant>>,
    closed: AtomicBool,
}

impl Heard {
    /// How long nothing has come.
    fn silence(&self) -> Duration {
        let last = *self.last.lock().unwrap();
        last.map_or(Duration::ZERO, |last| last.elapsed())
    }
}

/// A listener that compares every byte with what the source sent.
struct Ear {
    heard: Arc<Heard>,
    task: JoinHandle<(Sha256, Sha256)>,
}

impl Ear {
    async fn open(node: &Node) -> Self {
        let mut peer = Peer::connect_to(node.address()).await;
        peer.send(format!("GET {MOUNT} HTTP/1.1\r\nHost: x\r\n\r\n"))
            .await;
        let head = peer.head().await;
        assert_eq!(head.status, 200, "{head:?}");
        let heard = Arc::new(Heard::default());
        let shared = Arc::clone(&heard);
        let task = tokio::spawn(async move {
            let (mut ours, mut theirs) = (Sha256::new(), Sha256::new());
            let (mut rest, mut expected, mut last) = (Vec::new(), None, Instant::now());
            loop {
                let bytes = peer.some().await;
                let silence = last.elapsed().as_millis() as u64;
                shared.longest_silence.fetch_max(silence, Ordering::Relaxed);
                last = Instant::now();
                *shared.last.lock().unwrap() = Some(last);
                if bytes.is_empty() {
                    shared.closed.store(true, Ordering::Relaxed);
                    return (ours, theirs);
                }
                rest.extend(bytes);
                while rest.len() >= FRAME {
                    let frame: Vec<u8> = rest.drain(..FRAME).collect();
                    let number = tone::run(&frame).first;
                    let due = expected.unwrap_or(number);
                    let lost = number.wrapping_sub(due).saturating_mul(FRAME as u64);
                    shared.lost.fetch_add(lost, Ordering::Relaxed);
                    ours.update(&frame);
                    theirs.update(tone::frame(due));
                    expected = Some(number + 1);
                    shared.next.store(number + 1, Ordering::Relaxed);
                }
            }
        });
        Self { heard, task }
    }
}

/// The tree, its source and its listeners.
struct Station {
    nodes: BTreeMap<&'static str, Node>,
    ears: Vec<Ear>,
    // Last, so that the processes end before their machines.
    net: Net,
}

impl Station {
    fn node(&self, name: &str) -> &Node {
        &self.nodes[name]
    }

    fn head(&self) -> &Node {
        self.node("p")
    }

    async fn add(&mut self, plan: Plan, name: &'static str) {
        let node = plan.name(name).start().await;
        self.nodes.insert(name, node);
    }

    async fn relay(&mut self, name: &'static str, children: u32) {
        let place = self.net.place(name);
        let plan = Plan::relay_at(self.head(), &place).yaml(&format!("max_children: {children}"));
        self.add(plan, name).await;
    }

    /// `relayctl reparent`, and waits until the table shows it.
    async fn reparent(&self, pairs: &[(&str, &str)]) {
        let folder = self.head().data_dir();
        for (node, parent) in pairs {
            let mut command = relayctl();
            command
                .args(["reparent", node, "--to", parent, "--data-dir"])
                .arg(&folder);
            let said = String::from_utf8(output_of(command).await).unwrap();
            assert_eq!(
                said,
                format!("{node} pulls from {parent} until that one dies\n")
            );
        }
        self.wait_for("the tree", |parents| {
            pairs
                .iter()
                .all(|(node, parent)| parents.get(*node).is_some_and(|now| now == parent))
        })
        .await;
    }

    /// Waits until the table's parents fulfil a condition.
    async fn wait_for(&self, what: &str, holds: impl Fn(&BTreeMap<String, String>) -> bool) {
        within(LONG, what, async || {
            let rows = nodes_of(self.head()).await;
            let pairs = rows.iter().filter_map(|row| {
                Some((
                    row["name"].as_str()?.to_owned(),
                    row["parent"].as_str()?.to_owned(),
                ))
            });
            holds(&pairs.collect()).then_some(())
        })
        .await;
    }

    async fn parent_of(&self, name: &str) -> String {
        let rows = nodes_of(self.head()).await;
        let row = rows.iter().find(|row| row["name"] == name).unwrap();
        row["parent"].as_str().unwrap().to_owned()
    }

    async fn listen(&mut self, leaves: &[&str], each: usize) {
        for leaf in leaves {
            for _ in 0..each {
                self.ears.push(Ear::open(&self.nodes[leaf]).await);
            }
        }
    }

    /// Waits until every listener has heard the frame `number`.
    async fn all_at(&self, what: &str, number: u64) {
        within(LONG, what, async || {
            let behind = |ear: &Ear| {
                let heard = &ear.heard;
                heard.next.load(Ordering::Relaxed) < number && !heard.closed.load(Ordering::Relaxed)
            };
            (!self.ears.iter().any(behind)).then_some(())
        })
        .await;
    }

    fn begin(&self) -> u64 {
        for ear in &self.ears {
            ear.heard.longest_silence.store(0, Ordering::Relaxed);
        }
        self.lost()
    }

    fn lost(&self) -> u64 {
        let lost = self
            .ears
            .iter()
            .map(|ear| ear.heard.lost.load(Ordering::Relaxed));
        lost.sum()
    }

    fn closed(&self) -> usize {
        let closed = self
            .ears
            .iter()
            .filter(|ear| ear.heard.closed.load(Ordering::Relaxed));
        closed.count()
    }

    /// Says what a fault did: bytes lost since `begin`.
    async fn report(&self, fault: &str, before: u64) -> u64 {
        let silence = self
            .ears
            .iter()
            .map(|ear| ear.heard.longest_silence.load(Ordering::Relaxed));
        let lost = self.lost() - before;
        println!(
            "FAULT {fault}: longest silence {} ms, bytes lost {lost}, sockets closed {} of {}",
            silence.max().unwrap_or(0),
            self.closed(),
            self.ears.len()
        );
        lost
    }

    /// Every byte that every listener got is what the source sent there.
    async fn compare(self) {
        let count = self.ears.len();
        let mut nodes = self.nodes;
        for node in nodes.values_mut() {
            node.kill();
        }
        for ear in self.ears {
            let (ours, theirs) = ear.task.await.unwrap();
            assert_eq!(ours.finalize(), theirs.finalize());
        }
        println!("{count} listeners: sha256 of what came equals that of what was sent");
    }
}

async fn station() -> Station {
    let mut net = Net::new();
    let place = net.place("p");
    let head = Plan::primary()
        .at(&place)
        .name("p")
        .yaml("max_children: 2\nhold: 8s");
    let head = head.start().await;
    Station {
        nodes: BTreeMap::from([("p", head)]),
        ears: Vec::new(),
        net,
    }
}

/// The primary feeds m1 and m2, those n1 and n2, those the leaves; m2 stands behind a link that can be slowed.
async fn deep() -> (Station, Encoder, SlowLink) {
    let mut station = station().await;
    let encoder = Encoder::start(station.head(), 0).await;
    let slow = station.net.slow_place("m2").await;
    station.relay("m1", 4).await;
    let plan = Plan::relay_at(station.head(), &slow.place).yaml("max_children: 4");
    station.add(plan, "m2").await;
    station
        .wait_for("the upper half", |parents| {
            ["m1", "m2"]
                .iter()
                .all(|name| parents.get(*name).is_some_and(|p| p == "p"))
        })
        .await;
    for (name, children) in [
        ("n1", 4),
        ("n2", 4),
        ("l1", 4),
        ("l2", 4),
        ("l3", 4),
        ("l4", 4),
    ] {
        station.relay(name, children).await;
    }
    station
        .wait_for("everybody is fed", |parents| parents.len() == 8)
        .await;
    station.reparent(&[("n1", "m1"), ("n2", "m2")]).await;
    station
        .reparent(&[("l1", "n1"), ("l2", "n1"), ("l3", "n2"), ("l4", "n2")])
        .await;
    let rows = nodes_of(station.head()).await;
    let deepest = rows.iter().filter_map(|row| row["depth"].as_u64()).max();
    assert_eq!(deepest, Some(3), "{rows:?}");
    let children = rows.iter().find(|row| row["name"] == "p").unwrap();
    assert_eq!(children["children"], 2);
    (station, encoder, slow)
}

#[tokio::test]
async fn whatever_stands_between_dies_or_stalls_no_byte_is_lost() {
    let (mut station, encoder, slow) = deep().await;
    station.listen(&["l1", "l2", "l3", "l4"], 10).await;
    station.all_at("the beginning", encoder.sent()).await;

    let before = station.begin();
    station.nodes.get_mut("n1").unwrap().kill();
    station
        .all_at("over the death", encoder.sent() + BEYOND)
        .await;
    assert_eq!(station.report("kill -9 of a middle relay", before).await, 0);

    let before = station.begin();
    let victim = station.parent_of("l3").await;
    assert_ne!(victim, "p");
    let place = station.net.find(&victim);
    place.cut();
    station
        .all_at("over the cut", encoder.sent() + BEYOND)
        .await;
    assert_eq!(station.report("a cut link", before).await, 0);
    place.mend();

    let before = station.begin();
    let victim = station.parent_of("l1").await;
    assert_ne!(victim, "p");
    let place = station.net.find(&victim);
    place.stall();
    station
        .all_at("over the stall", encoder.sent() + BEYOND)
        .await;
    assert_eq!(
        station
            .report("a link that stalls without closing", before)
            .await,
        0
    );
    place.flow();

    let before = station.begin();
    slow.set(200, 20);
    station
        .all_at("over the slow link", encoder.sent() + 2 * BEYOND)
        .await;
    assert_eq!(station.report("200 ms delay and 2 % loss", before).await, 0);

    assert_eq!(station.closed(), 0);
    for leaf in ["l1", "l2", "l3", "l4"] {
        let node = station.node(leaf);
        let (gap, moves) = (
            node.metric("relayctl_gap_bytes_total", "").await,
            node.metric("relayctl_failovers_total", "").await,
        );
        println!("{leaf}: {gap} bytes of gap, {moves} failovers");
        assert_eq!(gap, 0.0, "{leaf}");
        let mounts = api(node, "mounts").await;
        assert_eq!(mounts[0]["gap_bytes"], 0);
    }
    drop(encoder);
    station.compare().await;
}

#[tokio::test]
async fn the_primary_stops_dies_and_its_source_comes_and_goes() {
    let mut station = station().await;
    let encoder = Encoder::start(station.head(), 0).await;
    for name in ["m1", "m2", "l1", "l2"] {
        let place = station.net.place(name);
        let plan = Plan::relay_at(station.head(), &place).yaml("hold: 8s");
        station.add(plan, name).await;
    }
    station
        .wait_for("everybody is fed", |parents| parents.len() == 4)
        .await;
    station.listen(&["l1", "l2"], 10).await;
    station.all_at("the beginning", encoder.sent()).await;

    let before = station.begin();
    station.head().signal(Signal::STOP);
    // What is on the way when it stops is still heard; then nothing, for longer than a parent may be silent.
    within(LONG, "silence", async || {
        let mut silent = station.ears.iter().map(|ear| ear.heard.silence());
        silent
            .all(|silence| silence > Duration::from_secs(4))
            .then_some(())
    })
    .await;
    station.head().signal(Signal::CONT);
    station
        .all_at("over the stop", encoder.sent() + BEYOND)
        .await;
    assert_eq!(
        station
            .report("the primary stopped and continued", before)
            .await,
        0
    );
    assert_eq!(station.closed(), 0);

    let before = station.begin();
    let next = encoder.finish().await;
    let encoder = Encoder::start(station.head(), next).await;
    station
        .all_at("over the reconnect", encoder.sent() + BEYOND)
        .await;
    assert_eq!(
        station.report("source reconnect within hold", before).await,
        0
    );
    assert_eq!(station.closed(), 0);

    let before = station.begin();
    let head = station.nodes.remove("p").unwrap().again().await;
    station.nodes.insert("p", head);
    let next = encoder.sent();
    drop(encoder);
    let encoder = Encoder::start(station.head(), next).await;
    station
        .all_at("over the restart", encoder.sent() + BEYOND)
        .await;
    station
        .report("the primary killed and restarted", before)
        .await;
    assert_eq!(station.closed(), 0);

    let before = station.begin();
    encoder.finish().await;
    within(LONG, "the end after the hold", async || {
        (station.closed() == station.ears.len()).then_some(())
    })
    .await;
    station
        .report("source away for longer than hold", before)
        .await;
}
