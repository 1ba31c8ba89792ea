//! AAC in LOAS (ISO/IEC 14496-3 section 1.7.2), as digital radio and some encoders have it.
//!
//! A frame holds the decoder's setup, or refers to the one before: a listener starts where it is held.

use super::carry::{Scan, Scanner};
use super::{Framer, Piece, Tally, opaque};

/// Bytes before a frame's body: eleven bits of sync word and thirteen of length.
const FRONT: usize = 3;

/// A framer for LOAS.
pub fn framer() -> Box<dyn Framer> {
    Box::new(Scanner::new(LoasScan::default()))
}

/// See the module.
#[derive(Default)]
pub struct LoasScan {
    /// True while the position is right after a frame.
    locked: bool,
    tally: Tally,
}

impl Scan for LoasScan {
    fn scan(&mut self, data: &[u8], out: &mut dyn FnMut(Piece<'_>)) -> usize {
        let mut position = 0;
        loop {
            let at = data.get(position..).unwrap_or_default();
            if at.len() < FRONT + 1 {
                return position;
            }
            let Some(len) = frame_len(at) else {
                position += self.junk(at);
                continue;
            };
            // Without sync a frame counts if another one follows it.
            let needed = if self.locked { len } else { len + FRONT };
            if at.len() < needed {
                return position;
            }
            let follows = || at.get(len..).is_some_and(|next| frame_len(next).is_some());
            if !self.locked && !follows() {
                position += self.junk(at);
                continue;
            }
            if self.tally.found == 0 {
                out(Piece::Section(opaque::section(bytes::Bytes::new())));
            }
            self.locked = true;
            self.tally.found(len);
            out(Piece::Media {
                bytes: at.get(..len).unwrap_or_default(),
                micros: 0,
                // The first bit says that the setup of the frame before holds.
                edge: at.get(FRONT).is_some_and(|first| first & 0x80 == 0),
            });
            position += len;
        }
    }

    fn counts(&self) -> Tally {
        self.tally
    }
}

impl LoasScan {
    fn junk(&mut self, at: &[u8]) -> usize {
        self.locked = false;
        let next = at.iter().skip(1).position(|byte| *byte == 0x56);
        // The last bytes may be the beginning of one, however the input is split.
        let len = next
            .map_or(at.len() - FRONT, |next| next + 1)
            .min(at.len() - FRONT)
            .max(1);
        self.tally.junk(len);
        len
    }
}

/// Length of the frame at the start of `at`, if there is one; an empty one is none.
fn frame_len(at: &[u8]) -> Option<usize> {
    let [0x56, second, third] = *at.first_chunk::<FRONT>()? else {
        return None;
    };
    let len = (usize::from(second & 0x1F) << 8) | usize::from(third);
    (second & 0xE0 == 0xE0 && len > 0).then_some(FRONT + len)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Seen, check_sums, junk, split};
    use super::*;
    use proptest::prelude::*;

    fn frames(count: u8) -> Vec<u8> {
        let frame = |number: u8| {
            let mut frame = vec![0x56, 0xE0, 100];
            // The setup is in each third one.
            frame.push(if number.is_multiple_of(3) { 0x20 } else { 0x80 });
            frame.resize(FRONT + 100, number & 0x3F);
            frame
        };
        (0..count).flat_map(frame).collect()
    }

    #[test]
    fn frames_come_out_verbatim_and_begin_where_the_setup_is() {
        let whole = frames(9);
        let noise = junk(500);
        for cuts in [&[10_000][..], &[1, 50, 7]] {
            let input = [&noise[..], &whole, &noise, &whole].concat();
            let seen = Seen::of(Scanner::new(LoasScan::default()), &split(&input, cuts));
            assert!(seen.media == [&whole[..], &whole].concat());
            assert_eq!((seen.skipped, seen.sections.len()), (1_000, 1));
            assert_eq!(seen.edges.len(), 6);
        }
    }

    proptest! {
        #[test]
        fn damage_is_accounted_for(
            places in proptest::collection::vec((0usize..900, any::<u8>()), 0..20),
            cuts in proptest::collection::vec(1usize..300, 1..20),
        ) {
            let mut whole = frames(9);
            for (place, byte) in places {
                whole[place] = byte;
            }
            check_sums(|| Scanner::new(LoasScan::default()), &whole, &cuts)?;
        }
    }
}
