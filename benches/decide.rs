//! What a pick costs in a storm: ten relays, eight thousand listeners a second, each as somebody else, and none of them
//! confirmed, so that ten seconds of reservations are open.
//!
//! `cargo bench --bench decide`

#![allow(clippy::expect_used, reason = "names that stand here")]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use relayctl::balancer::{Ask, Balancer, Config, Decision, OwnState, Serve};
use relayctl::base::ids::{Epoch, MountId, NodeId};
use relayctl::cluster::keys::KeyRing;
use relayctl::cluster::snapshot::{MountView, NodeView, Snapshot, State};
use relayctl::wire::message::{Capabilities, Limits, MountState, NodeRole, PublicUrls};

/// Those who are decided about at one moment, as `edge::front` does in a storm.
const HANDFUL: u32 = 32;

/// Between two handfuls.
const PACE: Duration = Duration::from_millis(4);

/// Unix milliseconds at the beginning.
const UNIX: u64 = 1_800_000_000_000;

/// Before it is measured: more than a reservation lives.
const BEFORE: u32 = 100_000;

fn id(text: &str) -> NodeId {
    text.parse().expect("a name")
}

fn live() -> MountId {
    MountId::new("/live.mp3").expect("a mount")
}

fn relay(name: &str, now: Instant) -> NodeView {
    let mount = MountView {
        listeners: 0,
        sent_bytes: 0,
        bitrate: 128_000,
        epoch: Epoch(1),
        offset: 0,
        content_type: "audio/mpeg".into(),
        state: MountState::Live,
        parent: None,
        depth: 1,
        lag_millis: 0,
        counts: Default::default(),
    };
    NodeView {
        id: id(name),
        name: id(name),
        role: NodeRole::Relay,
        state: State::Ready,
        suspected: false,
        trouble: None,
        incarnation: 1,
        public_urls: PublicUrls {
            http: Some(format!("http://{name}.example.org:8000")),
            https: None,
            ..PublicUrls::default()
        },
        version: env!("CARGO_PKG_VERSION").into(),
        weight: 100,
        limits: Limits {
            max_listeners: 1_000_000,
            max_bandwidth: 0,
            max_children: 0,
            max_cpu: 0,
        },
        capabilities: Capabilities::EMBEDDED,
        listeners: 0,
        descriptors_left: None,
        cpu_ratio: 0.0,
        bandwidth_bits: 0,
        uptime: Duration::from_secs(3_600),
        reported: now,
        mounts: BTreeMap::from([(live(), mount)]),
        on_demand: false,
        full: false,
        limit: String::new(),
        draining: false,
        reflect: None,
        parent: None,
        peer_url: None,
        children: 0,
        region: String::new(),
        counts: Default::default(),
    }
}

/// A primary that serves nobody itself, and its ten relays.
struct Storm {
    balancer: Balancer,
    snapshot: Snapshot,
    own: OwnState,
    mount: MountId,
    start: Instant,
    asked: u32,
}

impl Storm {
    fn new() -> Self {
        let start = Instant::now();
        let mut balancer = Balancer::new(Config::default(), UNIX);
        balancer.set_keys(KeyRing::new([7; 32], 0));
        let relays = (0..10).map(|n| relay(&format!("relay-{n}"), start));
        Self {
            balancer,
            snapshot: Snapshot {
                version: 1,
                nodes: relays.map(Arc::new).collect(),
                panic: false,
            },
            own: OwnState {
                id: id("head"),
                role: NodeRole::Primary,
                serve: Serve::Never,
                can_serve: true,
                full: false,
                hard_full: false,
                draining: false,
                primary_gone: false,
                uptime: Duration::from_secs(3_600),
            },
            mount: live(),
            start,
            asked: 0,
        }
    }

    /// The reports are as old as they are with a beat a second.
    fn beats(&mut self, now: Instant) {
        for node in &mut self.snapshot.nodes {
            Arc::make_mut(node).reported = now;
        }
        self.snapshot.version += 1;
    }

    fn next(&mut self) -> Decision {
        let now = self.start + PACE * (self.asked / HANDFUL);
        let unix_millis = UNIX + u64::from(self.asked) / 8;
        if self.asked.is_multiple_of(8_000) {
            self.balancer.tick(now, unix_millis);
            self.beats(now);
        }
        self.asked += 1;
        let agent = format!("player/{}", self.asked);
        let ask = Ask {
            mount: &self.mount,
            bitrate: 128_000,
            https: false,
            address: IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + self.asked)),
            from: relayctl::base::reach::Reach::Network,
            agent: &agent,
            session: None,
            reserves: true,
            target: "/live.mp3",
            waited: Duration::ZERO,
            behind: false,
            avoid: &[],
            now,
            unix_millis,
            random: u64::from(self.asked),
        };
        self.balancer.decide(&ask, &self.snapshot, &self.own)
    }
}

fn decide(criterion: &mut Criterion) {
    let mut storm = Storm::new();
    for _ in 0..BEFORE {
        assert!(matches!(storm.next(), Decision::Redirect { .. }));
    }
    criterion.bench_function("a pick among ten relays", |bencher| {
        bencher.iter(|| black_box(storm.next()));
    });
}

criterion_group!(benches, decide);
criterion_main!(benches);
