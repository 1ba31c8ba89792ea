//! From a source's bytes to whole frames or pages: one file a format.
//!
//! Only whole frames and pages leave a framer, each once and verbatim; what is between them (junk, a leading
//! ID3 tag, a torn end) is skipped and counted. Must never: hold a socket, read the clock, or panic on any
//! input. The caller is `engine::intake`.

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
    /// What else sets a decoder up: MPEG version and layer, AAC profile; 0 where there is nothing.
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

/// Cuts a stream at frame edges.
pub trait Framer: Send {
    /// Takes the next bytes, in any split, and calls `out` for all that is whole by now.
    fn push(&mut self, input: &[u8], out: &mut dyn FnMut(Piece<'_>));

    /// Bytes skipped so far: junk, tags, torn frames.
    fn skipped(&self) -> u64;
}
