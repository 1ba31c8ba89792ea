//! MPEG audio, layers I to III, versions 1, 2 and 2.5 (ISO/IEC 11172-3 section 2.4.2.3, 13818-3).
//!
//! Every frame is an edge: a layer III frame may lean on bytes of the frames before it (the bit reservoir), and
//! decoders bridge that at a start, as they do with every broadcast server. The length of free-format frames is
//! found out by the distance of their headers.

use super::frames::{Frame, FrameScanner, FreeFrame, Header};
use super::{Codec, Framer};

/// Kilobits a second by bit rate index; 0 is free format, and index 15 is forbidden.
const LAYER1_V1: [u32; 15] = [
    0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448,
];
const LAYER2_V1: [u32; 15] = [
    0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384,
];
const LAYER3_V1: [u32; 15] = [
    0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320,
];
const LAYER1_V2: [u32; 15] = [
    0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256,
];
const LAYER23_V2: [u32; 15] = [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160];

/// Sync, version, layer and sample rate: what stays the same within a stream.
const FAMILY: u32 = 0xFFFE_0C00;

/// A framer for MPEG audio.
pub fn framer() -> Box<dyn Framer> {
    Box::new(FrameScanner::<MpegHeader>::new())
}

/// The four bytes before every frame. [`Frame::profile`] is the version in the upper half byte (1, 2, or 5 for
/// 2.5) and the layer in the lower.
pub struct MpegHeader;

impl Header for MpegHeader {
    const CODEC: Codec = Codec::Mp3;
    const LEN: usize = 4;

    fn parse(at: &[u8]) -> Option<Frame> {
        let header = Fields::of(at)?;
        let rates = match (header.version == 1, header.layer) {
            (true, 1) => &LAYER1_V1,
            (true, 2) => &LAYER2_V1,
            (true, _) => &LAYER3_V1,
            (false, 1) => &LAYER1_V2,
            (false, _) => &LAYER23_V2,
        };
        let bitrate = rates.get(header.rate_index)? * 1_000;
        if bitrate == 0 {
            return None;
        }
        let mut frame = header.frame();
        frame.bitrate = bitrate;
        frame.len = header.bytes_at(bitrate) + header.padding();
        Some(frame)
    }

    fn parse_free(at: &[u8]) -> Option<FreeFrame> {
        let header = Fields::of(at).filter(|header| header.rate_index == 0)?;
        Some(FreeFrame {
            frame: header.frame(),
            padding: header.padding(),
            range: (header.bytes_at(FREE.0), header.bytes_at(FREE.1)),
        })
    }
}

/// Rates of free format, in bits a second; LAME, for one, goes up to 640 kbit/s.
const FREE: (u32, u32) = (8_000, 640_000);

/// Fields of a header of either form.
struct Fields {
    word: u32,
    /// 1, 2, or 5 for 2.5.
    version: u8,
    layer: u8,
    rate_index: usize,
    sample_rate: u32,
}

impl Fields {
    fn of(at: &[u8]) -> Option<Self> {
        let word = u32::from_be_bytes(*at.first_chunk::<4>()?);
        if word >> 21 != 0x7FF {
            return None;
        }
        // The rate of MPEG 1, and how often it is halved.
        let (version, halvings) = match (word >> 19) & 3 {
            0 => (5, 2),
            2 => (2, 1),
            3 => (1, 0),
            _ => return None,
        };
        let layer: u8 = match (word >> 17) & 3 {
            1 => 3,
            2 => 2,
            3 => 1,
            _ => return None,
        };
        let sample_rate = [44_100u32, 48_000, 32_000].get(((word >> 10) & 3) as usize)? >> halvings;
        Some(Self {
            word,
            version,
            layer,
            rate_index: ((word >> 12) & 15) as usize,
            sample_rate,
        })
    }

    fn samples(&self) -> u32 {
        match (self.version, self.layer) {
            (_, 1) => 384,
            (2 | 5, 3) => 576,
            _ => 1_152,
        }
    }

    fn padding(&self) -> usize {
        let slot = if self.layer == 1 { 4 } else { 1 };
        ((self.word >> 9) & 1) as usize * slot
    }

    /// Bytes of a frame without padding.
    fn bytes_at(&self, bitrate: u32) -> usize {
        let bytes = match self.layer {
            1 => 12 * bitrate / self.sample_rate * 4,
            _ => self.samples() / 8 * bitrate / self.sample_rate,
        };
        bytes as usize
    }

    fn frame(&self) -> Frame {
        Frame {
            len: 0,
            samples: self.samples(),
            sample_rate: self.sample_rate,
            channels: if (self.word >> 6) & 3 == 3 { 1 } else { 2 },
            profile: (self.version << 4) | self.layer,
            bitrate: 0,
            family: self.word & FAMILY,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tags::{Reading, Tags};
    use super::super::testing::{
        Seen, between_songs, check_splits, check_sums, check_tags, fixture, id3v2, junk,
    };
    use super::*;
    use proptest::prelude::*;

    const TONE: &[u8] = fixture!("tone.mp3");
    const TAGGED: &[u8] = fixture!("tagged.mp3");
    const MONO: &[u8] = fixture!("mono22.mp3");

    fn seen(parts: &[&[u8]]) -> Seen {
        Seen::of(FrameScanner::<MpegHeader>::new(), parts)
    }

    #[test]
    fn headers_of_every_version_and_layer() {
        let frame =
            |bytes: [u8; 4]| MpegHeader::parse(&bytes).map(|f| (f.len, f.samples, f.sample_rate));
        assert_eq!(frame([0xFF, 0xFB, 0x90, 0x00]), Some((417, 1_152, 44_100)));
        assert_eq!(frame([0xFF, 0xFB, 0x92, 0x00]), Some((418, 1_152, 44_100)));
        assert_eq!(
            frame([0xFF, 0xFB, 0xE8, 0x00]),
            Some((1_440, 1_152, 32_000))
        );
        assert_eq!(
            frame([0xFF, 0xFD, 0xE4, 0x00]),
            Some((1_152, 1_152, 48_000))
        );
        assert_eq!(frame([0xFF, 0xFF, 0xE4, 0x00]), Some((448, 384, 48_000)));
        assert_eq!(frame([0xFF, 0xF3, 0x80, 0x00]), Some((208, 576, 22_050)));
        assert_eq!(frame([0xFF, 0xF5, 0x80, 0x00]), Some((417, 1_152, 22_050)));
        assert_eq!(frame([0xFF, 0xE3, 0x88, 0x00]), Some((576, 576, 8_000)));
        // Free format, forbidden bit rate, forbidden sample rate, reserved version, reserved layer (ADTS), no sync.
        for bytes in [
            [0xFF, 0xFB, 0x00, 0],
            [0xFF, 0xFB, 0xF0, 0],
            [0xFF, 0xFB, 0x9C, 0],
            [0xFF, 0xEB, 0x90, 0],
            [0xFF, 0xF9, 0x90, 0],
            [0xFF, 0xDB, 0x90, 0],
        ] {
            assert_eq!(frame(bytes), None, "{bytes:02x?}");
        }
        assert_eq!(MpegHeader::parse(&[0xFF, 0xFB, 0x90]), None);
    }

    #[test]
    fn a_whole_file_comes_out_verbatim() {
        let seen = seen(&[TONE]);
        assert!(seen.media == TONE, "bytes differ");
        assert_eq!(
            (seen.skipped, seen.found, seen.carried),
            (0, TONE.len() as u64, 0)
        );
        // ffprobe: 116 packets, 3.030188 s.
        assert_eq!(seen.edges.len(), 116);
        assert_eq!(seen.micros, 3_030_204);
        let (offset, section) = &seen.sections[0];
        assert_eq!((seen.sections.len(), *offset), (1, 0));
        assert_eq!(section.bitrate, 128_000);
        assert!(section.header.is_empty());
        let expected = super::super::Params {
            codec: Codec::Mp3,
            sample_rate: 44_100,
            channels: 2,
            profile: 0x13,
        };
        assert_eq!(section.params, expected);
    }

    #[test]
    fn tags_are_skipped_and_counted() {
        let Reading::Tag(front) = Tags::default().read(TAGGED) else {
            panic!("no ID3v2 tag");
        };
        let seen = seen(&[TAGGED]);
        assert_eq!(seen.skipped + seen.carried as u64, front + 128);
        let end = TAGGED.len() - 128;
        assert!(TAGGED[end..].starts_with(b"TAG"));
        assert!(seen.media == TAGGED[front as usize..end], "bytes differ");
        // ffprobe: 2.037551 s, without the first frame, which holds the table of a VBR file.
        assert_eq!(seen.micros, 2_063_673);
        assert_eq!(seen.sections.len(), 1);
    }

    #[test]
    fn a_new_sample_rate_is_a_new_section() {
        let seen = seen(&[TONE, MONO, TAGGED]);
        let found: Vec<_> = seen
            .sections
            .iter()
            .map(|(offset, s)| {
                (
                    *offset,
                    s.params.sample_rate,
                    s.params.channels,
                    s.params.profile,
                )
            })
            .collect();
        let (one, two) = (TONE.len(), TONE.len() + MONO.len());
        assert_eq!(
            found,
            [
                (0, 44_100, 2, 0x13),
                (one, 22_050, 1, 0x23),
                (two, 44_100, 2, 0x13)
            ]
        );
    }

    #[test]
    fn junk_before_and_between_is_counted() {
        let noise = junk(3_000);
        let tag = id3v2(5_000);
        let got = seen(&[&noise, TONE, &noise, TONE, &tag, TONE]);
        assert!(got.media == [TONE, TONE, TONE].concat(), "bytes differ");
        assert_eq!(got.skipped, 2 * 3_000 + 5_000);
        assert_eq!(got.lost, 0);
        assert_eq!(got.sections.len(), 1);
        let second = got.edges[1];
        let torn = seen(&[&TONE[..second - 17], &TONE[second..]]);
        assert!(torn.media == TONE[second..], "bytes differ");
        assert_eq!(torn.skipped as usize, second - 17);
    }

    #[test]
    fn tags_between_songs_are_no_garbage() {
        check_tags(FrameScanner::<MpegHeader>::new, TONE);
        for (name, tags) in between_songs() {
            // The song before was cut within a frame, which alone is lost.
            let whole = seen(&[TONE]).edges[115];
            for cut in [2, 17, 400] {
                let torn = &TONE[..TONE.len() - cut];
                let got = seen(&[torn, &tags, TONE]);
                let songs = [&TONE[..whole], TONE].concat();
                assert!(got.media == songs, "{name} after {cut}: bytes differ");
                let lost = (torn.len() - whole + tags.len()) as u64;
                assert_eq!((got.skipped, got.lost), (lost, 0), "{name} after {cut}");
            }
        }
    }

    #[test]
    fn a_torn_end_is_never_emitted() {
        for cut in [1, 3, 4, 100, 416] {
            let torn = seen(&[&TONE[..TONE.len() - cut]]);
            let whole = torn.media.len();
            assert_eq!(torn.edges.len(), 115, "cut by {cut}");
            assert_eq!(torn.skipped, 0);
            assert_eq!(whole + torn.carried, TONE.len() - cut);
        }
    }

    #[test]
    fn one_header_alone_is_not_believed() {
        let mut false_sync = junk(2_000);
        false_sync[100..104].copy_from_slice(&[0xFF, 0xFB, 0x90, 0x00]);
        let got = seen(&[&false_sync]);
        assert_eq!((got.found, got.skipped, got.lost), (0, 2_000, 2_000));
        // The same, confirmed by a header of another layer.
        false_sync[517..521].copy_from_slice(&[0xFF, 0xFD, 0x90, 0x00]);
        assert_eq!(seen(&[&false_sync]).found, 0);
    }

    /// Frames in free format: no bit rate in the header, every third one padded.
    fn free_format(count: usize, len: usize) -> Vec<u8> {
        let frame = |number: usize| {
            let padding = usize::from(number.is_multiple_of(3));
            let mut frame = vec![0xFF, 0xFB, 0x04 | (padding as u8) << 1, 0xC4];
            frame.resize(len + padding, number as u8 & 0x7F);
            frame
        };
        (0..count).flat_map(frame).collect()
    }

    #[test]
    fn the_length_of_free_format_is_found_out() {
        for len in [300, 777, 1_900] {
            let whole = free_format(30, len);
            let noise = junk(400);
            for cuts in [&[usize::MAX][..], &[1], &[313, 5]] {
                let input = [&noise[..], &whole, &noise, &whole].concat();
                let got = Seen::of(
                    FrameScanner::<MpegHeader>::new(),
                    &super::super::testing::split(&input, cuts),
                );
                assert!(got.media == [&whole[..], &whole].concat(), "{len} {cuts:?}");
                assert_eq!((got.edges.len(), got.skipped), (60, 800));
                assert_eq!(got.sections[0].1.params.sample_rate, 48_000);
                assert_eq!(got.micros, 60 * 24_000);
            }
        }
        // Two headers that happen to look alike are no stream.
        let got = seen(&[&free_format(2, 500), &junk(20_000)]);
        assert_eq!(got.found, 0);
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same(cuts in proptest::collection::vec(1usize..3_000, 1..40)) {
            let noise = junk(700);
            let (_, tags) = between_songs().pop().unwrap();
            let torn = &TONE[..9_000];
            let whole = [TAGGED, &noise, torn, &tags[..6_000], MONO, torn, b"TAGx", MONO].concat();
            check_splits(FrameScanner::<MpegHeader>::new, &whole, &cuts)?;
        }

        #[test]
        fn random_bytes_are_accounted_for(
            noise in proptest::collection::vec(any::<u8>(), 0..3_000),
            cuts in proptest::collection::vec(1usize..500, 1..20),
        ) {
            // Half of the bytes are made those of a header, so that false frames are frequent.
            let marks = [0xFF, 0xFB, 0x90];
            let bytes: Vec<u8> = noise.iter().map(|byte| *marks.get(usize::from(byte / 42)).unwrap_or(byte)).collect();
            check_sums(FrameScanner::<MpegHeader>::new, &bytes, &cuts)?;
        }
    }
}
