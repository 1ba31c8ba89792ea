//! The scanner behind every format whose frames carry a header that says how long they are.
//!
//! Sync is taken only on a header whose next header, at the computed distance, belongs to the same stream; from
//! then on a header with the same parameters at the expected place is enough. Nothing here depends on how the
//! input was split.

use super::carry::Carry;
use super::tags::{self, Reading, Tags};
use super::{Codec, Framer, Params, Piece, Section, Tally};

/// What a frame's header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// Bytes of the whole frame, header included; never less than the header.
    pub len: usize,
    /// Samples a channel.
    pub samples: u32,
    /// Samples a second, never 0.
    pub sample_rate: u32,
    /// Channels, 0 where the header leaves it open.
    pub channels: u8,
    /// See [`Params::profile`].
    pub profile: u8,
    /// Bits a second, 0 where the header does not say.
    pub bitrate: u32,
    /// The bits of the header that never change within a stream: frames with another value do not confirm it.
    pub family: u32,
}

/// A frame format: how to read its header.
pub trait Header: Send {
    /// What its frames hold.
    const CODEC: Codec;
    /// Bytes needed to read a header.
    const LEN: usize;
    /// Reads the header at the start of `at`. `None` if there is none, or fewer than [`Self::LEN`] bytes.
    fn parse(at: &[u8]) -> Option<Frame>;
    /// Reads a header that leaves the frame's length open. `None` for formats that have none.
    fn parse_free(_: &[u8]) -> Option<FreeFrame> {
        None
    }
}

/// A frame in free format: all frames of the stream are as long as this one, padding apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FreeFrame {
    /// The frame, with a length of 0.
    pub frame: Frame,
    /// Bytes of padding.
    pub padding: usize,
    /// The shortest and the longest frame without padding that there can be.
    pub range: (usize, usize),
}

/// A header at a position.
enum Parsed {
    None,
    Wait,
    Frame(Frame),
}

/// What to do at a position.
enum Step {
    /// More bytes are needed to tell.
    Wait,
    /// So many bytes are no frame.
    Junk(usize),
    /// A tag, or a part of one, of so many bytes, which may not all be here yet.
    Tag(u64),
    /// A whole frame.
    Frame(Frame),
}

/// Cuts a stream of self-delimiting frames; `H` reads their headers.
pub struct FrameScanner<H> {
    carry: Carry,
    /// Setup of the section that runs, `None` before the first frame.
    section: Option<Params>,
    /// True while the position is right after a frame of the running section.
    locked: bool,
    tags: Tags,
    tag_left: u64,
    /// Length of frames in free format without padding, and their family.
    free: Option<(u32, usize)>,
    clock: SampleClock,
    tally: Tally,
    header: std::marker::PhantomData<fn() -> H>,
}

impl<H: Header> FrameScanner<H> {
    /// A scanner at the start of a stream.
    pub fn new() -> Self {
        Self {
            carry: Carry::default(),
            section: None,
            locked: false,
            tags: Tags::default(),
            tag_left: 0,
            free: None,
            clock: SampleClock::default(),
            tally: Tally::default(),
            header: std::marker::PhantomData,
        }
    }

    /// Handles all that can be decided in `data`; returns how many bytes that was.
    fn scan(&mut self, data: &[u8], out: &mut dyn FnMut(Piece<'_>)) -> usize {
        let mut position = 0;
        loop {
            let at = data.get(position..).unwrap_or_default();
            if self.tag_left > 0 {
                let here = at
                    .len()
                    .min(usize::try_from(self.tag_left).unwrap_or(usize::MAX));
                self.tag_left -= here as u64;
                self.tally.tag(here);
                position += here;
                if self.tag_left > 0 {
                    return position;
                }
                continue;
            }
            match self.step(at) {
                Step::Wait => return position,
                Step::Junk(count) => {
                    self.locked = false;
                    self.tally.junk(count);
                    position += count;
                }
                Step::Tag(count) => self.tag_left = count,
                Step::Frame(frame) => {
                    self.emit(frame, at.get(..frame.len).unwrap_or_default(), out);
                    position += frame.len;
                }
            }
        }
    }

    /// Judges the bytes at a position. Returns the same for the same bytes however many follow them, but for
    /// `Wait`, and for junk, of which a longer run may be found at once.
    fn step(&mut self, at: &[u8]) -> Step {
        if at.is_empty() {
            return Step::Wait;
        }
        // Anywhere but inside a frame: a song may have ended within one, and none begins like a tag.
        match self.tags.read(at) {
            Reading::Tag(len) => return Step::Tag(len),
            Reading::More => return Step::Wait,
            Reading::None => {}
        }
        if at.len() < H::LEN {
            return match is_candidate(at) {
                true => Step::Wait,
                false => Step::Junk(to_next_candidate(at)),
            };
        }
        let frame = match self.parse(at) {
            Parsed::Frame(frame) => frame,
            Parsed::Wait => return Step::Wait,
            Parsed::None => return Step::Junk(to_next_candidate(at)),
        };
        if self.locked && self.section == Some(params::<H>(&frame)) {
            if at.len() < frame.len {
                return Step::Wait;
            }
            return torn_by_tag::<H>(at, &frame).unwrap_or(Step::Frame(frame));
        }
        if at.len() < frame.len + H::LEN {
            return Step::Wait;
        }
        match at.get(frame.len..).and_then(family::<H>) {
            Some(next) if next == frame.family => Step::Frame(frame),
            _ => Step::Junk(to_next_candidate(at)),
        }
    }

    fn parse(&mut self, at: &[u8]) -> Parsed {
        if let Some(frame) = H::parse(at) {
            return Parsed::Frame(frame);
        }
        let Some(FreeFrame {
            mut frame, padding, ..
        }) = H::parse_free(at)
        else {
            return Parsed::None;
        };
        let known = self.free.filter(|(family, _)| *family == frame.family);
        if known.is_none() {
            match free_length::<H>(at) {
                Parsed::Frame(found) => self.free = Some((found.family, found.len)),
                other => return other,
            }
        }
        frame.len = self.free.map_or(0, |(_, len)| len) + padding;
        Parsed::Frame(frame)
    }

    fn emit(&mut self, frame: Frame, bytes: &[u8], out: &mut dyn FnMut(Piece<'_>)) {
        let params = params::<H>(&frame);
        if self.section.as_ref() != Some(&params) {
            self.clock = SampleClock::default();
            self.section = Some(params.clone());
            out(Piece::Section(Section {
                params,
                bitrate: frame.bitrate,
                header: bytes::Bytes::new(),
            }));
        }
        let micros = self
            .clock
            .advance(u64::from(frame.samples), frame.sample_rate);
        out(Piece::Media {
            bytes,
            micros,
            edge: true,
        });
        self.locked = true;
        self.tally.found(frame.len);
    }
}

impl<H: Header> Default for FrameScanner<H> {
    fn default() -> Self {
        Self::new()
    }
}

impl<H: Header> Framer for FrameScanner<H> {
    fn push(&mut self, input: &[u8], out: &mut dyn FnMut(Piece<'_>)) {
        let mut carry = std::mem::take(&mut self.carry);
        carry.feed(input, |at| self.scan(at, out));
        self.tally.waiting = carry.len();
        self.carry = carry;
    }

    fn tally(&self) -> Tally {
        self.tally
    }
}

/// The family of a header of either form at the start of `at`.
fn family<H: Header>(at: &[u8]) -> Option<u32> {
    let frame = H::parse(at).or_else(|| H::parse_free(at).map(|free| free.frame));
    frame.map(|frame| frame.family)
}

/// The length without padding of a frame in free format at the start of `at`: two more headers of its kind follow it at
/// that distance.
fn free_length<H: Header>(at: &[u8]) -> Parsed {
    let Some(first) = H::parse_free(at) else {
        return Parsed::None;
    };
    let like_first = |place: usize| {
        let next = at.get(place..place + H::LEN)?;
        Some(H::parse_free(next).filter(|next| next.frame.family == first.frame.family))
    };
    for len in first.range.0..=first.range.1 {
        let place = len + first.padding;
        let Some(second) = like_first(place) else {
            return Parsed::Wait;
        };
        let Some(second) = second else { continue };
        match like_first(place + len + second.padding) {
            None => return Parsed::Wait,
            Some(Some(_)) => return Parsed::Frame(Frame { len, ..first.frame }),
            Some(None) => {}
        }
    }
    Parsed::None
}

fn params<H: Header>(frame: &Frame) -> Params {
    Params {
        codec: H::CODEC,
        sample_rate: frame.sample_rate,
        channels: frame.channels,
        profile: frame.profile,
    }
}

/// The step at a frame at the start of `at` in which a tag begins and after which none follows: its song ended there. `None` for
/// every other frame. A tag of which the frame has one byte is not seen, and a frame that looks like one with a tag in it waits for the
/// header behind it.
fn torn_by_tag<H: Header>(at: &[u8], frame: &Frame) -> Option<Step> {
    let from = |start: usize| at.get(start..).unwrap_or_default();
    let reading = |start: usize| Tags::default().read(from(start));
    let inside = H::LEN..frame.len.saturating_sub(1);
    let mut read = inside
        .filter(|start| tags::begins(from(*start)))
        .map(|start| (start, reading(start)));
    let (start, found) = read.find(|(_, found)| *found != Reading::None)?;
    let Some(next) = at.get(frame.len..frame.len + H::LEN) else {
        return Some(Step::Wait);
    };
    if family::<H>(next) == Some(frame.family) {
        return None;
    }
    Some(match found {
        Reading::Tag(_) => Step::Junk(start),
        _ => Step::Wait,
    })
}

/// Bytes from the start of `at`, which is no frame, to the next byte that may begin one, or a tag.
fn to_next_candidate(at: &[u8]) -> usize {
    let is_next = |from: &usize| is_candidate(at.get(*from..).unwrap_or_default());
    (1..at.len()).find(is_next).unwrap_or(at.len())
}

/// True where a frame or a tag may begin.
fn is_candidate(at: &[u8]) -> bool {
    at.first() == Some(&0xFF) || tags::begins(at)
}

/// Turns samples into microseconds without losing the fractions.
#[derive(Debug, Default)]
pub struct SampleClock {
    /// What the last division left, in millionths of a sample.
    remainder: u64,
}

impl SampleClock {
    /// Microseconds that `samples` more take at `rate` samples a second; 0 if the rate is 0.
    pub fn advance(&mut self, samples: u64, rate: u32) -> u64 {
        if rate == 0 {
            return 0;
        }
        let parts = samples
            .saturating_mul(1_000_000)
            .saturating_add(self.remainder);
        self.remainder = parts % u64::from(rate);
        parts / u64::from(rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_keeps_fractions() {
        let mut clock = SampleClock::default();
        // 44,100 / 1,152 is no whole number: 1,225 frames last exactly 32 s.
        let total: u64 = (0..1_225).map(|_| clock.advance(1_152, 44_100)).sum();
        assert_eq!(total, 32_000_000);
        assert_eq!(SampleClock::default().advance(1_152, 44_100), 26_122);
        assert_eq!(SampleClock::default().advance(5, 0), 0);
    }

    #[test]
    fn the_next_candidate_is_never_the_first_byte() {
        assert_eq!(to_next_candidate(&[0xFF, 0xFF, 0]), 1);
        assert_eq!(to_next_candidate(&[0xFF, 0, 0, 0xFF]), 3);
        assert_eq!(to_next_candidate(&[0, 0, 0]), 3);
        assert_eq!(to_next_candidate(&[0]), 1);
    }
}
