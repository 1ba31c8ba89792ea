//! Samples without a header, as RFC 2586, 3190 and 3551 name them: rate and channels stand in the content type.

use super::super::carry::Scan;
use super::super::frames::SampleClock;
use super::super::{Piece, Tally, opaque};

/// Layout of samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pcm {
    /// Samples a second of each channel, 1 to 768,000.
    pub rate: u32,
    /// Channels, 1 to 255.
    pub channels: u8,
    /// Bytes of the samples of all channels at one time.
    pub block: usize,
}

impl Pcm {
    /// The layout that a normalised content type names; `None` for other types, and without a rate where there is no
    /// usual one.
    pub fn of(content_type: &str) -> Option<Self> {
        let mut parts = content_type.split(';').map(str::trim);
        let (bytes, usual) = match parts.next()? {
            "audio/l8" => (1, None),
            "audio/l16" => (2, None),
            "audio/l20" | "audio/l24" => (3, None),
            "audio/basic" | "audio/pcmu" | "audio/pcma" => (1, Some(8_000)),
            _ => return None,
        };
        let parameters: Vec<(&str, &str)> = parts.filter_map(|part| part.split_once('=')).collect();
        let number = |name: &str| {
            let mut found = parameters.iter();
            let (_, value) = found.find(|(key, _)| key.trim().eq_ignore_ascii_case(name))?;
            value.trim().trim_matches('"').parse::<u32>().ok()
        };
        let rate = number("rate").or(usual)?;
        let channels = u8::try_from(number("channels").unwrap_or(1)).ok()?;
        ((1..=768_000).contains(&rate) && channels > 0).then_some(Self {
            rate,
            channels,
            block: bytes * usize::from(channels),
        })
    }

    /// Bits a second.
    pub fn bitrate(&self) -> u32 {
        let bits = u64::from(self.rate) * self.block as u64 * 8;
        u32::try_from(bits).unwrap_or(u32::MAX)
    }
}

/// Passes whole blocks of samples on.
pub struct PcmScan {
    pcm: Pcm,
    blocks: Blocks,
    tally: Tally,
}

impl PcmScan {
    pub fn new(pcm: Pcm) -> Self {
        Self {
            pcm,
            blocks: Blocks::new(pcm),
            tally: Tally::default(),
        }
    }
}

impl Scan for PcmScan {
    fn scan(&mut self, data: &[u8], out: &mut dyn FnMut(Piece<'_>)) -> usize {
        if self.tally.found == 0 && data.len() >= self.pcm.block {
            let mut section = opaque::section(bytes::Bytes::new());
            section.params.sample_rate = self.pcm.rate;
            section.params.channels = self.pcm.channels;
            section.bitrate = self.pcm.bitrate();
            out(Piece::Section(section));
        }
        self.blocks.emit(data, &mut self.tally, out)
    }

    fn counts(&self) -> Tally {
        self.tally
    }
}

/// Cuts samples at their blocks, also for a container around them.
pub struct Blocks {
    pcm: Pcm,
    clock: SampleClock,
}

impl Blocks {
    pub fn new(pcm: Pcm) -> Self {
        let clock = SampleClock::default();
        Self { pcm, clock }
    }

    /// Emits the whole blocks of `data`; returns how many bytes these are.
    pub fn emit(
        &mut self,
        data: &[u8],
        tally: &mut Tally,
        out: &mut dyn FnMut(Piece<'_>),
    ) -> usize {
        let block = self.pcm.block.max(1);
        let whole = data.len() - data.len() % block;
        let piece = (super::PIECE / block).max(1) * block;
        for bytes in data.get(..whole).unwrap_or_default().chunks(piece) {
            let samples = (bytes.len() / block) as u64;
            tally.found(bytes.len());
            out(Piece::Media {
                bytes,
                micros: self.clock.advance(samples, self.pcm.rate),
                edge: true,
            });
        }
        whole
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::carry::Scanner;
    use super::super::super::testing::{Seen, junk};
    use super::*;

    #[test]
    fn layouts_of_content_types() {
        let of = |text: &str| Pcm::of(text).map(|pcm| (pcm.rate, pcm.channels, pcm.block));
        assert_eq!(
            of("audio/l16; rate=44100; channels=2"),
            Some((44_100, 2, 4))
        );
        assert_eq!(
            of("audio/l24; channels=1;rate=\"48000\""),
            Some((48_000, 1, 3))
        );
        assert_eq!(of("audio/basic"), Some((8_000, 1, 1)));
        for none in [
            "audio/l16",
            "audio/l16; rate=0",
            "audio/l16; rate=44100; channels=0",
            "audio/l16; rate=9999999",
            "audio/mpeg",
        ] {
            assert_eq!(of(none), None, "{none}");
        }
        assert_eq!(
            Pcm::of("audio/l16; rate=44100; channels=2")
                .unwrap()
                .bitrate(),
            1_411_200
        );
    }

    #[test]
    fn pieces_begin_at_whole_samples() {
        let pcm = Pcm::of("audio/l16; rate=44100; channels=2").unwrap();
        let bytes = junk(44_101);
        let at_once = Seen::of(Scanner::new(PcmScan::new(pcm)), &[&bytes]);
        let split = Seen::of(
            Scanner::new(PcmScan::new(pcm)),
            &[&bytes[..1], &bytes[1..7], &bytes[7..]],
        );
        for seen in [at_once, split] {
            assert!(seen.media == bytes[..44_100]);
            assert!(seen.edges.iter().all(|edge| edge.is_multiple_of(4)));
            assert_eq!((seen.micros, seen.carried), (250_000, 1));
        }
    }
}
