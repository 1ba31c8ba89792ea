use std::collections::BTreeMap;
use std::net::IpAddr;

use proptest::prelude::*;

use super::*;
use crate::base::ids::MountId;
use crate::cluster::copy::TableCopy;
use crate::cluster::snapshot::State;
use crate::wire::message::{
    Beat, FeedLine, JoinRequest, Limits, MountBeat, MountState, NodeState, PublicUrls, URL_HINT,
    VERSION,
};

fn id(text: &str) -> NodeId {
    text.parse().unwrap()
}

fn seen() -> IpAddr {
    "10.0.0.7".parse().unwrap()
}

fn join(name: &str, incarnation: u64) -> JoinRequest {
    JoinRequest {
        v: VERSION,
        id: id(name),
        name: id(name),
        incarnation,
        version: "0.1.0".into(),
        public_urls: PublicUrls::default(),
        data_port: 8000,
        capabilities: crate::wire::message::Capabilities::EMBEDDED,
        limits: Limits {
            max_listeners: 100,
            max_bandwidth: 0,
            max_children: 0,
            max_cpu: 0,
        },
        weight: 100,
        uptime_millis: 0,
        keeps_credential: false,
    }
}

fn beat(name: &str, incarnation: u64, seq: u64, listeners: u64) -> Beat {
    let join = join(name, incarnation);
    Beat {
        v: VERSION,
        id: join.id,
        incarnation,
        seq,
        sent_unix_millis: 0,
        name: join.name,
        public_urls: join.public_urls,
        data_port: 8000,
        limits: join.limits,
        weight: 100,
        version: join.version,
        state: NodeState::Ready,
        uptime_millis: 0,
        cpu_ratio: 0.0,
        bandwidth_bits: 0,
        descriptors_left: None,
        mounts: vec![MountBeat {
            mount: MountId::new("/live.mp3").unwrap(),
            listeners,
            sent_bytes: 0,
            epoch: crate::base::ids::Epoch(1),
            offset: 0,
            bitrate: 128_000,
            content_type: "audio/mpeg".into(),
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
        confirmed: Vec::new(),
        parent: None,
        capabilities: join.capabilities,
        events: Vec::new(),
        children: 0,
        region: String::new(),
        counts: Default::default(),
        assigned: None,
    }
}

/// A table whose time passes as the test says, with a beat from each node each second.
struct Stage {
    table: Table,
    now: Instant,
    seqs: BTreeMap<String, u64>,
}

impl Stage {
    fn new(config: Config) -> Self {
        Self {
            table: Table::new(config, BTreeSet::new()),
            now: Instant::now(),
            seqs: BTreeMap::new(),
        }
    }

    fn trusting() -> Self {
        Self::new(Config {
            probe_every: None,
            ..Config::default()
        })
    }

    fn step(&mut self, event: Event) -> Vec<Effect> {
        self.table.step(self.now, event)
    }

    fn join(&mut self, name: &str) -> Vec<Effect> {
        self.step(Event::Joined {
            request: join(name, 1),
            seen: seen(),
        })
    }

    fn beat(&mut self, name: &str, listeners: u64) -> Vec<Effect> {
        let seq = self.seqs.entry(name.into()).or_default();
        *seq += 1;
        let beat = beat(name, 1, *seq, listeners);
        self.step(Event::Beat {
            beat,
            seen: seen(),
            connection: 1,
        })
    }

    fn up(names: &[&str]) -> Self {
        let mut stage = Self::trusting();
        for name in names {
            stage.join(name);
            stage.beat(name, 5);
        }
        stage
    }

    /// Whole seconds with beats of `alive`, a tick every half second.
    fn pass(&mut self, seconds: u32, alive: &[&str]) -> Vec<Effect> {
        let mut effects = Vec::new();
        for _ in 0..seconds {
            for _ in 0..2 {
                self.now += Duration::from_millis(500);
                effects.extend(self.step(Event::Tick));
            }
            for name in alive {
                effects.extend(self.beat(name, 5));
            }
        }
        effects
    }

    fn state(&self, name: &str) -> Option<State> {
        let snapshot = self.table.snapshot();
        snapshot.find(&id(name)).map(|node| node.state)
    }
}

/// Whoever has a join token fills the table with nodes that never report: they give way to those that do.
#[test]
fn ghosts_give_way_to_nodes_that_report() {
    let mut stage = Stage::new(Config {
        probe_every: None,
        max_nodes: 100,
        ..Config::default()
    });
    stage.join("old-relay");
    stage.beat("old-relay", 5);
    for number in 0..300 {
        stage.join(&format!("ghost-{number}"));
    }
    assert_eq!(stage.table.rows.len(), 100);
    assert_eq!(stage.state("old-relay"), Some(State::Ready));
    let effects = stage.join("new-relay");
    assert_eq!(refusal(&effects), None);
    assert_eq!(refusal(&stage.beat("new-relay", 0)), None);
    for number in 0..50 {
        stage.join(&format!("later-{number}"));
    }
    assert_eq!(stage.state("new-relay"), Some(State::Ready));
    // A node that is known by its credential alone finds a place as well.
    assert_eq!(refusal(&stage.beat("returns", 0)), None);
    assert_eq!(stage.table.rows.len(), 100);
}

#[test]
fn a_node_joins_is_probed_beats_and_is_ready() {
    let mut stage = Stage::new(Config::default());
    let effects = stage.join("r1");
    let url = "http://10.0.0.7:8000".to_owned();
    assert!(effects.contains(&Effect::Probe {
        id: id("r1"),
        url: url.clone(),
        urgent: false
    }));
    assert!(effects.contains(&Effect::Accepted(id("r1"))));
    assert_eq!(stage.state("r1"), Some(State::Joining));
    stage.beat("r1", 3);
    assert_eq!(stage.state("r1"), Some(State::Joining));
    stage.step(Event::Probed {
        id: id("r1"),
        url,
        outcome: Probe::Fine,
    });
    assert_eq!(stage.state("r1"), Some(State::Ready));
    assert_eq!(stage.table.snapshot().totals().listeners, 3);
}

#[test]
fn a_node_that_tells_no_url_is_ready_without_a_probe() {
    let mut stage = Stage::new(Config::default());
    let mut request = join("r1", 1);
    let withheld = PublicUrls {
        withheld: true,
        ..PublicUrls::default()
    };
    request.public_urls = withheld.clone();
    let seen = seen();
    let mut effects = stage.step(Event::Joined { request, seen });
    let mut report = beat("r1", 1, 1, 3);
    report.public_urls = withheld.clone();
    effects.extend(stage.step(Event::Beat {
        beat: report,
        seen,
        connection: 1,
    }));
    let probes = effects
        .iter()
        .filter(|effect| matches!(effect, Effect::Probe { .. }));
    assert_eq!(probes.count(), 0);
    assert_eq!(stage.state("r1"), Some(State::Ready));
    let snapshot = stage.table.snapshot();
    assert_eq!(snapshot.find(&id("r1")).unwrap().public_urls, withheld);
}

#[test]
fn a_certificate_that_nobody_believes_keeps_https_away_and_nothing_else() {
    let mut stage = Stage::new(Config::default());
    let mut request = join("a", 1);
    let (clear, sealed) = ("http://a.example:8000", "https://a.example:8000");
    request.public_urls = PublicUrls {
        http: Some(clear.into()),
        https: Some(sealed.into()),
        ..PublicUrls::default()
    };
    let mut report = beat("a", 1, 1, 0);
    report.public_urls = request.public_urls.clone();
    let fetched = |effects: &[Effect]| -> Vec<String> {
        let urls = effects.iter().filter_map(|effect| match effect {
            Effect::Probe { url, .. } => Some(url.clone()),
            _ => None,
        });
        urls.collect()
    };
    let effects = stage.step(Event::Joined {
        request,
        seen: seen(),
    });
    assert_eq!(fetched(&effects), [clear, sealed]);
    stage.step(Event::Beat {
        beat: report,
        seen: seen(),
        connection: 1,
    });
    let mut probed = |url: &str, outcome: Probe| {
        let effects = stage.step(Event::Probed {
            id: id("a"),
            url: url.into(),
            outcome,
        });
        let said = effects.iter().any(|e| matches!(e, Effect::Secure { .. }));
        let row = stage.table.snapshot();
        let row = row.nodes.iter().find(|row| row.id == id("a")).unwrap();
        let https = row.public_urls.https.clone();
        (row.state, https, row.trouble.clone(), said)
    };
    assert_eq!(
        probed(clear, Probe::Fine),
        (State::Ready, None, None, false)
    );
    let (state, https, trouble, said) = probed(
        sealed,
        Probe::Failed("invalid peer certificate: UnknownIssuer".into()),
    );
    assert_eq!((state, https, said), (State::Ready, None, true));
    let trouble = trouble.unwrap();
    assert!(
        trouble.starts_with("https://a.example:8000: invalid peer certificate")
            && trouble.contains("`tls.cert`"),
        "{trouble}"
    );
    let usable = (State::Ready, Some(sealed.to_owned()), None);
    let (state, https, trouble, said) = probed(sealed, Probe::Fine);
    assert_eq!((state, https, trouble), usable);
    assert!(said);
    // One failure is none, a second in a row is.
    let (state, https, trouble, said) = probed(sealed, Probe::Failed("expired".into()));
    assert_eq!((state, https, trouble), usable);
    assert!(!said);
    let (state, https, ..) = probed(sealed, Probe::Refused("expired".into()));
    assert_eq!((state, https), (State::Ready, None));
    // The one in clear still decides about the node.
    let (state, ..) = probed(clear, Probe::Failed("timed out".into()));
    assert_eq!(state, State::Ready);
}

#[test]
fn a_node_behind_a_wall_is_unreachable_and_says_why() {
    let mut stage = Stage::new(Config::default());
    stage.join("r1");
    stage.beat("r1", 0);
    let failed = |url: &str| Event::Probed {
        id: id("r1"),
        url: url.into(),
        outcome: Probe::Failed("timed out".into()),
    };
    stage.step(failed("http://elsewhere"));
    assert_eq!(stage.state("r1"), Some(State::Joining), "another URL");
    stage.step(failed("http://10.0.0.7:8000"));
    assert_eq!(stage.state("r1"), Some(State::Unreachable));
    let snapshot = stage.table.snapshot();
    let node = snapshot.find(&id("r1")).unwrap();
    let told = format!("http://10.0.0.7:8000: timed out; {URL_HINT}");
    assert_eq!(node.trouble, Some(told));
    // It is asked again, and one failure alone is no reason later.
    let asked = stage.pass(6, &["r1"]);
    assert!(asked.iter().any(|e| matches!(e, Effect::Probe { .. })));
    let url = "http://10.0.0.7:8000";
    stage.step(Event::Probed {
        id: id("r1"),
        url: url.into(),
        outcome: Probe::Fine,
    });
    assert_eq!(stage.state("r1"), Some(State::Ready));
    stage.step(failed(url));
    assert_eq!(stage.state("r1"), Some(State::Ready));
    stage.step(failed(url));
    assert_eq!(stage.state("r1"), Some(State::Unreachable));
}

#[test]
fn a_restarted_primary_learns_its_nodes_from_their_beats() {
    let mut stage = Stage::trusting();
    let late = beat("r1", 7, 4_000, 12);
    let effects = stage.step(Event::Beat {
        beat: late,
        seen: seen(),
        connection: 9,
    });
    assert_eq!(refusal(&effects), None);
    assert_eq!(stage.state("r1"), Some(State::Ready));
    assert_eq!(stage.table.snapshot().totals().listeners, 12);
}

#[test]
fn silence_suspects_kills_and_forgets() {
    let mut stage = Stage::up(&["a", "b", "c", "d"]);
    stage.pass(4, &["a", "b", "c"]);
    assert_eq!(stage.state("d"), Some(State::Suspect));
    assert_eq!(stage.table.snapshot().totals().listeners, 20, "left alone");
    stage.pass(6, &["a", "b", "c"]);
    assert_eq!(stage.state("d"), Some(State::Dead));
    assert_eq!(stage.table.snapshot().totals().listeners, 15);
    assert_eq!(stage.table.snapshot().totals().nodes, 3);
    stage.pass(599, &["a", "b", "c"]);
    assert_eq!(stage.state("d"), Some(State::Dead));
    let effects = stage.pass(2, &["a", "b", "c"]);
    assert_eq!(stage.state("d"), None);
    assert!(effects.iter().any(|e| matches!(e, Effect::Gone { .. })));
}

#[test]
fn a_lost_connection_is_probed_at_once_and_a_refused_port_is_a_death() {
    let mut stage = Stage::new(Config::default());
    let url = "http://10.0.0.7:8000".to_owned();
    let probed = |outcome| Event::Probed {
        id: id("r1"),
        url: url.clone(),
        outcome,
    };
    stage.join("r1");
    stage.beat("r1", 5);
    stage.step(probed(Probe::Fine));
    let stale = stage.step(Event::ConnectionLost {
        id: id("r1"),
        connection: 0,
    });
    assert_eq!((stale, stage.state("r1")), (vec![], Some(State::Ready)));
    let effects = stage.step(Event::ConnectionLost {
        id: id("r1"),
        connection: 1,
    });
    assert!(
        effects
            .iter()
            .any(|e| matches!(e, Effect::Probe { urgent: true, .. }))
    );
    assert_eq!(stage.state("r1"), Some(State::Suspect));
    stage.step(probed(Probe::Refused("connection refused".into())));
    assert_eq!(stage.state("r1"), Some(State::Dead));
}

#[test]
fn a_final_beat_takes_the_row_at_once_and_for_good() {
    let mut stage = Stage::up(&["a", "b"]);
    let mut last = beat("a", 1, 50, 5);
    last.state = NodeState::Gone;
    let event = |beat| Event::Beat {
        beat,
        seen: seen(),
        connection: 1,
    };
    stage.step(event(last));
    assert_eq!(stage.state("a"), None);
    let effects = stage.step(event(beat("a", 1, 51, 5)));
    assert_eq!(refusal(&effects), Some(&Refusal::Left(id("a"))));
    assert_eq!(refusal(&stage.step(event(beat("a", 2, 1, 0)))), None);
    assert_eq!(stage.state("a"), Some(State::Ready));
}

#[test]
fn two_nodes_with_one_id_or_one_name_are_told_apart() {
    let mut stage = Stage::up(&["a", "b"]);
    let mut twin = join("c", 9);
    twin.name = id("a");
    let effects = stage.step(Event::Joined {
        request: twin.clone(),
        seen: seen(),
    });
    let told = refusal(&effects).unwrap().to_string();
    assert!(
        told.contains("named `a`") && told.contains("--name"),
        "{told}"
    );
    // A newer process of the same id takes its place, the older one is refused from then on.
    let newer = stage.step(Event::Joined {
        request: join("a", 2),
        seen: seen(),
    });
    assert_eq!(refusal(&newer), None);
    let older = stage.beat("a", 5);
    assert!(matches!(refusal(&older), Some(Refusal::Older { .. })));
    // The name is free again once its holder is dead.
    stage.pass(10, &["b"]);
    assert_eq!(stage.state("a"), Some(State::Dead));
    let effects = stage.step(Event::Joined {
        request: twin,
        seen: seen(),
    });
    assert_eq!(refusal(&effects), None);
}

#[test]
fn replayed_beats_and_the_primarys_own_id_are_refused() {
    let mut stage = Stage::up(&["a"]);
    let again = stage.step(Event::Beat {
        beat: beat("a", 1, 1, 900),
        seen: seen(),
        connection: 1,
    });
    assert!(matches!(refusal(&again), Some(Refusal::Replayed { .. })));
    assert_eq!(stage.table.snapshot().totals().listeners, 5);
    stage.step(Event::Own(beat("head", 1, 1, 2)));
    assert_eq!(stage.state("head"), Some(State::Ready));
    let effects = stage.join("head");
    assert_eq!(refusal(&effects), Some(&Refusal::Itself(id("head"))));
    stage.pass(30, &["a"]);
    assert_eq!(
        stage.state("head"),
        Some(State::Ready),
        "it judges itself not"
    );
}

#[test]
fn at_most_a_third_is_suspected_and_panic_says_so() {
    let names = ["a", "b", "c", "d", "e", "f", "g"];
    let mut stage = Stage::up(&names);
    let effects = stage.pass(4, &["a", "b", "c", "d"]);
    let snapshot = stage.table.snapshot();
    assert_eq!(snapshot.count(State::Suspect), 2);
    assert_eq!(snapshot.nodes.iter().filter(|n| n.suspected).count(), 3);
    assert!(!snapshot.panic);
    assert!(!effects.contains(&Effect::Panic(true)));
    let effects = stage.pass(4, &["a", "b", "c"]);
    assert!(effects.contains(&Effect::Panic(true)));
    assert!(stage.table.snapshot().panic);
    // The dead always leave, whatever the bound; then those who are left are all there.
    let effects = stage.pass(8, &["a", "b", "c"]);
    assert_eq!(stage.table.snapshot().count(State::Dead), 4);
    assert!(effects.contains(&Effect::Panic(false)));
    assert!(!stage.table.snapshot().panic);
    assert_eq!(stage.table.snapshot().count(State::Ready), 3);
    assert_eq!(stage.table.snapshot().totals().nodes, 3);
    // Nor do they bring it back when they return one by one.
    let effects = stage.pass(3, &names);
    assert!(!effects.contains(&Effect::Panic(true)), "{effects:?}");
    assert_eq!(stage.table.snapshot().count(State::Ready), 7);
}

/// Half of the relays die for good: there is a panic for as long as they may be alive, and none until they are
/// forgotten.
#[test]
fn the_dead_are_no_reason_to_panic() {
    let mut stage = Stage::up(&["a", "b", "c", "d", "e"]);
    let effects = stage.pass(4, &["a", "b"]);
    assert!(
        effects.contains(&Effect::Panic(true)),
        "three of five are silent"
    );
    let effects = stage.pass(6, &["a", "b"]);
    assert!(effects.contains(&Effect::Panic(false)), "they are dead");
    assert_eq!(stage.table.snapshot().count(State::Dead), 3);
    let effects = stage.pass(580, &["a", "b"]);
    assert!(!effects.iter().any(|e| matches!(e, Effect::Panic(_))));
    // One more goes quiet: one of two is just half. The last one, too: now nobody can be reached.
    let effects = stage.pass(4, &["a"]);
    assert!(!effects.contains(&Effect::Panic(true)));
    let effects = stage.pass(4, &[]);
    assert!(effects.contains(&Effect::Panic(true)));
    // Everybody dead is an empty pool, not a panic.
    let effects = stage.pass(10, &[]);
    assert!(effects.contains(&Effect::Panic(false)));
    assert_eq!(stage.table.snapshot().count(State::Ready), 0);
}

/// Of a cluster with one or two relays one may be suspected: max(1, a third).
#[test]
fn one_suspect_is_always_allowed() {
    let mut stage = Stage::up(&["a", "b"]);
    stage.pass(4, &["a"]);
    assert_eq!(stage.state("b"), Some(State::Suspect));
    // Its listeners are left alone, and counted.
    assert_eq!(stage.table.snapshot().totals().listeners, 10);
    stage.pass(4, &[]);
    assert_eq!(stage.table.snapshot().count(State::Suspect), 1);
    assert_eq!(stage.state("a"), Some(State::Ready), "beyond the bound");
    assert!(stage.table.snapshot().find(&id("a")).unwrap().suspected);
}

/// A judge that was away for more than two seconds begins all deadlines anew; for less it does not.
#[test]
fn a_short_pause_of_the_judge_is_none() {
    let mut stage = Stage::up(&["a", "b", "c"]);
    stage.pass(1, &["a", "b", "c"]);
    for _ in 0..2 {
        stage.now += Duration::from_millis(1_900);
        let effects = stage.step(Event::Tick);
        assert!(!effects.iter().any(|e| matches!(e, Effect::ClockJumped(_))));
    }
    assert!(stage.table.snapshot().nodes.iter().all(|n| n.suspected));
    let mut stage = Stage::up(&["a", "b", "c"]);
    for _ in 0..20 {
        stage.now += Duration::from_millis(2_100);
        let effects = stage.step(Event::Tick);
        assert!(effects.iter().any(|e| matches!(e, Effect::ClockJumped(_))));
    }
    assert_eq!(stage.table.snapshot().count(State::Ready), 3);
}

/// Who says goodbye is not missed: there is no panic, not even while its last beat is all that is known.
#[test]
fn a_relay_that_says_goodbye_is_no_reason_to_panic() {
    for names in [&["a"][..], &["a", "b"], &["a", "b", "c"]] {
        let mut stage = Stage::up(names);
        for name in names {
            stage.pass(2, &names[names.iter().position(|n| n == name).unwrap()..]);
            let seq = stage.seqs[*name] + 1;
            let last = Beat {
                state: NodeState::Gone,
                ..beat(name, 1, seq, 5)
            };
            let mut effects = stage.step(Event::Beat {
                beat: last,
                seen: seen(),
                connection: 1,
            });
            // Its connection closes before the table has acted on the word, and after.
            let closed = || Event::ConnectionLost {
                id: id(name),
                connection: 1,
            };
            effects.extend(stage.step(closed()));
            effects.extend(stage.step(Event::Leave(id(name))));
            effects.extend(stage.step(closed()));
            effects.extend(stage.step(Event::Tick));
            assert!(
                !effects.contains(&Effect::Panic(true)),
                "{name}: {effects:?}"
            );
            assert_eq!(stage.state(name), None);
        }
        assert!(!stage.table.snapshot().panic);
    }
}

#[test]
fn a_clock_that_jumps_blames_nobody() {
    let mut stage = Stage::up(&["a", "b", "c"]);
    stage.pass(2, &["a", "b", "c"]);
    stage.now += Duration::from_secs(60);
    let effects = stage.step(Event::Tick);
    assert!(effects.iter().any(|e| matches!(e, Effect::ClockJumped(_))));
    assert_eq!(stage.table.snapshot().count(State::Ready), 3);
}

#[test]
fn an_operators_drain_lasts_and_comes_back() {
    let mut stage = Stage::up(&["a", "b"]);
    let effects = stage.step(Event::Drain(id("a")));
    assert!(effects.contains(&Effect::DrainsChanged));
    assert_eq!(stage.state("a"), Some(State::Draining));
    let kept = stage.table.drains().clone();
    stage.table = Table::new(stage.table.config.clone(), kept);
    stage.beat("a", 5);
    assert_eq!(stage.state("a"), Some(State::Draining));
    stage.step(Event::Resume(id("a")));
    assert_eq!(stage.state("a"), Some(State::Ready));
}

#[test]
fn the_feed_carries_what_changed_and_a_copy_follows() {
    let mut stage = Stage::up(&["a", "b", "c"]);
    let all = stage.table.changes_since(0, stage.now);
    assert!(all.complete);
    assert_eq!(all.nodes.len(), 3);
    // Counts that hardly move are not told each second.
    stage.pass(1, &["a", "b", "c"]);
    assert_eq!(
        stage
            .table
            .changes_since(all.version, stage.now)
            .nodes
            .len(),
        0
    );
    let line = |changes: &Changes| FeedLine::Nodes {
        version: changes.version,
        complete: changes.complete,
        panic: changes.panic,
        nodes: changes.nodes.clone(),
    };
    let mut copy = TableCopy::default();
    assert!(!copy.is_complete());
    assert!(copy.apply(line(&all), stage.now));
    stage.beat("b", 50);
    stage.step(Event::Leave(id("c")));
    let delta = stage.table.changes_since(all.version, stage.now);
    assert!(!delta.complete);
    assert_eq!(delta.nodes.len(), 1);
    assert_eq!(delta.gone, [id("c")]);
    copy.apply(line(&delta), stage.now);
    copy.apply(FeedLine::NodeGone { id: id("c") }, stage.now);
    let (ours, theirs) = (stage.table.snapshot(), copy.snapshot());
    let short = |snapshot: &Snapshot| {
        let nodes = snapshot.nodes.iter();
        let nodes = nodes.map(|n| (n.id.clone(), n.state, n.listeners));
        nodes.collect::<Vec<_>>()
    };
    assert_eq!(short(&ours), short(&theirs));
    assert_eq!(theirs.totals().listeners, 55);
}

#[derive(Debug, Clone)]
enum Move {
    Join(u8, u64, u8),
    Beat(u8, u64, u64, u64),
    Gone(u8, u64, u64),
    Lost(u8),
    Probe(u8, u8),
    Leave(u8),
    Forget(u8),
    Drain(u8),
    Resume(u8),
    Pass(u16),
}

fn moves() -> impl Strategy<Value = Move> {
    let node = 0_u8..6;
    prop_oneof![
        2 => (node.clone(), 1_u64..4, 0_u8..6).prop_map(|(n, i, name)| Move::Join(n, i, name)),
        12 => (node.clone(), 1_u64..4, 1_u64..60, 0_u64..50)
            .prop_map(|(n, i, s, l)| Move::Beat(n, i, s, l)),
        1 => (node.clone(), 1_u64..4, 1_u64..60).prop_map(|(n, i, s)| Move::Gone(n, i, s)),
        2 => node.clone().prop_map(Move::Lost),
        4 => (node.clone(), 0_u8..6).prop_map(|(n, o)| Move::Probe(n, o)),
        1 => node.clone().prop_map(Move::Leave),
        1 => node.clone().prop_map(Move::Forget),
        1 => node.clone().prop_map(Move::Drain),
        1 => node.prop_map(Move::Resume),
        10 => (1_u16..2_500).prop_map(Move::Pass),
    ]
}

fn name(n: u8) -> String {
    format!("n{n}")
}

fn event_of(step: Move) -> Event {
    match step {
        Move::Join(n, incarnation, called) => {
            let mut request = join(&name(n), incarnation);
            if called == 0 {
                request.name = id("n0");
            }
            Event::Joined {
                request,
                seen: seen(),
            }
        }
        Move::Beat(n, incarnation, seq, listeners) => Event::Beat {
            beat: beat(&name(n), incarnation, seq, listeners),
            seen: seen(),
            connection: 1,
        },
        Move::Gone(n, incarnation, seq) => {
            let mut beat = beat(&name(n), incarnation, seq, 0);
            beat.state = NodeState::Gone;
            Event::Beat {
                beat,
                seen: seen(),
                connection: 1,
            }
        }
        Move::Lost(n) => Event::ConnectionLost {
            id: id(&name(n)),
            connection: 1,
        },
        Move::Probe(n, outcome) => Event::Probed {
            id: id(&name(n)),
            url: "http://10.0.0.7:8000".into(),
            outcome: match outcome {
                0 => Probe::Refused("refused".into()),
                1 => Probe::Failed("timed out".into()),
                _ => Probe::Fine,
            },
        },
        Move::Leave(n) => Event::Leave(id(&name(n))),
        Move::Forget(n) => Event::Forget(id(&name(n))),
        Move::Drain(n) => Event::Drain(id(&name(n))),
        Move::Resume(n) => Event::Resume(id(&name(n))),
        Move::Pass(_) => Event::Tick,
    }
}

/// The last accepted count of each node, kept by the test itself from the effects alone.
#[derive(Default)]
struct Ledger {
    counts: BTreeMap<NodeId, (u64, u64)>,
}

impl Ledger {
    fn follow(&mut self, event: &Event, effects: &[Effect]) {
        let accepted = |id: &NodeId| effects.contains(&Effect::Accepted(id.clone()));
        match event {
            Event::Beat { beat, .. } if accepted(&beat.id) => {
                let entry = (beat.incarnation, beat.listeners);
                self.counts.insert(beat.id.clone(), entry);
            }
            Event::Joined { request, .. } if accepted(&request.id) => {
                let entry = self.counts.entry(request.id.clone()).or_default();
                if entry.0 != request.incarnation {
                    *entry = (request.incarnation, 0);
                }
            }
            _ => {}
        }
        for effect in effects {
            match effect {
                Effect::Gone { id, .. } => {
                    self.counts.remove(id);
                }
                Effect::Changed {
                    id,
                    to: State::Dead,
                    ..
                } => {
                    self.counts.insert(id.clone(), (0, 0));
                }
                _ => {}
            }
        }
    }

    fn total(&self) -> u64 {
        self.counts.values().map(|(_, listeners)| listeners).sum()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_order_of_events_keeps_the_counts_true(
        steps in proptest::collection::vec(moves(), 1..150),
        probing in any::<bool>(),
    ) {
        let config = Config {
            probe_every: probing.then_some(Duration::from_secs(5)),
            ..Config::default()
        };
        let mut stage = Stage::new(config);
        let mut ledger = Ledger::default();
        for step in steps {
            if let Move::Pass(millis) = step {
                stage.now += Duration::from_millis(millis.into());
            }
            let event = event_of(step);
            let effects = stage.step(event.clone());
            ledger.follow(&event, &effects);
            let snapshot = stage.table.snapshot();
            prop_assert_eq!(snapshot.totals().listeners, ledger.total());
            prop_assert!(snapshot.nodes.is_sorted_by(|a, b| a.id < b.id));
            let rows = stage.table.rows.values();
            let members = rows.clone().filter(|row| {
                row.admitted && !matches!(row.view.state, State::Dead | State::Draining)
            });
            let (mut all, mut marked) = (0, 0);
            for row in members {
                all += 1;
                let state = row.view.state;
                marked += usize::from(matches!(state, State::Suspect | State::Unreachable));
            }
            prop_assert!(marked <= (all / 3).max(1), "{} of {}", marked, all);
            let live = rows.filter(|row| row.view.state != State::Dead);
            let mut names: Vec<_> = live.map(|row| row.view.name.clone()).collect();
            let before = names.len();
            names.sort();
            names.dedup();
            prop_assert_eq!(names.len(), before, "two live nodes of one name");
        }
    }
}
