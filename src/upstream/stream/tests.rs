//! The stream's bytes and their order, and that a child's ring equals its parent's.

use futures_util::FutureExt as _;
use proptest::prelude::*;

use super::*;
use crate::base::ids::MountId;
use crate::engine::ring::TimeMark;
use crate::engine::{Content, Engine, Feeder, Intake};
use crate::upstream::playing::Playing;
use crate::upstream::pull::{Left, Memory, Pace, Parent, Pull};
use crate::upstream::pulls::Pulls;
use crate::upstream::testing::{
    FRAME, bytes_of, connector, engine, engine_of, live, mp3, push, source,
};
use crate::wire::frame::FrameDecoder;

fn own() -> NodeId {
    "origin".parse().unwrap()
}

type Body = std::pin::Pin<Box<dyn Stream<Item = Result<Bytes, io::Error>> + Send>>;

fn body(engine: &Arc<Engine>, ask: Option<Position>) -> Body {
    let mount = engine.mount(&live()).unwrap();
    Box::pin(frames(
        mount,
        own(),
        watch::channel(Route::default()).1,
        ask,
        CancellationToken::new(),
    ))
}

/// What is ready now.
fn ready(body: &mut Body) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some(Some(bytes)) = body.next().now_or_never() {
        out.extend_from_slice(&bytes.unwrap());
    }
    out
}

fn read(bytes: &[u8]) -> Vec<Frame> {
    let mut decoder = FrameDecoder::new();
    decoder.push(bytes);
    std::iter::from_fn(|| decoder.next_frame().unwrap()).collect()
}

fn word(frame: &Frame) -> String {
    match frame {
        Frame::Head(head) => format!("head {}", head.start),
        Frame::Data { offset, bytes } => format!("data {offset}+{}", bytes.len()),
        Frame::Title { offset, title } => format!("title {offset} {}", title.text),
        Frame::Section { offset, section } => format!("section {offset} {}", section.codec),
        Frame::Time { offset, .. } => format!("time {offset}"),
        Frame::Position { live_edge, .. } => format!("position {live_edge}"),
        Frame::End { reason } => format!("end {reason:?}"),
    }
}

fn words(bytes: &[u8]) -> Vec<String> {
    read(bytes).iter().map(word).collect()
}

/// A mount with one frame more than `count`: the framer holds the last one back until it sees the next.
fn playing(engine: &Arc<Engine>, count: u32) -> Intake {
    let mut intake = source(engine);
    push(&mut intake, &mp3(0, count));
    intake
}

#[tokio::test(start_paused = true)]
async fn in_order_from_the_beginning() {
    let engine = engine();
    let mut intake = playing(&engine, 20);
    let end = engine.mount(&live()).unwrap().ring().end();
    assert!(end >= 19 * FRAME as u64, "{end}");
    intake.title(Title::of("One"));
    let mut body = body(&engine, None);
    let first = ready(&mut body);
    let frames = read(&first);
    let Frame::Head(head) = &frames[0] else {
        panic!("{:?}", frames[0])
    };
    assert_eq!(head.version, PROTOCOL);
    assert_eq!((head.mount.as_str(), head.start), ("/live.mp3", 0));
    assert_eq!(head.content_type, "audio/mpeg");
    assert_eq!(head.headers, [("icy-name".to_owned(), "Test".to_owned())]);
    assert_eq!(head.path, ["origin"]);
    let edge = 11 * FRAME;
    assert_eq!(
        words(&first)[1..],
        [
            "section 0 mp3".to_owned(),
            format!("position {end}"),
            "time 0".to_owned(),
            format!("data 0+{edge}"),
            format!("time {edge}"),
            format!("data {edge}+{}", end - edge as u64),
            format!("title {end} One"),
        ]
    );
    intake.title(Title::of("Two"));
    assert_eq!(words(&ready(&mut body)), [format!("title {end} Two")]);
    tokio::time::advance(POSITION_EVERY).await;
    assert_eq!(words(&ready(&mut body)), [format!("position {end}")]);
    engine.end(&live());
    assert_eq!(words(&ready(&mut body)), ["end Ended"]);
    assert!(body.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn from_a_position_with_what_is_in_effect() {
    let engine = engine();
    let mut intake = playing(&engine, 2);
    intake.title(Title::of("One"));
    push(&mut intake, &mp3(2, 30));
    let ring = engine.mount(&live()).unwrap().ring();
    let (epoch, end) = (ring.epoch(), ring.end());
    let title = ring.with_indexes(|i| i.titles[0].offset);
    let at = |offset| {
        let position = Some(Position { epoch, offset });
        words(&ready(&mut body(&engine, position)))
    };
    let expected = [
        format!("head {}", end - 5),
        "section 0 mp3".into(),
        format!("title {title} One"),
        format!("position {end}"),
        format!("data {}+5", end - 5),
    ];
    assert_eq!(at(end - 5), expected);
    // At the edge, and in the parent's future: nothing but waiting.
    for offset in [end, end + 1000] {
        let got = at(offset);
        assert_eq!((got.len(), &got[0]), (4, &format!("head {offset}")));
    }
    let other = Some(Position {
        epoch: Epoch(epoch.0 + 1),
        offset: end,
    });
    assert_eq!(words(&ready(&mut body(&engine, other)))[0], "head 0");
}

#[tokio::test(start_paused = true)]
async fn ends_say_why() {
    let engine = engine();
    let intake = playing(&engine, 5);
    let mut first = body(&engine, None);
    ready(&mut first);
    drop(intake);
    let mut other = source(&engine);
    push(
        &mut other,
        include_bytes!("../../../tests/fixtures/mono22.mp3"),
    );
    assert_eq!(words(&ready(&mut first)), ["end EpochChanged"]);
    assert!(first.next().await.is_none());
    let shutdown = CancellationToken::new();
    let mount = engine.mount(&live()).unwrap();
    let mut body: Body = Box::pin(frames(
        mount,
        own(),
        watch::channel(Route::default()).1,
        None,
        shutdown.clone(),
    ));
    ready(&mut body);
    shutdown.cancel();
    assert_eq!(words(&ready(&mut body)), ["end Shutdown"]);
}

#[tokio::test(start_paused = true)]
async fn one_that_falls_out_of_the_window_goes_on_at_an_edge() {
    let engine = engine_of(128 * 1024);
    let mut intake = playing(&engine, 10);
    let mut body = body(&engine, None);
    ready(&mut body);
    for from in 0..20 {
        push(&mut intake, &mp3(10 + from * 100, 100));
    }
    let ring = engine.mount(&live()).unwrap().ring();
    let edge = ring.edge_from(ring.start()).unwrap();
    let got = words(&ready(&mut body));
    assert!(
        got[0].starts_with(&format!("time {edge}")),
        "{:?}",
        &got[..3]
    );
    assert!(
        got[1].starts_with(&format!("data {edge}+")),
        "{:?}",
        &got[..3]
    );
}

/// A child that is fed by hand.
struct Child {
    pull: Pull,
    parent: Parent,
}

impl Child {
    fn new() -> Self {
        let pull = Pull {
            engine: engine(),
            connector: connector(),
            pulls: Pulls::default(),
            mount: live(),
            own: "child".parse().unwrap(),
            pace: Pace::default(),
            mark: Arc::new(String::new),
            latest: Arc::new(|| Epoch(1 << 50)),
        };
        let parent = Parent {
            url: "http://127.0.0.1:1".into(),
            credential: None,
            node: "origin".into(),
        };
        Self { pull, parent }
    }
}

type Known = (Vec<(u64, Section)>, Vec<(u64, String)>, Vec<TimeMark>);

/// What holds at each offset, whatever was said twice.
fn known(ring: &Ring) -> Known {
    ring.with_indexes(|i| {
        let sections = i.sections.iter();
        let mut titles: Vec<(u64, String)> = Vec::new();
        for mark in &i.titles {
            titles.retain(|(offset, _)| *offset != mark.offset);
            titles.push((mark.offset, mark.title.text.clone()));
        }
        (
            sections.map(|m| (m.offset, (*m.section).clone())).collect(),
            titles,
            i.times.iter().copied().collect(),
        )
    })
}

#[derive(Debug, Clone)]
enum Step {
    Push(usize),
    Title(String),
    /// The source goes and comes back; with other parameters if true.
    Replace(bool),
    Deliver(usize),
    Cut,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1_usize..5_000).prop_map(Step::Push),
        2 => "[a-c]{0,2}".prop_map(Step::Title),
        1 => any::<bool>().prop_map(Step::Replace),
        6 => (1_usize..3_000).prop_map(Step::Deliver),
        2 => Just(Step::Cut),
    ]
}

/// The source's side of the law.
struct Origin {
    engine: Arc<Engine>,
    intake: Option<Intake>,
    audio: Vec<u8>,
    at: usize,
}

impl Origin {
    fn new() -> Self {
        let engine = engine();
        let intake = Some(source(&engine));
        Self {
            engine,
            intake,
            audio: mp3(0, 400),
            at: 0,
        }
    }

    fn push(&mut self, count: usize) {
        let end = (self.at + count).min(self.audio.len());
        let intake = self.intake.as_mut().unwrap();
        push(intake, &self.audio[self.at..end]);
        self.at = end;
    }

    fn replace(&mut self, other: bool) {
        self.intake = None;
        let mut intake = source(&self.engine);
        if other {
            push(
                &mut intake,
                include_bytes!("../../../tests/fixtures/mono22.mp3"),
            );
        }
        self.intake = Some(intake);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn a_childs_ring_equals_its_parents(
        steps in prop::collection::vec(step(), 1..60),
        chunk in 1_usize..700,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let (mut origin, child) = (Origin::new(), Child::new());
            origin.push(3000);
            let mut report = Memory::new(Instant::now());
            let mut body = body(&origin.engine, None);
            let (mut wire, mut decoder) = (Vec::new(), FrameDecoder::new());
            let mut playing = Playing::new(&child.pull, &child.parent, None);
            let finish = [Step::Deliver(usize::MAX), Step::Cut, Step::Deliver(usize::MAX)];
            for step in steps.into_iter().chain(finish) {
                let mut again = false;
                match step {
                    Step::Push(count) => origin.push(count),
                    Step::Title(title) => origin.intake.as_mut().unwrap().title(Title::of(&title)),
                    Step::Replace(other) => origin.replace(other),
                    Step::Cut => again = true,
                    Step::Deliver(count) => {
                        wire.extend(ready(&mut body));
                        let rest = wire.split_off(count.min(wire.len()));
                        for part in wire.chunks(chunk) {
                            decoder.push(part);
                            while let Some(frame) = decoder.next_frame().unwrap() {
                                match playing.take(frame, &mut report) {
                                    Ok(()) => {}
                                    Err(Left::EpochChanged) => again = true,
                                    Err(left) => panic!("{left}"),
                                }
                            }
                        }
                        wire = rest;
                    }
                }
                if again {
                    drop(playing);
                    playing = Playing::new(&child.pull, &child.parent, None);
                    wire.clear();
                    decoder = FrameDecoder::new();
                    body = super::tests::body(&origin.engine, child.pull.position());
                }
            }
            // The last cut may have met a change of the epoch.
            let end = origin.engine.mount(&live()).unwrap();
            let copy = child.pull.engine.mount(&live()).unwrap();
            prop_assert_eq!(copy.counters.gap_bytes(), 0);
            prop_assert_eq!(copy.content(), end.content());
            let (ours, theirs) = (copy.ring(), end.ring());
            prop_assert_eq!((ours.epoch(), ours.start(), ours.end()), (theirs.epoch(), theirs.start(), theirs.end()));
            prop_assert_eq!(bytes_of(&ours, 0), bytes_of(&theirs, 0));
            prop_assert_eq!(known(&ours), known(&theirs));
            Ok(())
        })?;
    }
}

#[tokio::test]
async fn a_gap_is_counted_where_the_parent_goes_on() {
    let child = Child::new();
    let mut report = Memory::new(Instant::now());
    let mut playing = Playing::new(&child.pull, &child.parent, None);
    let head = |start| {
        Frame::Head(Head {
            version: PROTOCOL,
            mount: live().to_string(),
            epoch: 7,
            start,
            content_type: "audio/mpeg".into(),
            path: vec!["origin".into()],
            ..Head::default()
        })
    };
    let data = |offset, bytes: &'static [u8]| Frame::Data {
        offset,
        bytes: Bytes::from_static(bytes),
    };
    let time = |offset, media_micros| Frame::Time {
        offset,
        media_micros,
        wall_millis: 0,
    };
    let mut take = |frame| playing.take(frame, &mut report);
    take(head(100)).unwrap();
    take(time(100, 5)).unwrap();
    take(data(100, b"abcdef")).unwrap();
    // Said again by another parent that starts earlier: known, and the clock stays.
    take(head(100)).unwrap();
    take(time(100, 1)).unwrap();
    take(data(102, b"cdefgh")).unwrap();
    let mount = child.pull.engine.mount(&live()).unwrap();
    let ring = mount.ring();
    assert_eq!(bytes_of(&ring, 100), b"abcdefgh");
    assert_eq!((ring.media_micros(), mount.counters.gap_bytes()), (5, 0));
    take(time(150, 9)).unwrap();
    assert_eq!((ring.start(), ring.end()), (150, 150));
    take(data(150, b"xy")).unwrap();
    assert_eq!(mount.counters.gap_bytes(), 42);
    assert_eq!(bytes_of(&ring, 150), b"xy");
    assert_eq!(mount.counters.received_bytes(), 10);
}

#[tokio::test]
async fn heads_that_are_refused() {
    let child = Child::new();
    let engine = Arc::clone(&child.pull.engine);
    let feeder = Feeder {
        address: None,
        agent: String::new(),
        since_unix_millis: 0,
    };
    let mut replica = engine.open_replica(&live(), feeder);
    replica.begin(Epoch(9), 0, Content::default());
    drop(replica);
    let good = Head {
        mount: live().to_string(),
        epoch: 9,
        path: vec!["origin".into()],
        ..Head::default()
    };
    let refuse = |change: fn(&mut Head)| {
        let mut head = good.clone();
        change(&mut head);
        let mut playing = Playing::new(&child.pull, &child.parent, None);
        let taken = playing.take(Frame::Head(head), &mut Memory::new(Instant::now()));
        taken.err().map(|left| left.to_string()).unwrap_or_default()
    };
    let other: MountId = "/other".parse().unwrap();
    assert_eq!(other.to_string(), "/other");
    assert_eq!(refuse(|_| ()), "");
    assert!(refuse(|h| h.mount = "/other".into()).ends_with("another mount"));
    assert!(refuse(|h| h.path = vec!["a".into(), "child".into()]).ends_with("this very node"));
    assert!(refuse(|h| h.path = vec!["a".into(); 65]).ends_with("too many nodes"));
    assert!(refuse(|h| h.epoch = 8).ends_with("earlier epoch"));
    // Up to the last one that the clock allows; an epoch beyond it would outlive every honest one.
    assert_eq!(refuse(|h| h.epoch = 1 << 50), "");
    for epoch in [(1 << 50) + 1, u64::MAX] {
        let mut ahead = good.clone();
        ahead.epoch = epoch;
        let position = Frame::Position {
            epoch,
            live_edge: 0,
            starved_millis: 0,
        };
        for frame in [Frame::Head(ahead), position] {
            let mut playing = Playing::new(&child.pull, &child.parent, None);
            let mut memory = Memory::new(Instant::now());
            playing
                .take(Frame::Head(good.clone()), &mut memory)
                .unwrap();
            let taken = playing.take(frame, &mut memory);
            let left = taken.err().map(|left| left.to_string());
            assert!(left.is_some_and(|left| left.ends_with("ahead of the clock")));
        }
    }
    // One that waits itself takes nothing from us.
    assert_eq!(refuse(|h| h.epoch = 0), "");
    assert_eq!(engine.mount(&live()).unwrap().ring().epoch(), Epoch(9));
    let mut playing = Playing::new(&child.pull, &child.parent, None);
    let early = Frame::Title {
        offset: 0,
        title: Title::of("x"),
    };
    assert!(
        playing
            .take(early, &mut Memory::new(Instant::now()))
            .is_err()
    );
}

#[tokio::test(start_paused = true)]
async fn a_new_way_is_told_in_a_head_and_an_end_of_the_origin_is_final() {
    let engine = engine();
    let _intake = playing(&engine, 10);
    let mount = engine.mount(&live()).unwrap();
    let route = watch::Sender::new(Route::default());
    let stop = CancellationToken::new();
    let mut body: Body = Box::pin(frames(mount, own(), route.subscribe(), None, stop));
    let first = read(&ready(&mut body));
    let path = |frame: &Frame| match frame {
        Frame::Head(head) => head.path.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(path(&first[0]), ["origin"]);
    route.send_modify(|route| route.path = vec!["far".into(), "near".into()]);
    let second = read(&ready(&mut body));
    assert_eq!(path(&second[0]), ["far", "near", "origin"]);
    assert_eq!(word(&second[0]), format!("head {}", 10 * FRAME));
    route.send_modify(|route| route.over = true);
    engine.end(&live());
    assert_eq!(words(&ready(&mut body)), ["end Over"]);
}
