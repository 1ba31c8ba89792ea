//! WAV: a header that says how the samples behind it lie (Multimedia Programming Interface and Data Specifications 1.0; EBU
//! Tech 3306 for RF64).
//!
//! Its sizes are replaced by the largest ones, since a player of a stream would stop where the file was said to end. Samples
//! of a format with blocks of its own (ADPCM) are cut at these.

use super::super::carry::Scan;
use super::super::{Piece, Tally, Unplayable};
use super::Over;
use super::pcm::{Blocks, Pcm};

/// Size of a chunk that has no known end.
const ENDLESS: [u8; 4] = [0xFF; 4];

pub struct WavScan {
    limit: usize,
    /// The samples' cutter, once the header has come.
    blocks: Option<Blocks>,
    /// No WAV came, or one that cannot be played.
    over: Option<Over>,
    tally: Tally,
}

/// Kind of the bytes so far.
enum Reading {
    More,
    /// No WAV.
    Other,
    /// A header of so many bytes, and the samples' layout.
    Header(usize, Option<Pcm>),
}

impl Scan for WavScan {
    fn scan(&mut self, data: &[u8], out: &mut dyn FnMut(Piece<'_>)) -> usize {
        if let Some(blocks) = &mut self.blocks {
            return blocks.emit(data, &mut self.tally, out);
        }
        if let Some(over) = self.over {
            return over.count(data.len(), &mut self.tally);
        }
        match read(data) {
            Reading::More if data.len() <= self.limit => 0,
            Reading::Header(len, Some(pcm)) => {
                let (header, rest) = data.split_at_checked(len).unwrap_or((data, &[]));
                self.begin(header, pcm, out);
                header.len() + self.scan(rest, out)
            }
            Reading::Header(..) => self.is_unplayable(Unplayable::Container, data.len(), out),
            Reading::More => self.is_unplayable(Unplayable::Headers, data.len(), out),
            Reading::Other => {
                self.over = Some(Over::Other);
                self.scan(data, out)
            }
        }
    }

    fn counts(&self) -> Tally {
        self.tally
    }
}

impl WavScan {
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            blocks: None,
            over: None,
            tally: Tally::default(),
        }
    }

    fn is_unplayable(
        &mut self,
        why: Unplayable,
        len: usize,
        out: &mut dyn FnMut(Piece<'_>),
    ) -> usize {
        self.over = Some(Over::Unplayable);
        out(Piece::Unplayable(why));
        Over::Unplayable.count(len, &mut self.tally)
    }

    fn begin(&mut self, bytes: &[u8], pcm: Pcm, out: &mut dyn FnMut(Piece<'_>)) {
        let mut header = bytes.to_vec();
        let end = header.len();
        for place in [4, end - 4] {
            if let Some(size) = header.get_mut(place..place + 4) {
                size.copy_from_slice(&ENDLESS);
            }
        }
        let mut section = super::section(header);
        section.params.sample_rate = pcm.rate;
        section.params.channels = pcm.channels;
        section.bitrate = pcm.bitrate();
        super::announce(section, &mut self.tally, out);
        self.blocks = Some(Blocks::new(pcm));
    }
}

fn read(data: &[u8]) -> Reading {
    let Some(front) = data.first_chunk::<12>() else {
        let is_begun = |mark: &[u8]| data.iter().zip(mark).all(|(one, other)| one == other);
        return match is_begun(b"RIFF") || is_begun(b"RF64") {
            true => Reading::More,
            false => Reading::Other,
        };
    };
    let (mark, form) = (&front[..4], &front[8..]);
    if !matches!(mark, b"RIFF" | b"RF64") || form != b"WAVE" {
        return Reading::Other;
    }
    let mut at = 12_usize;
    let mut pcm = None;
    loop {
        let Some(head) = data.get(at..).and_then(|rest| rest.first_chunk::<8>()) else {
            return Reading::More;
        };
        let [k1, k2, k3, k4, s1, s2, s3, s4] = *head;
        let size = u32::from_le_bytes([s1, s2, s3, s4]) as usize;
        at += 8;
        match &[k1, k2, k3, k4] {
            b"data" => return Reading::Header(at, pcm),
            b"fmt " => match data.get(at..at.saturating_add(size)) {
                Some(format) => pcm = layout(format),
                None => return Reading::More,
            },
            _ => {}
        }
        // Chunks lie at even places.
        at = at.saturating_add(size).saturating_add(size % 2);
    }
}

/// The layout in a `fmt ` chunk.
fn layout(format: &[u8]) -> Option<Pcm> {
    let short = |at: usize| {
        let bytes = format.get(at..)?.first_chunk::<2>()?;
        Some(u16::from_le_bytes(*bytes))
    };
    let rate = u32::from_le_bytes(*format.get(4..)?.first_chunk::<4>()?);
    let bytes_a_second = u32::from_le_bytes(*format.get(8..)?.first_chunk::<4>()?);
    let block = usize::from(short(12)?);
    let channels = u8::try_from(short(2)?).ok()?;
    let blocks_a_second = bytes_a_second.checked_div(u32::try_from(block).ok()?)?;
    let is_sound = (1..=768_000).contains(&rate) && channels > 0 && blocks_a_second > 0;
    is_sound.then_some(Pcm {
        // Blocks of a compressed format hold many samples: what counts is how long one plays.
        rate: blocks_a_second,
        channels,
        block,
    })
}

#[cfg(test)]
mod tests {
    use super::super::super::carry::Scanner;
    use super::super::super::testing::{Seen, junk, split};
    use super::*;

    fn wav(format: &[u8], extra: usize) -> Vec<u8> {
        let chunk = |name: &[u8], body: &[u8]| {
            let size = (body.len() as u32).to_le_bytes();
            [name, &size, body].concat()
        };
        let mut file = b"RIFF\x00\x10\x00\x00WAVE".to_vec();
        file.extend(chunk(b"fmt ", format));
        if extra > 0 {
            file.extend(chunk(b"LIST", &vec![7; extra]));
        }
        file.extend(b"data\x00\x10\x00\x00");
        file
    }

    /// 44.1 kHz, 16 bits, stereo.
    const CD: &[u8] = b"\x01\x00\x02\x00\x44\xAC\x00\x00\x10\xB1\x02\x00\x04\x00\x10\x00";

    #[test]
    fn a_late_listener_gets_a_header_without_an_end() {
        for extra in [0, 20, 40_000] {
            let header = wav(CD, extra);
            let samples = junk(44_100);
            let whole = [&header[..], &samples].concat();
            let seen = Seen::of(
                Scanner::new(WavScan::new(1 << 20)),
                &split(&whole, &[1, 100, 9_000]),
            );
            let (_, section) = &seen.sections[0];
            let end = header.len();
            assert_eq!(section.header[4..8], ENDLESS);
            assert_eq!(section.header[end - 4..], ENDLESS);
            assert!(section.header[8..end - 4] == header[8..end - 4]);
            assert!(seen.media == [&section.header[..], &samples].concat());
            assert_eq!((seen.micros, section.bitrate), (250_000, 1_411_200));
            assert_eq!(
                (section.params.sample_rate, section.params.channels),
                (44_100, 2)
            );
            assert!(
                seen.edges[1..]
                    .iter()
                    .all(|edge| (edge - end).is_multiple_of(4))
            );
        }
    }

    #[test]
    fn what_is_no_wav_is_junk() {
        for bytes in [&b"RIFF\0\0\0\0AVI LIST"[..], b"no file at all", &[b'R'; 50]] {
            let seen = Seen::of(Scanner::new(WavScan::new(1 << 20)), &[bytes]);
            assert_eq!((seen.found, seen.lost), (0, bytes.len() as u64));
        }
        let silent = wav(&[0; 16], 0);
        let seen = Seen::of(Scanner::new(WavScan::new(1 << 20)), &[&silent]);
        assert_eq!(seen.unplayable, [(0, Unplayable::Container)]);
        let long = wav(CD, 2_000);
        let seen = Seen::of(
            Scanner::new(WavScan::new(1_000)),
            &split(&long[..1_500], &[500]),
        );
        assert_eq!(seen.unplayable, [(0, Unplayable::Headers)]);
    }
}
