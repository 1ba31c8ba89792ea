//! Formats that are not looked into: every byte is media, and a listener starts anywhere, for better or worse.

use super::{Codec, Framer, Params, Piece, Section, Tally};

/// The longest piece, so that a place to start is never far.
const PIECE: usize = 16 * 1024;

/// Passes everything on.
#[derive(Debug, Default)]
pub struct Opaque {
    tally: Tally,
}

/// A framer that takes everything as it is.
pub fn framer() -> Box<dyn Framer> {
    Box::new(Opaque::default())
}

/// A framer that finds nothing, for a stream whose format is to be found out.
pub(super) fn nothing() -> Box<dyn Framer> {
    Box::new(Nothing::default())
}

/// A section of a format that is not looked into, or not as one that could go on in another one.
pub(super) fn section(header: bytes::Bytes) -> Section {
    let params = Params {
        codec: Codec::Opaque,
        sample_rate: 0,
        channels: 0,
        profile: 0,
    };
    Section {
        params,
        bitrate: 0,
        header,
    }
}

impl Framer for Opaque {
    fn push(&mut self, input: &[u8], out: &mut dyn FnMut(Piece<'_>)) {
        for bytes in input.chunks(PIECE) {
            if self.tally.found == 0 {
                out(Piece::Section(section(bytes::Bytes::new())));
            }
            self.tally.found(bytes.len());
            out(Piece::Media {
                bytes,
                micros: 0,
                edge: true,
            });
        }
    }

    fn tally(&self) -> Tally {
        self.tally
    }
}

#[derive(Debug, Default)]
struct Nothing(Tally);

impl Framer for Nothing {
    fn push(&mut self, input: &[u8], _: &mut dyn FnMut(Piece<'_>)) {
        self.0.held += input.len() as u64;
    }

    fn tally(&self) -> Tally {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Seen, junk};
    use super::*;

    #[test]
    fn everything_is_media() {
        let bytes = junk(40_000);
        let seen = Seen::of(Opaque::default(), &[&[], &bytes[..10], &bytes[10..]]);
        assert!(seen.media == bytes, "bytes differ");
        assert_eq!(seen.edges, [0, 10, 10 + PIECE, 10 + 2 * PIECE]);
        assert_eq!((seen.sections.len(), seen.sections[0].0), (1, 0));
        assert_eq!(seen.sections[0].1.params.codec, Codec::Opaque);
        assert_eq!(
            (seen.skipped, seen.found, seen.lost, seen.micros),
            (0, 40_000, 0, 0)
        );
    }
}
