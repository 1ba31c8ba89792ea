//! Listeners of a mount whose source stays away: on to the fallback and back, compared byte by byte.

use super::*;

by_both! {
    listeners_go_to_the_fallback_and_come_back_at_frame_edges,
    without_override_they_stay_until_the_fallback_ends,
    the_first_live_one_of_a_chain_is_heard,
    another_format_is_a_clean_end,
    ogg_gets_the_header_pages_of_the_other_chain,
    a_newcomer_of_a_lost_mount_hears_its_fallback_and_then_its_own,
    a_feed_that_was_cut_within_a_frame_is_left_at_an_edge,
}

/// Three tones that never have a frame in common.
pub(super) const OURS: u32 = 0;
pub(super) const THEIRS: u32 = 1 << 24;
pub(super) const AGAIN: u32 = 2 << 24;

/// The frames `from..from + count` of a tone; a frame's number keeps seven bits of each byte.
pub(super) fn tone(of: u32, from: u32, count: u32) -> Vec<u8> {
    let number = |n: u32| of + (n / 128) * 256 + n % 128;
    (from..from + count)
        .flat_map(|n| frames(number(n), 1))
        .collect()
}

/// `audio` as runs of whole frames without a gap: tone, first frame, frames.
pub(super) fn runs(audio: &[u8]) -> Vec<(u32, u32, u32)> {
    let mut runs: Vec<(u32, u32, u32)> = Vec::new();
    for frame in audio.chunks(FRAME) {
        let number = u32::from_be_bytes(frame[4..8].try_into().unwrap());
        let (of, n) = (number & 0xFF00_0000, number & 0x00FF_FFFF);
        let n = n / 256 * 128 + n % 256;
        assert!(frame == tone(of, n, 1), "a torn frame");
        match runs.last_mut() {
            Some((tone, first, count)) if *tone == of && *first + *count == n => *count += 1,
            _ => runs.push((of, n, 1)),
        }
    }
    runs
}

pub(super) fn id(path: &str) -> MountId {
    MountId::new(path).unwrap()
}

/// A mount's settings: its fallback, and whether its listeners come back.
pub(super) fn to(mount: &str, fallback: &str, returns: bool) -> (MountId, Preset) {
    let fallback = Fallback {
        mount: id(fallback),
        returns,
    };
    let preset = Preset {
        fallback: Some(fallback),
        ..Preset::default()
    };
    (id(mount), preset)
}

pub(super) fn engine_of(presets: Vec<(MountId, Preset)>) -> (Arc<Engine>, Ends) {
    engine_with(Config {
        presets,
        ..config()
    })
}

/// The source is gone, and for longer than the hold.
pub(super) fn lose(engine: &Engine, source: Intake) {
    drop(source);
    engine.tick(Instant::now() + Duration::from_secs(46));
}

pub(super) fn all_at(engine: &Engine, mount: &str) -> bool {
    let states = engine.states();
    !states.is_empty() && states.iter().all(|state| state.mount == id(mount))
}

fn listeners_go_to_the_fallback_and_come_back_at_frame_edges() {
    let (engine, ends) = engine_of(vec![to("/live.mp3", "/b", true)]);
    let mut own = engine.open_source(&live(), offer()).unwrap();
    let mut other = engine.open_source(&id("/b"), offer()).unwrap();
    own.title(Title::of("ours"));
    other.title(Title::of("theirs"));
    push(&mut own, &tone(OURS, 0, 40));
    push(&mut other, &tone(THEIRS, 0, 90));
    let mut plain = listen(&engine, &live(), b"", 0);
    let mut titled = listen(&engine, &live(), b"", 1000);
    assert_eq!(read(&mut plain, 40 * FRAME), tone(OURS, 0, 40));
    let mut raw = read(&mut titled, 1);
    lose(&engine, own);
    eventually("they are at the fallback", || all_at(&engine, "/b"));
    assert_eq!(engine.missed()[0].id, live());
    assert_eq!(engine.telemetry.mount(&live()).listeners(), 2);
    assert_eq!(engine.telemetry.mount(&id("/b")).listeners(), 0);
    let mut own = engine.open_source(&live(), offer()).unwrap();
    own.title(Title::of("again"));
    assert!(all_at(&engine, "/b"), "no byte has come yet");
    push(&mut own, &tone(AGAIN, 0, 10));
    let mut next = 90;
    eventually("they are back", || {
        push(&mut other, &tone(THEIRS, next, 1));
        next += 1;
        all_at(&engine, "/live.mp3")
    });
    assert!(engine.missed().is_empty());
    push(&mut own, &tone(AGAIN, 10, 30));
    // Nothing is left to go to.
    engine.end(&id("/b"));
    engine.end(&live());
    let audio = rest(&mut plain);
    let heard = runs(&audio);
    // 90 frames are more than two seconds: there is a mark at every eleventh, and the newest one is taken.
    assert_eq!(heard.len(), 2, "{heard:?}");
    assert_eq!((heard[0].0, heard[0].1), (THEIRS, 88), "{heard:?}");
    assert_eq!((88 + heard[0].2) % 11, 0, "left at an edge of the index");
    assert_eq!(heard[1], (AGAIN, 0, 40));
    raw.extend(rest(&mut titled));
    let (mut audio, mut titles) = (Vec::new(), Vec::new());
    icy::Stripper::new(1000).push(&raw, &mut audio, &mut titles);
    let heard = runs(&audio);
    assert_eq!(heard.len(), 3, "{heard:?}");
    assert_eq!(heard[0], (OURS, 0, 40));
    assert_eq!((heard[1].0, heard[1].1), (THEIRS, 88));
    assert_eq!(heard[2], (AGAIN, 0, 40));
    let texts: Vec<&str> = titles
        .iter()
        .map(|(_, title)| title.text.as_str())
        .collect();
    assert_eq!(texts, ["ours", "theirs", "again"]);
    eventually("both sessions close", || ends.lock().unwrap().len() == 2);
    assert_eq!(*ends.lock().unwrap(), [EndReason::Ended; 2]);
    engine.stop();
}

fn without_override_they_stay_until_the_fallback_ends() {
    let (engine, _) = engine_of(vec![to("/live.mp3", "/b", false)]);
    let mut own = engine.open_source(&live(), offer()).unwrap();
    let mut other = engine.open_source(&id("/b"), offer()).unwrap();
    own.title(Title::of("ours"));
    push(&mut own, &tone(OURS, 0, 10));
    push(&mut other, &tone(THEIRS, 0, 10));
    let mut client = listen(&engine, &live(), b"", 1000);
    let mut raw = read(&mut client, 1001);
    lose(&engine, own);
    eventually("it is at the fallback", || all_at(&engine, "/b"));
    let mut own = engine.open_source(&live(), offer()).unwrap();
    push(&mut own, &tone(AGAIN, 0, 10));
    push(&mut other, &tone(THEIRS, 10, 50));
    // All of the fallback's frames, and so it was not moved in between.
    while raw.len() < 70 * FRAME {
        raw.extend(read(&mut client, 100));
    }
    assert!(all_at(&engine, "/b"));
    engine.end(&id("/b"));
    eventually("it is back", || all_at(&engine, "/live.mp3"));
    engine.end(&live());
    raw.extend(rest(&mut client));
    let (mut audio, mut titles) = (Vec::new(), Vec::new());
    icy::Stripper::new(1000).push(&raw, &mut audio, &mut titles);
    assert_eq!(
        runs(&audio),
        [(OURS, 0, 10), (THEIRS, 0, 60), (AGAIN, 0, 10)]
    );
    // The others have no titles: the old one does not stay on the display.
    let texts: Vec<&str> = titles
        .iter()
        .map(|(_, title)| title.text.as_str())
        .collect();
    assert_eq!(texts, ["ours", "", ""]);
    engine.stop();
}

fn the_first_live_one_of_a_chain_is_heard() {
    let chain = vec![to("/live.mp3", "/b", true), to("/b", "/c", true)];
    let (engine, ends) = engine_of(chain);
    let mut own = engine.open_source(&live(), offer()).unwrap();
    let mut second = engine.open_source(&id("/b"), offer()).unwrap();
    let mut third = engine.open_source(&id("/c"), offer()).unwrap();
    push(&mut own, &tone(OURS, 0, 10));
    push(&mut second, &tone(AGAIN, 0, 10));
    push(&mut third, &tone(THEIRS, 0, 10));
    let mut client = listen(&engine, &live(), b"", 0);
    let mut audio = read(&mut client, 10 * FRAME);
    // The second is silent, but may come back: its hold is not over.
    drop(second);
    engine.end(&live());
    eventually("it is at the third", || all_at(&engine, "/c"));
    assert_eq!(engine.stand_in(&live()).unwrap().id, id("/c"));
    assert_eq!(engine.fallbacks(&live()), [id("/b"), id("/c")]);
    drop(own);
    engine.end(&id("/b"));
    engine.end(&id("/c"));
    audio.extend(rest(&mut client));
    assert_eq!(runs(&audio), [(OURS, 0, 10), (THEIRS, 0, 10)]);
    eventually("the session closes", || !ends.lock().unwrap().is_empty());
    assert_eq!(*ends.lock().unwrap(), [EndReason::Ended]);
    engine.stop();
}

fn another_format_is_a_clean_end() {
    let (engine, ends) = engine_of(vec![to("/live.mp3", "/b", true)]);
    let mut own = engine.open_source(&live(), offer()).unwrap();
    let mut other = engine.open_source(&id("/b"), offer()).unwrap();
    push(&mut own, &tone(OURS, 0, 10));
    // 44.1 kHz instead of 48.
    let mut low = frames(0, 20);
    low.chunks_mut(FRAME).for_each(|frame| frame[2] = 0x90);
    let low: Vec<u8> = low
        .chunks(FRAME)
        .flat_map(|frame| [frame, &[0_u8; 33]].concat())
        .collect();
    push(&mut other, &low);
    let mut client = listen(&engine, &live(), b"", 0);
    assert_eq!(read(&mut client, 10 * FRAME), tone(OURS, 0, 10));
    lose(&engine, own);
    assert!(rest(&mut client).is_empty());
    eventually("the session closes", || !ends.lock().unwrap().is_empty());
    assert_eq!(*ends.lock().unwrap(), [EndReason::Ended]);
    // Who comes now has no decoder yet.
    assert_eq!(engine.stand_in(&live()).unwrap().id, id("/b"));
    engine.stop();
}

fn ogg_gets_the_header_pages_of_the_other_chain() {
    const OGG: &[u8] = include_bytes!("../../../tests/fixtures/vorbis.ogg");
    let (engine, _) = engine_of(vec![to("/live.mp3", "/b", true)]);
    let ogg = || Offer {
        content_type: "application/ogg".into(),
        ..offer()
    };
    let mut own = engine.open_source(&live(), ogg()).unwrap();
    let mut other = engine.open_source(&id("/b"), ogg()).unwrap();
    push(&mut own, OGG);
    push(&mut other, OGG);
    let mut client = listen(&engine, &live(), b"", 0);
    let mut heard = read(&mut client, 4);
    lose(&engine, own);
    eventually("it is at the fallback", || all_at(&engine, "/b"));
    let section = engine.mount(&id("/b")).unwrap().ring().section().unwrap();
    engine.end(&id("/b"));
    heard.extend(rest(&mut client));
    let header = section.header.to_vec();
    assert!(header.starts_with(b"OggS") && heard.starts_with(&header));
    let at = (header.len()..heard.len())
        .find(|at| heard[*at..].starts_with(&header))
        .expect("the header pages came once only");
    assert!(OGG.ends_with(&heard[header.len()..at]), "the own run");
    let more = &heard[at + header.len()..];
    assert!(more.starts_with(b"OggS") && OGG.ends_with(more));
    engine.stop();
}

fn a_newcomer_of_a_lost_mount_hears_its_fallback_and_then_its_own() {
    let (engine, _) = engine_with(Config {
        fallback: Some(Fallback {
            mount: id("/b"),
            returns: true,
        }),
        ..config()
    });
    let mut other = engine.open_source(&id("/b"), offer()).unwrap();
    push(&mut other, &tone(THEIRS, 0, 10));
    assert!(engine.stand_in(&live()).is_none(), "nobody knows the name");
    let mut own = engine.open_source(&live(), offer()).unwrap();
    push(&mut own, &tone(OURS, 0, 10));
    assert!(engine.stand_in(&live()).is_none(), "it plays itself");
    lose(&engine, own);
    let stand_in = engine.stand_in(&live()).unwrap();
    assert_eq!(
        (stand_in.id.clone(), engine.replaceable()),
        (id("/b"), vec![live()])
    );
    let mut client = listen_to(&engine, &live(), stand_in, b"HEAD", 0);
    assert_eq!(read(&mut client, 4), b"HEAD");
    let mut audio = read(&mut client, 10 * FRAME);
    let mut own = engine.open_source(&live(), offer()).unwrap();
    push(&mut own, &tone(AGAIN, 0, 10));
    let mut next = 10;
    eventually("it is back", || {
        push(&mut other, &tone(THEIRS, next, 1));
        next += 1;
        all_at(&engine, "/live.mp3")
    });
    engine.end(&id("/b"));
    engine.end(&live());
    audio.extend(rest(&mut client));
    let heard = runs(&audio);
    assert_eq!((heard[0].0, heard[0].1), (THEIRS, 0));
    assert_eq!(heard[1..], [(AGAIN, 0, 10)]);
    engine.stop();
}

/// What the origin says at `offset`, a frame's edge.
fn marked(replica: &mut Replica, offset: usize) {
    let mark = ring::TimeMark {
        offset: offset as u64,
        media_micros: (offset / FRAME) as u64 * 24_000,
        wall_millis: 0,
    };
    replica.time(mark);
}

fn mpeg() -> Section {
    Section {
        params: Params {
            codec: Codec::Mp3,
            sample_rate: 48_000,
            channels: 1,
            profile: 0x13,
        },
        bitrate: 128_000,
        header: Bytes::new(),
    }
}

fn a_feed_that_was_cut_within_a_frame_is_left_at_an_edge() {
    let (engine, _) = engine_of(vec![to("/live.mp3", "/b", true)]);
    let mut other = engine.open_source(&id("/b"), offer()).unwrap();
    push(&mut other, &tone(THEIRS, 0, 10));
    let mut own = replica_of(&engine, 0);
    own.section(0, mpeg());
    marked(&mut own, 0);
    let sent = tone(OURS, 0, 20);
    own.data(0, &sent[..10 * FRAME + 100], Instant::now());
    let mut client = listen(&engine, &live(), b"", 0);
    let mut audio = read(&mut client, 10 * FRAME);
    // The rest of the eleventh comes, and not all of the thirteenth.
    let more = &sent[10 * FRAME + 100..12 * FRAME + 383];
    own.data(10 * FRAME as u64 + 100, more, Instant::now());
    audio.extend(read(&mut client, 2 * FRAME));
    drop(own);
    let at = engine.mount(&live()).unwrap().ring().end();
    assert_eq!(at, 12 * FRAME as u64, "the next parent is asked for it all");
    engine.tick(Instant::now() + Duration::from_secs(46));
    eventually("it is at the fallback", || all_at(&engine, "/b"));
    engine.end(&id("/b"));
    audio.extend(rest(&mut client));
    assert_eq!(runs(&audio), [(OURS, 0, 12), (THEIRS, 0, 10)]);
    engine.stop();
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(24))]

    /// Whatever the sizes of what comes and wherever parents are lost, the ring ends at an edge, and none of its
    /// bytes is lost or stands twice.
    #[test]
    fn a_relays_ring_ends_at_an_edge(
        sizes in proptest::collection::vec(1_usize..2_000, 1..60),
        lost in proptest::collection::vec(proptest::bool::weighted(0.2), 60),
    ) {
        let (engine, _) = engine_of(Vec::new());
        let sent = tone(OURS, 0, 400);
        let mut own = replica_of(&engine, 0);
        own.section(0, mpeg());
        let mut said = 0;
        for (size, lost) in sizes.into_iter().zip(lost) {
            if lost {
                drop(own);
                own = replica_of(&engine, 0);
            }
            let at = own.position().unwrap().offset as usize;
            // A parent's frames of audio end at the marks.
            let mark = (at + 1).next_multiple_of(11 * FRAME);
            if at.is_multiple_of(11 * FRAME) && said <= at {
                marked(&mut own, at);
                said = at + 1;
            }
            let to = (at + size).min(mark).min(sent.len());
            own.data(at as u64, &sent[at..to], Instant::now());
            let ring = engine.mount(&live()).unwrap().ring();
            let end = ring.end() as usize;
            proptest::prop_assert_eq!(end % FRAME, 0);
            proptest::prop_assert!(end <= to && to - end < FRAME);
            proptest::prop_assert_eq!(own.position().unwrap().offset as usize, to);
            let chain = ring.pinned();
            proptest::prop_assert!(chain.slice_at(0) == &sent[..end.min(64 * 1024)]);
        }
        drop(own);
        engine.stop();
    }
}

/// The same for pages, which are of any length, with every byte a place to be cut at.
#[test]
fn a_relays_ring_of_ogg_ends_at_a_page() {
    const OGG: &[u8] = include_bytes!("../../../tests/fixtures/vorbis.ogg");
    let (engine, _) = engine_of(Vec::new());
    let mut own = replica_of(&engine, 0);
    let mut section = mpeg();
    section.params.codec = Codec::Vorbis;
    own.section(0, section);
    marked(&mut own, 0);
    let (mut sizes, mut torn) = ([1, 13, 700, 4_001, 9].into_iter().cycle(), 0);
    loop {
        let at = own.position().unwrap().offset as usize;
        let to = (at + sizes.next().unwrap()).min(OGG.len());
        own.data(at as u64, &OGG[at..to], Instant::now());
        let end = engine.mount(&live()).unwrap().ring().end() as usize;
        assert!(end == to || OGG[end..].starts_with(b"OggS"), "{end}");
        assert_eq!(format::whole(Codec::Vorbis, &OGG[..to]), Some(end));
        if to == OGG.len() {
            break;
        }
        if to > end {
            torn += 1;
            if torn % 7 == 0 {
                // The parent is lost: another one is asked from the page's first byte on.
                drop(own);
                own = replica_of(&engine, 0);
                assert_eq!(own.position().unwrap().offset as usize, end);
            }
        }
    }
    assert!(torn > 7, "{torn}");
    let ring = engine.mount(&live()).unwrap().ring();
    assert_eq!(ring.end() as usize, OGG.len());
    assert!(ring.pinned().slice_at(0) == &OGG[..OGG.len().min(64 * 1024)]);
    drop(own);
    engine.stop();
}

/// A relay has its fallbacks by the primary's word; its own settings hold before it.
#[test]
fn the_primarys_word_is_taken_where_there_is_none_of_our_own() {
    let (engine, _) = engine_of(vec![to("/live.mp3", "/own", true)]);
    let told = |mount: &str| Fallback {
        mount: id(mount),
        returns: false,
    };
    engine.tell_fallbacks(HashMap::from([
        (live(), told("/told")),
        (id("/talk"), told("/told")),
    ]));
    assert_eq!(engine.fallback_of(&live()).unwrap().mount, id("/own"));
    assert_eq!(engine.fallback_of(&id("/talk")), Some(told("/told")));
    assert!(engine.is_replaceable(&id("/talk")) && !engine.is_replaceable(&id("/x")));
    engine.tell_fallbacks(HashMap::new());
    assert_eq!(engine.fallback_of(&id("/talk")), None);
    engine.stop();
}
