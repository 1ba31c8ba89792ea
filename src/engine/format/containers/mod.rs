//! Containers: what a late listener needs first, and where one may start.
//!
//! Each framer gives the beginning of its stream as the section's header, and marks the places at which a decoder that has
//! it can start. A section of a container never goes on in another one: decoders take one beginning a connection.

mod ebml;
mod elements;
mod flac;
mod mp4;
mod pcm;
#[cfg(test)]
mod tests;
mod tracks;
mod wav;

pub use pcm::Pcm;

use super::carry::Scanner;
use super::{Framer, Piece, Section, Tally, opaque};

/// The longest piece of audio, so that a place to start is never far.
const PIECE: usize = 8 * 1024;

/// A framer for Matroska and WebM.
pub fn ebml(limit: usize) -> Box<dyn Framer> {
    Box::new(Scanner::new(ebml::EbmlScan::new(limit)))
}

/// A framer for FLAC that is not in Ogg.
pub fn flac(limit: usize) -> Box<dyn Framer> {
    Box::new(Scanner::new(flac::FlacScan::new(limit)))
}

/// A framer for fragmented MP4.
pub fn mp4(limit: usize) -> Box<dyn Framer> {
    Box::new(Scanner::new(mp4::Mp4Scan::new(limit)))
}

/// A framer for WAV.
pub fn wav(limit: usize) -> Box<dyn Framer> {
    Box::new(Scanner::new(wav::WavScan::new(limit)))
}

/// A framer for samples without a header.
pub fn pcm(pcm: Pcm) -> Box<dyn Framer> {
    Box::new(Scanner::new(pcm::PcmScan::new(pcm)))
}

/// Kind of a stream of which nothing more will be played.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    /// Another format, or none.
    Other,
    /// The format, in a form that a live stream cannot have.
    Unplayable,
}

impl Over {
    /// Counts `len` bytes of such a stream, and returns that many.
    fn count(self, len: usize, tally: &mut Tally) -> usize {
        match self {
            Self::Other => tally.junk(len),
            Self::Unplayable => tally.unheard(len),
        }
        len
    }
}

/// Bytes of a part that is left out which are still to come.
#[derive(Debug, Default)]
struct Skip(u64);

impl Skip {
    /// Counts those at the start of `at`, and returns how many they are.
    fn take(&mut self, at: &[u8], tally: &mut Tally) -> usize {
        let here = at.len().min(usize::try_from(self.0).unwrap_or(usize::MAX));
        self.0 -= here as u64;
        tally.tag(here);
        here
    }
}

/// A section with this header.
fn section(header: Vec<u8>) -> Section {
    opaque::section(header.into())
}

/// Emits a section and its header, which is the first place to start.
fn announce(section: Section, tally: &mut Tally, out: &mut dyn FnMut(Piece<'_>)) {
    let header = section.header.clone();
    out(Piece::Section(section));
    out(Piece::Media {
        bytes: &header,
        micros: 0,
        edge: true,
    });
    tally.emit_held(header.len());
}
