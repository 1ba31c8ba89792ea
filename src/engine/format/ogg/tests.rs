use super::super::testing::{Seen, check_splits, check_sums, fixture, junk};
use super::testing::{multiplexed, opus_head, opus_tags, pages};
use super::*;
use proptest::prelude::*;

const VORBIS: &[u8] = fixture!("vorbis.ogg");
const OPUS: &[u8] = fixture!("opus.ogg");
const FLAC: &[u8] = fixture!("flac.ogg");
const CHAINED: &[u8] = fixture!("chained.ogg");

/// Most bytes of headers in these tests.
const LIMIT: usize = 1024 * 1024;

fn framer() -> OggFramer {
    OggFramer::new(LIMIT)
}

fn seen(parts: &[&[u8]]) -> Seen {
    Seen::of(framer(), parts)
}

fn params(codec: Codec, sample_rate: u32, channels: u8, profile: u8) -> Params {
    Params {
        codec,
        sample_rate,
        channels,
        profile,
    }
}

/// Lengths of the packets as another reader sees them.
fn packets(bytes: &[u8]) -> Vec<usize> {
    let mut reader = ::ogg::PacketReader::new(std::io::Cursor::new(bytes));
    let mut lengths = Vec::new();
    while let Some(packet) = reader.read_packet().expect("a packet") {
        lengths.push(packet.data.len());
    }
    lengths
}

#[test]
fn vorbis_comes_out_verbatim() {
    let got = seen(&[VORBIS]);
    assert!(got.media == VORBIS, "bytes differ");
    assert_eq!((got.skipped, got.carried, got.pieces), (0, 0, 5));
    // All pages but the second header page, which no one may start at.
    assert_eq!(got.edges, [0, 4_023, 6_714, 9_332]);
    // ffprobe: 3.000000 s.
    assert_eq!(got.micros, 3_000_000);
    let (offset, section) = &got.sections[0];
    assert_eq!((got.sections.len(), *offset), (1, 0));
    assert!(section.header == VORBIS[..4_023], "headers differ");
    assert_eq!(section.params, params(Codec::Vorbis, 44_100, 2, 0));
    assert_eq!(section.bitrate, 112_000);
    // A listener who comes late gets the headers and a page: another reader finds 3 and 42 packets.
    let late = [&section.header[..], &VORBIS[9_332..]].concat();
    assert_eq!(packets(&late).len(), 45);
}

#[test]
fn opus_and_flac_come_out_verbatim() {
    let got = seen(&[OPUS]);
    assert!(got.media == OPUS, "bytes differ");
    // ffprobe: 3.006500 s, 151 packets.
    assert_eq!(got.micros, 3_006_500);
    assert_eq!(got.edges, [0, 160, 9_623, 18_854, 28_494]);
    assert_eq!(got.sections[0].1.params, params(Codec::Opus, 48_000, 2, 0));
    assert!(got.sections[0].1.header == OPUS[..160], "headers differ");

    let got = seen(&[FLAC]);
    assert!(got.media == FLAC, "bytes differ");
    // ffprobe: 2.000000 s.
    assert_eq!(got.micros, 2_000_000);
    assert_eq!(got.sections[0].1.params, params(Codec::Flac, 44_100, 1, 16));
    assert!(got.sections[0].1.header == FLAC[..185], "headers differ");
}

#[test]
fn a_chain_has_a_section_for_each_link() {
    let got = seen(&[CHAINED]);
    assert!(got.media == CHAINED, "bytes differ");
    let found: Vec<_> = got
        .sections
        .iter()
        .map(|(at, s)| (*at, s.params.codec, s.header.len()))
        .collect();
    assert_eq!(
        found,
        [(0, Codec::Vorbis, 4_023), (VORBIS.len(), Codec::Opus, 160)]
    );
    assert_eq!(got.micros, 6_006_500);
    // The same stream again, with the same serial number.
    let again = seen(&[OPUS, OPUS]);
    assert_eq!(
        (again.sections.len(), again.micros, again.skipped),
        (2, 6_013_000, 0)
    );
}

#[test]
fn junk_and_damaged_pages_are_counted() {
    let noise = junk(1_000);
    let mut damaged = OPUS.to_vec();
    damaged[12_000] ^= 1;
    let got = seen(&[&noise, VORBIS, &noise, &damaged]);
    let kept = [VORBIS, &OPUS[..9_623], &OPUS[18_854..]].concat();
    assert!(got.media == kept, "bytes differ");
    assert_eq!(got.skipped, 2_000 + 9_231);
    // The granule goes on, but the lost page's second is not counted: nobody hears it.
    assert_eq!(got.micros, 3_000_000 + 2_006_500);
}

#[test]
fn a_torn_end_is_never_emitted() {
    for cut in [1, 100, 323] {
        let got = seen(&[&OPUS[..OPUS.len() - cut]]);
        assert_eq!(
            (got.media.len(), got.carried, got.skipped),
            (28_494, 324 - cut, 0)
        );
    }
    // Headers alone are held back, and are whole but not announced.
    let got = seen(&[&OPUS[..160]]);
    assert_eq!((got.found, got.carried, got.sections.len()), (0, 160, 0));
}

#[test]
fn pages_outside_a_section_are_skipped() {
    // Joined in the middle; a page of a stranger; pages after the last.
    let stray = &pages(99, &[(b"first", 0), (b"second", 5)])[33..];
    let got = seen(&[&OPUS[160..], OPUS, &OPUS[160..9_623]]);
    assert!(got.media == OPUS, "bytes differ");
    assert_eq!(got.skipped as usize, OPUS.len() - 160 + 9_463);
    let got = seen(&[&OPUS[..160], stray, &OPUS[160..]]);
    assert!(got.media == OPUS, "bytes differ");
    assert_eq!(got.skipped as usize, stray.len());
}

#[test]
fn incomplete_headers_are_skipped_to_the_next_section() {
    // Vorbis without comments and setup; Opus whose comments break off after a page.
    let cut = [&VORBIS[..58], &VORBIS[4_023..]].concat();
    let tags = opus_tags(&["x".repeat(200_000).as_str()]);
    let torn = &pages(5, &[(&opus_head(), 0), (&tags, 0)])[..47 + 65_307];
    let got = seen(&[&cut, torn, OPUS]);
    assert!(got.media == OPUS, "bytes differ");
    assert_eq!(got.skipped as usize, cut.len() + torn.len());
    assert_eq!(got.sections.len(), 1);
}

#[test]
fn a_section_without_data_is_passed_on() {
    let got = seen(&[&VORBIS[..4_023], OPUS]);
    assert!(
        got.media == [&VORBIS[..4_023], OPUS].concat(),
        "bytes differ"
    );
    assert_eq!(
        (got.sections.len(), got.sections[1].0, got.skipped),
        (2, 4_023, 0)
    );
}

/// The comments of a section's headers, and all packets behind them, as another reader has them.
fn comments_and_rest(bytes: &[u8]) -> (Vec<u8>, Vec<Vec<u8>>) {
    let mut reader = ::ogg::PacketReader::new(std::io::Cursor::new(bytes));
    let mut packets = Vec::new();
    while let Some(packet) = reader.read_packet().expect("a packet") {
        packets.push(packet.data);
    }
    let rest = packets.split_off(2);
    (packets.pop().expect("comments"), rest)
}

#[test]
fn a_picture_is_cut_out_and_not_the_track() {
    let picture = |key: &str, len: usize| format!("{key}={}", "A".repeat(len));
    for (name, pictures) in [
        ("one", vec![picture("METADATA_BLOCK_PICTURE", 300_000)]),
        (
            "two",
            vec![
                picture("metadata_block_picture", 700_000),
                picture("METADATA_BLOCK_PICTURE", 600_000),
            ],
        ),
        (
            "beyond any bound",
            vec![picture("METADATA_BLOCK_PICTURE", 3 * LIMIT)],
        ),
        ("the old form", vec![picture("COVERART", 400_000)]),
    ] {
        for first in [false, true] {
            let text = ["ARTIST=A".to_owned(), "".to_owned(), "TITLE=B".to_owned()];
            let mut comments: Vec<&str> = text.iter().map(String::as_str).collect();
            let at = if first { 0 } else { 3 };
            comments.splice(at..at, pictures.iter().map(String::as_str));
            let tags = opus_tags(&comments);
            let packets = [
                (&opus_head()[..], 0),
                (&tags, 0),
                (&[0x98, 7], 960),
                (&[0x98, 8], 1_920),
            ];
            let whole = pages(5, &packets);
            let got = seen(&[&whole, OPUS]);
            let (kept, rest) = comments_and_rest(&got.media[..got.sections[1].0]);
            assert!(kept == opus_tags(&["ARTIST=A", "", "TITLE=B"]), "{name}");
            assert_eq!(rest, [[0x98, 7], [0x98, 8]], "{name}");
            let header = &got.sections[0].1.header;
            assert_eq!(comment_title(header).unwrap().text, "A - B", "{name}");
            assert!(header.len() < 1_000 && got.media.ends_with(OPUS), "{name}");
            assert_eq!(
                (got.unplayable.len(), got.micros),
                (0, 40_000 + 3_006_500),
                "{name}"
            );
            // Wherever the input is cut.
            let cut = Seen::of(
                framer(),
                &super::super::testing::split(&[&whole, OPUS].concat(), &[1_000, 7, 65_000]),
            );
            assert!(cut == got, "{name}");
        }
    }
}

#[test]
fn a_picture_below_the_bound_is_passed_on_as_it_is() {
    let picture = format!("METADATA_BLOCK_PICTURE={}", "A".repeat(250_000));
    let tags = opus_tags(&[&picture]);
    let fits = pages(5, &[(&opus_head(), 0), (&tags, 0), (&[0x98], 960)]);
    let got = seen(&[&fits]);
    assert!(got.media == fits, "bytes differ");
    assert!(got.sections[0].1.header.len() > 250_000);
}

#[test]
fn the_setup_behind_a_picture_is_kept() {
    // Identification, comments with a picture, setup, and all audio of a Vorbis file.
    let mut reader = ::ogg::PacketReader::new(std::io::Cursor::new(VORBIS));
    let mut packets = Vec::new();
    while let Some(packet) = reader.read_packet().expect("a packet") {
        packets.push((packet.data.clone(), packet.absgp_page()));
    }
    let mut comments = b"\x03vorbis\x02\0\0\0vv\x02\0\0\0".to_vec();
    let picture = format!("METADATA_BLOCK_PICTURE={}", "A".repeat(400_000));
    for comment in [picture.as_str(), "TITLE=x"] {
        comments.extend((comment.len() as u32).to_le_bytes());
        comments.extend(comment.as_bytes());
    }
    comments.push(1);
    let setup = packets[2].0.clone();
    packets[1].0 = comments;
    let whole: Vec<(&[u8], u64)> = packets
        .iter()
        .map(|(bytes, granule)| (&bytes[..], *granule))
        .collect();
    let got = seen(&[&pages(6, &whole)]);
    let (kept, rest) = comments_and_rest(&got.media);
    assert!(
        kept == b"\x03vorbis\x02\0\0\0vv\x01\0\0\0\x07\0\0\0TITLE=x\x01",
        "{kept:?}"
    );
    assert!(rest[0] == setup && rest.len() == packets.len() - 2);
    assert_eq!(
        got.sections[0].1.params,
        params(Codec::Vorbis, 44_100, 2, 0)
    );
}

#[test]
fn flac_loses_its_picture_blocks_and_counts_the_rest() {
    let block = |kind: u8, len: usize| {
        let size = u32::try_from(len).expect("a length").to_be_bytes();
        [&[kind], &size[1..], &vec![7; len]].concat()
    };
    let mut head = FLAC[28..79].to_vec();
    head[7..9].copy_from_slice(&[0, 4]);
    let comments = [b"\x04\0\0\x09", &b"\x01\0\0\0v\0\0\0\0"[..]].concat();
    let application = block(2, 300);
    let frame: &[u8] = &[0xFF, 0xF8, 1, 2];
    let whole = [
        (&head[..], 0),
        (&comments, 0),
        (&application, 0),
        (&block(6, 3 * LIMIT), 0),
        (&block(0x86, 500_000), 0),
        (frame, 4_608),
        (frame, 9_216),
    ];
    let got = seen(&[&pages(4, &whole)]);
    let mut reader = ::ogg::PacketReader::new(std::io::Cursor::new(&got.media));
    let mut packets = Vec::new();
    while let Some(packet) = reader.read_packet().expect("a packet") {
        packets.push(packet.data);
    }
    assert_eq!(packets[0][7..9], [0, 2]);
    assert!(packets[1] == comments);
    assert!(packets[2][0] == 0x82 && packets[2][1..] == application[1..]);
    assert_eq!(packets[3..], [frame, frame]);
    assert_eq!(got.micros, 9_216 * 1_000_000 / 44_100);
}

#[test]
fn headers_beyond_the_bound_are_given_up_and_said() {
    // No picture, so that nothing can be cut.
    let tags = opus_tags(&[&format!("LYRICS={}", "la".repeat(LIMIT / 2))]);
    let packets = [
        (&opus_head()[..], 0),
        (&tags, 0),
        (&[0x98], 960),
        (&[0x98], 1_920),
    ];
    let large = pages(5, &packets);
    let got = seen(&[VORBIS, &large, OPUS]);
    assert!(got.media == [VORBIS, OPUS].concat(), "bytes differ");
    assert_eq!(got.skipped as usize, large.len());
    assert_eq!(got.unplayable, [(VORBIS.len(), Unplayable::Headers)]);
    // Just below it they are kept.
    let tags = opus_tags(&[&format!("LYRICS={}", "la".repeat(LIMIT / 2 - 100))]);
    let packets = [(&opus_head()[..], 0), (&tags, 0), (&[0x98], 960)];
    let got = seen(&[&pages(5, &packets)]);
    assert_eq!((got.sections.len(), got.unplayable.len()), (1, 0));
    let (kept, _) = comments_and_rest(&got.media);
    assert!(kept == tags, "comments differ");
}

#[test]
fn too_many_streams_at_once_are_skipped() {
    let bytes: Vec<u8> = (0..STREAM_LIMIT as u32 + 1)
        .flat_map(|serial| pages(serial, &[(b"?", 0)]))
        .collect();
    let got = seen(&[&bytes, OPUS]);
    assert!(got.media == OPUS, "bytes differ");
    assert_eq!(got.skipped as usize, bytes.len());
}

#[test]
fn several_streams_at_once_are_one_section() {
    let (head, tags) = (opus_head(), opus_tags(&[]));
    let whole = multiplexed(&[
        (1, b"\x80theora", 0, false),
        (2, &head, 0, false),
        (1, b"\x81theora", 0, false),
        (2, &tags, 0, false),
        (1, b"\x82theora", 0, false),
        (1, b"\x00key frame", 64, false),
        (2, &[0x98], 960, false),
        (1, b"\x00frame", 65, true),
        (2, &[0x98], 1_920, true),
    ]);
    let stray = pages(2, &[(&head, 0), (b"x", 9)]);
    let got = seen(&[&whole, &stray[47..]]);
    assert!(got.media == whole, "bytes differ");
    assert_eq!(got.sections.len(), 1);
    assert_eq!(got.sections[0].1.params, params(Codec::Ogg, 48_000, 2, 0));
    let first_data = whole
        .windows(10)
        .position(|w| w == b"\x00key frame")
        .expect("it is there")
        - 28;
    assert_eq!(got.sections[0].1.header.len(), first_data);
    // Two packets of 20 ms; the video's granules are no time.
    assert_eq!(got.micros, 40_000);
    assert_eq!(got.skipped as usize, stray.len() - 47);
}

#[test]
fn unknown_codecs_have_headers_until_the_granule_moves() {
    let whole = pages(
        3,
        &[
            (b"Speex   1.2", 0),
            (b"comments", 0),
            (b"audio", 320),
            (b"audio", 640),
        ],
    );
    let got = seen(&[&whole]);
    assert!(got.media == whole, "bytes differ");
    assert_eq!(got.sections[0].1.params, params(Codec::Ogg, 0, 0, 0));
    assert_eq!(got.sections[0].1.header.len(), (28 + 11) + (28 + 8));
    assert_eq!(got.micros, 0);
}

#[test]
fn flac_that_does_not_count_its_headers() {
    let mut head = FLAC[28..79].to_vec();
    head[7..9].copy_from_slice(&[0, 0]);
    let frame: &[u8] = &[0xFF, 0xF8, 1, 2];
    let whole = pages(
        4,
        &[
            (&head, 0),
            (b"\x04\0\0\0", 0),
            (b"\x81\0\0\0", 0),
            (frame, 4_608),
            (frame, 9_216),
        ],
    );
    let got = seen(&[&whole]);
    assert!(got.media == whole, "bytes differ");
    assert_eq!(got.sections[0].1.header.len(), (28 + 51) + 2 * (28 + 4));
    assert_eq!(got.edges.len(), 3);
    assert_eq!(got.micros, 9_216 * 1_000_000 / 44_100);
}

#[test]
fn a_packet_over_several_pages_has_one_edge() {
    let mut packet = vec![0x98; 150_000];
    packet[1] = 0;
    let tags = opus_tags(&[]);
    let whole = pages(
        6,
        &[
            (&opus_head(), 0),
            (&tags, 0),
            (&packet, 960),
            (&[0x98], 1_920),
        ],
    );
    let got = seen(&[&whole]);
    assert!(got.media == whole, "bytes differ");
    assert_eq!((got.pieces, got.edges.len()), (2 + 3 + 1, 1 + 1 + 1));
    assert_eq!(got.micros, 40_000);
}

#[test]
fn a_count_that_does_not_begin_at_nought_is_not_believed() {
    let tags = opus_tags(&[]);
    let first = 500_000_000;
    let packets = [
        (&opus_head()[..], 0),
        (&tags, 0),
        (&[0x98], first),
        (&[0x98], first + 960),
        (&[0x98], 7),
    ];
    let got = seen(&[&pages(8, &packets)]);
    // The third page goes back and has no time.
    assert_eq!(got.micros, 40_000);
}

#[test]
fn garbage_is_told_from_a_pause() {
    let got = seen(&[&junk(70_000)]);
    assert_eq!((got.found, got.lost), (0, 70_000));
    assert!(got.lost >= super::super::GARBAGE);
    // Pages that cannot be played are skipped, but they are Ogg.
    let got = seen(&[&junk(500), &OPUS[160..], &OPUS[160..], &OPUS[160..]]);
    assert_eq!(
        (got.found, got.skipped as usize, got.lost),
        (0, 500 + 3 * (OPUS.len() - 160), 0)
    );
    assert_eq!(got.unplayable, [(0, Unplayable::Headless)]);
}

proptest! {
    #[test]
    fn any_split_gives_the_same(cuts in proptest::collection::vec(1usize..9_000, 1..30)) {
        let whole = [&junk(700), CHAINED, b"OggS\0\x01", FLAC, &OPUS[500..], VORBIS].concat();
        check_splits(framer, &whole, &cuts)?;
    }

    #[test]
    fn damage_anywhere_is_accounted_for(
        places in proptest::collection::vec((0..CHAINED.len(), any::<u8>()), 0..20),
        cuts in proptest::collection::vec(1usize..5_000, 1..20),
    ) {
        let mut whole = CHAINED.to_vec();
        for (place, byte) in places {
            whole[place] = byte;
        }
        check_sums(framer, &whole, &cuts)?;
    }

    #[test]
    fn random_pages_are_accounted_for(
        packets in proptest::collection::vec(
            (0u32..3, prop_oneof![
                Just(opus_head()),
                Just(opus_tags(&["TITLE=x"])),
                Just(VORBIS[28..58].to_vec()),
                Just(FLAC[28..79].to_vec()),
                proptest::collection::vec(any::<u8>(), 0..300),
            ], 0u64..5_000, any::<bool>()),
            0..30,
        ),
        cuts in proptest::collection::vec(1usize..500, 1..20),
    ) {
        let borrowed: Vec<_> = packets.iter().map(|(serial, bytes, granule, last)| (*serial, &bytes[..], *granule, *last)).collect();
        check_sums(framer, &multiplexed(&borrowed), &cuts)?;
    }
}
