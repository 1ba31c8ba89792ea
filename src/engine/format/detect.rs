//! The framer of a stream, by its content type, and by what comes where that is wrong.
//!
//! Encoders and foreign servers are often set to a type that they do not send. Frames that follow each other at their stated
//! distances are no accident: where most of the first bytes are such frames of another format, that format it is.

use super::content_type::{self, Family};
use super::{Framer, GARBAGE, Piece, Tally};

/// Bytes after which what has come is looked at, for the first time; then at twice as many, and so on.
const FIRST_LOOK: usize = 4 * 1024;

/// A framer that becomes another one where the content type is wrong.
pub struct Detector {
    framer: Box<dyn Framer>,
    limit: usize,
    /// The first bytes, until they are known to be what was declared, or something else.
    begun: Option<Begun>,
}

struct Begun {
    declared: Family,
    bytes: Vec<u8>,
    next_look: usize,
}

impl Detector {
    /// The framer for a source's content type, or `None` if no listener could play such a thing. `limit`: bytes that the
    /// headers of a section may have.
    pub fn new(content_type: &str, limit: usize) -> Option<Self> {
        let declared = content_type::family_of(content_type)?;
        let begun = Begun {
            declared,
            bytes: Vec::new(),
            next_look: FIRST_LOOK,
        };
        Some(Self {
            framer: declared.framer(limit),
            limit,
            begun: declared.is_checked().then_some(begun),
        })
    }

    /// Name of the format that the first bytes look like.
    pub fn looks_like(&self) -> &'static str {
        let bytes = self.begun.as_ref().map(|begun| begun.bytes.as_slice());
        bytes.map_or("no format that is known here", content_type::looks_like)
    }

    /// Decides, if it is time: what was declared, another format, or nothing that is known.
    fn look(&mut self, out: &mut dyn FnMut(Piece<'_>)) {
        let Some(begun) = &mut self.begun else { return };
        if self.framer.tally().found > 0 {
            self.begun = None;
            return;
        }
        if begun.bytes.len() < begun.next_look {
            return;
        }
        begun.next_look = begun.bytes.len().saturating_mul(2);
        let is_over = begun.bytes.len() as u64 >= GARBAGE;
        let found = begun.declared.others().find(|other| {
            let framer = other.framer(self.limit);
            are_frames(framer, &begun.bytes)
        });
        let is_unknown = begun.declared == Family::Any && is_over;
        if let Some(family) = found {
            out(Piece::Type(family.content_type()));
            self.become_other(family.framer(self.limit), out);
        } else if is_unknown {
            self.become_other(Family::Opaque.framer(self.limit), out);
        } else if is_over {
            begun.next_look = usize::MAX;
        }
    }

    fn become_other(&mut self, mut framer: Box<dyn Framer>, out: &mut dyn FnMut(Piece<'_>)) {
        let Some(begun) = self.begun.take() else {
            return;
        };
        framer.push(&begun.bytes, out);
        self.framer = framer;
    }
}

impl Framer for Detector {
    fn push(&mut self, mut input: &[u8], out: &mut dyn FnMut(Piece<'_>)) {
        // Looks are at places of the stream, however the input is split.
        while let Some(begun) = &mut self.begun
            && !input.is_empty()
        {
            let room = begun.next_look.saturating_sub(begun.bytes.len());
            let (now, later) = input.split_at_checked(room).unwrap_or((input, &[]));
            begun.bytes.extend_from_slice(now);
            input = later;
            self.framer.push(now, out);
            self.look(out);
        }
        if !input.is_empty() {
            self.framer.push(input, out);
        }
    }

    fn tally(&self) -> Tally {
        self.framer.tally()
    }
}

/// True where `bytes` are frames of `framer` for the most part.
fn are_frames(mut framer: Box<dyn Framer>, bytes: &[u8]) -> bool {
    framer.push(bytes, &mut |_| {});
    let tally = framer.tally();
    tally.found > 0 && tally.known() >= bytes.len() as u64 / 4 * 3
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Seen, fixture, junk, split};
    use super::*;

    const LIMIT: usize = 1 << 20;

    fn seen(declared: &str, bytes: &[u8], cuts: &[usize]) -> Seen {
        Seen::of(Detector::new(declared, LIMIT).unwrap(), &split(bytes, cuts))
    }

    #[test]
    fn what_comes_is_taken_for_what_it_is() {
        let files: [(&str, &[u8]); 7] = [
            ("audio/mpeg", fixture!("tone.mp3")),
            ("audio/aac", fixture!("tone.aac")),
            ("application/ogg", fixture!("opus.ogg")),
            ("audio/flac", fixture!("tone.flac")),
            ("video/webm", fixture!("tone.webm")),
            ("video/mp4", fixture!("tone.mp4")),
            ("audio/mp4a-latm", fixture!("tone.latm")),
        ];
        for (own, file) in files {
            let right = seen(own, file, &[usize::MAX]);
            assert!(right.found > 4_000 && right.types.is_empty(), "{own}");
            for (declared, _) in files.iter().filter(|(declared, _)| *declared != own) {
                for cuts in [&[usize::MAX][..], &[1_000, 7], &[1]] {
                    let got = seen(declared, file, cuts);
                    assert_eq!(got.types, [own], "{declared}");
                    assert!(got.media == right.media, "{own} as {declared}");
                }
            }
            assert_eq!(seen("application/octet-stream", file, &[777]).types, [own]);
        }
    }

    #[test]
    fn what_is_not_unmistakable_is_left_as_declared() {
        let noise: Vec<u8> = (0..100_000_u32)
            .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        for declared in ["audio/mpeg", "audio/aac", "audio/ogg", "audio/webm"] {
            let got = seen(declared, &noise, &[10_000]);
            assert!(got.types.is_empty() && got.lost >= GARBAGE, "{declared}");
        }
        // A frame of another format within a stream that plays.
        let mixed = [fixture!("tone.aac").as_slice(), fixture!("tone.mp3")].concat();
        let got = seen("audio/aac", &mixed, &[10_000]);
        assert!(got.types.is_empty() && got.media == fixture!("tone.aac"));
        let unknown = seen("application/octet-stream", &junk(100_000), &[999]);
        assert_eq!((unknown.found, unknown.sections.len()), (100_000, 1));
    }
}
