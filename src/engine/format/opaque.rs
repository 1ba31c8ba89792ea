//! Formats that are not looked into: every byte is media, and a listener may start anywhere.

use super::{Codec, Framer, Params, Piece, Section};

/// The longest piece, so that a place to start is never far.
const PIECE: usize = 16 * 1024;

/// Passes everything on.
#[derive(Debug, Default)]
pub struct Opaque {
    found: u64,
}

/// A framer that takes everything as it is.
pub fn framer() -> Box<dyn Framer> {
    Box::new(Opaque::default())
}

impl Framer for Opaque {
    fn push(&mut self, input: &[u8], out: &mut dyn FnMut(Piece<'_>)) {
        for bytes in input.chunks(PIECE) {
            if self.found == 0 {
                let params = Params {
                    codec: Codec::Opaque,
                    sample_rate: 0,
                    channels: 0,
                    profile: 0,
                };
                out(Piece::Section(Section {
                    params,
                    bitrate: 0,
                    header: bytes::Bytes::new(),
                }));
            }
            self.found += bytes.len() as u64;
            out(Piece::Media {
                bytes,
                micros: 0,
                edge: true,
            });
        }
    }

    fn skipped(&self) -> u64 {
        0
    }

    fn found(&self) -> u64 {
        self.found
    }

    fn lost(&self) -> u64 {
        0
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
