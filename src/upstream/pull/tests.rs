//! Pulls over real sockets: cut, restarted, silent, ended, and passed on.

use std::sync::atomic::Ordering;

use tokio::task::JoinHandle;

use super::*;
use crate::engine::Intake;
use crate::upstream::testing::{
    FRAME, Peer, bytes_of, connector, end_of, engine, engine_of, eventually, live, mp3, push,
    source,
};

/// A relay that pulls.
struct Relay {
    engine: Arc<Engine>,
    pulls: Pulls,
    parents: watch::Sender<Parents>,
    cancel: CancellationToken,
    task: JoinHandle<Finished>,
}

impl Relay {
    fn start(peers: &[&Arc<Peer>]) -> Self {
        Self::start_as("relay", peers, Duration::from_secs(2))
    }

    fn start_as(own: &str, peers: &[&Arc<Peer>], silence: Duration) -> Self {
        let engine = engine();
        let pulls = Pulls::default();
        let cancel = CancellationToken::new();
        let (parents, list) = watch::channel(Parents::from(
            peers.iter().map(|p| p.parent()).collect::<Vec<_>>(),
        ));
        let pull = Pull {
            engine: Arc::clone(&engine),
            connector: connector(),
            pulls: pulls.clone(),
            mount: live(),
            own: own.parse().unwrap(),
            pace: Pace {
                silence,
                floor: Duration::from_millis(10),
                ceiling: Duration::from_millis(50),
                ..Pace::default()
            },
            mark: Arc::new(String::new),
            latest: Arc::new(|| Epoch(1 << 50)),
        };
        Self {
            engine,
            pulls,
            parents,
            task: tokio::spawn(pull.run(list, cancel.clone())),
            cancel,
        }
    }

    async fn has(&self, origin: &Engine) {
        let end = end_of(origin);
        assert!(end > 0);
        eventually("the relay has it all", || end_of(&self.engine) == end).await;
    }

    fn parent(&self) -> Option<String> {
        self.pulls.state(&live()).map(|state| state.parent)
    }

    fn assert_equal(&self, origin: &Engine) {
        let ours = self.engine.mount(&live()).unwrap();
        let theirs = origin.mount(&live()).unwrap();
        assert_eq!(ours.ring().epoch(), theirs.ring().epoch());
        let start = ours.ring().start();
        assert_eq!(
            bytes_of(&ours.ring(), start),
            bytes_of(&theirs.ring(), start)
        );
    }

    fn gap(&self) -> u64 {
        self.engine.mount(&live()).unwrap().counters.gap_bytes()
    }
}

#[tokio::test]
async fn a_parent_that_is_cut_and_comes_back_leaves_no_gap() {
    let origin = engine();
    let mut intake = source(&origin);
    push(&mut intake, &mp3(0, 100));
    let peer = Peer::start("origin", &origin).await;
    *peer.cuts.lock().unwrap() = vec![30_000, 1, 7_001, 20_000, 411, 5_000];
    let relay = Relay::start(&[&peer]);
    relay.has(&origin).await;
    for round in 0..5 {
        peer.cut_all();
        push(&mut intake, &mp3(100 + round * 50, 50));
        intake.title(crate::wire::title::Title::of(&format!("Title {round}")));
        relay.has(&origin).await;
    }
    let mount = relay.engine.mount(&live()).unwrap();
    eventually("the title and a connection", || {
        mount.title().is_some_and(|title| title.text == "Title 4") && relay.parent().is_some()
    })
    .await;
    relay.assert_equal(&origin);
    assert_eq!((relay.gap(), relay.engine.mounts().len()), (0, 1));
    assert_eq!(mount.ring().start(), 0);
    assert_eq!(mount.content().header("icy-name"), Some("Test"));
    // Every byte came once: each request after the first that brought any asked for what was next.
    assert_eq!(mount.counters.received_bytes(), end_of(&origin));
    let asked = peer.requests();
    assert!(asked.len() >= 7, "{asked:?}");
    assert_eq!(asked[0], "/cluster/v1/stream/live.mp3");
    let last = asked.last().unwrap();
    assert!(
        last.contains(&format!("epoch={}&offset=", mount.ring().epoch())),
        "{last}"
    );
    let state = relay.pulls.state(&live()).unwrap();
    assert_eq!(
        (state.parent.as_str(), state.path),
        ("origin", vec!["origin".to_owned()])
    );
    relay.cancel.cancel();
    assert_eq!(relay.task.await.unwrap(), Finished::Cancelled);
    assert_eq!(relay.pulls.state(&live()), None);
    assert_eq!(mount.state(), MountState::Held);
}

#[tokio::test]
async fn a_parent_that_restarts_brings_a_new_epoch() {
    let origin = engine();
    let mut intake = source(&origin);
    push(&mut intake, &mp3(0, 100));
    let peer = Peer::start("origin", &origin).await;
    let relay = Relay::start(&[&peer]);
    relay.has(&origin).await;
    let first = relay.engine.mount(&live()).unwrap().ring();
    // The parent is away with all its memory, and there again before its source.
    let reborn = engine();
    reborn.epochs().raise(first.epoch());
    *peer.engine.lock().unwrap() = Arc::clone(&reborn);
    peer.cut_all();
    let asked = peer.requests().len();
    eventually("asked again", || peer.requests().len() > asked + 1).await;
    assert_eq!(
        relay.engine.mount(&live()).unwrap().ring().epoch(),
        first.epoch()
    );
    let mut again = source(&reborn);
    push(&mut again, &mp3(500, 40));
    let epoch = reborn.mount(&live()).unwrap().ring().epoch();
    eventually("the new epoch", || {
        relay.engine.mount(&live()).unwrap().ring().epoch() == epoch
    })
    .await;
    relay.has(&reborn).await;
    relay.assert_equal(&reborn);
    assert_eq!(relay.gap(), 0);
    assert_eq!(first.closed(), crate::engine::ring::Closed::Replaced);
}

#[tokio::test]
async fn the_source_of_a_live_parent_changes_its_parameters() {
    let origin = engine();
    let mut intake = source(&origin);
    push(&mut intake, &mp3(0, 20));
    let peer = Peer::start("origin", &origin).await;
    let relay = Relay::start(&[&peer]);
    relay.has(&origin).await;
    drop(intake);
    let mut other = source(&origin);
    push(
        &mut other,
        include_bytes!("../../../tests/fixtures/mono22.mp3"),
    );
    let epoch = origin.mount(&live()).unwrap().ring().epoch();
    eventually("the new epoch", || {
        relay.engine.mount(&live()).unwrap().ring().epoch() == epoch
    })
    .await;
    relay.has(&origin).await;
    relay.assert_equal(&origin);
    assert_eq!(peer.requests().len(), 2);
}

#[tokio::test]
async fn what_has_left_the_parents_ring_is_counted() {
    let origin = engine_of(128 * 1024);
    let mut intake = source(&origin);
    push(&mut intake, &mp3(0, 100));
    let peer = Peer::start("origin", &origin).await;
    let relay = Relay::start(&[&peer]);
    relay.has(&origin).await;
    let before = end_of(&relay.engine);
    relay.parents.send_replace(vec![].into());
    eventually("left", || relay.parent().is_none()).await;
    for round in 0..20 {
        push(&mut intake, &mp3(100 + round * 100, 100));
    }
    let ring = origin.mount(&live()).unwrap().ring();
    let edge = ring.edge_from(ring.start()).unwrap();
    relay.parents.send_replace(vec![peer.parent()].into());
    relay.has(&origin).await;
    assert!(edge > before);
    assert_eq!(relay.gap(), edge - before);
    assert_eq!(edge % FRAME as u64, 0);
    relay.assert_equal(&origin);
}

#[tokio::test]
async fn an_end_at_the_origin_is_final() {
    let origin = engine();
    let mut intake = source(&origin);
    push(&mut intake, &mp3(0, 20));
    let peer = Peer::start("origin", &origin).await;
    let relay = Relay::start(&[&peer]);
    relay.has(&origin).await;
    let mount = relay.engine.mount(&live()).unwrap();
    let end = end_of(&origin);
    origin.end(&live());
    assert_eq!(relay.task.await.unwrap(), Finished::Ended);
    assert_eq!(
        (mount.state(), mount.ring().end()),
        (MountState::Ended, end)
    );
    assert!(relay.engine.mount(&live()).is_none());
}

#[tokio::test]
async fn an_end_at_a_relay_is_not() {
    let (middle, origin) = (engine(), engine());
    let mut intake = source(&origin);
    push(&mut intake, &mp3(0, 20));
    let first = Peer::start("origin", &origin).await;
    let between = Relay::start(&[&first]);
    between.has(&origin).await;
    let second = Peer::start("between", &between.engine).await;
    second.reroute(&["origin"]);
    let relay = Relay::start(&[&second, &first]);
    relay.has(&origin).await;
    assert_eq!(
        relay.pulls.state(&live()).unwrap().path,
        ["origin", "between"]
    );
    between.cancel.cancel();
    *second.engine.lock().unwrap() = middle;
    between.engine.end(&live());
    eventually("the other parent", || {
        relay.parent().as_deref() == Some("origin")
    })
    .await;
    push(&mut intake, &mp3(20, 20));
    relay.has(&origin).await;
    relay.assert_equal(&origin);
    assert_eq!(relay.gap(), 0);
}

#[tokio::test]
async fn silent_looping_and_refusing_parents_are_left_for_the_next() {
    let origin = engine();
    let mut intake = source(&origin);
    push(&mut intake, &mp3(0, 20));
    let mute = Peer::start("mute", &origin).await;
    mute.mute.store(true, Ordering::SeqCst);
    let looping = Peer::start("looping", &origin).await;
    looping.reroute(&["relay"]);
    let empty = Peer::start("empty", &engine()).await;
    let good = Peer::start("good", &origin).await;
    let relay = Relay::start(&[&looping, &empty, &mute, &good]);
    relay.has(&origin).await;
    assert_eq!(relay.parent().as_deref(), Some("good"));
    for peer in [&looping, &empty, &mute, &good] {
        assert_eq!(peer.requests().len(), 1, "{}", peer.node);
    }
    // One that goes silent later is left too.
    mute.mute.store(false, Ordering::SeqCst);
    relay.parents.send_replace(Parents {
        ordered: Some("mute".into()),
        ..vec![mute.parent(), good.parent()].into()
    });
    eventually("reassigned", || relay.parent().as_deref() == Some("mute")).await;
    assert_eq!(relay.gap(), 0);
}

#[tokio::test]
async fn the_operators_word_stands_until_that_parent_takes_us() {
    let origin = engine();
    let mut intake = source(&origin);
    push(&mut intake, &mp3(0, 20));
    let good = Peer::start("good", &origin).await;
    let later = Peer::start("later", &engine()).await;
    let relay = Relay::start_as("relay", &[&good], Duration::from_millis(900));
    relay.has(&origin).await;
    relay.parents.send_replace(Parents {
        ordered: Some("later".into()),
        ..vec![later.parent(), good.parent()].into()
    });
    // Who refuses is asked again, and nobody is left meanwhile.
    eventually("it is asked again", || later.requests().len() > 1).await;
    assert_eq!(relay.parent().as_deref(), Some("good"));
    assert_eq!(good.requests().len(), 1);
    *later.engine.lock().unwrap() = Arc::clone(&origin);
    let mut numbers = 20..;
    eventually("moved", || {
        // Where the source stalls nobody moves.
        push(&mut intake, &mp3(numbers.next().unwrap(), 1));
        relay.parent().as_deref() == Some("later")
    })
    .await;
    relay.has(&origin).await;
    assert_eq!((good.requests().len(), relay.gap()), (1, 0));
    let failovers = relay.pulls.take_failovers();
    assert_eq!(failovers.len(), 1, "{failovers:?}");
    assert_eq!(failovers[0].why, "was left by the operator's word");
}

#[tokio::test]
async fn a_list_that_grows_behind_the_parent_disturbs_nothing() {
    let origin = engine();
    let mut intake = source(&origin);
    push(&mut intake, &mp3(0, 20));
    let (one, two) = (
        Peer::start("one", &origin).await,
        Peer::start("two", &origin).await,
    );
    let relay = Relay::start(&[&one]);
    relay.has(&origin).await;
    relay
        .parents
        .send_replace(vec![one.parent(), two.parent()].into());
    push(&mut intake, &mp3(20, 20));
    relay.has(&origin).await;
    assert_eq!((one.requests().len(), two.requests().len()), (1, 0));
    relay.parents.send_replace(vec![two.parent()].into());
    push(&mut intake, &mp3(40, 20));
    relay.has(&origin).await;
    eventually("moved", || relay.parent().as_deref() == Some("two")).await;
    assert_eq!(relay.gap(), 0);
    relay.assert_equal(&origin);
}

#[tokio::test]
async fn one_who_takes_the_mount_over_ends_the_pull() {
    let origin = engine();
    let mut intake = source(&origin);
    push(&mut intake, &mp3(0, 20));
    let peer = Peer::start("origin", &origin).await;
    let relay = Relay::start(&[&peer]);
    relay.has(&origin).await;
    let mut local = source(&relay.engine);
    push(&mut local, &mp3(0, 20));
    assert_eq!(relay.task.await.unwrap(), Finished::Evicted);
}

/// An origin, a relay between, and a child of that which knows the origin too.
async fn three(silence: Duration) -> (Intake, Arc<Engine>, [Arc<Peer>; 2], [Relay; 2]) {
    let origin = engine();
    let mut intake = source(&origin);
    push(&mut intake, &mp3(0, 20));
    let first = Peer::start("origin", &origin).await;
    let between = Relay::start_as("between", &[&first], Duration::from_secs(10));
    between.has(&origin).await;
    let second = Peer::start("between", &between.engine).await;
    second.reroute(&["origin"]);
    let child = Relay::start_as("child", &[&second, &first], silence);
    child.has(&origin).await;
    assert_eq!(child.parent().as_deref(), Some("between"));
    (intake, origin, [first, second], [between, child])
}

#[tokio::test]
async fn a_starved_parent_is_left_only_for_one_that_is_ahead() {
    // Longer than the pace of POSITION, or it is silence that moves the child.
    let silence = Duration::from_millis(900);
    let (mut intake, origin, [first, _second], [between, child]) = three(silence).await;
    let tries = first.requests().len();
    // The source stalls: others are asked, and nobody moves.
    eventually("others are tried", || first.requests().len() > tries + 1).await;
    assert_eq!(child.parent().as_deref(), Some("between"));
    assert_eq!(child.pulls.take_failovers(), []);
    // The relay between is cut off: the origin is ahead now.
    between.cancel.cancel();
    eventually("cut off", || between.pulls.state(&live()).is_none()).await;
    push(&mut intake, &mp3(20, 20));
    child.has(&origin).await;
    child.assert_equal(&origin);
    assert_eq!(child.gap(), 0);
    let failovers = child.pulls.take_failovers();
    assert_eq!(failovers.len(), 1);
    assert_eq!(
        (failovers[0].from.as_str(), failovers[0].to.as_str()),
        ("between", "origin")
    );
    assert_eq!(failovers[0].lost_bytes, 0);
}

#[tokio::test]
async fn a_starved_parent_is_not_gone_back_to_by_order() {
    let silence = Duration::from_millis(900);
    let (mut intake, origin, [first, second], [between, child]) = three(silence).await;
    child.parents.send_replace(Parents {
        ordered: Some("between".into()),
        ..vec![second.parent(), first.parent()].into()
    });
    between.cancel.cancel();
    eventually("cut off", || between.pulls.state(&live()).is_none()).await;
    push(&mut intake, &mp3(20, 60));
    child.has(&origin).await;
    let asked = second.requests().len();
    let mut numbers = 80..;
    eventually("it is asked again", || {
        push(&mut intake, &mp3(numbers.next().unwrap(), 1));
        second.requests().len() > asked + 1
    })
    .await;
    assert_eq!(child.parent().as_deref(), Some("origin"));
    assert_eq!(child.pulls.take_failovers().len(), 1);
}

#[tokio::test]
async fn a_parent_that_gets_the_mount_from_its_own_child_is_left() {
    let silence = Duration::from_secs(20);
    let (mut intake, origin, [_first, second], [_between, child]) = three(silence).await;
    second.reroute(&["origin", "child"]);
    eventually("left", || child.parent().as_deref() == Some("origin")).await;
    push(&mut intake, &mp3(20, 20));
    child.has(&origin).await;
    assert_eq!((child.gap(), child.pulls.take_failovers().len()), (0, 1));
}

#[tokio::test]
async fn a_nearer_parent_is_tried_beside_the_one_that_feeds() {
    let (mut intake, origin, [first, second], [_between, child]) =
        three(Duration::from_secs(20)).await;
    // The pace of improving is far longer than this test: the wish alone moves nobody.
    child.parents.send_replace(Parents {
        better: Some("origin".into()),
        ..vec![second.parent(), first.parent()].into()
    });
    push(&mut intake, &mp3(20, 20));
    child.has(&origin).await;
    assert_eq!(child.parent().as_deref(), Some("between"));
    assert_eq!(child.pulls.take_failovers(), []);
}
