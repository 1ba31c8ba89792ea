//! Ogg: pages with a right checksum, grouped into sections by their header pages (RFC 3533).
//!
//! A section is what decoders call a link of a chain: all logical streams that begin together. Its header pages are
//! held back until its first data page, so that the section is complete when it is announced; data pages leave as
//! soon as they are whole. A section whose headers are incomplete, or beyond the bound even without their pictures, is
//! given up: skipped up to the next first page. The neighbours in here: `page` (one page), `logical` (one stream),
//! `headers` and `cut` (header pages, pictures), `comments` (titles), `retitle` (titles that are set).

mod comments;
mod cut;
mod headers;
mod logical;
mod page;
mod retitle;
#[cfg(test)]
mod testing;

pub use comments::comment_title;
pub use retitle::{Retitled, can_retitle};

use super::carry::Carry;
use super::{Codec, Framer, Params, Piece, Section, Tally, Unplayable};
use headers::Headers;
use logical::Logical;
pub(super) use page::{Found, Page};

/// The most logical streams at once.
const STREAM_LIMIT: usize = 16;

/// Where in a section the stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Before the first page of any logical stream.
    Outside,
    /// Only first pages so far.
    FirstPages,
    /// Further header pages.
    Headers,
    /// Data pages.
    Data,
}

/// Cuts an Ogg stream into pages and sections.
pub struct OggFramer {
    carry: Carry,
    phase: Phase,
    streams: Vec<Logical>,
    /// The header pages of a section that is not announced yet.
    headers: Headers,
    /// Most bytes of header packets that are kept.
    limit: usize,
    /// True from where a section was given up, or could not begin, to the next one.
    is_unplayable: bool,
    tally: Tally,
}

/// A framer for Ogg whose sections have at most `limit` bytes of headers, pictures apart.
pub fn framer(limit: usize) -> Box<dyn Framer> {
    Box::new(OggFramer::new(limit))
}

impl OggFramer {
    /// A framer at the start of a stream; see [`framer`].
    pub fn new(limit: usize) -> Self {
        Self {
            carry: Carry::default(),
            phase: Phase::Outside,
            streams: Vec::new(),
            headers: Headers::default(),
            limit,
            is_unplayable: false,
            tally: Tally::default(),
        }
    }

    fn scan(&mut self, data: &[u8], out: &mut dyn FnMut(Piece<'_>)) -> usize {
        let mut position = 0;
        while let Some(at) = data.get(position..).filter(|at| !at.is_empty()) {
            match Page::at(at) {
                Found::Wait => break,
                Found::Junk(count) => {
                    self.tally.junk(count);
                    position += count;
                }
                Found::Page(page) => {
                    self.tally.lost = 0;
                    self.take(&page, out);
                    position += page.bytes.len();
                }
            }
        }
        position
    }

    fn take(&mut self, page: &Page<'_>, out: &mut dyn FnMut(Piece<'_>)) {
        if page.is_first() {
            return self.take_first(page, out);
        }
        let Some(index) = self
            .streams
            .iter()
            .position(|stream| stream.serial == page.serial)
        else {
            return self.skip(page, out);
        };
        match self.phase {
            Phase::Outside => self.skip(page, out),
            Phase::Data => self.emit_data(index, page, out),
            Phase::FirstPages | Phase::Headers => {
                let Some(stream) = self.streams.get_mut(index) else {
                    return;
                };
                if !stream.is_data(page) {
                    stream.add_header(page);
                    self.phase = Phase::Headers;
                    self.hold(page, out);
                } else if self.announce(out) {
                    self.phase = Phase::Data;
                    self.emit_data(index, page, out);
                } else {
                    self.skip(page, out);
                }
            }
        }
    }

    /// The first page of a logical stream: one more beside those that have just begun, or a new section.
    fn take_first(&mut self, page: &Page<'_>, out: &mut dyn FnMut(Piece<'_>)) {
        let known = self
            .streams
            .iter()
            .any(|stream| stream.serial == page.serial);
        if self.phase != Phase::FirstPages || known {
            // A section without data is passed on all the same if it is complete: its comments may be a title.
            self.announce(out);
            self.streams.clear();
            self.phase = Phase::FirstPages;
        }
        self.streams.push(Logical::new(page));
        self.hold(page, out);
        if self.streams.len() > STREAM_LIMIT {
            self.give_up(Unplayable::Streams, out);
        }
    }

    /// Keeps a header page until the section is announced.
    fn hold(&mut self, page: &Page<'_>, out: &mut dyn FnMut(Piece<'_>)) {
        self.tally.held += page.bytes.len() as u64;
        if self.headers.add(page, self.limit).is_err() {
            self.give_up(Unplayable::Headers, out);
        }
    }

    /// Skips the section: what is held, and all pages until the next first one.
    fn give_up(&mut self, why: Unplayable, out: &mut dyn FnMut(Piece<'_>)) {
        self.tally.give_up_held();
        self.headers = Headers::default();
        self.streams.clear();
        self.phase = Phase::Outside;
        self.say(why, out);
    }

    /// Emits the section and its header pages. False if a decoder could not start with them: then they are skipped.
    fn announce(&mut self, out: &mut dyn FnMut(Piece<'_>)) -> bool {
        let taken = self.headers.taken();
        if taken == 0 {
            return false;
        }
        let is_ready = self.streams.iter().all(Logical::is_ready);
        let finished = if is_ready {
            self.headers.finish()
        } else {
            None
        };
        let Some((header, ends)) = finished else {
            self.give_up(Unplayable::Headless, out);
            return false;
        };
        self.is_unplayable = false;
        let (params, bitrate) = self.setup();
        out(Piece::Section(Section {
            params,
            bitrate,
            header: header.clone(),
        }));
        let mut start = 0;
        for end in ends {
            out(Piece::Media {
                bytes: header.get(start..end).unwrap_or_default(),
                micros: 0,
                edge: start == 0,
            });
            start = end;
        }
        self.tally.emit_held(header.len());
        true
    }

    fn emit_data(&mut self, index: usize, page: &Page<'_>, out: &mut dyn FnMut(Piece<'_>)) {
        let timing = self.streams.iter().position(Logical::is_timed);
        let Some(stream) = self.streams.get_mut(index) else {
            return;
        };
        let micros = stream.advance(page);
        out(Piece::Media {
            bytes: page.bytes,
            micros: if timing == Some(index) { micros } else { 0 },
            edge: !page.continues(),
        });
        self.tally.found(page.bytes.len());
        if self.streams.iter().all(|stream| stream.ended) {
            self.streams.clear();
            self.phase = Phase::Outside;
        }
    }

    /// The setup of the first audio stream; with several streams at once the codec is just Ogg.
    fn setup(&self) -> (Params, u32) {
        let audio = self.streams.iter().find(|stream| stream.is_timed());
        let Some(stream) = audio.or(self.streams.first()) else {
            let params = Params {
                codec: Codec::Ogg,
                sample_rate: 0,
                channels: 0,
                profile: 0,
            };
            return (params, 0);
        };
        let mut params = stream.params.clone();
        if self.streams.len() > 1 {
            params.codec = Codec::Ogg;
        }
        (params, stream.bitrate)
    }

    /// Skips a page that nobody can use: a stranger between others, or one of a section that did not begin.
    fn skip(&mut self, page: &Page<'_>, out: &mut dyn FnMut(Piece<'_>)) {
        self.tally.unheard(page.bytes.len());
        if self.phase == Phase::Outside && !self.is_unplayable {
            self.say(Unplayable::Headless, out);
        }
    }

    fn say(&mut self, why: Unplayable, out: &mut dyn FnMut(Piece<'_>)) {
        self.is_unplayable = true;
        out(Piece::Unplayable(why));
    }
}

impl Framer for OggFramer {
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

#[cfg(test)]
mod tests;
