//! Real files through the framers of containers: what a late listener gets must be what a decoder begins with.

use super::super::testing::{Seen, check_splits, check_sums, fixture, junk};
use super::super::{Framer, Unplayable};
use super::*;
use proptest::prelude::*;

const WEBM: &[u8] = fixture!("tone.webm");
const VIDEO: &[u8] = fixture!("video.webm");
const FLAC: &[u8] = fixture!("tone.flac");
const MP4: &[u8] = fixture!("tone.mp4");
const LIMIT: usize = 1 << 20;
const CLUSTER: &[u8] = b"\x1F\x43\xB6\x75";

fn ebml_framer() -> Box<dyn Framer> {
    ebml(LIMIT)
}

fn flac_framer() -> Box<dyn Framer> {
    flac(LIMIT)
}

fn mp4_framer() -> Box<dyn Framer> {
    mp4(LIMIT)
}

/// All places of `what` in `bytes`.
fn places(bytes: &[u8], what: &[u8]) -> Vec<usize> {
    let windows = bytes.windows(what.len()).enumerate();
    windows
        .filter(|(_, at)| *at == what)
        .map(|(place, _)| place)
        .collect()
}

#[test]
fn webm_starts_at_clusters_behind_its_header() {
    let seen = Seen::of(ebml_framer(), &[WEBM]);
    let (_, section) = &seen.sections[0];
    let first = places(WEBM, CLUSTER)[0];
    assert!(section.header.starts_with(&WEBM[..4]));
    assert!(seen.media == [&section.header[..], &WEBM[first..]].concat());
    // The first edge is the header, each other one a Cluster.
    let clusters = places(&seen.media, CLUSTER);
    assert!(clusters.len() > 3);
    assert_eq!(seen.edges[1..], clusters);
    assert_eq!(
        (section.params.sample_rate, section.params.channels),
        (48_000, 1)
    );
    // Six seconds, less the last block.
    assert!(
        (5_900_000..6_020_000).contains(&seen.micros),
        "{}",
        seen.micros
    );
    assert_eq!(seen.lost, 0);
}

#[test]
fn webm_with_video_starts_at_key_frames() {
    let seen = Seen::of(ebml_framer(), &[VIDEO]);
    let clusters = places(&seen.media, CLUSTER);
    let keys = &seen.edges[1..];
    assert!(keys.len() > 1 && keys.iter().all(|edge| clusters.contains(edge)));
}

#[test]
fn pictures_and_indexes_are_left_out_of_webm() {
    // An attachment before the first Cluster, beyond any bound, and void between two of them.
    let mut attachment = b"\x19\x41\xA4\x69\x10\x40\x00\x00".to_vec();
    attachment.resize(8 + (4 << 20), 7);
    let first = places(WEBM, CLUSTER)[0];
    let with = [&WEBM[..first], &attachment, &WEBM[first..]].concat();
    let (plain, cut) = (
        Seen::of(ebml_framer(), &[WEBM]),
        Seen::of(ebml_framer(), &[&with]),
    );
    assert!(plain.media == cut.media);
    assert_eq!(cut.skipped - plain.skipped, attachment.len() as u64);
}

#[test]
fn webm_is_found_again_behind_junk_and_begins_anew_in_a_chain() {
    let clusters = places(WEBM, CLUSTER);
    let torn = [&WEBM[..clusters[2]], &junk(3_000), &WEBM[clusters[3]..]].concat();
    let seen = Seen::of(ebml_framer(), &[&torn]);
    assert!(seen.media.ends_with(&WEBM[clusters[3]..]));
    assert_eq!(seen.sections.len(), 1);
    let seen = Seen::of(ebml_framer(), &[WEBM, WEBM]);
    assert_eq!(seen.sections.len(), 2);
}

#[test]
fn flac_frames_are_edges() {
    let seen = Seen::of(flac_framer(), &[FLAC, b"fLaC", &[0; 20]]);
    let (_, section) = &seen.sections[0];
    assert!(section.header.starts_with(b"fLaC") && section.header.len() < 1_000);
    assert_eq!(
        (section.params.sample_rate, section.params.channels),
        (22_050, 1)
    );
    assert_eq!(seen.micros, 2_000_000);
    // 44,100 samples in blocks of 4,608 or fewer, and the header.
    assert!(seen.edges.len() > 8, "{}", seen.edges.len());
    let frames = &seen.media[section.header.len()..];
    assert!(FLAC.ends_with(frames));
    for edge in &seen.edges[1..] {
        assert_eq!(seen.media[*edge..*edge + 2], [0xFF, 0xF8]);
    }
}

#[test]
fn a_picture_is_cut_out_of_flac() {
    let mut picture = b"\x06\x30\x00\x00".to_vec();
    picture.resize(4 + (3 << 20), 9);
    // After STREAMINFO.
    let with = [&FLAC[..42], &picture, &FLAC[42..]].concat();
    let (plain, cut) = (
        Seen::of(flac_framer(), &[FLAC]),
        Seen::of(flac_framer(), &[&with]),
    );
    assert!(plain.media == cut.media && plain.found > 10_000);
}

#[test]
fn tags_around_flac_are_skipped() {
    for (name, tags) in super::super::testing::between_songs() {
        if name.starts_with("Lyrics") || name == "all of them" {
            continue;
        }
        let whole = [&tags[..], FLAC, &tags, FLAC, &tags, FLAC].concat();
        let seen = Seen::of(flac_framer(), &[&whole]);
        let alone = Seen::of(flac_framer(), &[FLAC, &tags]);
        assert_eq!((seen.sections.len(), seen.lost), (3, 0), "{name}");
        // The last frame of the last file waits for what follows it.
        assert!(
            (5_700_000..6_000_000).contains(&seen.micros),
            "{name}: {}",
            seen.micros
        );
        assert_eq!(alone.micros, 2_000_000, "{name}");
    }
}

#[test]
fn mp4_starts_at_fragments_behind_its_header() {
    let seen = Seen::of(mp4_framer(), &[MP4]);
    let (_, section) = &seen.sections[0];
    assert_eq!(&section.header[4..8], b"ftyp");
    assert_eq!(places(&section.header, b"mvex").len(), 1);
    let fragments: Vec<usize> = places(&seen.media, b"moof")
        .iter()
        .map(|at| at - 4)
        .collect();
    assert!(fragments.len() > 2);
    assert_eq!(seen.edges[1..], fragments);
    assert!(
        (2_900_000..4_100_000).contains(&seen.micros),
        "{}",
        seen.micros
    );
}

#[test]
fn what_nobody_could_join_is_said() {
    // A file whose index is not of fragments.
    let moov = places(MP4, b"mvex")[0];
    let mut whole = MP4.to_vec();
    whole[moov..moov + 4].copy_from_slice(b"free");
    let seen = Seen::of(mp4_framer(), &[&whole]);
    assert_eq!(
        (seen.found, &seen.unplayable[..]),
        (0, &[(0, Unplayable::Container)][..])
    );
    let seen = Seen::of(ebml(100), &[WEBM]);
    assert_eq!(seen.unplayable, [(0, Unplayable::Headers)]);
    let seen = Seen::of(flac(20), &[FLAC]);
    assert_eq!(seen.unplayable, [(0, Unplayable::Headers)]);
    for bytes in [&junk(5_000)[..], FLAC] {
        assert_eq!(Seen::of(ebml_framer(), &[bytes]).lost, bytes.len() as u64);
        assert_eq!(Seen::of(mp4_framer(), &[bytes]).lost, bytes.len() as u64);
    }
}

/// Sizes up to the largest number, in front of the index and behind it.
#[test]
fn no_size_is_too_large() {
    let endless = [&0_u32.to_be_bytes()[..], &1_u32.to_be_bytes()];
    let front = &MP4[..places(MP4, b"moov")[0] - 4];
    for kind in [b"moov", b"moof", b"styp", b"mdat", b"free"] {
        for size in &endless {
            let long = [size, &kind[..], &[0xFF; 8], &[7; 100]].concat();
            for whole in [[front, &long].concat(), [MP4, &long].concat()] {
                let seen = Seen::of(mp4_framer(), &[&whole]);
                assert!(seen.found as usize <= whole.len());
            }
        }
    }
}

/// Boxes in front of a fragment that never comes are not kept without an end.
#[test]
fn fronts_without_end_are_given_up() {
    let mut event = (100_000_u32).to_be_bytes().to_vec();
    event.extend(b"emsg");
    event.resize(100_000, 7);
    let seen = Seen::of(mp4_framer(), &[MP4, &event.repeat(12)]);
    assert_eq!(seen.unplayable, [(seen.media.len(), Unplayable::Container)]);
    // A Cluster of which no block comes.
    let position = [
        b"\x1F\x43\xB6\x75\xFF",
        &b"\xA7\x88\0\0\0\0\0\0\0\0".repeat(60_000)[..],
    ]
    .concat();
    let seen = Seen::of(ebml_framer(), &[WEBM, &position]);
    assert!(seen.media.len() > WEBM.len() + position.len() / 2);
}

fn damaged<F: Framer>(
    make: fn() -> F,
    file: &[u8],
    places: &[(prop::sample::Index, u8)],
    cuts: &[usize],
) -> Result<(), TestCaseError> {
    let mut whole = file.to_vec();
    for (place, byte) in places {
        whole[place.index(file.len())] = *byte;
    }
    check_sums(make, &whole, cuts)
}

proptest! {
    #[test]
    fn any_split_gives_the_same(cuts in proptest::collection::vec(1usize..9_000, 1..30)) {
        check_splits(ebml_framer, WEBM, &cuts)?;
        check_splits(ebml_framer, VIDEO, &cuts)?;
        check_splits(flac_framer, FLAC, &cuts)?;
    }

    #[test]
    fn damage_anywhere_is_accounted_for(
        places in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12),
        cuts in proptest::collection::vec(1usize..5_000, 1..20),
    ) {
        damaged(ebml_framer, WEBM, &places, &cuts)?;
        damaged(ebml_framer, VIDEO, &places, &cuts)?;
        damaged(flac_framer, FLAC, &places, &cuts)?;
        damaged(mp4_framer, MP4, &places, &cuts)?;
    }
}
