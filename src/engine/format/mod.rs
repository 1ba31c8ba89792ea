//! From a source's bytes to whole frames or pages: one file a format.
//!
//! Only whole frames and pages leave a framer, each once and verbatim; what is between them (junk, tags, a
//! torn end) is skipped and counted. Must never: hold a socket, read the clock, or panic on any
//! input. The caller is `engine::intake`.

pub mod adts;
mod carry;
mod content_type;
mod frames;
pub mod mpeg;
pub mod ogg;
pub mod opaque;
mod tags;
#[cfg(test)]
mod testing;
mod whole;

pub use content_type::{for_content_type, is_ogg_type, normalise_content_type};
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
}

/// So many bytes without a frame ([`Framer::lost`]) are no damage any more, but another format.
pub const GARBAGE: u64 = 64 * 1024;

/// Cuts a stream at frame edges. Bytes that are whole when the source ends have been emitted; what is held back
/// then is torn, and dropped with the framer.
pub trait Framer: Send {
    /// Takes the next bytes, in any split, and calls `out` for all that is whole by now.
    fn push(&mut self, input: &[u8], out: &mut dyn FnMut(Piece<'_>));

    /// Bytes skipped so far: junk, tags, torn frames.
    fn skipped(&self) -> u64;

    /// Bytes of media emitted so far. Input is `found` + `skipped` + what a framer still holds back, which is
    /// less than one frame or page and, for Ogg, the header pages of a section that has no data yet.
    fn found(&self) -> u64;

    /// Bytes since the last frame or page that belong to none, tags apart. A source for which this reaches
    /// [`GARBAGE`] does not send what its content type says, and should be ended. (`found` is no measure for that:
    /// a tag or Ogg headers with a picture in them may come before the first frame.)
    fn lost(&self) -> u64;
}
