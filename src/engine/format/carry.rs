//! What a framer could not decide yet, kept until more comes.

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
