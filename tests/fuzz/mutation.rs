//! Deterministic mutations of a corpus, for compilers without libFuzzer.

/// A small generator (xorshift64*, Vigna 2016): the same seed gives the same inputs on every machine.
pub struct Random(u64);

impl Random {
    /// Seeds from a name, so that each target has inputs of its own.
    pub fn of(name: &str) -> Self {
        let fold = |state: u64, byte: u8| (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        Self(name.bytes().fold(0xcbf2_9ce4_8422_2325, fold) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `bound`; 0 where there is none below it.
    pub fn below(&mut self, bound: usize) -> usize {
        if bound == 0 {
            return 0;
        }
        (self.next() % bound as u64) as usize
    }
}

/// Bytes that parsers stumble over.
const TOKENS: [&[u8]; 24] = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b"\t",
    b":",
    b";",
    b"'",
    b"\"",
    b"%00",
    b"..",
    b"-1",
    b"0",
    b"18446744073709551615",
    b"18446744073709551616",
    b"4294967296",
    b"\xff\xff\xff\xff",
    b"\xff\xfb",
    b"OggS",
    b"PROXY ",
    b"chunked",
    b"1e309",
    b"null",
];

/// One input made of `seeds`: a seed with a few changes, sometimes spliced with another one. At most `longest` bytes.
pub fn mutated(seeds: &[Vec<u8>], random: &mut Random, longest: usize) -> Vec<u8> {
    let mut bytes = seeds[random.below(seeds.len())].clone();
    for _ in 0..=random.below(6) {
        change(&mut bytes, seeds, random);
    }
    bytes.truncate(longest);
    bytes
}

fn change(bytes: &mut Vec<u8>, seeds: &[Vec<u8>], random: &mut Random) {
    let at = random.below(bytes.len() + 1);
    match random.below(8) {
        0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
        1 if at < bytes.len() => bytes[at] = random.below(256) as u8,
        2 => bytes.truncate(at),
        3 => {
            let token = TOKENS[random.below(TOKENS.len())];
            bytes.splice(at..at, token.iter().copied());
        }
        4 => {
            let end = at + random.below(bytes.len() - at + 1).min(64);
            bytes.drain(at..end);
        }
        5 => {
            let end = at + random.below(bytes.len() - at + 1).min(256);
            let copy = bytes[at..end].to_vec();
            bytes.splice(at..at, copy);
        }
        6 => {
            let other = &seeds[random.below(seeds.len())];
            let from = random.below(other.len() + 1);
            bytes.truncate(at);
            bytes.extend_from_slice(&other[from..]);
        }
        _ => bytes.insert(at, random.below(256) as u8),
    }
}
