//! Tags that stand between frames: how long one is, so that it can be skipped. Songs that are sent one after the other (`cat *.mp3`)
//! carry them at their ends and beginnings.
//!
//! ID3v2: id3.org, ID3v2.4.0 structure, section 3.1. ID3v1, and its extension `TAG+` in front of it: 128 and 227 bytes.
//! APEv2: wiki.hydrogenaud.io, APE Tags Header. Lyrics3 v1 and v2: id3.org, Lyrics3. None begins like a frame.

/// A longer tag is taken for junk: a wrong size must not swallow a stream for hours.
const LIMIT: u64 = super::LARGEST_HEADER as u64;

/// First bytes of every tag.
const MARKS: [&[u8]; 4] = [ID3V2, ID3V1, APE, LYRICS];
const ID3V2: &[u8] = b"ID3";
const ID3V1: &[u8] = b"TAG";
const APE: &[u8] = b"APETAGEX";
const LYRICS: &[u8] = b"LYRICSBEGIN";

/// Bytes of an ID3v2 header, and of its footer.
const ID3V2_HEADER: usize = 10;
const ID3V1_LEN: u64 = 128;
/// Length of `TAG+`, after which an ID3v1 tag stands.
const EXTENDED_LEN: usize = 227;
/// Bytes of an APE header, and of a footer.
const APE_HEADER: usize = 32;
/// Longest text of Lyrics3 v1.
const MAX_LYRICS: usize = 5_100;
/// The end of Lyrics3 v1.
const LYRICS_END: &[u8] = b"LYRICSEND";
/// The end of Lyrics3 v2, behind six digits.
const LYRICS_V2_END: &[u8] = b"LYRICS200";

/// Kind of the bytes at a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// No tag.
    None,
    /// More bytes are needed to tell.
    More,
    /// A tag, or a part of one, of so many bytes; not all of them may be here yet.
    Tag(u64),
}

/// Reads tags at the positions where no frame is.
#[derive(Debug, Default)]
pub struct Tags {
    /// A Lyrics3 tag has begun, whose parts follow.
    in_lyrics: bool,
}

impl Tags {
    /// Reads the start of `at`. The same for the same bytes however many follow them, but for [`Reading::More`].
    pub fn read(&mut self, at: &[u8]) -> Reading {
        if self.in_lyrics {
            let reading = self.lyrics(at);
            if reading != Reading::None {
                return reading;
            }
            self.in_lyrics = false;
        }
        let Some(mark) = MARKS.iter().find(|mark| at.starts_with(mark)) else {
            return match begins(at) {
                true => Reading::More,
                false => Reading::None,
            };
        };
        match *mark {
            ID3V2 => id3v2(at),
            ID3V1 => id3v1(at),
            APE => ape(at),
            _ => {
                self.in_lyrics = true;
                Reading::Tag(LYRICS.len() as u64)
            }
        }
    }

    /// A part of a Lyrics3 tag: a field of v2, which says its length, or all that is left.
    fn lyrics(&mut self, at: &[u8]) -> Reading {
        // Three letters and five digits, or six digits and the mark of the end.
        let is_field = |head: &[u8]| {
            head.iter().take(3).all(u8::is_ascii_alphanumeric)
                && head.iter().skip(3).all(u8::is_ascii_digit)
        };
        let ends_v2 = |head: &[u8]| {
            let (digits, mark) = head.split_at(head.len().min(6));
            digits.iter().all(u8::is_ascii_digit) && LYRICS_V2_END.starts_with(mark)
        };
        let end_len = 6 + LYRICS_V2_END.len();
        let head = at.get(..end_len).unwrap_or(at);
        if ends_v2(head) {
            if head.len() < end_len {
                return Reading::More;
            }
            self.in_lyrics = false;
            return Reading::Tag(end_len as u64);
        }
        let field = at.get(..8).unwrap_or(at);
        if is_field(field) {
            if field.len() < 8 {
                return Reading::More;
            }
            let digits = field.get(3..).unwrap_or_default();
            let len = digits
                .iter()
                .fold(0_u64, |sum, digit| sum * 10 + u64::from(digit - b'0'));
            return Reading::Tag(8 + len);
        }
        self.lyrics_v1(at)
    }

    /// The text of v1, which has no byte of a sync word in it, and its end.
    fn lyrics_v1(&mut self, at: &[u8]) -> Reading {
        let most = MAX_LYRICS + LYRICS_END.len();
        let text = at.get(..most).unwrap_or(at);
        let end = text.windows(LYRICS_END.len()).position(|w| w == LYRICS_END);
        let sync = text.iter().position(|byte| *byte == 0xFF);
        match (end, sync) {
            (Some(end), sync) if sync.is_none_or(|sync| end < sync) => {
                self.in_lyrics = false;
                Reading::Tag((end + LYRICS_END.len()) as u64)
            }
            (None, None) if text.len() < most => Reading::More,
            _ => Reading::None,
        }
    }
}

/// True where a tag begins, or may begin once there are more bytes.
pub fn begins(at: &[u8]) -> bool {
    // Every byte of every frame is asked for: nearly all are told by this alone.
    if !matches!(at.first(), None | Some(b'I' | b'T' | b'A' | b'L')) {
        return false;
    }
    MARKS
        .iter()
        .any(|mark| at.starts_with(mark) || mark.starts_with(at))
}

fn within_limit(len: u64) -> Reading {
    match len <= LIMIT {
        true => Reading::Tag(len),
        false => Reading::None,
    }
}

fn id3v2(at: &[u8]) -> Reading {
    let [_, _, _, major, minor, flags, sizes @ ..] = at else {
        return Reading::More;
    };
    let Some(size) = sizes.get(..4) else {
        return Reading::More;
    };
    let is_known = (2..=4).contains(major) && *minor != 0xFF && flags & 0x0F == 0;
    if !is_known || size.iter().any(|byte| *byte >= 0x80) {
        return Reading::None;
    }
    let body = size
        .iter()
        .fold(0_u64, |sum, byte| (sum << 7) | u64::from(*byte));
    let footer = if flags & 0x10 != 0 { ID3V2_HEADER } else { 0 };
    within_limit(body + (ID3V2_HEADER + footer) as u64)
}

fn id3v1(at: &[u8]) -> Reading {
    match at.get(ID3V1.len()) {
        None => Reading::More,
        // Or a title that begins with `+`.
        Some(b'+') => match at.get(EXTENDED_LEN..EXTENDED_LEN + ID3V1.len()) {
            None => Reading::More,
            Some(ID3V1) => Reading::Tag(EXTENDED_LEN as u64),
            Some(_) => Reading::Tag(ID3V1_LEN),
        },
        Some(_) => Reading::Tag(ID3V1_LEN),
    }
}

fn ape(at: &[u8]) -> Reading {
    let Some(header) = at.get(..APE_HEADER) else {
        return Reading::More;
    };
    let number = |from: usize| {
        let bytes = header.get(from..from + 4).unwrap_or_default();
        bytes
            .iter()
            .rev()
            .fold(0_u32, |sum, byte| (sum << 8) | u32::from(*byte))
    };
    let (version, size, flags) = (number(8), number(12), number(20));
    if ![1_000, 2_000].contains(&version) {
        return Reading::None;
    }
    // A footer has what it closes before it.
    let is_header = version == 2_000 && flags & (1 << 29) != 0;
    let items = if is_header { u64::from(size) } else { 0 };
    within_limit(items + APE_HEADER as u64)
}

#[cfg(test)]
mod tests {
    use super::Reading::{More, None as NoTag, Tag};
    use super::*;

    fn read(at: &[u8]) -> Reading {
        Tags::default().read(at)
    }

    fn ape_of(version: u32, size: u32, flags: u32) -> Vec<u8> {
        let numbers = [version, size, 3, flags, 0, 0].map(u32::to_le_bytes);
        [b"APETAGEX", numbers.concat().as_slice()].concat()
    }

    #[test]
    fn id3v2_says_its_size_in_seven_bits_a_byte() {
        assert_eq!(read(b"ID3\x03\x00\x00\x00\x00\x02\x01rest"), Tag(10 + 257));
        assert_eq!(read(b"ID3\x04\x00\x10\x00\x00\x00\x05"), Tag(25));
        assert_eq!(
            read(b"ID3\x02\x00\x80\x00\x7f\x00\x00"),
            Tag(10 + (0x7f << 14))
        );
        for no_tag in [
            b"ID3\x04\x00\x00\x00\x00\x00\x80",
            b"ID3\xff\x00\x00\x00\x00\x00\x05",
            b"ID3\x05\x00\x00\x00\x00\x00\x05",
            b"ID3\x04\x00\x01\x00\x00\x00\x05",
            b"ID3\x04\x00\x00\x7f\x7f\x7f\x7f",
        ] {
            assert_eq!(read(no_tag), NoTag);
        }
        for len in 1..10 {
            assert_eq!(read(&b"ID3\x04\x00\x00\x00\x00\x00\x05"[..len]), More);
        }
    }

    #[test]
    fn id3v1_has_a_length_of_its_own_and_one_with_its_extension() {
        assert_eq!(read(b"TAGtitle"), Tag(128));
        assert_eq!(read(b"TAG"), More);
        let mut extended = b"TAG+".to_vec();
        extended.resize(227, b' ');
        assert_eq!(read(&extended), More);
        assert_eq!(read(&[&extended, b"TAG".as_slice()].concat()), Tag(227));
        assert_eq!(read(&[&extended, b"   ".as_slice()].concat()), Tag(128));
    }

    #[test]
    fn ape_tells_its_items_in_the_header_and_not_in_the_footer() {
        let header = 0xA000_0000;
        assert_eq!(read(&ape_of(2_000, 1_000, header)), Tag(1_032));
        assert_eq!(read(&ape_of(2_000, 1_000, 0x8000_0000)), Tag(32));
        assert_eq!(read(&ape_of(1_000, 1_000, header)), Tag(32));
        assert_eq!(read(&ape_of(3_000, 1_000, header)), NoTag);
        assert_eq!(read(&ape_of(2_000, u32::MAX, header)), NoTag);
        assert_eq!(read(&ape_of(2_000, 1_000, header)[..31]), More);
        assert_eq!(read(b"APETAG"), More);
    }

    #[test]
    fn lyrics_of_both_versions() {
        let parts = |whole: &[u8]| {
            let (mut tags, mut rest, mut lens) = (Tags::default(), whole, Vec::new());
            while let Tag(len) = tags.read(rest) {
                lens.push(len);
                rest = rest.get(usize::try_from(len).unwrap()..).unwrap();
            }
            (lens, rest.len())
        };
        let first = b"LYRICSBEGIN[00:02]la la la\r\nLYRICSEND\xFF\xFB";
        assert_eq!(parts(first), (vec![11, 26], 2));
        let second = b"LYRICSBEGININD0000210LYR00006la la 000039LYRICS200\xFF\xFB";
        assert_eq!(parts(second), (vec![11, 10, 14, 15], 2));
        // Torn: audio follows, which has bytes that no lyrics have.
        assert_eq!(
            parts(b"LYRICSBEGIN[00:02]la \xFF\xFBLYRICSEND"),
            (vec![11], 21)
        );
        let endless = [b"LYRICSBEGIN".as_slice(), &[b' '; 5_109]].concat();
        assert_eq!(parts(&endless), (vec![11], 5_109));
    }

    #[test]
    fn nothing_else_begins_a_tag() {
        for no_tag in [
            b"\xFF\xFBTAG".as_slice(),
            b"IDE",
            b"APE ",
            b"LYRICS!",
            b"TAP",
        ] {
            assert_eq!(read(no_tag), NoTag);
        }
        for mark in MARKS {
            for len in 1..mark.len() {
                assert_eq!(read(&mark[..len]), More);
            }
        }
    }
}
