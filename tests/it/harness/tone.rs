//! MP3 whose every byte says where it stands.
//!
//! Frames of 128 kbit/s at 48 kHz: 384 bytes, 24 ms. Behind the header stands the frame's number, then a
//! pattern of it. Only headers have the upper bit set, so a frame begins nowhere else.

use std::sync::LazyLock;

/// Bytes of a frame.
pub const FRAME: usize = 384;

/// Frames of ten seconds, about.
pub const TEN_SECONDS: u64 = 417;

const HEADER: [u8; 4] = [0xFF, 0xFB, 0x94, 0x04];

/// Bytes of a frame's number, seven bits each.
const NUMBER: usize = 5;

/// Frame `number`.
pub fn frame(number: u64) -> [u8; FRAME] {
    let mut bytes = [0; FRAME];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = match at.checked_sub(HEADER.len()) {
            None => HEADER[at],
            Some(at) if at < NUMBER => (number >> (7 * at)) as u8 & 0x7F,
            Some(at) => (number.wrapping_mul(29) + at as u64 * 11) as u8 & 0x7F,
        };
    }
    bytes
}

/// Frames `from..from + count`.
pub fn frames(from: u64, count: u64) -> Vec<u8> {
    (from..from + count).flat_map(frame).collect()
}

fn number(frame: &[u8]) -> u64 {
    let digits = &frame[HEADER.len()..HEADER.len() + NUMBER];
    digits
        .iter()
        .rev()
        .fold(0, |sum, digit| sum << 7 | u64::from(*digit))
}

/// The number of a whole frame, which must be what a source of this tone sends. Cheaper than [`run`]: for many
/// listeners at once.
///
/// # Panics
/// Where it is none.
#[track_caller]
pub fn number_of(frame: &[u8]) -> u64 {
    // Behind the number a frame's pattern depends on its last seven bits.
    static PATTERNS: LazyLock<Vec<[u8; FRAME]>> =
        LazyLock::new(|| (0..128).map(self::frame).collect());
    let number = number(frame);
    let from = HEADER.len() + NUMBER;
    let pattern = &PATTERNS[(number % 128) as usize];
    if frame.len() != FRAME || frame[..HEADER.len()] != HEADER || frame[from..] != pattern[from..] {
        run(frame);
        panic!("{} bytes are no frame", frame.len());
    }
    number
}

/// A run of frames without a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Number of the first frame.
    pub first: u64,
    /// Whole frames.
    pub count: u64,
}

impl Run {
    /// Number of the frame after the last.
    pub fn end(&self) -> u64 {
        self.first + self.count
    }
}

/// The run that `audio` is: it must begin at a frame edge and be, byte for byte, what a source of this tone
/// sends; it may end within a frame.
///
/// # Panics
/// Where it is none; the message says at which byte.
#[track_caller]
pub fn run(audio: &[u8]) -> Run {
    assert!(audio.len() >= FRAME, "only {} bytes of audio", audio.len());
    let first = number(&audio[..FRAME]);
    for (index, chunk) in audio.chunks(FRAME).enumerate() {
        let expected = frame(first + index as u64);
        if let Some(at) = (0..chunk.len()).find(|&at| chunk[at] != expected[at]) {
            panic!(
                "byte {} of {} is {:#04x}, not {:#04x} (frame {first} + {index}); the run breaks: {:02x?}",
                index * FRAME + at,
                audio.len(),
                chunk[at],
                expected[at],
                &chunk[..chunk.len().min(16)],
            );
        }
    }
    Run {
        first,
        count: (audio.len() / FRAME) as u64,
    }
}

#[test]
fn a_run_is_told_from_a_broken_one() {
    let whole = frames(300, 20);
    assert_eq!(
        run(&whole),
        Run {
            first: 300,
            count: 20
        }
    );
    assert_eq!(
        run(&whole[..5 * FRAME + 7]),
        Run {
            first: 300,
            count: 5
        }
    );
    let numbers: Vec<u64> = whole.chunks(FRAME).map(number_of).collect();
    assert_eq!(numbers, (300..320).collect::<Vec<_>>());
    let torn = [&whole[..FRAME], &whole[2 * FRAME..]].concat();
    assert!(std::panic::catch_unwind(|| run(&torn)).is_err());
    assert!(std::panic::catch_unwind(|| run(&whole[1..])).is_err());
    let mut flipped = whole;
    flipped[4000] ^= 1;
    assert!(std::panic::catch_unwind(|| run(&flipped)).is_err());
    let bad = &flipped[10 * FRAME..11 * FRAME];
    assert!(std::panic::catch_unwind(|| number_of(bad)).is_err());
    assert!(std::panic::catch_unwind(|| number_of(&bad[..FRAME - 1])).is_err());
}
