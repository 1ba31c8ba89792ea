//! A node with a source and fifty byte-checked listeners, observed while a test attacks it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use super::audience::{Audience, Heard};
use super::node::{Node, Plan};
use super::peer::Peer;
use super::source::{Source, listen};

/// Listeners that play through each attack.
pub const LISTENERS: usize = 50;

/// Mount that they hear.
pub const MOUNT: &str = "/live.mp3";

/// Pause between two looks at the node.
const LOOK: Duration = Duration::from_millis(50);

/// Longest wait for one answer of `/healthz`: ten times what the node promises.
const HEALTH: Duration = Duration::from_secs(10);

/// A node under observation. The listeners sit on `node` unless [`UnderAttack::of`] names another one.
pub struct UnderAttack {
    /// The node that is attacked.
    pub node: Node,
    _source: Option<Source>,
    audience: Audience,
    watch: Watch,
}

/// Peaks between the start and [`UnderAttack::finish`].
#[derive(Debug)]
pub struct Report {
    /// What the listeners heard; each of them one run without a gap.
    pub heard: Heard,
    /// Slowest answer of `/healthz`.
    pub slowest_health: Duration,
    /// Resident memory of the node's process, in MiB.
    pub peak_mib: u64,
    /// Resident memory before the attack, in MiB.
    pub first_mib: u64,
    /// Descriptors of the node's process.
    pub peak_descriptors: u64,
}

struct Watch {
    stop: Arc<AtomicBool>,
    first_mib: u64,
    peak_mib: Arc<AtomicU64>,
    peak_descriptors: Arc<AtomicU64>,
    looks: JoinHandle<()>,
    health: JoinHandle<Duration>,
}

impl UnderAttack {
    /// A primary of `plan` with a source and [`LISTENERS`] on [`MOUNT`].
    pub async fn primary(plan: Plan) -> Self {
        let node = plan.start().await;
        let source = Source::start(&node, MOUNT).await;
        Self::of(node, Some(source)).await
    }

    /// A node on whose [`MOUNT`] listeners are served, with what else must live as long.
    pub async fn of(node: Node, source: Option<Source>) -> Self {
        let mut audience = Audience::default();
        for _ in 0..LISTENERS {
            let (peer, head) = listen(node.port, MOUNT).await;
            audience.seat(peer, &head);
        }
        let watch = Watch::start(&node);
        Self {
            node,
            _source: source,
            audience,
            watch,
        }
    }

    /// Ends the observation: every listener heard every byte, health was always answered, nothing panicked.
    pub async fn finish(self, attack: &str) -> (Node, Report) {
        self.watch.stop.store(true, Ordering::Relaxed);
        let slowest_health = self.watch.health.await.expect("/healthz went unanswered");
        self.watch.looks.await.unwrap();
        let heard = self.audience.all_contiguous().await;
        let log = self.node.log();
        assert!(!log.contains("panicked"), "{log}");
        assert_eq!(heard.listeners, LISTENERS);
        let report = Report {
            heard,
            slowest_health,
            peak_mib: self.watch.peak_mib.load(Ordering::Relaxed),
            first_mib: self.watch.first_mib,
            peak_descriptors: self.watch.peak_descriptors.load(Ordering::Relaxed),
        };
        println!(
            "{attack}: {LISTENERS} listeners, 0 errors, longest gap {:.2} s, slowest health {:.3} s, memory {} to {} MiB, {} descriptors",
            report.heard.longest.as_secs_f64(),
            report.slowest_health.as_secs_f64(),
            report.first_mib,
            report.peak_mib,
            report.peak_descriptors,
        );
        (self.node, report)
    }
}

impl Watch {
    fn start(node: &Node) -> Self {
        let (stop, pid, port) = (Arc::new(AtomicBool::new(false)), node.pid(), node.port);
        let (peak_mib, peak_descriptors) = (Arc::default(), Arc::default());
        Self {
            looks: tokio::spawn(look(
                pid,
                Arc::clone(&stop),
                Arc::clone(&peak_mib),
                Arc::clone(&peak_descriptors),
            )),
            health: tokio::spawn(ask_health(port, Arc::clone(&stop))),
            first_mib: resident_mib(pid),
            stop,
            peak_mib,
            peak_descriptors,
        }
    }
}

async fn look(pid: i32, stop: Arc<AtomicBool>, mib: Arc<AtomicU64>, open: Arc<AtomicU64>) {
    let mut turns = turns();
    loop {
        mib.fetch_max(resident_mib(pid), Ordering::Relaxed);
        open.fetch_max(descriptors(pid), Ordering::Relaxed);
        if stop.load(Ordering::Relaxed) {
            return;
        }
        turns.tick().await;
    }
}

/// Asks `/healthz` on a connection of its own each time; the slowest answer.
async fn ask_health(port: u16, stop: Arc<AtomicBool>) -> Duration {
    let (mut turns, mut slowest) = (turns(), Duration::ZERO);
    loop {
        let began = Instant::now();
        let asking = async {
            let mut peer = Peer::connect(port).await;
            peer.ask("GET /healthz HTTP/1.0\r\n\r\n").await
        };
        let answered = tokio::time::timeout(HEALTH, asking).await;
        let (head, _) = answered.expect("/healthz within ten seconds");
        assert_eq!(head.status, 200);
        slowest = slowest.max(began.elapsed());
        if stop.load(Ordering::Relaxed) {
            return slowest;
        }
        turns.tick().await;
    }
}

fn turns() -> tokio::time::Interval {
    let mut turns = interval(LOOK);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    turns
}

/// Resident memory of a process (`VmRSS` of proc(5)) in MiB; 0 for one that has gone.
pub fn resident_mib(pid: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) / 1024
}

/// Open descriptors of a process.
pub fn descriptors(pid: i32) -> u64 {
    std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, |entries| entries.count() as u64)
}
