//! FLAC that is not in Ogg (RFC 9639).
//!
//! A frame does not say how long it is: it ends where the next one's header, which has a checksum, begins, and where its own
//! checksum is right. So frames leave one later than they came.

use super::super::carry::Scan;
use super::super::frames::SampleClock;
use super::super::tags::{self, Reading, Tags};
use super::super::{Piece, Tally, Unplayable};
use super::{Over, Skip};

/// Metadata blocks that are of no use to a listener: padding, seek table, picture (RFC 9639 8.1).
const LEFT_OUT: [u8; 3] = [1, 3, 6];
/// Bytes of a STREAMINFO block.
const STREAMINFO: usize = 34;
/// The longest frame that is waited for: 65,535 samples of eight channels and 32 bits are 2 MiB.
const LONGEST: usize = 2 * 1024 * 1024 + 64 * 1024;
/// The longest frame header.
const LONGEST_HEADER: usize = 16;

pub struct FlacScan {
    limit: usize,
    state: State,
    /// Bytes of a tag in front of a file, or behind it.
    skip: Skip,
    clock: SampleClock,
    /// Bytes of the frame at the position in which its end was looked for in vain, and their checksum.
    looked: usize,
    sum: u16,
    tally: Tally,
}

enum State {
    Begin,
    /// Metadata blocks; those that are kept so far.
    Metadata(Vec<u8>),
    Frames {
        rate: u32,
    },
    Over(Over),
}

/// Fields of a frame header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FrameHeader {
    samples: u32,
    rate: Option<u32>,
}

impl Scan for FlacScan {
    fn scan(&mut self, data: &[u8], out: &mut dyn FnMut(Piece<'_>)) -> usize {
        let mut position = 0;
        loop {
            let at = data.get(position..).unwrap_or_default();
            if self.skip.0 > 0 && !at.is_empty() {
                position += self.skip.take(at, &mut self.tally);
                continue;
            }
            let used = match &mut self.state {
                State::Begin => self.begin(at),
                State::Metadata(_) => self.metadata(at, out),
                State::Frames { rate } => {
                    let rate = *rate;
                    self.frame(at, rate, out)
                }
                State::Over(over) => {
                    Some(over.count(at.len(), &mut self.tally)).filter(|len| *len > 0)
                }
            };
            match used {
                Some(used) => position += used,
                None => return position,
            }
        }
    }

    fn counts(&self) -> Tally {
        self.tally
    }
}

impl FlacScan {
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            state: State::Begin,
            skip: Skip::default(),
            clock: SampleClock::default(),
            looked: 0,
            sum: 0,
            tally: Tally::default(),
        }
    }

    fn begin(&mut self, at: &[u8]) -> Option<usize> {
        let mark = b"fLaC";
        if at.len() < mark.len() && mark.starts_with(at) {
            return None;
        }
        if !at.starts_with(mark) {
            return self.tag(at, |scan| {
                scan.state = State::Over(Over::Other);
                0
            });
        }
        self.state = State::Metadata(mark.to_vec());
        self.tally.held += mark.len() as u64;
        Some(mark.len())
    }

    /// A tag, as some programs put it around a file; `other` handles what is none.
    fn tag(&mut self, at: &[u8], other: impl FnOnce(&mut Self) -> usize) -> Option<usize> {
        match Tags::default().read(at) {
            Reading::More => None,
            Reading::Tag(len) => {
                self.skip = Skip(len);
                Some(0)
            }
            Reading::None => Some(other(self)),
        }
    }

    /// One metadata block.
    fn metadata(&mut self, at: &[u8], out: &mut dyn FnMut(Piece<'_>)) -> Option<usize> {
        let [kind, sizes @ ..] = at.first_chunk::<4>()?;
        let len = sizes
            .iter()
            .fold(0_usize, |sum, byte| sum << 8 | usize::from(*byte));
        let State::Metadata(kept) = &mut self.state else {
            return None;
        };
        let is_left_out = LEFT_OUT.contains(&(kind & 0x7F));
        if kept.len() + 4 + len > self.limit && !is_left_out {
            self.tally.give_up_held();
            self.state = State::Over(Over::Unplayable);
            out(Piece::Unplayable(Unplayable::Headers));
            return Some(0);
        }
        let block = at.get(..4 + len)?;
        self.tally.held += block.len() as u64;
        if !is_left_out {
            kept.push(kind & 0x7F);
            kept.extend_from_slice(block.get(1..).unwrap_or_default());
        }
        if kind & 0x80 != 0 {
            let kept = std::mem::take(kept);
            self.announce(kept, out);
        }
        Some(block.len())
    }

    fn announce(&mut self, mut header: Vec<u8>, out: &mut dyn FnMut(Piece<'_>)) {
        let Some((rate, channels)) = stream_info(&header) else {
            self.tally.give_up_held();
            self.state = State::Over(Over::Unplayable);
            return out(Piece::Unplayable(Unplayable::Container));
        };
        mark_last(&mut header);
        let mut section = super::section(header);
        section.params.sample_rate = rate;
        section.params.channels = channels;
        super::announce(section, &mut self.tally, out);
        self.state = State::Frames { rate };
    }

    /// One frame, or junk before one.
    fn frame(&mut self, at: &[u8], rate: u32, out: &mut dyn FnMut(Piece<'_>)) -> Option<usize> {
        if self.looked == 0 {
            if at.len() < LONGEST_HEADER {
                return None;
            }
            if at.starts_with(b"fLaC") {
                // Another file follows.
                self.state = State::Begin;
                return Some(0);
            }
            if frame_header(at).is_none() {
                return self.tag(at, |scan| {
                    let junk = to_next_candidate(at);
                    scan.tally.junk(junk);
                    junk
                });
            }
        }
        let Some(len) = self.find_end(at) else {
            if at.len() > LONGEST {
                self.looked = 0;
                self.sum = 0;
                self.tally.junk(1);
                return Some(1);
            }
            return None;
        };
        let header = frame_header(at)?;
        self.tally.found(len);
        out(Piece::Media {
            bytes: at.get(..len).unwrap_or_default(),
            micros: self
                .clock
                .advance(header.samples.into(), header.rate.unwrap_or(rate)),
            edge: true,
        });
        Some(len)
    }

    /// Length of the frame at the start of `at`: up to the next header, or file, before which its checksum is right.
    fn find_end(&mut self, at: &[u8]) -> Option<usize> {
        let (mut place, mut sum) = (self.looked, self.sum);
        // The last bytes wait until a header could be read there.
        while place + LONGEST_HEADER <= at.len() {
            let rest = at.get(place..).unwrap_or_default();
            // A checksum over what it checks and itself is 0.
            let ends = place > LONGEST_HEADER / 2
                && sum == 0
                && (frame_header(rest).is_some()
                    || rest.starts_with(b"fLaC")
                    || tags::begins(rest));
            if ends {
                (self.looked, self.sum) = (0, 0);
                return Some(place);
            }
            sum = crc16(sum, rest.first().copied().unwrap_or_default());
            place += 1;
        }
        (self.looked, self.sum) = (place, sum);
        None
    }
}

/// Bytes from the start of `at`, which is no frame, to the next byte that may begin one, a file, or a tag.
fn to_next_candidate(at: &[u8]) -> usize {
    let is_candidate = |place: &usize| {
        let rest = at.get(*place..).unwrap_or_default();
        matches!(rest.first(), Some(0xFF | b'f')) || tags::begins(rest)
    };
    (1..at.len()).find(is_candidate).unwrap_or(at.len())
}

/// Sample rate and channels of a header that begins with STREAMINFO (RFC 9639 8.2).
fn stream_info(header: &[u8]) -> Option<(u32, u8)> {
    let block = header.get(4..)?.get(..4 + STREAMINFO)?;
    if block.first() != Some(&0) {
        return None;
    }
    let packed = u32::from_be_bytes(*block.get(14..)?.first_chunk::<4>()?);
    let rate = packed >> 12;
    (rate > 0).then_some((rate, ((packed >> 9) & 7) as u8 + 1))
}

/// Sets the flag of the last block on the last one that is kept.
fn mark_last(header: &mut [u8]) {
    let (mut at, mut last) = (4, None);
    while let Some([_, a, b, c]) = header.get(at..).and_then(|rest| rest.first_chunk::<4>()) {
        last = Some(at);
        at += 4 + (usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c));
    }
    if let Some(kind) = last.and_then(|last| header.get_mut(last)) {
        *kind |= 0x80;
    }
}

/// The header of a frame at the start of `at` (RFC 9639 9.1), if its checksum is right.
fn frame_header(at: &[u8]) -> Option<FrameHeader> {
    let [0xFF, second, sizes, layout, number, ..] = *at else {
        return None;
    };
    if second & 0xFE != 0xF8 || layout & 1 != 0 || layout >> 4 > 10 {
        return None;
    }
    // The coded number is as long as UTF-8 says, up to seven bytes.
    let long = match number.leading_ones() {
        0 => 1,
        ones @ 2..=7 => ones as usize,
        _ => return None,
    };
    let mut end = 4 + long;
    let byte = |place: usize| at.get(place).copied().map(u32::from);
    let samples = match sizes >> 4 {
        0 => return None,
        1 => 192,
        code @ 2..=5 => 144_u32 << code,
        6 => {
            end += 1;
            byte(end - 1)? + 1
        }
        7 => {
            end += 2;
            (byte(end - 2)? << 8 | byte(end - 1)?) + 1
        }
        code => 1_u32 << code,
    };
    let rate = match sizes & 15 {
        0 => None,
        code @ 1..=11 => [
            88_200, 176_400, 192_000, 8_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000,
        ]
        .get(usize::from(code) - 1)
        .copied(),
        12 => {
            end += 1;
            Some(byte(end - 1)? * 1_000)
        }
        code @ (13 | 14) => {
            end += 2;
            let value = byte(end - 2)? << 8 | byte(end - 1)?;
            Some(if code == 13 { value } else { value * 10 })
        }
        _ => return None,
    };
    let sum = at.get(..end)?.iter().fold(0, |sum, byte| crc8(sum, *byte));
    (at.get(end) == Some(&sum)).then_some(FrameHeader { samples, rate })
}

/// Polynomial x^8 + x^2 + x + 1.
fn crc8(sum: u8, byte: u8) -> u8 {
    (0..8).fold(sum ^ byte, |sum, _| match sum & 0x80 {
        0 => sum << 1,
        _ => sum << 1 ^ 0x07,
    })
}

/// Polynomial x^16 + x^15 + x^2 + 1.
static SUMS: [u16; 256] = {
    let mut sums = [0_u16; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut sum = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            sum = if sum & 0x8000 != 0 {
                sum << 1 ^ 0x8005
            } else {
                sum << 1
            };
            bit += 1;
        }
        sums[byte] = sum;
        byte += 1;
    }
    sums
};

fn crc16(sum: u16, byte: u8) -> u16 {
    let index = usize::from((sum >> 8) as u8 ^ byte);
    sum << 8 ^ SUMS.get(index).copied().unwrap_or_default()
}
