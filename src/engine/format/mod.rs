//! From a source's bytes to whole frames or pages: one file a format.
//!
//! Only whole frames and pages leave a framer, each once and verbatim; what is between them (junk, tags, a
//! torn end) is skipped and counted. Must never: hold a socket, read the clock, or panic on any
//! input. The caller is `engine::intake`.

pub mod adts;
mod carry;
pub mod containers;
mod content_type;
mod detect;
mod frames;
mod loas;
pub mod mpeg;
pub mod ogg;
pub mod opaque;
mod tags;
#[cfg(test)]
mod testing;
mod whole;

pub use content_type::{is_known_type, is_taken, normalise_content_type, without_parameters};
pub use detect::Detector;
pub use whole::whole;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// What the bytes are coded in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Codec {
    /// MPEG audio, layer I to III.
    Mp3,
    /// AAC in ADTS.
    Aac,
    /// Ogg with Vorbis.
    Vorbis,
    /// Ogg with Opus.
    Opus,
    /// Ogg with FLAC.
    Flac,
    /// Ogg with anything else, or with several streams at once.
    Ogg,
    /// Not looked into.
    Opaque,
}

impl Codec {
    /// True for the codecs that travel in Ogg pages: they never get `icy-metaint`, and a late joiner needs
    /// the section's header pages first.
    pub fn is_ogg(self) -> bool {
        matches!(self, Self::Vorbis | Self::Opus | Self::Flac | Self::Ogg)
    }
}

/// What a decoder would have to be set up anew for. Two sections with equal parameters play on without a
/// break (bit rate apart, which may vary within a stream).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Params {
    /// The codec.
    pub codec: Codec,
    /// Samples a second, 0 where unknown.
    pub sample_rate: u32,
    /// Channels, 0 where unknown.
    pub channels: u8,
    /// What else sets a decoder up, 0 where there is nothing. MPEG: version (1, 2, or 5 for 2.5) in the upper half
    /// byte, layer in the lower. AAC: the audio object type. Opus: the channel mapping family. FLAC: bits a sample.
    pub profile: u8,
}

/// The beginning of a run of bytes that one decoder setup can play.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// The decoder's setup.
    pub params: Params,
    /// Nominal bits a second, 0 where unknown.
    pub bitrate: u32,
    /// For Ogg the header pages, verbatim: these very bytes follow in the stream as the section's first
    /// pieces, and a listener who joins later gets them first. Empty for all other formats.
    pub header: Bytes,
}

/// One thing that a framer found, in stream order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece<'a> {
    /// What follows needs this setup. Comes before the first piece of every stream, and again when the
    /// parameters change (for Ogg: at every chained stream).
    Section(Section),
    /// Whole frames or one page.
    Media {
        /// The bytes, verbatim.
        bytes: &'a [u8],
        /// How long they play, in microseconds; 0 for header pages and where it is unknown.
        micros: u64,
        /// True if a listener may start at the first of these bytes (given the section's header).
        edge: bool,
    },
    /// The stream is of this content type, and not of the one that was declared. Comes before the first section, from a
    /// [`Detector`] only.
    Type(&'static str),
    /// From here to the next section nothing that comes can be heard. Said once, at its beginning.
    Unplayable(Unplayable),
}

/// Reason why bytes that belong to the format are heard by nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unplayable {
    /// Ogg pages without the header pages of their stream.
    #[error("Ogg pages of a stream whose header pages did not come whole")]
    Headless,
    /// Headers beyond the bound.
    #[error("headers of more than 16 MiB, or than `ring.max_bytes`, pictures apart")]
    Headers,
    /// A container in a form that nobody can join.
    #[error(
        "a container that no listener could join: an MP4 that is not fragmented, or one that is damaged"
    )]
    Container,
    /// Too many logical Ogg streams at once.
    #[error("more than 16 Ogg streams in one")]
    Streams,
}

/// So many bytes without a frame ([`Tally::lost`]) are no damage any more, but another format.
pub const GARBAGE: u64 = 64 * 1024;

/// The largest header of a section and the largest tag that are waited for, in bytes.
pub const LARGEST_HEADER: usize = 16 * 1024 * 1024;

/// Counts of a framer's bytes. Its input is `found` + [`Tally::skipped`] + `held` + `waiting`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Media emitted so far.
    pub found: u64,
    /// Bytes of the format that are of no use to a listener: tags, pictures, pages without their headers.
    pub apart: u64,
    /// Bytes that belong to nothing.
    pub junk: u64,
    /// Header pages that are held back until their section is announced.
    pub held: u64,
    /// Bytes of a frame, page or tag that has begun and has not come whole, or that cannot be judged yet.
    pub waiting: u64,
    /// Junk since the last frame or page. A source for which this reaches [`GARBAGE`] does not send what its content
    /// type says, and should be ended.
    pub lost: u64,
    /// Bytes since the last media, tags and headers apart, that belong to the format and that nobody can hear.
    pub unheard: u64,
}

impl Tally {
    /// Bytes skipped so far: junk, tags, torn frames.
    pub fn skipped(&self) -> u64 {
        self.apart + self.junk
    }

    /// Bytes so far that belong to the format.
    pub fn known(&self) -> u64 {
        self.found + self.apart + self.held + self.waiting
    }

    fn found(&mut self, count: usize) {
        self.found += count as u64;
        (self.lost, self.unheard) = (0, 0);
    }

    fn junk(&mut self, count: usize) {
        self.junk += count as u64;
        self.lost += count as u64;
    }

    fn tag(&mut self, count: usize) {
        self.apart += count as u64;
    }

    fn unheard(&mut self, count: usize) {
        self.apart += count as u64;
        self.unheard += count as u64;
    }

    /// All that was held back is of no use.
    fn give_up_held(&mut self) {
        let held = std::mem::take(&mut self.held);
        self.apart += held;
        self.unheard += held;
    }

    /// Of all that was held back, `count` bytes were emitted.
    fn emit_held(&mut self, count: usize) {
        let held = std::mem::take(&mut self.held);
        self.found += count as u64;
        self.apart += held.saturating_sub(count as u64);
    }
}

/// Cuts a stream at frame edges. Bytes that are whole when the source ends have been emitted; what is held back
/// then is torn, and dropped with the framer.
pub trait Framer: Send {
    /// Takes the next bytes, in any split, and calls `out` for all that is whole by now.
    fn push(&mut self, input: &[u8], out: &mut dyn FnMut(Piece<'_>));

    /// Counts of the bytes so far.
    fn tally(&self) -> Tally;
}

impl<F: Framer + ?Sized> Framer for Box<F> {
    fn push(&mut self, input: &[u8], out: &mut dyn FnMut(Piece<'_>)) {
        (**self).push(input, out);
    }

    fn tally(&self) -> Tally {
        (**self).tally()
    }
}
