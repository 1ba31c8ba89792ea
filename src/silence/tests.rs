use super::*;

macro_rules! fixture {
    ($name:literal) => {
        include_bytes!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/fixtures/",
            $name
        ))
        .as_slice()
    };
}

/// A tone and its silent twin of each codec that is decoded, made by ffmpeg (see the fixtures' README).
#[test]
fn a_tone_is_sound_and_silence_is_not() {
    for (codec, sound, silence) in [
        (Codec::Mp3, fixture!("tone.mp3"), fixture!("silent.mp3")),
        (Codec::Aac, fixture!("tone.aac"), fixture!("silent.aac")),
        (
            Codec::Vorbis,
            fixture!("vorbis.ogg"),
            fixture!("silent.ogg"),
        ),
        (
            Codec::Flac,
            fixture!("flac.ogg"),
            fixture!("silent-flac.ogg"),
        ),
    ] {
        let level = |bytes: &[u8]| level::effective(codec, b"", bytes.to_vec()).unwrap();
        let (loud, quiet) = (level(sound), level(silence));
        println!("{codec:?}: {loud:.1} dB, {quiet:.1} dB");
        assert!(loud > -40.0 && loud <= 0.0, "{codec:?}: {loud}");
        assert!(quiet < -60.0, "{codec:?}: {quiet}");
    }
}

#[test]
fn a_piece_from_the_middle_is_heard_as_well() {
    // A frame of this file begins at 2,089 (found by the framer's tests); a window has about 5 kB.
    let tone = fixture!("tone.mp3");
    let level = level::effective(Codec::Mp3, b"", tone[20_000..26_000].to_vec());
    assert!(level.is_some_and(|level| level > -40.0), "{level:?}");
}

#[test]
fn what_is_no_audio_says_nothing() {
    for codec in [Codec::Mp3, Codec::Aac, Codec::Vorbis, Codec::Flac] {
        let junk: Vec<u8> = (0..5_000_u32).map(|i| (i * 7 % 251) as u8).collect();
        assert_eq!(level::effective(codec, b"", junk), None, "{codec:?}");
        assert_eq!(level::effective(codec, b"", Vec::new()), None);
    }
}
