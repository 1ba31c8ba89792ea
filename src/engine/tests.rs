//! The engine whole: frames in, sockets out, bytes compared.

use std::io::Read;
use std::net::{IpAddr, Shutdown, TcpListener, TcpStream};

use bytes::Bytes;

use super::*;
use crate::engine::format::{Codec, Params, Section};
use crate::telemetry::{Class, EndReason, Opening, Protocol, SessionRecord};
use crate::wire::icy;
use crate::wire::title::Title;

thread_local! {
    /// The backend of this test; both pass the same ones.
    static BACKEND: std::cell::Cell<fanout::Choice> = const { std::cell::Cell::new(fanout::Choice::Plain) };
}

/// Each test once by plain sends and once by io_uring (where the kernel has none, plainly again: the same
/// promises hold).
macro_rules! by_both {
    ($($test:ident,)*) => {
        mod plain {
            $(#[test] fn $test() {
                super::BACKEND.set(super::fanout::Choice::Plain);
                super::$test();
            })*
        }
        mod io_uring {
            $(#[test] fn $test() {
                super::BACKEND.set(super::fanout::Choice::IoUring);
                super::$test();
            })*
        }
    };
}

mod fallback;
mod playable;
mod silent;

by_both! {
    a_mount_with_settings_of_its_own,
    a_ring_is_released_when_its_mount_ends,
    a_client_that_closes_its_writing_side_hears_on,
    a_reset_is_seen_while_nothing_is_sent,
    a_listener_gets_head_burst_and_what_comes,
    metadata_is_exact_to_the_byte_and_titles_are_in_order,
    listeners_are_held_and_the_epoch_goes_on_with_the_same_parameters,
    other_parameters_give_a_new_epoch_and_a_clean_end,
    a_mount_in_use_is_refused_and_a_stale_source_is_taken_over,
    limits_and_garbage_have_their_errors,
    a_listener_that_never_reads_is_closed_and_disturbs_nobody,
    a_replica_keeps_addresses_counts_gaps_and_serves,
    a_replica_plays_once_it_has_caught_up,
    a_kick_and_a_longest_duration_end_a_session,
}

/// A silent MPEG-1 layer III frame header at 128 kbit/s, 48 kHz: 384 bytes, 24 ms.
const HEADER: [u8; 4] = [0xFF, 0xFB, 0x94, 0xC4];
const FRAME: usize = 384;

fn frames(from: u32, count: u32) -> Vec<u8> {
    let mut out = Vec::new();
    for number in from..from + count {
        let mut frame = HEADER.to_vec();
        frame.extend(number.to_be_bytes().map(|byte| byte & 0x7F));
        frame.resize(FRAME, 0x55);
        out.extend(frame);
    }
    out
}

fn config() -> Config {
    Config {
        ring: Bounds {
            window: Duration::from_secs(60),
            max_bytes: 4 << 20,
        },
        burst: Burst {
            bytes: 64 * 1024,
            longest: Duration::from_secs(10),
            shortest: Duration::from_secs(2),
        },
        hold: Duration::from_secs(45),
        max_sources: 4,
        fallback: None,
        presets: Vec::new(),
        fanout: fanout::Config {
            threads: 2,
            min_delay: Duration::from_millis(20),
            max_delay: Duration::from_millis(50),
            stall: Duration::from_secs(30),
            backend: BACKEND.get(),
        },
    }
}

type Ends = Arc<std::sync::Mutex<Vec<EndReason>>>;

fn engine_with(config: Config) -> (Arc<Engine>, Ends) {
    let ends: Ends = Arc::default();
    let log = Arc::clone(&ends);
    let sink = move |_: &SessionRecord, reason| log.lock().unwrap().push(reason);
    let telemetry = Telemetry::new(Box::new(sink));
    (Engine::start(config, telemetry).unwrap(), ends)
}

fn live() -> MountId {
    MountId::new("/live.mp3").unwrap()
}

fn offer() -> Offer {
    Offer {
        content_type: "audio/mpeg".into(),
        headers: vec![("icy-br".into(), "128".into())],
        address: IpAddr::from([127, 0, 0, 1]),
        agent: "test".into(),
        stale: Duration::from_secs(5),
    }
}

fn push(intake: &mut Intake, bytes: &[u8]) {
    intake.push(bytes, Instant::now(), unix_millis()).unwrap();
}

/// A client's socket, its peer handed to the engine.
fn listen(engine: &Arc<Engine>, id: &MountId, head: &'static [u8], metaint: u32) -> TcpStream {
    let mount = engine.mount(id).unwrap();
    listen_to(engine, id, mount, head, metaint)
}

/// The same of somebody who asked for `id` and gets `mount`.
fn listen_to(
    engine: &Arc<Engine>,
    id: &MountId,
    mount: Arc<Mount>,
    head: &'static [u8],
    metaint: u32,
) -> TcpStream {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(server.local_addr().unwrap()).unwrap();
    client
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let socket = server.accept().unwrap().0;
    let session = engine.telemetry.open(&Opening {
        mount: id,
        address: IpAddr::from([127, 0, 0, 1]),
        user_agent: "test",
        referer: "",
        target: "/live.mp3",
        protocol: Protocol::Http11,
        class: Class::Listener,
    });
    let listener = Listener {
        tls: None,
        socket,
        asked: id.clone(),
        mount,
        head: Bytes::from_static(head),
        metaint,
        session,
        accepted: Instant::now(),
        ends_at: None,
    };
    engine.listen(listener).unwrap();
    client
}

fn read(client: &mut TcpStream, count: usize) -> Vec<u8> {
    let mut got = vec![0; count];
    client.read_exact(&mut got).unwrap();
    got
}

fn rest(client: &mut TcpStream) -> Vec<u8> {
    let mut got = Vec::new();
    client.read_to_end(&mut got).unwrap();
    got
}

/// Waits for a condition; ten seconds are far more than any of them needs.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::yield_now();
    }
}

fn a_listener_gets_head_burst_and_what_comes() {
    let (engine, ends) = engine_with(config());
    let mut intake = engine.open_source(&live(), offer()).unwrap();
    push(&mut intake, &frames(0, 10));
    let mut client = listen(&engine, &live(), b"HEAD", 0);
    let first = read(&mut client, 4 + 10 * FRAME);
    assert_eq!(first, [b"HEAD".as_slice(), &frames(0, 10)].concat());
    push(&mut intake, &frames(10, 500));
    let more = read(&mut client, 500 * FRAME);
    assert!(more == frames(10, 500), "audio differs");
    assert_eq!(engine.telemetry.listeners(), 1);
    let state = engine.states().pop().unwrap();
    assert_eq!(
        (state.position.offset, state.metaint),
        (510 * FRAME as u64, 0)
    );
    let text = serde_json::to_string(&state).unwrap();
    assert_eq!(serde_json::from_str::<fanout::State>(&text).unwrap(), state);
    client.shutdown(Shutdown::Both).unwrap();
    // What it does not take tells.
    push(&mut intake, &frames(510, 10));
    eventually("the session closes", || !ends.lock().unwrap().is_empty());
    assert_eq!(engine.telemetry.listeners(), 0);
    assert_eq!(*ends.lock().unwrap(), [EndReason::Left]);
    engine.stop();
}

fn metadata_is_exact_to_the_byte_and_titles_are_in_order() {
    let (engine, _) = engine_with(config());
    let mut intake = engine.open_source(&live(), offer()).unwrap();
    push(&mut intake, &frames(0, 5));
    intake.title(Title::of("one"));
    let mut client = listen(&engine, &live(), b"", 1000);
    // It must be there before more than a burst has come.
    let mut raw = read(&mut client, 100);
    let mut sent = frames(0, 5);
    for (number, title) in [(5, "two"), (105, "it's; '; three é"), (205, "four")] {
        push(&mut intake, &frames(number, 100));
        sent.extend(frames(number, 100));
        intake.title(Title::of(title));
    }
    push(&mut intake, &frames(305, 100));
    sent.extend(frames(305, 100));
    drop(intake);
    engine.end(&live());
    raw.extend(rest(&mut client));
    let (mut audio, mut titles) = (Vec::new(), Vec::new());
    icy::Stripper::new(1000).push(&raw, &mut audio, &mut titles);
    assert!(
        audio == sent,
        "audio differs: {} of {}",
        audio.len(),
        sent.len()
    );
    let texts: Vec<&str> = titles
        .iter()
        .map(|(_, title)| title.text.as_str())
        .collect();
    assert_eq!(texts.len(), 4, "{texts:?}");
    assert_eq!((texts[0], texts[1], texts[3]), ("one", "two", "four"));
    engine.stop();
}

fn listeners_are_held_and_the_epoch_goes_on_with_the_same_parameters() {
    let (engine, ends) = engine_with(config());
    let mut first = engine.open_source(&live(), offer()).unwrap();
    push(&mut first, &frames(0, 10));
    let mut client = listen(&engine, &live(), b"", 0);
    assert_eq!(read(&mut client, 10 * FRAME), frames(0, 10));
    let epoch = engine.mount(&live()).unwrap().ring().epoch();
    drop(first);
    assert_eq!(engine.mount(&live()).unwrap().state(), MountState::Held);
    let mut second = engine.open_source(&live(), offer()).unwrap();
    push(&mut second, &frames(100, 10));
    assert_eq!(read(&mut client, 10 * FRAME), frames(100, 10));
    assert_eq!(engine.mount(&live()).unwrap().ring().epoch(), epoch);
    drop(second);
    engine.tick(Instant::now() + Duration::from_secs(46));
    assert!(engine.mount(&live()).is_none());
    assert!(rest(&mut client).is_empty());
    eventually("the session closes", || !ends.lock().unwrap().is_empty());
    assert_eq!(*ends.lock().unwrap(), [EndReason::Ended]);
    engine.stop();
}

fn other_parameters_give_a_new_epoch_and_a_clean_end() {
    let (engine, ends) = engine_with(config());
    let mut first = engine.open_source(&live(), offer()).unwrap();
    push(&mut first, &frames(0, 10));
    let mut client = listen(&engine, &live(), b"", 0);
    assert_eq!(read(&mut client, 10 * FRAME), frames(0, 10));
    let epoch = engine.mount(&live()).unwrap().ring().epoch();
    drop(first);
    let mut second = engine.open_source(&live(), offer()).unwrap();
    // 44.1 kHz instead of 48: another decoder.
    let mut other = frames(0, 20);
    for frame in other.chunks_mut(FRAME) {
        frame[2] = 0x90;
    }
    let other: Vec<u8> = other
        .chunks(FRAME)
        .flat_map(|f| [f, &[0_u8; 33]].concat())
        .collect();
    push(&mut second, &other);
    assert!(engine.mount(&live()).unwrap().ring().epoch() > epoch);
    assert!(rest(&mut client).is_empty());
    eventually("the session closes", || !ends.lock().unwrap().is_empty());
    assert_eq!(*ends.lock().unwrap(), [EndReason::Changed]);
    engine.stop();
}

fn a_mount_in_use_is_refused_and_a_stale_source_is_taken_over() {
    let (engine, _) = engine_with(config());
    let mut first = engine.open_source(&live(), offer()).unwrap();
    push(&mut first, &frames(0, 10));
    let refused = engine.open_source(&live(), offer()).err().unwrap();
    assert!(matches!(refused, OpenError::InUse { .. }), "{refused}");
    let mut second = engine
        .open_source(
            &live(),
            Offer {
                stale: Duration::ZERO,
                ..offer()
            },
        )
        .unwrap();
    assert!(first.evicted().is_cancelled());
    assert_eq!(first.push(b"x", Instant::now(), 0), Err(PushError::Evicted));
    drop(first);
    // It has the place, and is heard from its first frame on.
    assert_eq!(engine.mount(&live()).unwrap().state(), MountState::Held);
    push(&mut second, &frames(0, 3));
    assert_eq!(engine.mount(&live()).unwrap().state(), MountState::Live);
    drop(second);
    assert_eq!(engine.mount(&live()).unwrap().state(), MountState::Held);
    engine.stop();
}

fn limits_and_garbage_have_their_errors() {
    let (engine, _) = engine_with(Config {
        max_sources: 1,
        presets: Vec::new(),
        ..config()
    });
    let text = Offer {
        content_type: "text/html".into(),
        ..offer()
    };
    assert_eq!(
        engine.open_source(&live(), text).err(),
        Some(OpenError::Unsupported("text/html".into()))
    );
    let mut garbage = engine.open_source(&live(), offer()).unwrap();
    let other = MountId::new("/other").unwrap();
    assert_eq!(
        engine.open_source(&other, offer()).err(),
        Some(OpenError::TooMany(1))
    );
    let junk = vec![0x11; 32 * 1024];
    push(&mut garbage, &junk);
    assert_eq!(
        garbage.push(&junk, Instant::now(), 0),
        Err(PushError::Garbage("text"))
    );
    engine.stop();
}

fn a_listener_that_never_reads_is_closed_and_disturbs_nobody() {
    let mut config = config();
    config.fanout.stall = Duration::from_millis(300);
    let (engine, ends) = engine_with(config);
    let mut intake = engine.open_source(&live(), offer()).unwrap();
    push(&mut intake, &frames(0, 10));
    let deaf = listen(&engine, &live(), b"", 0);
    let mut number = 10;
    eventually("the deaf listener is closed", || {
        push(&mut intake, &frames(number, 50));
        number += 50;
        !ends.lock().unwrap().is_empty()
    });
    let reason = ends.lock().unwrap()[0];
    assert!(
        matches!(reason, EndReason::Stalled | EndReason::Slow),
        "{reason:?}"
    );
    drop(deaf);
    engine.stop();
}

fn parent() -> Feeder {
    Feeder {
        address: None,
        agent: "primary".into(),
        since_unix_millis: 0,
    }
}

/// A relay's mount under `/live.mp3`, which begins at `start` of epoch 77.
fn replica_of(engine: &Arc<Engine>, start: u64) -> Replica {
    let mut replica = engine.open_replica(&live(), parent());
    let content = Content {
        content_type: "audio/mpeg".into(),
        headers: Vec::new(),
    };
    replica.begin(Epoch(77), start, content);
    replica
}

/// The section of [`frames`].
fn section() -> Section {
    let params = Params {
        codec: Codec::Mp3,
        sample_rate: 48_000,
        channels: 2,
        profile: 0x13,
    };
    Section {
        params,
        bitrate: 128_000,
        header: Bytes::new(),
    }
}

fn a_replica_keeps_addresses_counts_gaps_and_serves() {
    let (engine, _) = engine_with(config());
    let unbegun = engine.open_replica(&live(), parent());
    assert_eq!(unbegun.position(), None);
    drop(unbegun);
    let mut replica = replica_of(&engine, 1000);
    replica.section(0, section());
    replica.time(ring::TimeMark {
        offset: 1000,
        media_micros: 5,
        wall_millis: 0,
    });
    replica.data(1000, b"0123456789", Instant::now());
    replica.data(1005, b"56789abc", Instant::now());
    assert_eq!(
        replica.position(),
        Some(crate::base::ids::Position {
            epoch: Epoch(77),
            offset: 1013
        })
    );
    let mut client = listen(&engine, &live(), b"", 0);
    assert_eq!(read(&mut client, 13), b"0123456789abc");
    replica.data(1020, b"xyz", Instant::now());
    assert_eq!(replica.mount().counters.gap_bytes(), 7);
    assert!(engine.epochs().next() > Epoch(77));
    engine.stop();
}

/// The burst is the burst, however the ring fills: nobody begins in a past that is still on its way here.
fn a_replica_plays_once_it_has_caught_up() {
    let (engine, _) = engine_with(config());
    let mut replica = replica_of(&engine, 0);
    replica.section(0, section());
    // A minute of audio is there at the parent.
    let all = frames(0, 2_500);
    replica.parent_at(all.len() as u64);
    let mount = engine.mount(&live()).unwrap();
    let mut watch = engine.watch();
    for (number, part) in all.chunks(10 * FRAME).enumerate() {
        assert!(!mount.is_playable(), "after {number} parts");
        watch.borrow_and_update();
        let offset = (number * 10 * FRAME) as u64;
        replica.time(ring::TimeMark {
            offset,
            media_micros: number as u64 * 240_000,
            wall_millis: 0,
        });
        replica.data(offset, part, Instant::now());
    }
    // Those who wait are told.
    assert!(mount.is_playable() && watch.has_changed().unwrap());
    let mut client = listen(&engine, &live(), b"HEAD", 0);
    read(&mut client, 4);
    engine.end(&live());
    let burst = rest(&mut client);
    assert!(
        burst.len() <= 64 * 1024 && all.ends_with(&burst),
        "{}",
        burst.len()
    );
    engine.stop();
}

fn a_kick_and_a_longest_duration_end_a_session() {
    let (engine, ends) = engine_with(config());
    let mut intake = engine.open_source(&live(), offer()).unwrap();
    push(&mut intake, &frames(0, 10));
    let mut client = listen(&engine, &live(), b"", 0);
    read(&mut client, 10 * FRAME);
    let session = engine.telemetry.sessions().pop().unwrap();
    session.kick();
    engine.sweep();
    assert!(rest(&mut client).is_empty());
    eventually("the session closes", || !ends.lock().unwrap().is_empty());
    assert_eq!(*ends.lock().unwrap(), [EndReason::Kicked]);
    engine.stop();
}

/// What the operator says of a mount holds before what its source says, and there alone.
fn a_mount_with_settings_of_its_own() {
    let own = Preset {
        content_type: Some("audio/mpeg".into()),
        headers: vec![
            ("icy-name".into(), "Ours".into()),
            ("icy-br".into(), "96".into()),
        ],
        burst: Some(40_000),
        charset: None,
        fallback: None,
    };
    let (engine, _) = engine_with(Config {
        presets: vec![(live(), own)],
        ..config()
    });
    // The encoder names a type that it does not send.
    let wrong = Offer {
        content_type: "text/html".into(),
        ..offer()
    };
    let other = MountId::new("/other.mp3").unwrap();
    assert!(engine.open_source(&other, wrong.clone()).is_err());
    let mut first = engine.open_source(&live(), wrong).unwrap();
    let mut second = engine.open_source(&other, offer()).unwrap();
    for intake in [&mut first, &mut second] {
        push(intake, &frames(0, 600));
    }
    let content = first.mount().unwrap().content();
    assert_eq!(content.content_type, "audio/mpeg");
    assert_eq!(content.header("icy-name"), Some("Ours"));
    assert_eq!(content.header("icy-br"), Some("96"));
    assert_eq!(second.mount().unwrap().content().header("icy-name"), None);
    for (id, most) in [(live(), 40_000), (other, 64 * 1024)] {
        let mut client = listen(&engine, &id, b"HEAD", 0);
        assert_eq!(read(&mut client, 4), b"HEAD");
        engine.end(&id);
        let burst = rest(&mut client);
        assert!(frames(0, 600).ends_with(&burst), "no end of what was sent");
        // A newcomer begins at a mark of the time index: they are 250 ms apart, and a frame.
        let short = most - burst.len();
        assert!(short < 5_000, "{} of {most}", burst.len());
    }
}

/// A minute of audio for each mount is the most that a node keeps: an ended one keeps none of it.
fn a_ring_is_released_when_its_mount_ends() {
    let (engine, _) = engine_with(config());
    let mut intake = engine.open_source(&live(), offer()).unwrap();
    push(&mut intake, &frames(0, 500));
    let mut client = listen(&engine, &live(), b"HEAD", 1000);
    read(&mut client, 4);
    let ring = Arc::downgrade(&engine.mount(&live()).unwrap().ring());
    assert!(ring.upgrade().is_some());
    drop(intake);
    engine.end(&live());
    rest(&mut client);
    eventually("the ring is released", || ring.upgrade().is_none());
    engine.stop();
}

fn a_client_that_closes_its_writing_side_hears_on() {
    let (engine, ends) = engine_with(config());
    let mut intake = engine.open_source(&live(), offer()).unwrap();
    push(&mut intake, &frames(0, 10));
    let mut client = listen(&engine, &live(), b"HEAD", 0);
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let first = read(&mut client, 4 + 10 * FRAME);
    assert_eq!(first, [b"HEAD".as_slice(), &frames(0, 10)].concat());
    push(&mut intake, &frames(10, 30));
    assert_eq!(read(&mut client, 30 * FRAME), frames(10, 30));
    assert!(ends.lock().unwrap().is_empty());
    // All was read, so that the system answers the next bytes with a reset, and nothing before.
    drop(client);
    push(&mut intake, &frames(40, 10));
    eventually("the session closes", || !ends.lock().unwrap().is_empty());
    assert_eq!(*ends.lock().unwrap(), [EndReason::Left]);
    engine.stop();
}

fn a_reset_is_seen_while_nothing_is_sent() {
    let mut slow = config();
    // Turns are ten seconds apart, so that it is no failed send that tells.
    slow.fanout.min_delay = Duration::from_secs(10);
    slow.fanout.max_delay = Duration::from_secs(10);
    let (engine, ends) = engine_with(slow);
    let mut intake = engine.open_source(&live(), offer()).unwrap();
    push(&mut intake, &frames(0, 10));
    let mut client = listen(&engine, &live(), b"HEAD", 0);
    read(&mut client, 4);
    // With audio unread, as with most who leave.
    drop(client);
    eventually("the session closes", || !ends.lock().unwrap().is_empty());
    assert_eq!(*ends.lock().unwrap(), [EndReason::Left]);
    engine.stop();
}
