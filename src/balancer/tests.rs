mod admission;
mod extremes;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::strategy::Strategy as _;

use super::strategy::Strategy;
use super::*;
use crate::base::ids::{Epoch, MountId};
use crate::base::reach::Reach;
use crate::cluster::snapshot::{MountView, NodeView, State};
use crate::wire::message::{
    Capabilities, Limits, MountBeat, MountState, NodeRole, NodeState, PublicUrls, VERSION,
};

const UNIX: u64 = 1_800_000_000_000;
const RATE: u64 = 128_000;

fn id(text: &str) -> NodeId {
    text.parse().unwrap()
}

fn live() -> MountId {
    MountId::new("/live.mp3").unwrap()
}

fn relay(name: &str, listeners: u64, now: Instant) -> NodeView {
    let mount = MountView {
        listeners,
        sent_bytes: 0,
        bitrate: RATE,
        epoch: Epoch(1),
        offset: 0,
        content_type: "audio/mpeg".into(),
        state: MountState::Live,
        parent: None,
        depth: 0,
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
            http: Some(format!("http://{name}:8000")),
            https: None,
            ..PublicUrls::default()
        },
        version: "0.1.0".into(),
        weight: 100,
        limits: Limits {
            max_listeners: 1_000,
            max_bandwidth: 0,
            max_children: 0,
            max_cpu: 0,
        },
        capabilities: Capabilities::EMBEDDED,
        listeners,
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

/// One primary and what it sees.
struct Stage {
    balancer: Balancer,
    views: Vec<NodeView>,
    panic: bool,
    version: u64,
    own: OwnState,
    start: Instant,
    now: Instant,
    asked: u64,
}

/// A listener with an address of its own.
struct Who<'a> {
    address: Ipv4Addr,
    from: Reach,
    agent: &'a str,
    https: bool,
    reserves: bool,
    target: &'a str,
    session: Option<&'a str>,
    waited: Duration,
    behind: bool,
}

fn who(number: u32) -> Who<'static> {
    Who {
        address: Ipv4Addr::from(0x0a00_0000 + number),
        from: Reach::Network,
        agent: "player/1",
        https: false,
        reserves: true,
        target: "/live.mp3",
        session: None,
        waited: Duration::ZERO,
        behind: false,
    }
}

impl Stage {
    fn new(relays: &[(&str, u64)]) -> Self {
        let now = Instant::now();
        let mut balancer = Balancer::new(Config::default(), UNIX);
        balancer.set_keys(KeyRing::new([7; 32], 0));
        Self {
            balancer,
            views: relays
                .iter()
                .map(|(name, n)| relay(name, *n, now))
                .collect(),
            panic: false,
            version: 1,
            own: OwnState {
                id: id("head"),
                role: NodeRole::Primary,
                serve: Serve::Auto,
                can_serve: true,
                full: false,
                hard_full: false,
                draining: false,
                primary_gone: false,
                uptime: Duration::from_secs(3_600),
            },
            start: now,
            now,
            asked: 0,
        }
    }

    fn ten() -> Self {
        let names: Vec<String> = (0..10).map(|n| format!("r{n}")).collect();
        let relays: Vec<(&str, u64)> = names.iter().map(|name| (name.as_str(), 0)).collect();
        Self::new(&relays)
    }

    fn strategy(mut self, strategy: Strategy) -> Self {
        self.balancer.set_config(Config {
            strategy,
            ..Config::default()
        });
        self
    }

    fn snapshot(&self) -> Snapshot {
        let mut nodes: Vec<Arc<NodeView>> = self.views.iter().cloned().map(Arc::new).collect();
        nodes.sort_by(|a, b| a.id.cmp(&b.id));
        Snapshot {
            version: self.version,
            nodes,
            panic: self.panic,
        }
    }

    fn unix(&self) -> u64 {
        UNIX + u64::try_from((self.now - self.start).as_millis()).unwrap()
    }

    fn ask(&mut self, who: &Who<'_>) -> Decision {
        self.asked += 1;
        let mount = live();
        let ask = Ask {
            mount: &mount,
            bitrate: RATE,
            https: who.https,
            address: IpAddr::V4(who.address),
            from: who.from,
            agent: who.agent,
            session: who.session,
            reserves: who.reserves,
            target: who.target,
            waited: who.waited,
            behind: who.behind,
            avoid: &[],
            now: self.now,
            unix_millis: self.unix(),
            random: self.asked.wrapping_mul(0x1234_5678_9abc_def1),
        };
        let (snapshot, own) = (self.snapshot(), self.own.clone());
        self.balancer.decide(&ask, &snapshot, &own)
    }

    fn node(&mut self, who: &Who<'_>) -> String {
        match self.ask(who) {
            Decision::Redirect { node, .. } => node.to_string(),
            other => panic!("{other:?}"),
        }
    }

    fn pass(&mut self, millis: u64) {
        self.now += Duration::from_millis(millis);
        let unix = self.unix();
        self.balancer.tick(self.now, unix);
    }

    /// Everything is as fresh as `now`.
    fn refresh(&mut self) {
        for view in &mut self.views {
            view.reported = self.now;
        }
    }

    fn beat(&mut self, name: &str, listeners: u64, confirmed: Vec<u64>) {
        let beat = Beat {
            v: VERSION,
            id: id(name),
            incarnation: 1,
            seq: 1,
            sent_unix_millis: 0,
            name: id(name),
            public_urls: PublicUrls::default(),
            data_port: 8000,
            limits: Limits {
                max_listeners: 1_000,
                max_bandwidth: 0,
                max_children: 0,
                max_cpu: 0,
            },
            weight: 100,
            version: String::new(),
            state: NodeState::Ready,
            uptime_millis: 0,
            cpu_ratio: 0.0,
            bandwidth_bits: 0,
            descriptors_left: None,
            mounts: vec![MountBeat {
                mount: live(),
                listeners,
                sent_bytes: 0,
                epoch: Epoch(1),
                offset: 0,
                bitrate: RATE,
                content_type: String::new(),
                state: MountState::Live,
                parent: None,
                depth: 0,
                lag_millis: 0,
                counts: Default::default(),
            }],
            on_demand: false,
            full: false,
            limit: String::new(),
            reflect: None,
            listeners,
            confirmed,
            parent: None,
            capabilities: Capabilities::EMBEDDED,
            events: Vec::new(),
            children: 0,
            region: String::new(),
            counts: Default::default(),
            assigned: None,
        };
        self.balancer.on_beat(&beat, self.now);
    }
}

fn spread(nodes: &[String]) -> BTreeMap<String, usize> {
    nodes.iter().fold(BTreeMap::new(), |mut counts, node| {
        *counts.entry(node.clone()).or_default() += 1;
        counts
    })
}

fn sequence(decision: &Decision) -> u64 {
    match decision {
        Decision::Redirect { reservation, .. } => *reservation,
        other => panic!("{other:?}"),
    }
}

fn path_of(decision: &Decision) -> String {
    match decision {
        Decision::Redirect { location, .. } => {
            let url = url::Url::parse(location).unwrap();
            format!("{}?{}", url.path(), url.query().unwrap_or_default())
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_table_of_decisions_of_a_primary() {
    type Change = fn(&mut Stage, &mut Who<'static>);
    let cases: [(&str, Change, &str, Reason); 17] = [
        ("plain", |_, _| {}, "redirect", Reason::LeastConn),
        (
            "head",
            |_, w| w.reserves = false,
            "redirect",
            Reason::LeastConn,
        ),
        ("https", |_, w| w.https = true, "serve", Reason::NoScheme),
        (
            "full relay",
            |s, _| s.views[0].limits.max_listeners = 5,
            "serve",
            Reason::PrimaryServes,
        ),
        (
            "over a limit",
            |s, _| s.views[0].full = true,
            "serve",
            Reason::PrimaryServes,
        ),
        (
            "draining",
            |s, _| s.views[0].state = State::Draining,
            "serve",
            Reason::PrimaryServes,
        ),
        (
            "unreachable",
            |s, _| s.views[0].state = State::Unreachable,
            "serve",
            Reason::PrimaryServes,
        ),
        (
            "no mount",
            |s, _| s.views[0].mounts.clear(),
            "serve",
            Reason::PrimaryServes,
        ),
        (
            "on demand",
            |s, _| {
                s.views[0].mounts.clear();
                s.views[0].on_demand = true;
            },
            "redirect",
            Reason::LeastConn,
        ),
        (
            "always",
            |s, _| s.own.serve = Serve::Always,
            "serve",
            Reason::ServeAlways,
        ),
        (
            "always, full",
            |s, _| {
                s.own.serve = Serve::Always;
                s.own.full = true;
            },
            "redirect",
            Reason::LeastConn,
        ),
        (
            "never",
            |s, _| {
                s.own.serve = Serve::Never;
                s.views.clear();
            },
            "refuse",
            Reason::NoRelay,
        ),
        (
            "never, https",
            |s, w| {
                s.own.serve = Serve::Never;
                w.https = true;
            },
            "refuse",
            Reason::NoScheme,
        ),
        (
            "all full",
            |s, _| {
                s.own.full = true;
                s.views[0].limits.max_listeners = 5;
            },
            "refuse",
            Reason::Full,
        ),
        (
            "leaving",
            |s, _| {
                s.own.draining = true;
                s.views.clear();
            },
            "refuse",
            Reason::Draining,
        ),
        (
            "panic, may serve",
            |s, _| {
                s.panic = true;
                s.views[0].suspected = true;
            },
            "serve",
            Reason::PrimaryServes,
        ),
        (
            "panic, may not",
            |s, _| {
                s.panic = true;
                s.own.serve = Serve::Never;
                s.views[0].suspected = true;
                s.views[0].state = State::Suspect;
            },
            "redirect",
            Reason::Panic,
        ),
    ];
    for (name, change, mode, reason) in cases {
        let mut stage = Stage::new(&[("r1", 5)]);
        let mut who = who(1);
        change(&mut stage, &mut who);
        let decision = stage.ask(&who);
        assert_eq!(
            (decision.mode(), decision.reason()),
            (mode, reason),
            "{name}"
        );
        if let Decision::Refuse {
            status,
            retry_after,
            ..
        } = decision
        {
            assert_eq!(status, 503);
            assert!((5..=15).contains(&retry_after), "{retry_after}");
        }
    }
}

#[test]
fn a_table_of_decisions_of_a_relay() {
    type Change = fn(&mut Stage);
    let cases: [(&str, Change, &str, Reason); 7] = [
        ("healthy", |_| {}, "serve", Reason::RelayServes),
        ("full", |s| s.own.full = true, "redirect", Reason::P2c),
        (
            "draining",
            |s| s.own.draining = true,
            "redirect",
            Reason::P2c,
        ),
        (
            "lonely",
            |s| {
                s.own.full = true;
                s.views.clear();
            },
            "refuse",
            Reason::Full,
        ),
        (
            "leaving",
            |s| {
                s.own.draining = true;
                s.views.clear();
            },
            "refuse",
            Reason::Draining,
        ),
        (
            "not joined",
            |s| {
                s.own.full = true;
                s.balancer.set_keys(KeyRing::default());
            },
            "refuse",
            Reason::Full,
        ),
        (
            "only the primary",
            |s| {
                s.own.full = true;
                s.views[0].role = NodeRole::Primary;
            },
            "redirect",
            Reason::P2c,
        ),
    ];
    for (name, change, mode, reason) in cases {
        let mut stage = Stage::new(&[("r1", 5)]);
        stage.own.id = id("r0");
        stage.own.role = NodeRole::Relay;
        change(&mut stage);
        let decision = stage.ask(&who(1));
        assert_eq!(
            (decision.mode(), decision.reason()),
            (mode, reason),
            "{name}"
        );
    }
}

#[test]
fn five_hundred_joins_on_old_counts_spread_evenly() {
    let mut stage = Stage::ten();
    let mut nodes = Vec::new();
    for number in 0..500 {
        nodes.push(stage.node(&who(number)));
        stage.pass(4);
    }
    let counts = spread(&nodes);
    let busiest = counts.values().max().copied().unwrap();
    assert_eq!((counts.len(), nodes.len()), (10, 500));
    assert!(busiest as f64 <= 50.0 * 1.05, "{counts:?}");
}

#[test]
fn one_address_and_one_agent_spread_too() {
    let mut stage = Stage::ten();
    let (mut nodes, mut again) = (Vec::new(), 0);
    for _ in 0..500 {
        let decision = stage.ask(&who(1));
        again += u32::from(decision.reason() == Reason::Again);
        match decision {
            Decision::Redirect { node, .. } => nodes.push(node.to_string()),
            other => panic!("{other:?}"),
        }
        stage.pass(4);
    }
    let counts = spread(&nodes);
    // Two seconds have passed: one of each was taken for a player that comes again.
    assert!((1..=2).contains(&again), "{again}");
    assert!(counts.values().all(|n| (49..=51).contains(n)), "{counts:?}");
}

#[test]
fn a_herd_in_one_instant_is_paced_and_nobody_is_turned_away() {
    let mut stage = Stage::ten();
    let mut waiting: Vec<u32> = (0..600).collect();
    let mut nodes = Vec::new();
    let mut rounds = 0;
    while !waiting.is_empty() {
        let mut next = None;
        let waited = stage.now - stage.start;
        waiting.retain(|number| {
            let mut who = who(*number);
            who.waited = waited;
            match stage.ask(&who) {
                Decision::Redirect { node, .. } => {
                    nodes.push(node.to_string());
                    false
                }
                Decision::Wait { until, reason } => {
                    assert_eq!(reason, Reason::Pacing);
                    assert!(until > stage.now);
                    next = Some(until);
                    true
                }
                other => panic!("{other:?} after {waited:?}"),
            }
        });
        if rounds == 0 {
            assert_eq!(nodes.len(), 10 * 50, "a second of C/20 for each");
        }
        if let Some(next) = next {
            stage.now = next;
            stage.refresh();
        }
        rounds += 1;
        assert!(rounds < 1_000);
    }
    let counts = spread(&nodes);
    assert!(counts.values().all(|n| (59..=61).contains(n)), "{counts:?}");
}

#[test]
fn after_five_seconds_in_line_the_primary_serves_or_says_so() {
    let mut stage = Stage::new(&[("r1", 0)]);
    for number in 0..50 {
        stage.node(&who(number));
    }
    let mut late = who(99);
    assert_eq!(stage.ask(&late).mode(), "wait");
    late.waited = Duration::from_secs(5);
    assert_eq!(stage.ask(&late).reason(), Reason::PrimaryServes);
    stage.own.serve = Serve::Never;
    let decision = stage.ask(&late);
    assert_eq!(
        (decision.mode(), decision.reason()),
        ("refuse", Reason::Pacing)
    );
}

#[test]
fn beats_confirm_and_count_at_one_stroke() {
    let mut stage = Stage::new(&[("r1", 0), ("r2", 0)]);
    let mut of_r1 = Vec::new();
    for number in 0..20 {
        let decision = stage.ask(&who(number));
        if matches!(&decision, Decision::Redirect { node, .. } if *node == id("r1")) {
            of_r1.push(sequence(&decision));
        }
    }
    assert_eq!(of_r1.len(), 10);
    stage.beat("r1", 10, of_r1);
    assert_eq!(stage.balancer.tally(&id("r1")).reserved, 0);
    // 10 counted here, 10 reserved there: still even.
    let nodes: Vec<String> = (100..120).map(|n| stage.node(&who(n))).collect();
    assert_eq!(spread(&nodes)["r1"], 10);
}

#[test]
fn who_does_not_come_is_forgotten_after_ten_seconds() {
    let mut stage = Stage::new(&[("r1", 0), ("r2", 0)]);
    for number in 0..20 {
        stage.node(&who(number));
    }
    stage.beat("r1", 10, Vec::new());
    stage.pass(10_000);
    stage.refresh();
    assert_eq!(stage.balancer.reserved(), 0);
    assert!(stage.balancer.tally(&id("r2")).no_show > 0.5);
    let nodes: Vec<String> = (100..110).map(|n| stage.node(&who(n))).collect();
    assert_eq!(spread(&nodes), BTreeMap::from([("r2".to_owned(), 10)]));
}

#[test]
fn a_dead_relays_reservations_are_dropped() {
    let mut stage = Stage::new(&[("r1", 0)]);
    let first = who(1);
    stage.node(&first);
    stage.balancer.on_gone(&id("r1"));
    assert_eq!(stage.balancer.reserved(), 0);
    stage.views[0].state = State::Dead;
    assert_eq!(stage.ask(&first).reason(), Reason::PrimaryServes);
}

/// The URL of a relay on the primary's own machine leads every other listener to its own computer.
#[test]
fn nobody_is_sent_to_a_url_that_is_not_reached_from_where_it_is() {
    let mut stage = Stage::new(&[("r1", 0)]);
    let url = |stage: &mut Stage, url: &str| stage.views[0].public_urls.http = Some(url.to_owned());
    let from = |from| Who { from, ..who(1) };
    let mut number = 0;
    let mut goes = |stage: &mut Stage, from_where| {
        number += 1;
        let guest = Who {
            from: from_where,
            ..who(number)
        };
        let decision = stage.ask(&guest);
        (
            matches!(decision, Decision::Redirect { .. }),
            decision.reason(),
        )
    };
    use Reach::{Internet, Machine, Network};
    for address in [
        "http://127.0.0.1:8100",
        "http://localhost:8100",
        "http://0.0.0.0:8100",
    ] {
        url(&mut stage, address);
        assert!(goes(&mut stage, Machine).0, "{address}");
        for away in [Network, Internet] {
            assert_eq!(
                goes(&mut stage, away),
                (false, Reason::NoReach),
                "{address}"
            );
        }
    }
    // Who was sent a moment ago is asked where it is now.
    url(&mut stage, "http://127.0.0.1:8100");
    assert!(matches!(
        stage.ask(&from(Machine)),
        Decision::Redirect { .. }
    ));
    assert_eq!(stage.ask(&from(Internet)).reason(), Reason::NoReach);
    for address in [
        "http://10.0.0.1:8000",
        "http://169.254.0.1:8000",
        "http://relay-1:8000",
    ] {
        url(&mut stage, address);
        assert!(goes(&mut stage, Network).0, "{address}");
        assert_eq!(
            goes(&mut stage, Internet),
            (false, Reason::NoReach),
            "{address}"
        );
    }
    url(&mut stage, "http://relay-1.example:8000");
    assert!(goes(&mut stage, Internet).0);
}

#[test]
fn a_primary_that_never_serves_sends_to_a_private_url_before_it_says_no() {
    let mut stage = Stage::new(&[("r1", 0), ("r2", 0)]);
    stage.own.serve = Serve::Never;
    let guest = |number| Who {
        from: Reach::Internet,
        ..who(number)
    };
    stage.views[0].public_urls.http = Some("http://10.0.0.1:8000".to_owned());
    stage.views[1].public_urls.http = Some("http://127.0.0.1:8100".to_owned());
    // Never to a loopback address.
    assert_eq!(stage.node(&guest(1)), "r1");
    // With one that everybody reaches, to that one alone.
    stage.views[1].public_urls.http = Some("http://r2.example:8000".to_owned());
    for number in 2..6 {
        assert_eq!(stage.node(&guest(number)), "r2");
    }
    stage.views[0].public_urls.http = Some("http://127.0.0.1:8000".to_owned());
    stage.views[1].public_urls.http = Some("http://[::1]:8100".to_owned());
    assert!(matches!(
        stage.ask(&guest(9)),
        Decision::Refuse {
            reason: Reason::NoReach,
            ..
        }
    ));
}

/// Whoever asks and does not follow keeps out nobody: beyond its share an address is sent on as ever, and no place is kept for it.
#[test]
fn one_address_reserves_a_quarter_of_what_is_free_and_at_least_sixteen() {
    for (listeners, share) in [(0, 250), (960, 16)] {
        let mut stage = Stage::new(&[("a", listeners)]);
        let mut kept = |address: &str, asks: u32| {
            let reserves = |n| {
                let agent = format!("agent {n}");
                let who = Who {
                    address: address.parse().unwrap(),
                    agent: &agent,
                    ..who(1)
                };
                // As fast as one relay takes them, and within the life of a reservation.
                stage.pass(20);
                stage.refresh();
                sequence(&stage.ask(&who)) != 0
            };
            (0..asks).map(reserves).filter(|kept| *kept).count()
        };
        assert_eq!(kept("198.51.100.7", 400), share, "beside {listeners}");
        assert_eq!(kept("198.51.100.7", 20), 0, "beside {listeners}");
        assert_eq!(kept("203.0.113.1", 1), 1, "somebody else");
    }
}

#[test]
fn head_requests_reserve_nothing_and_are_no_picks() {
    let mut stage = Stage::new(&[("r1", 0)]);
    let mut head = who(1);
    head.reserves = false;
    let decision = stage.ask(&head);
    assert_eq!(sequence(&decision), 0);
    assert_eq!(stage.balancer.reserved(), 0);
    assert_eq!(stage.balancer.picks().count(), 0);
}

#[test]
fn a_player_that_asks_twice_gets_one_place() {
    let mut stage = Stage::ten();
    let mut one = who(1);
    one.session = Some("A-1");
    let first = stage.ask(&one);
    stage.pass(1_000);
    one.address = Ipv4Addr::new(10, 9, 9, 9);
    let second = stage.ask(&one);
    assert_eq!(second.reason(), Reason::Again);
    assert_eq!(sequence(&first), sequence(&second));
    assert_eq!(path_of(&first), path_of(&second));
    assert_eq!(stage.balancer.reserved(), 1);
    let third = stage.ask(&one);
    assert_eq!(third.reason(), Reason::LeastConn);
}

#[test]
fn weights_are_kept() {
    let mut stage = Stage::new(&[("r1", 0), ("r2", 0), ("r3", 0)]);
    stage.views[1].weight = 200;
    stage.views[2].weight = 50;
    let mut nodes = Vec::new();
    for number in 0..350 {
        nodes.push(stage.node(&who(number)));
        stage.pass(20);
        stage.refresh();
    }
    let counts = spread(&nodes);
    assert!((99..=101).contains(&counts["r1"]), "{counts:?}");
    assert!((198..=202).contains(&counts["r2"]), "{counts:?}");
    assert!((49..=51).contains(&counts["r3"]), "{counts:?}");
}

#[test]
fn slow_start_only_beside_somebody_warm_and_not_on_a_young_primary() {
    let joins = |uptimes: [u64; 2], listeners: u64, own: u64| {
        let mut stage = Stage::new(&[("r1", listeners), ("r2", 0)]);
        stage.own.uptime = Duration::from_secs(own);
        for (view, uptime) in stage.views.iter_mut().zip(uptimes) {
            view.uptime = Duration::from_secs(uptime);
        }
        let nodes: Vec<String> = (0..40).map(|n| stage.node(&who(n))).collect();
        spread(&nodes).get("r2").copied().unwrap_or(0)
    };
    assert_eq!(
        joins([3_600, 3_600], 40, 3_600),
        40,
        "both warm: it catches up"
    );
    let slow = joins([3_600, 6], 40, 3_600);
    assert!((5..=9).contains(&slow), "a tenth of the weight: {slow}");
    assert_eq!(joins([3_600, 6], 40, 59), 40, "the primary is young itself");
    assert_eq!(joins([6, 6], 40, 3_600), 40, "nobody is warm");
    assert_eq!(joins([3_600, 6], 0, 3_600), 20, "nobody carries listeners");
}

#[test]
fn bandwidth_admits_by_what_is_owed() {
    let mut stage = Stage::new(&[("r1", 7)]);
    stage.views[0].limits.max_bandwidth = 10 * RATE;
    for number in 0..3 {
        assert_eq!(stage.node(&who(number)), "r1");
    }
    assert_eq!(stage.ask(&who(9)).reason(), Reason::PrimaryServes);
    stage.views[0].limits.max_bandwidth = 0;
    stage.views[0].descriptors_left = Some(512 + 4);
    assert_eq!(stage.node(&who(10)), "r1");
    assert_eq!(stage.ask(&who(11)).reason(), Reason::PrimaryServes);
}

#[test]
fn old_reports_fall_to_p2c() {
    let mut stage = Stage::ten();
    stage.pass(3_001);
    assert_eq!(stage.ask(&who(1)).reason(), Reason::P2c);
    stage.refresh();
    assert_eq!(stage.ask(&who(2)).reason(), Reason::LeastConn);
}

#[test]
fn a_token_keeps_the_place_once_and_is_confirmed() {
    let mut head = Stage::new(&[("r1", 0)]);
    let decision = head.ask(&who(1));
    let target = path_of(&decision);
    let mut relay = Stage::new(&[("r2", 0)]);
    relay.own.id = id("r1");
    relay.own.role = NodeRole::Relay;
    relay.own.full = true;
    let mut arriving = who(1);
    arriving.target = &target;
    assert_eq!(relay.ask(&arriving).reason(), Reason::Token);
    let told = relay.balancer.confirmed_for(&id("head"));
    assert_eq!(told, [sequence(&decision)]);
    assert!(relay.balancer.confirmed_for(&id("other")).is_empty());
    relay.balancer.acknowledged(&told);
    assert!(relay.balancer.confirmed_for(&id("head")).is_empty());
    // Used up: a newcomer like any other, and its hops count from 0.
    assert_eq!(relay.ask(&arriving).mode(), "redirect");
    head.beat("r1", 1, told);
    assert_eq!(head.balancer.reserved(), 0);
}

#[test]
fn a_token_that_expired_or_was_forged_is_absent() {
    let mut head = Stage::new(&[("r1", 0)]);
    let target = path_of(&head.ask(&who(1)));
    let mut relay = Stage::new(&[("r2", 0)]);
    relay.own.id = id("r1");
    relay.own.role = NodeRole::Relay;
    relay.own.full = true;
    let mut arriving = who(1);
    arriving.target = &target;
    relay.pass(11_000);
    assert_eq!(relay.ask(&arriving).mode(), "redirect");
    relay.now = relay.start;
    relay.balancer.set_keys(KeyRing::new([8; 32], 0));
    assert_eq!(relay.ask(&arriving).mode(), "redirect");
    relay.balancer.set_keys(KeyRing::new([7; 32], 0));
    relay.own.hard_full = true;
    assert_eq!(
        relay.ask(&arriving).mode(),
        "redirect",
        "the hard cap holds"
    );
    relay.own.hard_full = false;
    assert_eq!(relay.ask(&arriving).reason(), Reason::Token);
}

#[test]
fn a_relays_own_reservations_end_with_a_later_row() {
    let mut stage = Stage::new(&[("r1", 0)]);
    stage.own.id = id("r0");
    stage.own.role = NodeRole::Relay;
    stage.own.full = true;
    stage.own.primary_gone = true;
    let decision = stage.ask(&who(1));
    assert!(matches!(
        decision,
        Decision::Redirect {
            check_first: true,
            ..
        }
    ));
    assert_eq!(stage.balancer.tally(&id("r1")).reserved, 1);
    stage.pass(1_000);
    stage.refresh();
    stage.version = 2;
    let mut looks = who(2);
    looks.reserves = false;
    stage.ask(&looks);
    assert_eq!(stage.balancer.tally(&id("r1")).reserved, 0);
}

#[test]
fn ip_hash_moves_a_tenth_when_one_of_ten_dies() {
    let place = |dead: Option<usize>| {
        let mut nodes = Vec::new();
        for number in 0..2_000 {
            // A fresh stage each: no loads, the hash alone.
            let mut stage = Stage::ten().strategy(Strategy::IpHash);
            if let Some(dead) = dead {
                stage.views[dead].state = State::Dead;
            }
            nodes.push(stage.node(&who(number)));
        }
        nodes
    };
    let (before, after) = (place(None), place(Some(3)));
    let moved = before.iter().zip(&after).filter(|(a, b)| a != b);
    let moved: Vec<_> = moved.collect();
    assert!((160..=240).contains(&moved.len()), "{}", moved.len());
    assert!(moved.iter().all(|(from, _)| *from == "r3"), "only its own");
}

#[test]
fn ip_hash_is_bounded_and_keeps_networks_together() {
    let mut stage = Stage::ten().strategy(Strategy::IpHash);
    let mut nodes = Vec::new();
    for number in 0..400 {
        let mut one = who(1);
        let agent = format!("player/{number}");
        one.agent = &agent;
        nodes.push(stage.node(&one));
        stage.pass(20);
    }
    let busiest = spread(&nodes).values().max().copied().unwrap();
    assert!(
        busiest <= 51,
        "a crowd behind one address: {busiest} of 400"
    );
}

#[test]
fn the_other_strategies_do_what_they_are_called() {
    let count = |strategy, joins: u32| {
        let mut stage = Stage::new(&[("r1", 0), ("r2", 0), ("r3", 0)]).strategy(strategy);
        stage.views[2].weight = 200;
        let mut nodes = Vec::new();
        for number in 0..joins {
            let decision = stage.ask(&who(number));
            assert_eq!(decision.reason(), strategy.reason());
            if let Decision::Redirect { node, .. } = decision {
                nodes.push(node.to_string());
            }
            stage.pass(25);
            stage.refresh();
        }
        spread(&nodes)
    };
    let turns = count(Strategy::RoundRobin, 40);
    assert_eq!((turns["r1"], turns["r2"], turns["r3"]), (10, 10, 20));
    let drawn = count(Strategy::Random, 400);
    assert!((160..=240).contains(&drawn["r3"]), "{drawn:?}");
    let two = count(Strategy::P2c, 300);
    assert!((130..=170).contains(&two["r3"]), "{two:?}");
    let packed = count(Strategy::Pack, 300);
    assert_eq!(packed.len(), 1, "{packed:?}");
    let bits = count(Strategy::LeastBandwidth, 40);
    assert_eq!((bits["r1"], bits["r2"], bits["r3"]), (10, 10, 20));
}

#[test]
fn picks_are_remembered_and_bounded() {
    let mut stage = Stage::new(&[]);
    for number in 0..1_010 {
        stage.ask(&who(number));
    }
    assert_eq!(stage.balancer.picks().count(), MAX_PICKS);
    let last = stage.balancer.picks().next_back().unwrap();
    assert_eq!(last.node, Some(id("head")));
    assert_eq!(
        (last.mode, last.reason.as_str()),
        ("serve", "primary-serves")
    );
    assert_eq!(last.unix_millis, UNIX);
}

#[test]
fn names_are_unlike_each_other_and_read_back() {
    let mut names: Vec<&str> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), Reason::ALL.len());
    for strategy in Strategy::ALL {
        assert_eq!(strategy.as_str().parse(), Ok(strategy));
    }
    assert!("best".parse::<Strategy>().is_err());
}

#[derive(Debug, Clone)]
struct Member {
    can_serve: bool,
    full: bool,
    hard_full: bool,
    draining: bool,
    is_primary: bool,
    reserves: bool,
}

fn members() -> impl proptest::strategy::Strategy<Value = Vec<Member>> {
    let member =
        (any::<[bool; 3]>(), 0_u8..4, any::<bool>()).prop_map(|(flags, full, reserves)| Member {
            can_serve: flags[0],
            full: full > 0,
            hard_full: full > 1,
            draining: flags[1],
            is_primary: flags[2],
            reserves,
        });
    proptest::collection::vec(member, 1..9)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Every table says that everybody else is ready, and all of them may be wrong.
    #[test]
    fn no_redirect_loop_with_any_number_of_nodes(members in members(), start in any::<usize>()) {
        let now = Instant::now();
        let name = |n: usize| format!("n{n}");
        let mut stages: Vec<Stage> = members.iter().enumerate().map(|(n, member)| {
            let mut stage = Stage::new(&[]);
            stage.start = now;
            stage.now = now;
            stage.views = (0..members.len()).map(|n| relay(&name(n), 1, now)).collect();
            for (view, member) in stage.views.iter_mut().zip(&members) {
                if member.is_primary {
                    view.role = NodeRole::Primary;
                }
            }
            stage.own.id = id(&name(n));
            stage.own.role = if member.is_primary { NodeRole::Primary } else { NodeRole::Relay };
            stage.own.can_serve = member.can_serve;
            stage.own.full = member.full;
            stage.own.hard_full = member.hard_full;
            stage.own.draining = member.draining;
            stage
        }).collect();
        let mut at = start % members.len();
        let mut target = "/live.mp3?x=1".to_owned();
        let mut redirects = 0;
        loop {
            let mut one = who(1);
            one.reserves = members[at].reserves;
            one.target = &target;
            let decision = stages[at].ask(&one);
            let Decision::Redirect { node, .. } = &decision else {
                let serves = matches!(decision, Decision::Serve { .. });
                prop_assert!(!serves || (members[at].can_serve && !members[at].draining));
                break;
            };
            prop_assert!(*node != id(&name(at)), "to itself");
            redirects += 1;
            prop_assert!(redirects <= token::MAX_HOPS, "{} redirects", redirects);
            let next = path_of(&decision);
            prop_assert_eq!(next.matches("rt=").count(), 1);
            prop_assert!(next.contains("x=1"));
            at = (0..members.len()).find(|n| *node == id(&name(*n))).unwrap();
            target = next;
        }
    }
}
