//! Audio that says where it stands: frames with a valid MPEG header whose payload holds the frame's number and
//! the moment at which the source sent it.
//!
//! Pure. No payload byte is 0xFF, so a frame's edge is found from anywhere.

/// MPEG 1, layer III, no checksum, 48 kHz, mono: bit rate index 1 to 14 in kbit/s.
const KBITS: [u32; 14] = [
    32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320,
];

/// One frame lasts 1,152 samples of 48 kHz.
pub(super) const FRAME_MICROS: u64 = 24_000;

/// Header, number and time.
const FIXED: usize = 4 + 2 * NUMBER;

/// Bytes of a number, seven bits each.
const NUMBER: usize = 9;

/// What fills the rest of a frame repeats after so many bytes.
const PERIOD: u64 = 251;

/// Bytes of the filling, more than the longest frame and a period.
const FILLING: usize = 1_440;

/// A bit rate's frames.
#[derive(Debug, Clone)]
pub(super) struct Audio {
    header: [u8; 4],
    len: usize,
    filling: Vec<u8>,
}

impl Audio {
    /// Frames of `kbit` kbit/s; `None` where MPEG has no such rate.
    pub fn new(kbit: u32) -> Option<Self> {
        let index = KBITS.iter().position(|known| *known == kbit)?;
        let index = u8::try_from(index + 1).ok()?;
        Some(Self {
            header: [0xFF, 0xFB, index << 4 | 0b0100, 0xC4],
            len: usize::try_from(kbit).ok()? * 3,
            filling: (0..FILLING)
                .map(|at| u8::try_from((at * 7 + 3) % 251).unwrap_or(0))
                .collect(),
        })
    }

    /// The rates there are, for people.
    pub fn rates() -> String {
        KBITS.map(|kbit| kbit.to_string()).join(", ")
    }

    /// Bytes of a frame.
    #[cfg(test)]
    pub fn frame_len(&self) -> usize {
        self.len
    }

    /// Bytes a second.
    pub fn bytes_a_second(&self) -> f64 {
        self.len as f64 * 1e6 / FRAME_MICROS as f64
    }

    /// Appends frame `number`, sent at `micros` of the machine's clock.
    pub fn encode(&self, number: u64, micros: u64, into: &mut Vec<u8>) {
        into.extend_from_slice(&self.header);
        into.extend_from_slice(&seven_bits(number));
        into.extend_from_slice(&seven_bits(micros));
        into.extend_from_slice(self.filling_of(number));
    }

    fn filling_of(&self, number: u64) -> &[u8] {
        let start = usize::try_from(number % PERIOD * 97 % PERIOD).unwrap_or(0);
        let end = start + self.len.saturating_sub(FIXED);
        self.filling.get(start..end).unwrap_or_default()
    }

    /// Number and time of the frame that `bytes` are; `None` if one byte of it is wrong.
    fn decode(&self, bytes: &[u8]) -> Option<(u64, u64)> {
        let (header, rest) = bytes.split_first_chunk::<4>()?;
        let (number, rest) = rest.split_first_chunk::<NUMBER>()?;
        let (micros, filling) = rest.split_first_chunk::<NUMBER>()?;
        let (number, micros) = (joined(number)?, joined(micros)?);
        (*header == self.header && filling == self.filling_of(number)).then_some((number, micros))
    }
}

fn seven_bits(value: u64) -> [u8; NUMBER] {
    let mut bytes = [0; NUMBER];
    for (place, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::try_from(value >> (7 * place) & 0x7F).unwrap_or(0);
    }
    bytes
}

fn joined(bytes: &[u8; NUMBER]) -> Option<u64> {
    let mut bytes = bytes.iter().rev();
    bytes.try_fold(0, |value, byte| {
        (*byte < 0x80).then(|| value << 7 | u64::from(*byte))
    })
}

/// What was wrong with a listener's bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Flaws {
    /// Times that the frame after another was not the next one.
    pub gaps: u64,
    /// Frames missing there (none where it went back).
    pub missing: u64,
    /// Bytes that are no frame of ours.
    pub corrupt: u64,
}

/// Follows one listener's audio: every byte must be the next one.
#[derive(Debug, Default)]
pub(super) struct Checker {
    /// A frame that is not whole yet.
    carry: Vec<u8>,
    next: Option<u64>,
}

impl Checker {
    /// Takes more audio; `frame` hears the send time of each whole frame.
    pub fn feed(
        &mut self,
        audio: &Audio,
        mut bytes: &[u8],
        flaws: &mut Flaws,
        mut frame: impl FnMut(u64),
    ) {
        if !self.carry.is_empty() {
            let missing = audio.len.saturating_sub(self.carry.len());
            let (more, rest) = bytes.split_at(missing.min(bytes.len()));
            self.carry.extend_from_slice(more);
            bytes = rest;
            if self.carry.len() < audio.len {
                return;
            }
            let mut whole = std::mem::take(&mut self.carry);
            let used = self.step(audio, &whole, flaws, &mut frame);
            if used == whole.len() {
                whole.clear();
                self.carry = whole;
            } else {
                // Out of step: look for an edge in all that there is.
                let mut all = whole.split_off(used);
                all.extend_from_slice(bytes);
                return self.run(audio, &all, flaws, frame);
            }
        }
        self.run(audio, bytes, flaws, frame);
    }

    fn run(
        &mut self,
        audio: &Audio,
        mut bytes: &[u8],
        flaws: &mut Flaws,
        mut frame: impl FnMut(u64),
    ) {
        while bytes.len() >= audio.len {
            let used = self.step(audio, bytes, flaws, &mut frame);
            bytes = bytes.get(used..).unwrap_or_default();
        }
        self.carry.extend_from_slice(bytes);
    }

    /// Judges the frame at the start of `bytes`, which holds a whole one; returns the bytes it used.
    fn step(
        &mut self,
        audio: &Audio,
        bytes: &[u8],
        flaws: &mut Flaws,
        frame: &mut impl FnMut(u64),
    ) -> usize {
        let Some((number, micros)) = bytes.get(..audio.len).and_then(|b| audio.decode(b)) else {
            let rest = bytes.get(1..).unwrap_or_default();
            let edge = rest.iter().position(|byte| *byte == 0xFF);
            let used = 1 + edge.unwrap_or(rest.len());
            // A server may begin anywhere; after the first whole frame nothing may be between two.
            if self.next.is_some() {
                flaws.corrupt += used as u64;
            }
            return used;
        };
        if let Some(next) = self.next.filter(|next| *next != number) {
            flaws.gaps += 1;
            flaws.missing += number.saturating_sub(next);
        }
        self.next = Some(number + 1);
        frame(micros);
        audio.len
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::engine::format::{Piece, mpeg};

    fn stream(audio: &Audio, numbers: impl Iterator<Item = u64>) -> Vec<u8> {
        let mut bytes = Vec::new();
        for number in numbers {
            audio.encode(number, number * FRAME_MICROS, &mut bytes);
        }
        bytes
    }

    fn check(audio: &Audio, pieces: &[&[u8]]) -> (Flaws, Vec<u64>) {
        let (mut checker, mut flaws, mut times) =
            (Checker::default(), Flaws::default(), Vec::new());
        for piece in pieces {
            checker.feed(audio, piece, &mut flaws, |micros| times.push(micros));
        }
        (flaws, times)
    }

    #[test]
    fn every_rate_is_valid_audio_for_our_own_framer() {
        for kbit in KBITS {
            let audio = Audio::new(kbit).unwrap();
            let bytes = stream(&audio, 1 << 40..(1 << 40) + 300);
            assert_eq!(bytes.len(), 300 * audio.frame_len());
            assert_eq!(bytes.iter().filter(|byte| **byte == 0xFF).count(), 300);
            let mut whole = 0;
            mpeg::framer().push(&bytes, &mut |piece| {
                if let Piece::Media { bytes, micros, .. } = piece {
                    assert_eq!((bytes.len(), micros), (audio.frame_len(), FRAME_MICROS));
                    whole += 1;
                }
            });
            assert_eq!(whole, 300, "{kbit}");
        }
        assert!(Audio::new(100).is_none());
    }

    proptest! {
        #[test]
        fn any_cut_of_a_whole_run_is_clean(start in 0_usize..900, cuts in prop::collection::vec(0_usize..9000, 0..20)) {
            let audio = Audio::new(128).unwrap();
            let bytes = stream(&audio, 7..37);
            let bytes = bytes.get(start..).unwrap();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.sort_unstable();
            let mut pieces = Vec::new();
            let mut from = 0;
            for cut in cuts {
                pieces.push(&bytes[from..cut]);
                from = cut;
            }
            pieces.push(&bytes[from..]);
            let (flaws, times) = check(&audio, &pieces);
            prop_assert_eq!(flaws, Flaws::default());
            let first = 7 + start.div_ceil(audio.frame_len()) as u64;
            prop_assert_eq!(times, (first..37).map(|n| n * FRAME_MICROS).collect::<Vec<_>>());
        }

        #[test]
        fn a_byte_that_is_lost_or_changed_is_seen(at in 384_usize..7_000, change in 1_u8..255) {
            let audio = Audio::new(128).unwrap();
            let whole = stream(&audio, 0..30);
            let mut lost = whole.clone();
            lost.remove(at);
            prop_assert!(check(&audio, &[&lost]).0.corrupt > 0);
            let mut changed = whole;
            changed[at] = changed[at].wrapping_add(change);
            let (flaws, _) = check(&audio, &[&changed]);
            // The send time alone carries nothing to compare it with.
            let in_time = (13..22).contains(&(at % 384));
            prop_assert!(in_time || flaws.corrupt > 0 || flaws.gaps > 0);
        }
    }

    #[test]
    fn a_jump_counts_what_is_missing() {
        let audio = Audio::new(64).unwrap();
        let bytes = stream(&audio, (0..10).chain(15..20));
        let (flaws, times) = check(&audio, &[&bytes]);
        assert_eq!((flaws.gaps, flaws.missing, flaws.corrupt), (1, 5, 0));
        assert_eq!(times.len(), 15);
    }
}
