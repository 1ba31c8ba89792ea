//! For the tests of the framers: what came out, and the laws that hold for every one of them.

use super::{Framer, Piece, Section, Unplayable};
use proptest::prelude::*;

/// The bytes of a file in `tests/fixtures`.
macro_rules! fixture {
    ($name:literal) => {
        include_bytes!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/fixtures/",
            $name
        ))
    };
}
pub(super) use fixture;

/// All that a framer emitted, and its counters at the end.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub media: Vec<u8>,
    /// Each section with the offset in `media` at which it came.
    pub sections: Vec<(usize, Section)>,
    /// Offsets in `media` of the pieces a listener may start at.
    pub edges: Vec<usize>,
    pub pieces: usize,
    pub micros: u64,
    pub skipped: u64,
    pub found: u64,
    pub lost: u64,
    /// Offsets in `media` after which nothing could be heard.
    pub unplayable: Vec<(usize, Unplayable)>,
    /// Content types that were found in place of the declared one.
    pub types: Vec<&'static str>,
    /// Bytes that went in and neither came out nor were skipped.
    pub carried: usize,
}

impl Seen {
    /// Pushes all parts into a framer.
    pub fn of(mut framer: impl Framer, parts: &[&[u8]]) -> Self {
        let mut seen = Self::default();
        for part in parts {
            framer.push(part, &mut |piece| match piece {
                Piece::Section(section) => seen.sections.push((seen.media.len(), section)),
                Piece::Media {
                    bytes,
                    micros,
                    edge,
                } => {
                    assert!(!bytes.is_empty(), "an empty piece");
                    assert!(!seen.sections.is_empty(), "media before any section");
                    if edge {
                        seen.edges.push(seen.media.len());
                    }
                    seen.media.extend_from_slice(bytes);
                    seen.micros += micros;
                    seen.pieces += 1;
                }
                Piece::Type(found) => seen.types.push(found),
                Piece::Unplayable(why) => seen.unplayable.push((seen.media.len(), why)),
            });
        }
        let pushed: usize = parts.iter().map(|part| part.len()).sum();
        let tally = framer.tally();
        (seen.skipped, seen.found, seen.lost) = (tally.skipped(), tally.found, tally.lost);
        let gone = seen.skipped as usize + seen.media.len();
        seen.carried = pushed
            .checked_sub(gone)
            .expect("more came out than went in");
        assert_eq!(seen.found as usize, seen.media.len());
        seen
    }
}

/// Cuts `whole` into pieces of the given lengths, over and over.
pub fn split<'a>(whole: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut rest = whole;
    let mut parts = Vec::new();
    for cut in cuts.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (part, after) = rest.split_at((*cut).min(rest.len()));
        parts.push(part);
        rest = after;
    }
    parts
}

/// The law of splits: whatever the split, the same pieces, sections, edges and counters.
pub fn check_splits<F: Framer>(
    make: fn() -> F,
    whole: &[u8],
    cuts: &[usize],
) -> Result<(), TestCaseError> {
    let at_once = Seen::of(make(), &[whole]);
    prop_assert!(at_once.found > 0);
    let split = Seen::of(make(), &split(whole, cuts));
    prop_assert!(at_once == split, "differs for cuts {:?}", cuts);
    Ok(())
}

/// The law of sums: no input panics, and emitted + skipped + carried is what went in, where the carry is bounded.
pub fn check_sums<F: Framer>(
    make: fn() -> F,
    whole: &[u8],
    cuts: &[usize],
) -> Result<(), TestCaseError> {
    let at_once = Seen::of(make(), &[whole]);
    let split = Seen::of(make(), &split(whole, cuts));
    prop_assert_eq!(
        at_once.found + at_once.skipped + at_once.carried as u64,
        whole.len() as u64
    );
    prop_assert!(at_once.carried <= 256 * 1024 + 65_536);
    let of = |seen: &Seen| {
        (
            seen.pieces,
            seen.micros,
            seen.skipped,
            seen.found,
            seen.lost,
            seen.carried,
        )
    };
    prop_assert_eq!(of(&at_once), of(&split));
    prop_assert!(at_once == split);
    Ok(())
}

/// Bytes without any sync word.
pub fn junk(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 % 251) as u8 & 0x7F).collect()
}

/// An ID3v2 tag, `len` bytes in all, with a false sync word inside.
pub fn id3v2(len: usize) -> Vec<u8> {
    let body = len - 10;
    let mut tag = b"ID3\x03\x00\x00\x00\x00".to_vec();
    tag.extend([(body >> 7) as u8, (body & 0x7F) as u8]);
    tag.resize(len, 0);
    if let Some(inside) = tag.get_mut(20..24) {
        inside.copy_from_slice(&[0xFF, 0xFB, 0x90, 0x00]);
    }
    tag
}

/// Bytes between two songs that are sent one after the other, by name: each kind of tag, and the usual sequence of them.
pub fn between_songs() -> Vec<(&'static str, Vec<u8>)> {
    // A picture, in which sync words are frequent.
    let mut cover = b"ID3\x04\x00\x00\x00\x18\x00\x00".to_vec();
    cover.extend((0..24 << 14).map(|n: u32| {
        if n.is_multiple_of(5) {
            0xFF
        } else {
            (n % 253) as u8
        }
    }));
    let mut old = b"TAGtitle".to_vec();
    old.resize(128, 0);
    let mut extension = b"TAG+longer title".to_vec();
    extension.resize(227, 0);
    let ape = |flags: u32| {
        let numbers = [2_000, 2_032, 1, flags, 0, 0].map(u32::to_le_bytes);
        [b"APETAGEX", numbers.concat().as_slice()].concat()
    };
    let items = vec![0xFF; 2_000];
    let ape = [ape(0xA000_0000), items, ape(0x8000_0000)].concat();
    let lyrics = b"LYRICSBEGIN[00:02]la la la\r\nLYRICSEND".to_vec();
    let lyrics_2 = b"LYRICSBEGININD0000210LYR00006la la 000039LYRICS200".to_vec();
    let extended = [extension, old.clone()].concat();
    vec![
        ("ID3v1", old.clone()),
        ("ID3v1 with its extension", extended.clone()),
        ("ID3v2 with a cover", cover.clone()),
        ("ID3v2 twice", [id3v2(300), cover.clone()].concat()),
        ("ID3v1 and ID3v2", [old.clone(), cover.clone()].concat()),
        ("APE", ape.clone()),
        ("Lyrics3", [lyrics.clone(), old.clone()].concat()),
        ("Lyrics3 v2", [lyrics_2.clone(), old].concat()),
        ("all of them", [ape, lyrics_2, extended, cover].concat()),
    ]
}

/// The law of tags: between two songs they are skipped, and no garbage.
pub fn check_tags<F: Framer>(make: fn() -> F, song: &[u8]) {
    for (name, tags) in between_songs() {
        let got = Seen::of(make(), &[song, &tags, song]);
        assert!(got.media == [song, song].concat(), "{name}: bytes differ");
        let counted = (got.skipped, got.lost, got.sections.len());
        assert_eq!(counted, (tags.len() as u64, 0, 1), "{name}");
    }
}
