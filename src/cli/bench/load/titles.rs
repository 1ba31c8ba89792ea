//! Takes titles out of a stream that carries them.

/// Takes titles out.
#[derive(Clone, Copy)]
pub(super) struct Titles {
    /// 0 where there are none.
    every: usize,
    /// Audio bytes until the next length byte.
    audio: usize,
    /// Bytes left of a block.
    block: usize,
}

impl Titles {
    /// A stream with a block after each `every` bytes; 0 is one without.
    pub fn new(every: usize) -> Self {
        Self {
            every,
            audio: every,
            block: 0,
        }
    }

    /// The next run of audio in `bytes`, which moves on; `None` at its end.
    pub fn next<'a>(&mut self, bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
        if self.every == 0 {
            return (!bytes.is_empty()).then(|| std::mem::take(bytes));
        }
        loop {
            if self.block > 0 {
                let (skipped, rest) = bytes.split_at(self.block.min(bytes.len()));
                self.block -= skipped.len();
                *bytes = rest;
            }
            if bytes.is_empty() {
                return None;
            }
            if self.audio > 0 {
                let (part, rest) = bytes.split_at(self.audio.min(bytes.len()));
                self.audio -= part.len();
                *bytes = rest;
                return Some(part);
            }
            let (length, rest) = bytes.split_first()?;
            self.block = usize::from(*length) * 16;
            self.audio = self.every;
            *bytes = rest;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::icy;

    #[test]
    fn titles_are_taken_out_wherever_the_bytes_are_cut() {
        let audio: Vec<u8> = (0..250_u8).collect();
        let mut wire = Vec::new();
        for (round, part) in audio.chunks(100).enumerate() {
            wire.extend_from_slice(part);
            if part.len() == 100 {
                let block = icy::encode_title(&format!("title {round}"), None);
                wire.extend_from_slice(&block);
            }
        }
        for cut in 0..wire.len() {
            let mut titles = Titles::new(100);
            let mut got = Vec::new();
            for mut piece in [&wire[..cut], &wire[cut..]] {
                while let Some(part) = titles.next(&mut piece) {
                    got.extend_from_slice(part);
                }
            }
            assert_eq!(got, audio, "cut at {cut}");
        }
    }
}
