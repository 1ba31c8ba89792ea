//! AAC in ADTS (ISO/IEC 13818-7 section 6.2, 14496-3 annex 1.A).
//!
//! Every frame is an edge. HE-AAC that is signalled implicitly looks like its AAC-LC core here: half the sample
//! rate, the same time. A frame holds no nominal bit rate.

use super::frames::{Frame, FrameScanner, Header};
use super::{Codec, Framer};

const SAMPLE_RATES: [u32; 13] = [
    96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000,
    7_350,
];

/// A framer for ADTS.
pub fn framer() -> Box<dyn Framer> {
    Box::new(FrameScanner::<AdtsHeader>::new())
}

/// The seven bytes before every frame. [`Frame::profile`] is the audio object type: 1 Main, 2 LC, 3 SSR, 4 LTP.
pub struct AdtsHeader;

impl Header for AdtsHeader {
    const CODEC: Codec = Codec::Aac;
    const LEN: usize = 7;

    fn parse(at: &[u8]) -> Option<Frame> {
        let [first, second, third, fourth, fifth, sixth, seventh] = *at.first_chunk::<7>()?;
        // Sync word and layer 0.
        if first != 0xFF || second & 0xF6 != 0xF0 {
            return None;
        }
        let protected = second & 1 == 0;
        let rate_index = (third >> 2) & 15;
        let sample_rate = *SAMPLE_RATES.get(usize::from(rate_index))?;
        let channel_config = ((third & 1) << 2) | (fourth >> 6);
        let len =
            (usize::from(fourth & 3) << 11) | (usize::from(fifth) << 3) | usize::from(sixth >> 5);
        if len < if protected { 9 } else { 7 } {
            return None;
        }
        Some(Frame {
            len,
            samples: 1_024 * (u32::from(seventh & 3) + 1),
            sample_rate,
            // Configuration 7 is 7.1; 0 leaves it to an element inside the frame.
            channels: if channel_config == 7 {
                8
            } else {
                channel_config
            },
            profile: (third >> 6) + 1,
            bitrate: 0,
            // All but the protection and the private bit, up to the sample rate.
            family: u32::from(second & 0xFE) << 8 | u32::from(third & 0xFC),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::Params;
    use super::super::testing::{Seen, check_splits, check_sums, check_tags, fixture, id3v2, junk};
    use super::*;
    use proptest::prelude::*;

    const TONE: &[u8] = fixture!("tone.aac");

    fn seen(parts: &[&[u8]]) -> Seen {
        Seen::of(FrameScanner::<AdtsHeader>::new(), parts)
    }

    #[test]
    fn headers() {
        let parse = |bytes: [u8; 7]| AdtsHeader::parse(&bytes);
        let frame = parse([0xFF, 0xF1, 0x50, 0x80, 0x2E, 0x7F, 0xFC]).expect("a header");
        assert_eq!(
            (frame.len, frame.samples, frame.sample_rate),
            (371, 1_024, 44_100)
        );
        assert_eq!((frame.channels, frame.profile, frame.bitrate), (2, 2, 0));
        // Four raw data blocks, 7.1 channels, 7,350 Hz.
        let frame = parse([0xFF, 0xF9, 0x71, 0xC0, 0x2E, 0x7F, 0xFF]).expect("a header");
        assert_eq!(
            (frame.samples, frame.channels, frame.sample_rate),
            (4_096, 8, 7_350)
        );
        // Layer III, sample rate index 13, a frame shorter than its header, with and without checksum.
        assert_eq!(parse([0xFF, 0xFB, 0x50, 0x80, 0x2E, 0x7F, 0xFC]), None);
        assert_eq!(parse([0xFF, 0xF1, 0x74, 0x80, 0x2E, 0x7F, 0xFC]), None);
        assert_eq!(parse([0xFF, 0xF1, 0x50, 0x80, 0x00, 0xDF, 0xFC]), None);
        assert_eq!(parse([0xFF, 0xF0, 0x50, 0x80, 0x01, 0x1F, 0xFC]), None);
        assert_eq!(
            AdtsHeader::parse(&[0xFF, 0xF1, 0x50, 0x80, 0x2E, 0x7F]),
            None
        );
    }

    #[test]
    fn a_whole_file_comes_out_verbatim() {
        let seen = seen(&[TONE]);
        assert!(seen.media == TONE, "bytes differ");
        assert_eq!(
            (seen.skipped, seen.found, seen.carried),
            (0, TONE.len() as u64, 0)
        );
        // ffprobe: 131 packets; its 3.034862 s are guessed from the bit rate.
        assert_eq!(seen.edges.len(), 131);
        assert_eq!(seen.micros, 3_041_814);
        let params = Params {
            codec: Codec::Aac,
            sample_rate: 44_100,
            channels: 2,
            profile: 2,
        };
        assert_eq!(seen.sections.len(), 1);
        assert_eq!(seen.sections[0].0, 0);
        assert_eq!(seen.sections[0].1.params, params);
    }

    #[test]
    fn junk_and_tags_are_counted() {
        let noise = junk(2_000);
        let tag = id3v2(1_000);
        let got = seen(&[&tag, TONE, &noise, TONE]);
        assert!(got.media == [TONE, TONE].concat(), "bytes differ");
        assert_eq!(got.skipped, 3_000);
        assert_eq!(got.sections.len(), 1);
    }

    #[test]
    fn tags_between_songs_are_no_garbage() {
        check_tags(FrameScanner::<AdtsHeader>::new, TONE);
    }

    #[test]
    fn another_channel_count_is_a_new_section_once_confirmed() {
        let mut mono = TONE.to_vec();
        let mut position = 0;
        while let Some(frame) = mono.get(position..).and_then(AdtsHeader::parse) {
            mono[position + 3] = (mono[position + 3] & 0x3F) | 0x40;
            position += frame.len;
        }
        let got = seen(&[TONE, &mono]);
        let channels: Vec<_> = got
            .sections
            .iter()
            .map(|(at, s)| (*at, s.params.channels))
            .collect();
        assert_eq!(channels, [(0, 2), (TONE.len(), 1)]);
        assert_eq!(got.skipped, 0);
    }

    #[test]
    fn a_torn_end_is_never_emitted() {
        let torn = seen(&[&TONE[..TONE.len() - 1]]);
        assert_eq!(torn.edges.len(), 130);
        assert_eq!(torn.media.len() + torn.carried, TONE.len() - 1);
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same(cuts in proptest::collection::vec(1usize..3_000, 1..40)) {
            let whole = [&id3v2(300)[..], &TONE[..15_000], &junk(900), TONE].concat();
            check_splits(FrameScanner::<AdtsHeader>::new, &whole, &cuts)?;
        }

        #[test]
        fn random_bytes_are_accounted_for(
            noise in proptest::collection::vec(any::<u8>(), 0..3_000),
            cuts in proptest::collection::vec(1usize..500, 1..20),
        ) {
            // Half of the bytes are made those of a header, so that false frames are frequent.
            let marks = [0xFF, 0xF1, 0x50];
            let bytes: Vec<u8> = noise.iter().map(|byte| *marks.get(usize::from(byte / 42)).unwrap_or(byte)).collect();
            check_sums(FrameScanner::<AdtsHeader>::new, &bytes, &cuts)?;
        }
    }
}
