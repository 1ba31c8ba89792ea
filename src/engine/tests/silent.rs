//! Listeners of a mount whose source sends silence: on to the fallback at a frame edge, and back.

use super::fallback::{AGAIN, OURS, THEIRS, all_at, engine_of, id, lose, runs, to, tone};
use super::*;

by_both! {
    listeners_of_a_silent_mount_hear_the_fallback_until_it_sounds_again,
    a_silent_mount_is_better_than_a_silent_fallback_or_one_of_another_format,
    where_nobody_comes_back_from_a_lost_source_nobody_does_from_a_silent_one,
    a_silent_mount_that_is_lost_as_well_leaves_its_listeners_where_they_are,
    a_pause_of_the_fallback_sends_nobody_back_into_the_silence,
}

fn silent(engine: &Engine, mounts: &[&str]) {
    engine.set_silent(mounts.iter().map(|mount| id(mount)).collect());
}

fn listeners_of_a_silent_mount_hear_the_fallback_until_it_sounds_again() {
    let (engine, ends) = engine_of(vec![to("/live.mp3", "/b", true)]);
    let mut own = engine.open_source(&live(), offer()).unwrap();
    let mut other = engine.open_source(&id("/b"), offer()).unwrap();
    push(&mut own, &tone(OURS, 0, 40));
    push(&mut other, &tone(THEIRS, 0, 90));
    let mut plain = listen(&engine, &live(), b"", 0);
    let mut titled = listen(&engine, &live(), b"", 1000);
    assert_eq!(read(&mut plain, 40 * FRAME), tone(OURS, 0, 40));
    let mut raw = read(&mut titled, 41 * 1000 / 3);
    assert!(engine.stand_in(&live()).is_none());
    silent(&engine, &["/live.mp3"]);
    // The source goes on, and nobody hears it from the next edge on.
    let mut next = 40;
    eventually("they are at the fallback", || {
        push(&mut own, &tone(OURS, next, 1));
        next += 1;
        all_at(&engine, "/b")
    });
    assert_eq!(engine.stand_in(&live()).unwrap().id, id("/b"));
    assert_eq!(engine.telemetry.mount(&live()).listeners(), 2);
    assert_eq!(engine.mount(&live()).unwrap().state(), MountState::Live);
    push(&mut own, &tone(OURS, next, 100));
    next += 100;
    silent(&engine, &[]);
    let mut of_other = 90;
    eventually("they are back", || {
        push(&mut other, &tone(THEIRS, of_other, 1));
        of_other += 1;
        all_at(&engine, "/live.mp3")
    });
    push(&mut own, &tone(OURS, next, 30));
    next += 30;
    assert!(engine.stand_in(&live()).is_none());
    // Nothing is left to go to.
    engine.end(&id("/b"));
    engine.end(&live());
    let heard = runs(&rest(&mut plain));
    assert_eq!(heard.len(), 3, "{heard:?}");
    // The rest of its own up to an edge of the index, which is each eleventh frame; the others; its own again.
    assert_eq!((heard[0].0, heard[0].1), (OURS, 40), "{heard:?}");
    assert_eq!(heard[1].0, THEIRS);
    assert_eq!((heard[2].0, heard[2].1 + heard[2].2), (OURS, next));
    assert!(heard[2].1 > 140, "it skipped the silence: {heard:?}");
    raw.extend(rest(&mut titled));
    let (mut audio, mut titles) = (Vec::new(), Vec::new());
    icy::Stripper::new(1000).push(&raw, &mut audio, &mut titles);
    let tones: Vec<u32> = runs(&audio).iter().map(|run| run.0).collect();
    assert_eq!(tones, [OURS, THEIRS, OURS], "the blocks kept their phase");
    eventually("both sessions close", || ends.lock().unwrap().len() == 2);
    engine.stop();
}

fn a_silent_mount_is_better_than_a_silent_fallback_or_one_of_another_format() {
    let chain = vec![to("/live.mp3", "/b", true), to("/b", "/c", true)];
    let (engine, _) = engine_of(chain);
    let mut own = engine.open_source(&live(), offer()).unwrap();
    let mut second = engine.open_source(&id("/b"), offer()).unwrap();
    push(&mut own, &tone(OURS, 0, 10));
    push(&mut second, &tone(AGAIN, 0, 10));
    let _client = listen(&engine, &live(), b"", 0);
    silent(&engine, &["/live.mp3", "/b"]);
    assert!(engine.stand_in(&live()).is_none(), "both are silent");
    let why = |engine: &Engine| engine.instead_of_silence(&live()).err();
    assert_eq!(why(&engine), Some("its fallback is silent too"));
    // A third one that sounds is heard before a second one that does not.
    let mut third = engine.open_source(&id("/c"), offer()).unwrap();
    push(&mut third, &tone(THEIRS, 0, 10));
    assert_eq!(engine.stand_in(&live()).unwrap().id, id("/c"));
    assert_eq!(why(&engine), None);
    let mut next = 10;
    eventually("it is at the third", || {
        push(&mut own, &tone(OURS, next, 1));
        next += 1;
        all_at(&engine, "/c")
    });
    // 44.1 kHz instead of 48: nobody could come back from there.
    engine.end(&id("/c"));
    eventually("it is back", || all_at(&engine, "/live.mp3"));
    let mut low = engine.open_source(&id("/c"), offer()).unwrap();
    let mut frames = frames(0, 20);
    frames.chunks_mut(FRAME).for_each(|frame| frame[2] = 0x90);
    let padded: Vec<u8> = frames
        .chunks(FRAME)
        .flat_map(|frame| [frame, &[0_u8; 33]].concat())
        .collect();
    push(&mut low, &padded);
    assert!(engine.mount(&id("/c")).unwrap().is_playable());
    assert!(engine.stand_in(&live()).is_none());
    assert!(why(&engine).unwrap().contains("sample rate"));
    assert!(all_at(&engine, "/live.mp3"));
    engine.stop();
}

fn where_nobody_comes_back_from_a_lost_source_nobody_does_from_a_silent_one() {
    let (engine, _) = engine_of(vec![to("/live.mp3", "/b", false)]);
    let mut own = engine.open_source(&live(), offer()).unwrap();
    let mut other = engine.open_source(&id("/b"), offer()).unwrap();
    push(&mut own, &tone(OURS, 0, 10));
    push(&mut other, &tone(THEIRS, 0, 10));
    let mut client = listen(&engine, &live(), b"", 0);
    let mut audio = read(&mut client, 10 * FRAME);
    silent(&engine, &["/live.mp3"]);
    let mut next = 10;
    eventually("it is at the fallback", || {
        push(&mut own, &tone(OURS, next, 1));
        next += 1;
        all_at(&engine, "/b")
    });
    silent(&engine, &[]);
    push(&mut other, &tone(THEIRS, 10, 200));
    while audio.len() < 210 * FRAME {
        audio.extend(read(&mut client, 1));
    }
    assert!(all_at(&engine, "/b"));
    engine.end(&id("/b"));
    eventually("it is back", || all_at(&engine, "/live.mp3"));
    engine.stop();
}

fn a_silent_mount_that_is_lost_as_well_leaves_its_listeners_where_they_are() {
    let (engine, ends) = engine_of(vec![to("/live.mp3", "/b", true)]);
    let mut own = engine.open_source(&live(), offer()).unwrap();
    let mut other = engine.open_source(&id("/b"), offer()).unwrap();
    push(&mut own, &tone(OURS, 0, 10));
    push(&mut other, &tone(THEIRS, 0, 10));
    let mut client = listen(&engine, &live(), b"", 0);
    let mut audio = read(&mut client, 10 * FRAME);
    silent(&engine, &["/live.mp3"]);
    let mut next = 10;
    eventually("it is at the fallback", || {
        push(&mut own, &tone(OURS, next, 1));
        next += 1;
        all_at(&engine, "/b")
    });
    lose(&engine, own);
    silent(&engine, &[]);
    assert!(all_at(&engine, "/b"));
    let mut own = engine.open_source(&live(), offer()).unwrap();
    push(&mut own, &tone(AGAIN, 0, 10));
    let mut of_other = 10;
    eventually("it is back", || {
        push(&mut other, &tone(THEIRS, of_other, 1));
        of_other += 1;
        all_at(&engine, "/live.mp3")
    });
    engine.end(&id("/b"));
    engine.end(&live());
    audio.extend(rest(&mut client));
    let tones: Vec<u32> = runs(&audio).iter().map(|run| run.0).collect();
    assert_eq!(tones, [OURS, THEIRS, AGAIN]);
    assert!(ends.lock().unwrap().len() <= 1);
    engine.stop();
}

fn a_pause_of_the_fallback_sends_nobody_back_into_the_silence() {
    let (engine, _) = engine_of(vec![to("/live.mp3", "/b", true)]);
    let mut own = engine.open_source(&live(), offer()).unwrap();
    let mut other = engine.open_source(&id("/b"), offer()).unwrap();
    push(&mut own, &tone(OURS, 0, 10));
    push(&mut other, &tone(THEIRS, 0, 10));
    let mut client = listen(&engine, &live(), b"", 0);
    let mut audio = read(&mut client, 10 * FRAME);
    silent(&engine, &["/live.mp3"]);
    let mut next = 10;
    eventually("it is at the fallback", || {
        push(&mut own, &tone(OURS, next, 1));
        next += 1;
        all_at(&engine, "/b")
    });
    // Its source goes and comes back within the hold; ours goes on in silence.
    drop(other);
    engine.announce();
    push(&mut own, &tone(OURS, next, 50));
    let mut other = engine.open_source(&id("/b"), offer()).unwrap();
    push(&mut other, &tone(THEIRS, 10, 30));
    // Whole frames alone are heard.
    while runs(&audio)
        .last()
        .is_none_or(|run| run.0 != THEIRS || run.1 + run.2 < 40)
    {
        audio.extend(read(&mut client, FRAME));
    }
    let heard = runs(&audio);
    assert_eq!(heard.len(), 2, "{heard:?}");
    assert_eq!(heard[1], (THEIRS, 0, 40));
    // Once the hold of the fallback is over there is nothing but the silence.
    drop(other);
    engine.tick(Instant::now() + Duration::from_secs(46));
    eventually("it is back", || all_at(&engine, "/live.mp3"));
    engine.stop();
}
