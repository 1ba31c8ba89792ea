//! One Ogg page (RFC 3533 section 6): found, checked, and read in place.

/// Bytes before the lacing values.
const HEADER: usize = 27;
const MARK: &[u8] = b"OggS";

/// What stands at a position.
#[derive(Debug)]
pub enum Found<'a> {
    /// More bytes are needed to tell.
    Wait,
    /// So many bytes are no page.
    Junk(usize),
    /// A whole page with a right checksum.
    Page(Page<'a>),
}

/// A whole page.
#[derive(Debug, Clone, Copy)]
pub struct Page<'a> {
    /// All of it, verbatim.
    pub bytes: &'a [u8],
    /// The logical stream it belongs to.
    pub serial: u32,
    /// The stream's position after the last packet that ends here; -1 if none does.
    pub granule: i64,
    flags: u8,
    lacing: &'a [u8],
    body: &'a [u8],
}

/// A packet, or as much of one as a page has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part<'a> {
    /// Its bytes.
    pub bytes: &'a [u8],
    /// False for the rest of a packet that began on an earlier page.
    pub starts: bool,
    /// False if the packet goes on on a later page.
    pub ends: bool,
}

impl<'a> Page<'a> {
    /// Judges the bytes at a position.
    pub fn at(at: &'a [u8]) -> Found<'a> {
        let known = at.len().min(MARK.len());
        if at.get(..known) != MARK.get(..known) {
            return junk(at);
        }
        let Some(header) = at.first_chunk::<HEADER>() else {
            return Found::Wait;
        };
        // Version 0, and no flag that does not exist.
        if header[4] != 0 || header[5] > 7 {
            return junk(at);
        }
        let Some((lacing, rest)) = at
            .get(HEADER..)
            .and_then(|rest| rest.split_at_checked(usize::from(header[26])))
        else {
            return Found::Wait;
        };
        let body_len: usize = lacing.iter().map(|value| usize::from(*value)).sum();
        let (Some(body), Some(bytes)) = (
            rest.get(..body_len),
            at.get(..HEADER + lacing.len() + body_len),
        ) else {
            return Found::Wait;
        };
        let [.., c1, c2, c3, c4, _] = *header;
        if checksum(bytes) != u32::from_le_bytes([c1, c2, c3, c4]) {
            return junk(at);
        }
        let [
            _,
            _,
            _,
            _,
            _,
            flags,
            g1,
            g2,
            g3,
            g4,
            g5,
            g6,
            g7,
            g8,
            s1,
            s2,
            s3,
            s4,
            ..,
        ] = *header;
        Found::Page(Page {
            bytes,
            serial: u32::from_le_bytes([s1, s2, s3, s4]),
            granule: i64::from_le_bytes([g1, g2, g3, g4, g5, g6, g7, g8]),
            flags,
            lacing,
            body,
        })
    }

    /// The whole pages at the start of `bytes`, one after the other.
    pub fn all(mut bytes: &'a [u8]) -> impl Iterator<Item = Page<'a>> {
        std::iter::from_fn(move || {
            let Found::Page(page) = Self::at(bytes) else {
                return None;
            };
            bytes = bytes.get(page.bytes.len()..).unwrap_or_default();
            Some(page)
        })
    }

    /// True if it begins with the rest of a packet.
    pub fn continues(&self) -> bool {
        self.flags & 1 != 0
    }

    /// True for the first page of a logical stream.
    pub fn is_first(&self) -> bool {
        self.flags & 2 != 0
    }

    /// True for the last page of a logical stream.
    pub fn is_last(&self) -> bool {
        self.flags & 4 != 0
    }

    /// The packets on it, whole or in part.
    pub fn parts(&self) -> impl Iterator<Item = Part<'a>> + use<'a> {
        let (mut lacing, mut body) = (self.lacing, self.body);
        let mut starts = !self.continues();
        std::iter::from_fn(move || {
            if lacing.is_empty() {
                return None;
            }
            let end = lacing.iter().position(|value| *value < 255);
            let (own, rest) = lacing.split_at_checked(end.map_or(lacing.len(), |last| last + 1))?;
            let len: usize = own.iter().map(|value| usize::from(*value)).sum();
            let (bytes, after) = body.split_at_checked(len)?;
            let part = Part {
                bytes,
                starts,
                ends: end.is_some(),
            };
            (lacing, body, starts) = (rest, after, true);
            Some(part)
        })
    }
}

/// Writes the header packets of one logical stream as pages: granule 0, as full as they can be.
#[derive(Debug)]
pub struct Segments {
    serial: u32,
    sequence: u32,
    lacing: Vec<u8>,
    body: Vec<u8>,
    /// True if the page begins with the rest of a packet.
    continues: bool,
    /// True if a packet ends on the page.
    ends_one: bool,
}

impl Segments {
    /// Pages of the stream `serial`, the first one marked as such.
    pub fn new(serial: u32) -> Self {
        Self {
            serial,
            sequence: 0,
            lacing: Vec::new(),
            body: Vec::new(),
            continues: false,
            ends_one: false,
        }
    }

    /// Adds a packet; a page that is full goes to `out`, and its end to `ends`.
    pub fn packet(&mut self, packet: &[u8], out: &mut Vec<u8>, ends: &mut Vec<usize>) {
        let (whole, last) = packet.as_chunks::<255>();
        let segments = whole.iter().map(|segment| &segment[..]).chain([last]);
        for (number, segment) in segments.enumerate() {
            if self.lacing.len() == 255 {
                self.end_page(out, ends);
                self.continues = number > 0;
            }
            self.lacing
                .push(u8::try_from(segment.len()).unwrap_or(u8::MAX));
            self.body.extend_from_slice(segment);
        }
        self.ends_one = true;
    }

    /// Ends the page, if there is one.
    pub fn end_page(&mut self, out: &mut Vec<u8>, ends: &mut Vec<usize>) {
        if self.lacing.is_empty() {
            return;
        }
        let granule: i64 = if self.ends_one { 0 } else { -1 };
        let first = if self.sequence == 0 { 2 } else { 0 };
        let from = out.len();
        out.extend_from_slice(MARK);
        out.extend_from_slice(&[0, u8::from(self.continues) | first]);
        out.extend_from_slice(&granule.to_le_bytes());
        out.extend_from_slice(&self.serial.to_le_bytes());
        out.extend_from_slice(&self.sequence.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.push(u8::try_from(self.lacing.len()).unwrap_or(u8::MAX));
        out.append(&mut self.lacing);
        out.append(&mut self.body);
        seal(out.get_mut(from..).unwrap_or_default());
        ends.push(out.len());
        self.sequence += 1;
        (self.continues, self.ends_one) = (false, false);
    }
}

/// Gives a page another serial and sequence number.
pub fn renumber(page: &mut [u8], serial: u32, sequence: u32) {
    if let Some(numbers) = page.get_mut(14..22) {
        let both = u64::from(serial) | u64::from(sequence) << 32;
        numbers.copy_from_slice(&both.to_le_bytes());
    }
    seal(page);
}

/// Writes the checksum of a page.
fn seal(page: &mut [u8]) {
    let sum = checksum(page);
    if let Some(place) = page.get_mut(22..26) {
        place.copy_from_slice(&sum.to_le_bytes());
    }
}

/// From the start of `at`, which is no page, to the next place where one may begin.
fn junk(at: &[u8]) -> Found<'_> {
    let rest = at.get(1..).unwrap_or_default();
    Found::Junk(
        1 + rest
            .iter()
            .position(|byte| *byte == b'O')
            .unwrap_or(rest.len()),
    )
}

/// Tables for eight bytes at a time: `TABLES[k][b]` is the checksum of byte `b` with `k` zeros after it.
static TABLES: [[u32; 256]; 8] = tables();

const fn tables() -> [[u32; 256]; 8] {
    let mut tables = [[0u32; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut value = (byte as u32) << 24;
        let mut bit = 0;
        while bit < 8 {
            let feedback = if value >> 31 == 1 { 0x04C1_1DB7 } else { 0 };
            value = (value << 1) ^ feedback;
            bit += 1;
        }
        tables[0][byte] = value;
        byte += 1;
    }
    let mut table = 1;
    while table < 8 {
        let mut byte = 0;
        while byte < 256 {
            let before = tables[table - 1][byte];
            tables[table][byte] = (before << 8) ^ tables[0][(before >> 24) as usize];
            byte += 1;
        }
        table += 1;
    }
    tables
}

/// The page's checksum: CRC-32, polynomial 0x04C11DB7, not reflected, start 0, over all with its own field zeroed.
fn checksum(page: &[u8]) -> u32 {
    let front = page.get(..22).unwrap_or_default();
    let back = page.get(26..).unwrap_or_default();
    let sum = update(update(0, front), &[0; 4]);
    update(sum, back)
}

fn update(mut sum: u32, bytes: &[u8]) -> u32 {
    let [t0, t1, t2, t3, t4, t5, t6, t7] = &TABLES;
    let of = |table: &[u32; 256], byte: u8| table[usize::from(byte)];
    let (blocks, rest) = bytes.as_chunks::<8>();
    for [a, b, c, d, e, f, g, h] in blocks {
        let [w, x, y, z] = (sum ^ u32::from_be_bytes([*a, *b, *c, *d])).to_be_bytes();
        sum = of(t7, w)
            ^ of(t6, x)
            ^ of(t5, y)
            ^ of(t4, z)
            ^ of(t3, *e)
            ^ of(t2, *f)
            ^ of(t1, *g)
            ^ of(t0, *h);
    }
    for byte in rest {
        sum = (sum << 8) ^ of(t0, (sum >> 24) as u8 ^ byte);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::fixture;
    use super::*;

    const VORBIS: &[u8] = fixture!("vorbis.ogg");

    fn page(at: &[u8]) -> Page<'_> {
        match Page::at(at) {
            Found::Page(page) => page,
            other => panic!("no page but {other:?}"),
        }
    }

    #[test]
    fn a_page_is_read_in_place() {
        let first = page(VORBIS);
        assert_eq!((first.bytes.len(), first.granule), (58, 0));
        assert!(first.is_first() && !first.is_last() && !first.continues());
        let parts: Vec<_> = first.parts().collect();
        assert_eq!(parts.len(), 1);
        assert!(parts[0].bytes.starts_with(b"\x01vorbis") && parts[0].starts && parts[0].ends);
        let second = page(&VORBIS[58..]);
        assert_eq!((second.bytes.len(), second.parts().count()), (3_965, 2));
        let last = page(&VORBIS[9_332..]);
        assert!(last.is_last());
        assert_eq!((last.granule, last.serial), (132_300, first.serial));
    }

    #[test]
    fn nothing_is_decided_too_early() {
        for len in 0..58 {
            assert!(matches!(Page::at(&VORBIS[..len]), Found::Wait), "{len}");
        }
    }

    #[test]
    fn what_is_no_page_is_junk_up_to_the_next_candidate() {
        assert!(matches!(Page::at(b"abcOgg"), Found::Junk(3)));
        assert!(matches!(Page::at(b"OgOggS"), Found::Junk(2)));
        assert!(matches!(Page::at(b"xyz"), Found::Junk(3)));
        for place in [4, 5, 30, 57] {
            let mut wrong = VORBIS[..58].to_vec();
            wrong[place] ^= 0x80;
            assert!(matches!(Page::at(&wrong), Found::Junk(_)), "{place}");
        }
    }

    #[test]
    fn the_checksum_is_that_of_the_format() {
        // Computed by hand with the bitwise definition.
        let bitwise = |bytes: &[u8]| {
            bytes.iter().fold(0u32, |sum, byte| {
                (0..8).fold(sum ^ (u32::from(*byte) << 24), |s, _| {
                    if s >> 31 == 1 {
                        (s << 1) ^ 0x04C1_1DB7
                    } else {
                        s << 1
                    }
                })
            })
        };
        for len in [0, 1, 7, 8, 9, 15, 16, 100] {
            assert_eq!(update(0, &VORBIS[..len]), bitwise(&VORBIS[..len]), "{len}");
        }
    }
}
