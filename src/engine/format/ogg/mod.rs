//! Ogg: pages with a right checksum, grouped into sections by their header pages (RFC 3533).
//!
//! A section is what decoders call a link of a chain: all logical streams that begin together. Its header pages are
//! held back until its first data page, so that the section is complete when it is announced; data pages leave as
//! soon as they are whole. A section whose headers are incomplete, or larger than 256 KiB, is skipped up to the next
//! first page. The neighbours in here: `page` (one page), `logical` (one stream), `comments` (titles).

mod comments;
mod logical;
mod page;
#[cfg(test)]
mod testing;

pub use comments::{Tags, comment_tags, comment_title};

use super::carry::Carry;
use super::{Codec, Framer, Params, Piece, Section};
use bytes::Bytes;
use logical::Logical;
pub(super) use page::{Found, Page};

/// The most that the header pages of a section may take.
const HEADER_LIMIT: usize = 256 * 1024;
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
    header: Vec<u8>,
    /// Where each of these pages ends.
    page_ends: Vec<usize>,
    skipped: u64,
    found: u64,
    lost: u64,
}

/// A framer for Ogg.
pub fn framer() -> Box<dyn Framer> {
    Box::new(OggFramer::new())
}

impl OggFramer {
    /// A framer at the start of a stream.
    pub fn new() -> Self {
        Self {
            carry: Carry::default(),
            phase: Phase::Outside,
            streams: Vec::new(),
            header: Vec::new(),
            page_ends: Vec::new(),
            skipped: 0,
            found: 0,
            lost: 0,
        }
    }

    fn scan(&mut self, data: &[u8], out: &mut dyn FnMut(Piece<'_>)) -> usize {
        let mut position = 0;
        while let Some(at) = data.get(position..).filter(|at| !at.is_empty()) {
            match Page::at(at) {
                Found::Wait => break,
                Found::Junk(count) => {
                    self.skip(count);
                    self.lost += count as u64;
                    position += count;
                }
                Found::Page(page) => {
                    self.lost = 0;
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
            return self.skip(page.bytes.len());
        };
        match self.phase {
            Phase::Outside => self.skip(page.bytes.len()),
            Phase::Data => self.emit_data(index, page, out),
            Phase::FirstPages | Phase::Headers => {
                let Some(stream) = self.streams.get_mut(index) else {
                    return;
                };
                if !stream.is_data(page) {
                    stream.add_header(page);
                    self.phase = Phase::Headers;
                    self.hold(page);
                } else if self.announce(out) {
                    self.phase = Phase::Data;
                    self.emit_data(index, page, out);
                } else {
                    self.skip(page.bytes.len());
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
        self.hold(page);
        if self.streams.len() > STREAM_LIMIT {
            self.give_up();
        }
    }

    /// Keeps a header page until the section is announced.
    fn hold(&mut self, page: &Page<'_>) {
        self.header.extend_from_slice(page.bytes);
        self.page_ends.push(self.header.len());
        if self.header.len() > HEADER_LIMIT {
            self.give_up();
        }
    }

    /// Skips the section: what is held, and all pages until the next first one.
    fn give_up(&mut self) {
        self.skip(self.header.len());
        self.header = Vec::new();
        self.page_ends.clear();
        self.streams.clear();
        self.phase = Phase::Outside;
    }

    /// Emits the section and its header pages. False if a decoder could not start with them: then they are skipped.
    fn announce(&mut self, out: &mut dyn FnMut(Piece<'_>)) -> bool {
        if self.header.is_empty() {
            return false;
        }
        if !self.streams.iter().all(Logical::is_ready) {
            self.give_up();
            return false;
        }
        let header = Bytes::from(std::mem::take(&mut self.header));
        let (params, bitrate) = self.setup();
        out(Piece::Section(Section {
            params,
            bitrate,
            header: header.clone(),
        }));
        let mut start = 0;
        for end in self.page_ends.drain(..) {
            out(Piece::Media {
                bytes: header.get(start..end).unwrap_or_default(),
                micros: 0,
                edge: start == 0,
            });
            start = end;
        }
        self.found += header.len() as u64;
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
        self.found += page.bytes.len() as u64;
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

    /// Skips whole pages: of no use, but no garbage either.
    fn skip(&mut self, count: usize) {
        self.skipped += count as u64;
    }
}

impl Default for OggFramer {
    fn default() -> Self {
        Self::new()
    }
}

impl Framer for OggFramer {
    fn push(&mut self, input: &[u8], out: &mut dyn FnMut(Piece<'_>)) {
        let mut carry = std::mem::take(&mut self.carry);
        carry.feed(input, |at| self.scan(at, out));
        self.carry = carry;
    }

    fn skipped(&self) -> u64 {
        self.skipped
    }

    fn found(&self) -> u64 {
        self.found
    }

    fn lost(&self) -> u64 {
        self.lost
    }
}

#[cfg(test)]
mod tests;
