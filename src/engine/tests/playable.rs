//! A mount is live while what its source sends can be played, whatever else the source does.

use super::*;
use crate::engine::format::Unplayable;

by_both! {
    a_source_that_sends_nothing_yet_changes_nothing,
    a_section_that_is_given_up_holds_the_listeners,
    a_source_that_never_becomes_playable_is_refused,
    tags_are_progress_and_leave_a_mount_live,
    another_encoder_does_not_inherit_the_title,
    a_title_that_is_set_on_ogg_is_in_the_stream,
    the_committed_rate_is_what_is_sent_where_that_is_more,
}

const VORBIS: &[u8] = include_bytes!("../../../tests/fixtures/vorbis.ogg");
/// Bytes of its header pages.
const HEADERS: usize = 4_023;

fn ogg() -> Offer {
    Offer {
        content_type: "application/ogg".into(),
        ..offer()
    }
}

fn state(engine: &Engine) -> Option<MountState> {
    engine.mount(&live()).map(|mount| mount.state())
}

fn a_source_that_sends_nothing_yet_changes_nothing() {
    let (engine, _) = engine_with(config());
    let waiting = engine.open_source(&live(), offer()).unwrap();
    assert_eq!(state(&engine), None);
    assert_eq!(engine.sources().len(), 1);
    assert!(!engine.is_free(&live()));
    drop(waiting);
    assert!(engine.is_free(&live()));
    // Nor where listeners are held: their time runs on, and the source keeps its place.
    let mut first = engine.open_source(&live(), offer()).unwrap();
    push(&mut first, &frames(0, 10));
    drop(first);
    let mut second = engine.open_source(&live(), offer()).unwrap();
    assert_eq!(state(&engine), Some(MountState::Held));
    engine.tick(Instant::now() + Duration::from_secs(46));
    assert_eq!(state(&engine), None);
    assert!(!second.evicted().is_cancelled());
    push(&mut second, &frames(0, 10));
    assert_eq!(state(&engine), Some(MountState::Live));
    engine.stop();
}

fn a_section_that_is_given_up_holds_the_listeners() {
    let (engine, _) = engine_with(config());
    let mut intake = engine.open_source(&live(), ogg()).unwrap();
    push(&mut intake, VORBIS);
    assert_eq!(state(&engine), Some(MountState::Live));
    // The next track without its header pages.
    push(&mut intake, &VORBIS[HEADERS..]);
    assert_eq!(state(&engine), Some(MountState::Held));
    let mount = live();
    let why = Unplayable::Headless;
    assert_eq!(engine.troubles(), [Trouble { mount, why }]);
    assert_eq!(engine.troubles(), []);
    // And one that can be played again.
    let epoch = engine.mount(&live()).unwrap().ring().epoch();
    push(&mut intake, VORBIS);
    assert_eq!(state(&engine), Some(MountState::Live));
    assert_eq!(engine.mount(&live()).unwrap().ring().epoch(), epoch);
    engine.stop();
}

fn a_source_that_never_becomes_playable_is_refused() {
    let (engine, _) = engine_with(config());
    let mut intake = engine.open_source(&live(), ogg()).unwrap();
    let refused = (0..20).find_map(|_| intake.push(&VORBIS[HEADERS..], Instant::now(), 0).err());
    assert_eq!(refused, Some(PushError::Unplayable(Unplayable::Headless)));
    drop(intake);
    let mut intake = engine.open_source(&live(), offer()).unwrap();
    // The largest there may be.
    let mut tag = b"ID3\x04\0\0\x07\x7F\x7F\x76".to_vec();
    tag.resize(format::LARGEST_HEADER, 0);
    let refused = (0..4).find_map(|_| intake.push(&tag, Instant::now(), 0).err());
    assert_eq!(refused, Some(PushError::NoMedia));
    assert_eq!(state(&engine), None);
    engine.stop();
}

fn tags_are_progress_and_leave_a_mount_live() {
    let (engine, _) = engine_with(config());
    let mut intake = engine.open_source(&live(), offer()).unwrap();
    push(&mut intake, &frames(0, 10));
    let began = Instant::now();
    let at = |seconds: u64| began + Duration::from_secs(seconds);
    let mut push = |bytes: &[u8], at: Instant| {
        intake.push(bytes, at, 0).unwrap();
        intake.idle(at)
    };
    // A cover that comes in over a minute, a part every four seconds.
    let mut tag = b"ID3\x04\0\0\0\x40\0\0".to_vec();
    tag.resize(10 + (64 << 14), 7);
    for (number, part) in tag.chunks(tag.len() / 15).enumerate() {
        let now = at(4 * number as u64);
        assert!(push(part, now) < Duration::from_millis(2));
        assert_eq!(state(&engine), Some(MountState::Live));
    }
    // Nobody heard anything meanwhile, and that is known too.
    let mount = engine.mount(&live()).unwrap();
    assert!(mount.idle(at(60)) > Duration::from_secs(58));
    // Junk is no progress.
    assert!(push(&[0x11; 1_000], at(70)) >= Duration::from_secs(8));
    engine.stop();
}

fn another_encoder_does_not_inherit_the_title() {
    let (engine, _) = engine_with(config());
    let title = || engine.mount(&live()).and_then(|mount| mount.title());
    let text = || title().map_or_else(String::new, |title| title.text.clone());
    let come = |agent: &str, name: &str| {
        let mut intake = engine
            .open_source(
                &live(),
                Offer {
                    agent: agent.into(),
                    headers: vec![("icy-name".into(), name.into())],
                    ..offer()
                },
            )
            .unwrap();
        push(&mut intake, &frames(0, 10));
        intake
    };
    let mut first = come("one", "Station");
    first.title(Title::of("A - B").with_url(Some("https://x/a.jpg")));
    assert_eq!(text(), "A - B");
    drop(first);
    // A blip of the same one: encoders do not repeat it.
    drop(come("one", "Station"));
    assert_eq!(text(), "A - B");
    drop(come("one", "Another"));
    assert_eq!(text(), "");
    drop(come("one", "Station"));
    assert_eq!(text(), "");
    // Nor after a takeover, with its new epoch.
    let mut old = come("one", "Station");
    old.title(Title::of("C"));
    let epoch = engine.mount(&live()).unwrap().ring().epoch();
    let stale = Offer {
        agent: "one".into(),
        headers: vec![("icy-name".into(), "Station".into())],
        stale: Duration::ZERO,
        ..offer()
    };
    let mut new = engine.open_source(&live(), stale).unwrap();
    push(&mut new, &frames(0, 10));
    assert!(engine.mount(&live()).unwrap().ring().epoch() > epoch);
    assert_eq!(text(), "C");
    drop(old);
    // Over a restart it is kept the same way.
    let kept = engine.titles().all();
    let (again, _) = engine_with(config());
    again.titles().restore(kept);
    let stale = Offer {
        agent: "one".into(),
        headers: vec![("icy-name".into(), "Station".into())],
        ..offer()
    };
    let mut intake = again.open_source(&live(), stale).unwrap();
    push(&mut intake, &frames(0, 10));
    assert_eq!(again.mount(&live()).unwrap().title().unwrap().text, "C");
    again.stop();
    engine.stop();
}

fn a_title_that_is_set_on_ogg_is_in_the_stream() {
    let (engine, _) = engine_with(config());
    let mut intake = engine.open_source(&live(), ogg()).unwrap();
    let (front, rest) = VORBIS.split_at(6_714);
    push(&mut intake, front);
    let mut client = listen(&engine, &live(), b"", 0);
    assert_eq!(read(&mut client, front.len()), front);
    let title = Title::of_parts(Some("New"), Some("Song")).unwrap();
    engine.set_title(&live(), title.clone()).unwrap();
    push(&mut intake, rest);
    let mount = engine.mount(&live()).unwrap();
    assert_eq!(mount.title().as_deref(), Some(&title));
    let header = mount.ring().section().unwrap().header.clone();
    assert_eq!(format::ogg::comment_title(&header), Some(title));
    // It goes on under another serial number, and the listener gets all of it.
    let got = read(&mut client, header.len() + rest.len());
    assert!(got.starts_with(&header) && got[header.len() + 14..][..4] != rest[14..18]);
    // The source's next link says its own title.
    push(&mut intake, VORBIS);
    assert_eq!(mount.title().unwrap().text, "Fixture - Vorbis");
    assert_eq!(read(&mut client, VORBIS.len()), VORBIS);
    assert_eq!(
        engine.set_title(&id_of("/none"), Title::of("x")),
        Err(TitleError::NoSource)
    );
    engine.stop();
}

fn the_committed_rate_is_what_is_sent_where_that_is_more() {
    let (engine, _) = engine_with(config());
    let come = |path: &str, kilobits: &str, content_type: &str, bytes: &[u8]| {
        let headers = vec![("icy-br".into(), kilobits.into())];
        let offer = Offer {
            content_type: content_type.into(),
            headers,
            ..offer()
        };
        let mut intake = engine.open_source(&id_of(path), offer).unwrap();
        push(&mut intake, bytes);
        engine.tick(Instant::now());
        let mount = engine.mount(&id_of(path)).unwrap();
        (mount.bitrate(), mount.committed_rate())
    };
    let long = frames(0, 500);
    // 128 kbit/s are sent.
    for (path, said, shown, committed) in [
        ("/a.mp3", "8", 8_000, 128_000),
        ("/b.mp3", "", 128_000, 128_000),
        ("/c.mp3", "320", 320_000, 320_000),
    ] {
        let (rate, most) = come(path, said, "audio/mpeg", &long);
        assert_eq!((rate, most / 1_000 * 1_000), (shown, committed), "{path}");
    }
    // Nothing is known yet: nobody gets in for nothing.
    let (rate, most) = come("/d.nsv", "", "video/nsv", &[7; 1_000]);
    assert_eq!((rate, most), (0, 128_000));
    engine.stop();
}

fn id_of(path: &str) -> MountId {
    MountId::new(path).unwrap()
}
