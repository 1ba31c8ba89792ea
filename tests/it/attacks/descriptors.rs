//! More connections than a node has descriptors, all of one address.

use std::collections::VecDeque;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::harness::eventually;
use crate::harness::node::{Node, Plan};
use crate::harness::peer::Peer;
use crate::harness::source::Source;
use crate::harness::tone::{self, FRAME};
use crate::harness::under_attack::{MOUNT, UnderAttack, descriptors};

/// Descriptors that the node has; the attackers come with more than twice as many.
const LIMIT: u64 = 2000;
const ATTACKERS: usize = 4500;

/// A line of a request that never ends, and one whose head is whole.
const LINES: [&str; 2] = [
    "POST /cluster/v1/join HTTP/1.1\r\nHost: a\r\n",
    "POST /cluster/v1/join HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n{",
];

fn narrow(node: &Node) {
    let pid = Pid::from_raw(node.pid()).unwrap();
    let limit = Rlimit {
        current: Some(LIMIT),
        maximum: Some(20_000),
    };
    prlimit(Some(pid), Resource::Nofile, limit).unwrap();
}

/// systemd's side of its watchdog (sd_watchdog_enabled(3)): counts the pings that come.
struct Watchdog {
    socket: UnixDatagram,
    last: Instant,
    longest: Duration,
    pings: u32,
}

impl Watchdog {
    fn hear(&mut self) {
        let mut text = [0_u8; 512];
        while let Ok(count) = self.socket.recv(&mut text) {
            if String::from_utf8_lossy(&text[..count]).contains("WATCHDOG=1") {
                self.longest = self.longest.max(self.last.elapsed());
                self.last = Instant::now();
                self.pings += 1;
            }
        }
    }
}

/// A listener, as players come: who meets the moment before an evicted connection has closed is told 503, and tries again.
async fn newcomer(node: &Node) -> Peer {
    eventually("a newcomer hears the station", async || {
        let mut peer = Peer::connect(node.port).await;
        let request = format!("GET {MOUNT} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        peer.try_send(request.as_bytes()).await.ok()?;
        (peer.head().await.status == 200).then_some(peer)
    })
    .await
}

#[tokio::test]
async fn health_metrics_listeners_and_the_watchdog_get_in() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_nonblocking(true).unwrap();
    let plan = Plan::primary()
        .variable("NOTIFY_SOCKET", path.to_str().unwrap())
        .variable("WATCHDOG_USEC", "3000000");
    let node = plan.start().await;
    narrow(&node);
    let source = Source::start(&node, MOUNT).await;
    let scene = UnderAttack::of(node, Some(source)).await;
    let mut watchdog = Watchdog {
        socket,
        last: Instant::now(),
        longest: Duration::ZERO,
        pings: 0,
    };
    eventually("the watchdog is told", async || {
        watchdog.hear();
        (watchdog.pings > 0).then_some(())
    })
    .await;
    watchdog.longest = Duration::ZERO;
    let mut attackers = Vec::new();
    for n in 0..ATTACKERS {
        let mut peer = Peer::connect(scene.node.port).await;
        let _ = peer.try_send(LINES[n % 2].as_bytes()).await;
        attackers.push(peer);
        if n % 100 == 0 {
            watchdog.hear();
        }
        if n % 500 == 499 {
            // Newcomers hear the station, and whoever watches it sees it.
            let mut peer = newcomer(&scene.node).await;
            tone::run(&peer.exact(2 * FRAME).await);
            assert_eq!(scene.node.get("/metrics").await.0.status, 200);
        }
    }
    let heard = watchdog.pings;
    eventually("the watchdog is told as ever", async || {
        watchdog.hear();
        (watchdog.pings > heard + 3).then_some(())
    })
    .await;
    println!("longest pause between two pings: {:?}", watchdog.longest);
    assert!(!scene.node.log().contains("does not answer its own node"));
    drop(attackers);
    let name = "4,500 unfinished requests at 2,000 descriptors";
    let (_, report) = scene.finish(name).await;
    assert!(report.peak_descriptors <= LIMIT, "{report:?}");
    // Up to 2,000 of them at once, some 33 KiB each in a debug build.
    assert!(report.peak_mib < report.first_mib + 128, "{report:?}");
}

/// The flood of the report: it took every descriptor of the node, and `/healthz` was silent for 50 s.
#[tokio::test]
async fn twenty_two_thousand_unfinished_requests_of_one_address() {
    let scene = UnderAttack::primary(Plan::primary()).await;
    let mut held = VecDeque::new();
    for n in 0..22_000 {
        let mut peer = Peer::connect(scene.node.port).await;
        let _ = peer.try_send(LINES[n % 2].as_bytes()).await;
        held.push_back(peer);
        // As many as this process may have open. The oldest ones have been evicted long since.
        if held.len() > 15_000 {
            held.pop_front();
        }
        if n % 2_000 == 1_999 {
            let mut peer = newcomer(&scene.node).await;
            tone::run(&peer.exact(2 * FRAME).await);
            assert_eq!(scene.node.get("/metrics").await.0.status, 200);
        }
    }
    let name = "22,000 unfinished requests of one address";
    let (_, report) = scene.finish(name).await;
    drop(held);
    // 64 of one address stay, and who came within half a second.
    assert!(report.peak_descriptors < 10_000, "{report:?}");
    assert!(report.peak_mib < report.first_mib + 256, "{report:?}");
}

#[tokio::test]
async fn with_nobody_to_evict_health_and_metrics_get_in_by_the_spare_descriptors() {
    let node = Plan::primary().start().await;
    let source = Source::start(&node, MOUNT).await;
    let scene = UnderAttack::of(node, Some(source)).await;
    let pid = Pid::from_raw(scene.node.pid()).unwrap();
    let limit = |current| Rlimit {
        current: Some(current),
        maximum: Some(20_000),
    };
    // Just what is open: the next connection finds none, and all that hold one are listeners.
    let open = descriptors(scene.node.pid());
    let before = prlimit(Some(pid), Resource::Nofile, limit(open)).unwrap();
    eventually("the want is counted", async || {
        let (head, _) = scene.node.get("/healthz").await;
        assert_eq!(head.status, 200);
        scene
            .node
            .log()
            .contains("no descriptor left")
            .then_some(())
    })
    .await;
    for _ in 0..20 {
        assert_eq!(scene.node.get("/healthz").await.0.status, 200);
        assert_eq!(scene.node.get("/metrics").await.0.status, 200);
    }
    prlimit(Some(pid), Resource::Nofile, before).unwrap();
    scene.finish("no descriptor left and nobody to evict").await;
}
