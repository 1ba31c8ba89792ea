//! What a framer could not decide yet, kept until more comes.

use super::{Framer, Piece, Tally};

/// Input is taken in blocks of at most this size, which bounds the memory whatever the caller pushes.
const BLOCK: usize = 16 * 1024;

/// Undecided bytes. Never more than what the scanner waits for, and one block.
#[derive(Debug, Default)]
pub struct Carry {
    bytes: Vec<u8>,
}

impl Carry {
    /// Undecided bytes.
    pub fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Appends `input` block by block. `scan` gets all undecided bytes each time and returns how many of them, from
    /// the start, it has dealt with.
    pub fn feed(&mut self, input: &[u8], mut scan: impl FnMut(&[u8]) -> usize) {
        for block in input.chunks(BLOCK) {
            if self.bytes.is_empty() {
                let used = scan(block);
                self.bytes
                    .extend_from_slice(block.get(used..).unwrap_or_default());
            } else {
                self.bytes.extend_from_slice(block);
                let used = scan(&self.bytes).min(self.bytes.len());
                self.bytes.drain(..used);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn undecided_bytes_come_again_in_front() {
        let mut carry = Carry::default();
        let mut calls = Vec::new();
        for input in ["ab", "cde", "", "f"] {
            carry.feed(input.as_bytes(), |at| {
                calls.push(String::from_utf8_lossy(at).into_owned());
                at.len() / 2
            });
        }
        assert_eq!(calls, ["ab", "bcde", "def"]);
        assert_eq!(carry.bytes, b"ef");
    }

    #[test]
    fn a_long_input_comes_in_blocks() {
        let mut carry = Carry::default();
        let mut sizes = Vec::new();
        carry.feed(&[0; 3 * BLOCK + 1], |at| {
            sizes.push(at.len());
            at.len() - 1
        });
        assert_eq!(sizes, [BLOCK, BLOCK + 1, BLOCK + 1, 2]);
    }
}

/// A format as a scanner of undecided bytes; [`Scanner`] makes a framer of it.
pub trait Scan: Send {
    /// Handles all that can be decided in `data`, calling `out` for all that is whole; returns how many bytes that was.
    fn scan(&mut self, data: &[u8], out: &mut dyn FnMut(Piece<'_>)) -> usize;

    /// Counts of the bytes that were decided.
    fn counts(&self) -> Tally;
}

/// A scanner and the bytes that it has not decided.
#[derive(Debug, Default)]
pub struct Scanner<S> {
    scan: S,
    carry: Carry,
}

impl<S: Scan> Scanner<S> {
    /// A framer at the start of a stream.
    pub fn new(scan: S) -> Self {
        let carry = Carry::default();
        Self { scan, carry }
    }
}

impl<S: Scan> Framer for Scanner<S> {
    fn push(&mut self, input: &[u8], out: &mut dyn FnMut(Piece<'_>)) {
        let Self { scan, carry } = self;
        carry.feed(input, |data| scan.scan(data, out));
    }

    fn tally(&self) -> Tally {
        let waiting = self.carry.len();
        Tally {
            waiting,
            ..self.scan.counts()
        }
    }
}
