//! Header packets without their pictures, cut while they come in, so that a picture is never in memory.
//!
//! Vorbis, Opus and Theora have it as a comment (the Vorbis comment specification; RFC 7845 5.2), FLAC as a metadata block,
//! which is a packet (RFC 9639 8.8 and 10.1). Anything that does not read like that is kept as it is.

use super::page::Part;

/// Comments that hold a picture: <https://wiki.xiph.org/VorbisComment>, and the form of before it.
const PICTURES: [&[u8]; 2] = [b"METADATA_BLOCK_PICTURE=", b"COVERART="];
/// Bytes of a comment after which its key is known.
const LONGEST_KEY: usize = 23;

/// First bytes of a FLAC stream's first packet.
const FLAC: &[u8] = b"\x7FFLAC";
/// Place of the count of further header packets in it, two bytes.
const FLAC_COUNT: usize = 7;
/// Metadata block types of FLAC.
const PADDING: u8 = 1;
const COMMENTS: u8 = 4;
const PICTURE: u8 = 6;
/// Flag of the last metadata block.
const LAST: u8 = 0x80;

/// Cuts the header packets of one logical stream.
#[derive(Debug, Default)]
pub struct Cutter {
    packets: Vec<Vec<u8>>,
    /// Bytes in `packets`.
    kept: usize,
    is_flac: bool,
    dropped: u16,
    /// A block that was dropped was said to be the last one.
    last_dropped: bool,
    current: Packet,
    /// True if a packet has begun that has not ended.
    is_open: bool,
}

/// The packet that comes in.
#[derive(Debug)]
enum Packet {
    /// Too short to be judged.
    Begun(Vec<u8>),
    Kept(Vec<u8>),
    Comments(Box<Comments>),
    Dropped,
}

impl Default for Packet {
    fn default() -> Self {
        Self::Begun(Vec::new())
    }
}

impl Cutter {
    /// Bytes in memory.
    pub fn kept(&self) -> usize {
        let current = match &self.current {
            Packet::Begun(bytes) | Packet::Kept(bytes) => bytes.len(),
            Packet::Comments(comments) => comments.out.len(),
            Packet::Dropped => 0,
        };
        self.kept + current
    }

    /// Takes the next part of a packet.
    pub fn push(&mut self, part: &Part<'_>) {
        if part.starts {
            self.current = Packet::default();
        }
        self.is_open = !part.ends;
        self.take(part.bytes);
        if part.ends {
            self.end_packet();
        }
    }

    /// The packets. `None` where the last one has no end.
    pub fn finish(mut self) -> Option<Vec<Vec<u8>>> {
        if self.is_open {
            return None;
        }
        if self.is_flac {
            self.count_blocks();
        }
        Some(self.packets)
    }

    fn take(&mut self, bytes: &[u8]) {
        match &mut self.current {
            Packet::Begun(begun) => {
                begun.extend_from_slice(bytes);
                let begun = std::mem::take(begun);
                self.current = self.judge(begun);
            }
            Packet::Kept(kept) => kept.extend_from_slice(bytes),
            Packet::Comments(comments) => comments.push(bytes),
            Packet::Dropped => {}
        }
    }

    /// Eight bytes, or the whole packet, tell the kind of one.
    fn judge(&mut self, begun: Vec<u8>) -> Packet {
        if begun.len() < 8 {
            return Packet::Begun(begun);
        }
        if self.packets.is_empty() {
            self.is_flac = begun.starts_with(FLAC);
            return Packet::Kept(begun);
        }
        let block = begun.first().copied().unwrap_or_default();
        let front = match block & !LAST {
            PICTURE | PADDING if self.is_flac => {
                self.last_dropped |= block & LAST != 0;
                self.dropped = self.dropped.saturating_add(1);
                return Packet::Dropped;
            }
            COMMENTS if self.is_flac => 4,
            _ if self.is_flac => return Packet::Kept(begun),
            _ if begun.starts_with(b"OpusTags") => 8,
            _ if begun.starts_with(b"\x03vorbis") || begun.starts_with(b"\x81theora") => 7,
            _ => return Packet::Kept(begun),
        };
        let mut comments = Comments::after(front);
        comments.push(&begun);
        Packet::Comments(Box::new(comments))
    }

    fn end_packet(&mut self) {
        let packet = match std::mem::take(&mut self.current) {
            Packet::Begun(bytes) | Packet::Kept(bytes) => bytes,
            Packet::Comments(comments) => comments.finish(self.is_flac),
            Packet::Dropped => return,
        };
        self.kept += packet.len();
        self.packets.push(packet);
    }

    /// The first packet says how many follow, the last one that it is the last.
    fn count_blocks(&mut self) {
        let first = self.packets.first_mut();
        let count = first.and_then(|first| first.get_mut(FLAC_COUNT..)?.first_chunk_mut::<2>());
        if let Some(count) = count {
            *count = u16::from_be_bytes(*count)
                .saturating_sub(self.dropped)
                .to_be_bytes();
        }
        if self.last_dropped
            && self.packets.len() > 1
            && let Some(last) = self.packets.last_mut().and_then(|last| last.first_mut())
        {
            *last |= LAST;
        }
    }
}

/// A comment packet, of which pictures are left out.
#[derive(Debug)]
struct Comments {
    out: Vec<u8>,
    state: State,
    /// A number of four bytes, or a key, that has not come whole.
    pending: Vec<u8>,
    /// Place of the count of comments in `out`.
    count_at: usize,
    /// Comments that are still to come.
    left: u32,
    dropped: u32,
    /// Bytes of the key so far whose comment is to be judged.
    length: usize,
}

/// Part of the packet that comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// So many bytes before the vendor's length.
    Front(usize),
    VendorLength,
    Vendor(usize),
    Count,
    Length,
    Key,
    Keep(usize),
    Drop(usize),
    /// The framing bit of Vorbis, or what does not belong there.
    Rest,
}

impl Comments {
    fn after(front: usize) -> Self {
        Self {
            out: Vec::new(),
            state: State::Front(front),
            pending: Vec::new(),
            count_at: 0,
            left: 0,
            dropped: 0,
            length: 0,
        }
    }

    fn push(&mut self, mut input: &[u8]) {
        while !input.is_empty() {
            match self.state {
                State::Front(left) => {
                    self.copy(&mut input, left, State::Front, State::VendorLength)
                }
                State::VendorLength => self.number(&mut input, |s, n| {
                    s.out.extend_from_slice(&n.to_le_bytes());
                    s.state = State::Vendor(n as usize).or(State::Count);
                }),
                State::Vendor(left) => self.copy(&mut input, left, State::Vendor, State::Count),
                State::Count => self.number(&mut input, |s, n| {
                    s.count_at = s.out.len();
                    s.out.extend_from_slice(&n.to_le_bytes());
                    s.left = n;
                    s.state = s.next_comment();
                }),
                State::Length => self.number(&mut input, |s, n| {
                    s.left = s.left.saturating_sub(1);
                    s.length = n as usize;
                    s.state = State::Key;
                    s.judge();
                }),
                State::Key => {
                    let missing = self.length.min(LONGEST_KEY) - self.pending.len();
                    let part = taken(&mut input, missing);
                    self.pending.extend_from_slice(part);
                    self.judge();
                }
                State::Keep(left) => {
                    let next = self.next_comment();
                    self.copy(&mut input, left, State::Keep, next);
                }
                State::Drop(left) => {
                    let part = taken(&mut input, left);
                    self.state = State::Drop(left - part.len()).or(self.next_comment());
                }
                State::Rest => self.out.extend_from_slice(std::mem::take(&mut input)),
            }
        }
    }

    /// Copies up to `left` bytes; `then` follows the last of them.
    fn copy(&mut self, input: &mut &[u8], left: usize, again: fn(usize) -> State, then: State) {
        let part = taken(input, left);
        self.out.extend_from_slice(part);
        self.state = again(left - part.len()).or(then);
    }

    /// Collects a number of four bytes.
    fn number(&mut self, input: &mut &[u8], then: impl FnOnce(&mut Self, u32)) {
        let part = taken(input, 4 - self.pending.len());
        self.pending.extend_from_slice(part);
        if let Some(bytes) = self.pending.first_chunk::<4>() {
            let number = u32::from_le_bytes(*bytes);
            self.pending.clear();
            then(self, number);
        }
    }

    /// Keeps or drops a comment once its key is there.
    fn judge(&mut self) {
        if self.pending.len() < self.length.min(LONGEST_KEY) {
            return;
        }
        let rest = self.length - self.pending.len();
        let pending = std::mem::take(&mut self.pending);
        let begins_with = |key: &&[u8]| {
            let begin = pending.get(..key.len());
            begin.is_some_and(|begin| begin.eq_ignore_ascii_case(key))
        };
        if PICTURES.iter().any(begins_with) {
            self.dropped += 1;
            self.state = State::Drop(rest).or(self.next_comment());
            return;
        }
        let length = u32::try_from(self.length).unwrap_or(u32::MAX);
        self.out.extend_from_slice(&length.to_le_bytes());
        self.out.extend_from_slice(&pending);
        self.state = State::Keep(rest).or(self.next_comment());
    }

    fn next_comment(&self) -> State {
        match self.left {
            0 => State::Rest,
            _ => State::Length,
        }
    }

    fn finish(mut self, is_flac: bool) -> Vec<u8> {
        self.out.extend_from_slice(&self.pending);
        let count = self
            .out
            .get_mut(self.count_at..)
            .and_then(|at| at.first_chunk_mut::<4>());
        if self.dropped > 0
            && let Some(count) = count
        {
            *count = u32::from_le_bytes(*count)
                .saturating_sub(self.dropped)
                .to_le_bytes();
        }
        let body = u32::try_from(self.out.len().saturating_sub(4)).unwrap_or(u32::MAX);
        if is_flac && let Some([_, length @ ..]) = self.out.first_chunk_mut::<4>() {
            let [_, high, middle, low] = body.to_be_bytes();
            *length = [high, middle, low];
        }
        self.out
    }
}

impl State {
    /// Goes on to `then` where nothing of this part is left.
    fn or(self, then: Self) -> Self {
        match self {
            Self::Front(0) | Self::Vendor(0) | Self::Keep(0) | Self::Drop(0) => then,
            _ => self,
        }
    }
}

/// The front of `input`, at most `limit` bytes, which it loses.
fn taken<'a>(input: &mut &'a [u8], limit: usize) -> &'a [u8] {
    let (part, rest) = input.split_at_checked(limit).unwrap_or((input, &[]));
    *input = rest;
    part
}
