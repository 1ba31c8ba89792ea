//! A station on machines of its own, a source whose every byte is known, and listeners who compare what they hear.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use super::cluster::nodes_of;
use super::net::Net;
use super::node::{Node, Plan};
use super::peer::Peer;
use super::source::source_head;
use super::tone::{self, FRAME};
use super::within;

/// The mount.
pub const MOUNT: &str = "/live.mp3";

/// Longest wait for anything here: a link that stalls takes three seconds to be noticed.
pub const LONG: Duration = Duration::from_secs(90);

/// Frames that every listener must have heard beyond a fault before it counts as over: six seconds.
pub const BEYOND: u64 = 250;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    Play,
    Pause,
    Stop,
}

/// A source a fifth faster than it plays.
pub struct Encoder {
    next: Arc<AtomicU64>,
    flow: watch::Sender<Flow>,
    task: JoinHandle<()>,
}

impl Encoder {
    /// From the frame `first` on.
    pub async fn start(primary: &Node, first: u64) -> Self {
        Self::paced(primary, first, 2).await
    }

    /// The same with so many frames every 40 ms; two are a fifth faster than they play.
    pub async fn paced(primary: &Node, first: u64, at_once: u64) -> Self {
        let mut peer = Peer::connect_to(primary.address()).await;
        let password = primary.source_password();
        peer.send(source_head(&format!("PUT {MOUNT} HTTP/1.1"), &password, ""))
            .await;
        assert_eq!(peer.head().await.status, 200);
        let next = Arc::new(AtomicU64::new(first));
        let (flow, orders) = watch::channel(Flow::Play);
        let sent = Arc::clone(&next);
        let task = tokio::spawn(async move {
            let mut turns = interval(Duration::from_millis(40));
            turns.set_missed_tick_behavior(MissedTickBehavior::Burst);
            loop {
                turns.tick().await;
                match *orders.borrow() {
                    Flow::Play => {}
                    Flow::Pause => continue,
                    Flow::Stop => break,
                }
                let from = sent.load(Ordering::Relaxed);
                if peer.try_send(&tone::frames(from, at_once)).await.is_err() {
                    return;
                }
                sent.store(from + at_once, Ordering::Relaxed);
            }
            peer.finish().await;
            peer.rest().await;
        });
        Self { next, flow, task }
    }

    /// Sends nothing, and stays connected.
    pub fn pause(&self) {
        self.flow.send_replace(Flow::Pause);
    }

    /// Goes on.
    pub fn play(&self) {
        self.flow.send_replace(Flow::Play);
    }

    /// Frames sent so far, and so the number of the next.
    pub fn sent(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }

    /// Ends its body; the number of the frame that would have been next.
    pub async fn finish(self) -> u64 {
        self.flow.send_replace(Flow::Stop);
        self.task.await.unwrap();
        self.next.load(Ordering::Relaxed)
    }
}

/// What a listener heard.
#[derive(Default)]
pub struct Heard {
    /// Number of the frame after the last whole one.
    pub next: AtomicU64,
    /// Bytes that did not come, or came other than they were sent.
    pub lost: AtomicU64,
    /// Milliseconds.
    longest_silence: AtomicU64,
    /// When something came last.
    last: Mutex<Option<Instant>>,
    /// True once the node closed.
    pub closed: AtomicBool,
}

impl Heard {
    /// How long nothing has come.
    pub fn silence(&self) -> Duration {
        let last = *self.last.lock().unwrap();
        last.map_or(Duration::ZERO, |last| last.elapsed())
    }
}

/// A listener that compares every byte with what the source sent.
pub struct Ear {
    /// What it heard.
    pub heard: Arc<Heard>,
    task: JoinHandle<(Sha256, Sha256)>,
}

impl Ear {
    /// A listener of a node.
    pub async fn open(node: &Node) -> Self {
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
pub struct Station {
    /// By name; the primary is `p`.
    pub nodes: BTreeMap<&'static str, Node>,
    /// The listeners.
    pub ears: Vec<Ear>,
    /// Their machines. Last, so that the processes end before them.
    pub net: Net,
}

impl Station {
    /// A node by its name.
    pub fn node(&self, name: &str) -> &Node {
        &self.nodes[name]
    }

    /// The primary.
    pub fn head(&self) -> &Node {
        self.node("p")
    }

    /// One more node.
    pub async fn add(&mut self, plan: Plan, name: &'static str) {
        let node = plan.name(name).start().await;
        self.nodes.insert(name, node);
    }

    /// One more relay, on a machine of its own.
    pub async fn relay(&mut self, name: &'static str, children: u32) {
        let place = self.net.place(name);
        let plan = Plan::relay_at(self.head(), &place).yaml(&format!("max_children: {children}"));
        self.add(plan, name).await;
    }

    /// `relayctl reparent`, and waits until the table shows it.
    pub async fn reparent(&self, pairs: &[(&str, &str)]) {
        for (node, parent) in pairs {
            let said = self.head().asked(&["reparent", node, "--to", parent]).await;
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
    pub async fn wait_for(&self, what: &str, holds: impl Fn(&BTreeMap<String, String>) -> bool) {
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

    /// The table's parent of a node.
    pub async fn parent_of(&self, name: &str) -> String {
        let rows = nodes_of(self.head()).await;
        let row = rows.iter().find(|row| row["name"] == name).unwrap();
        row["parent"].as_str().unwrap().to_owned()
    }

    /// How often a node has changed its parent.
    pub async fn moves(&self, name: &str) -> f64 {
        let node = self.node(name);
        node.metric("relayctl_failovers_total", "").await
    }

    /// Waits until the table has a node as one that is well.
    pub async fn is_ready(&self, name: &str) {
        within(LONG, "it is ready", async || {
            let rows = nodes_of(self.head()).await;
            let row = rows.into_iter().find(|row| row["name"] == name)?;
            (row["state"] == "ready").then_some(())
        })
        .await;
    }

    /// So many listeners on each of these.
    pub async fn listen(&mut self, leaves: &[&str], each: usize) {
        for leaf in leaves {
            for _ in 0..each {
                self.ears.push(Ear::open(&self.nodes[leaf]).await);
            }
        }
    }

    /// Waits until every listener has heard the frame `number`.
    pub async fn all_at(&self, what: &str, number: u64) {
        within(LONG, what, async || {
            let behind = |ear: &Ear| {
                let heard = &ear.heard;
                heard.next.load(Ordering::Relaxed) < number && !heard.closed.load(Ordering::Relaxed)
            };
            (!self.ears.iter().any(behind)).then_some(())
        })
        .await;
    }

    /// A fault begins: what was lost before it.
    pub fn begin(&self) -> u64 {
        for ear in &self.ears {
            ear.heard.longest_silence.store(0, Ordering::Relaxed);
        }
        self.lost()
    }

    /// Bytes that the listeners did not get, all in all.
    pub fn lost(&self) -> u64 {
        let lost = self
            .ears
            .iter()
            .map(|ear| ear.heard.lost.load(Ordering::Relaxed));
        lost.sum()
    }

    /// Listeners whose connection was closed.
    pub fn closed(&self) -> usize {
        let closed = self
            .ears
            .iter()
            .filter(|ear| ear.heard.closed.load(Ordering::Relaxed));
        closed.count()
    }

    /// Says what a fault did: bytes lost since `begin`.
    pub async fn report(&self, fault: &str, before: u64) -> u64 {
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
    pub async fn compare(self) {
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

impl Station {
    /// A primary alone, with these settings.
    pub async fn start(yaml: &str) -> Self {
        let mut net = Net::new();
        let place = net.place("p");
        let head = Plan::primary().at(&place).name("p").yaml(yaml);
        Self {
            nodes: BTreeMap::from([("p", head.start().await)]),
            ears: Vec::new(),
            net,
        }
    }
}
