//! One logical stream inside an Ogg stream: which codec, how many header packets, how long its pages play.

use super::super::frames::SampleClock;
use super::super::{Codec, Params};
use super::page::{Page, Part};

/// The longest Opus packet: 120 ms (RFC 6716 section 3.2.5).
const OPUS_LONGEST: u64 = 5_760;
/// Opus granules always count at 48 kHz (RFC 7845 section 4).
const OPUS_RATE: u32 = 48_000;

/// What the identification packet says.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    /// `longest`: samples that one packet can add, half of the long block.
    Vorbis {
        longest: u64,
    },
    Opus,
    /// `headers`: header packets after the first, 0 if unknown; `longest`: samples of the longest block.
    Flac {
        headers: u64,
        longest: u64,
    },
    Theora,
    Other,
}

/// A logical stream from its first page on.
#[derive(Debug)]
pub struct Logical {
    /// Its serial number.
    pub serial: u32,
    /// True once its last page has been seen.
    pub ended: bool,
    /// The decoder's setup.
    pub params: Params,
    /// Nominal bits a second, 0 where the headers do not say.
    pub bitrate: u32,
    kind: Kind,
    /// Header packets that are complete.
    packets: u64,
    granule: i64,
    /// Longest play time of a packet that began on an earlier page and has not ended.
    open: u64,
    clock: SampleClock,
}

impl Logical {
    /// Reads the first page of a logical stream.
    pub fn new(first: &Page<'_>) -> Self {
        let identification = first.parts().next().map_or(&[][..], |part| part.bytes);
        let (kind, params, bitrate) = vorbis(identification)
            .or_else(|| opus(identification))
            .or_else(|| flac(identification))
            .unwrap_or_else(|| other(identification));
        Self {
            serial: first.serial,
            ended: first.is_last(),
            params,
            bitrate,
            kind,
            packets: ended_packets(first),
            granule: 0,
            open: 0,
            clock: SampleClock::default(),
        }
    }

    /// True if it is an audio stream whose pages can be timed.
    pub fn is_timed(&self) -> bool {
        self.params.sample_rate > 0
    }

    /// True if `page`, of this stream and not its first, is already data.
    pub fn is_data(&self, page: &Page<'_>) -> bool {
        let starts_with = page
            .parts()
            .find(|part| part.starts)
            .and_then(|part| part.bytes.first().copied());
        match (&self.kind, starts_with) {
            // Header packets are odd, audio packets even (Vorbis I section 4.2.1).
            (Kind::Vorbis { .. }, Some(first)) => self.packets >= 3 || first & 1 == 0,
            (Kind::Theora, Some(first)) => self.packets >= 3 || first < 0x80,
            (Kind::Vorbis { .. } | Kind::Theora, None) => self.packets >= 3,
            (Kind::Opus, _) => self.packets >= 2,
            (Kind::Flac { headers, .. }, first) => {
                (*headers > 0 && self.packets > *headers) || first == Some(0xFF)
            }
            (Kind::Other, _) => page.granule > 0,
        }
    }

    /// Counts the header packets of a page that is no data.
    pub fn add_header(&mut self, page: &Page<'_>) {
        self.packets += ended_packets(page);
        self.ended |= page.is_last();
    }

    /// True if a decoder could start with the header pages so far.
    pub fn is_ready(&self) -> bool {
        match self.kind {
            Kind::Vorbis { .. } | Kind::Theora => self.packets >= 3,
            Kind::Opus => self.packets >= 2,
            // FLAC needs no more than its first packet, whatever that one promised.
            Kind::Flac { .. } | Kind::Other => true,
        }
    }

    /// How long a data page plays, in microseconds. The granule's progress, but never more than the packets on
    /// the page can hold: after lost pages, or when an encoder's count does not begin at 0, the granule jumps.
    pub fn advance(&mut self, page: &Page<'_>) -> u64 {
        self.ended |= page.is_last();
        let mut longest = 0;
        for part in page.parts() {
            if part.starts {
                self.open = self.packet_samples(&part);
            }
            if part.ends {
                longest += std::mem::take(&mut self.open);
            }
        }
        if page.granule < 0 {
            return 0;
        }
        let progress = page.granule.saturating_sub(self.granule);
        self.granule = page.granule;
        let samples = u64::try_from(progress).unwrap_or(0).min(longest);
        self.clock.advance(samples, self.params.sample_rate)
    }

    /// The most samples that a packet can add.
    fn packet_samples(&self, part: &Part<'_>) -> u64 {
        match self.kind {
            Kind::Vorbis { longest } | Kind::Flac { longest, .. } => longest,
            Kind::Opus => opus_samples(part.bytes),
            Kind::Theora | Kind::Other => 0,
        }
    }
}

fn ended_packets(page: &Page<'_>) -> u64 {
    page.parts().filter(|part| part.ends).count() as u64
}

/// Vorbis I section 4.2.2.
fn vorbis(packet: &[u8]) -> Option<(Kind, Params, u32)> {
    let body = packet.strip_prefix(b"\x01vorbis")?;
    let channels = *body.get(4)?;
    let sample_rate = little_endian(body, 5)?;
    let nominal = i32::from_le_bytes(little_endian(body, 13)?.to_le_bytes());
    let long_block = 1u64 << (*body.get(21)? >> 4);
    let params = Params {
        codec: Codec::Vorbis,
        sample_rate,
        channels,
        profile: 0,
    };
    let kind = Kind::Vorbis {
        longest: long_block / 2,
    };
    Some((kind, params, u32::try_from(nominal).unwrap_or(0)))
}

/// RFC 7845 section 5.1.
fn opus(packet: &[u8]) -> Option<(Kind, Params, u32)> {
    let body = packet.strip_prefix(b"OpusHead")?;
    let params = Params {
        codec: Codec::Opus,
        sample_rate: OPUS_RATE,
        channels: *body.get(1)?,
        profile: *body.get(10)?,
    };
    Some((Kind::Opus, params, 0))
}

/// The FLAC-to-Ogg mapping, and STREAMINFO in RFC 9639 section 8.2.
fn flac(packet: &[u8]) -> Option<(Kind, Params, u32)> {
    let body = packet.strip_prefix(b"\x7FFLAC")?;
    let headers = u64::from(u16::from_be_bytes([*body.get(2)?, *body.get(3)?]));
    // After `fLaC` and the block's header.
    let info = body.get(12..)?;
    let longest = u64::from(u16::from_be_bytes([*info.get(2)?, *info.get(3)?]));
    let packed = u32::from_be_bytes(*info.get(10..)?.first_chunk::<4>()?);
    let params = Params {
        codec: Codec::Flac,
        sample_rate: packed >> 12,
        channels: ((packed >> 9) & 7) as u8 + 1,
        profile: ((packed >> 4) & 31) as u8 + 1,
    };
    Some((Kind::Flac { headers, longest }, params, 0))
}

fn other(packet: &[u8]) -> (Kind, Params, u32) {
    let kind = if packet.starts_with(b"\x80theora") {
        Kind::Theora
    } else {
        Kind::Other
    };
    let params = Params {
        codec: Codec::Ogg,
        sample_rate: 0,
        channels: 0,
        profile: 0,
    };
    (kind, params, 0)
}

/// Samples of an Opus packet at 48 kHz by its first bytes (RFC 6716 section 3.1).
fn opus_samples(packet: &[u8]) -> u64 {
    let Some(first) = packet.first() else {
        return 0;
    };
    let config = first >> 3;
    let frame = match config {
        0..12 => [480, 960, 1_920, 2_880].get(usize::from(config & 3)),
        12..16 => [480, 960].get(usize::from(config & 1)),
        _ => [120, 240, 480, 960].get(usize::from(config & 3)),
    };
    let frames = match first & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => packet.get(1).map_or(1, |count| u64::from(count & 63)),
    };
    (frame.copied().unwrap_or(0) * frames).min(OPUS_LONGEST)
}

fn little_endian(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_le_bytes(
        *bytes.get(offset..)?.first_chunk::<4>()?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opus_packets_by_their_first_byte() {
        // SILK 60 ms; hybrid 20 ms; CELT 2.5 ms; CELT 20 ms, two frames; six frames of 20 ms; 63 of 20 ms, cut.
        for (packet, samples) in [
            (&[0x18][..], 2_880),
            (&[0x68], 960),
            (&[0x80], 120),
            (&[0x99], 1_920),
            (&[0x9B, 6], 5_760),
            (&[0x9B, 63], 5_760),
            (&[], 0),
        ] {
            assert_eq!(opus_samples(packet), samples, "{packet:02x?}");
        }
    }

    #[test]
    fn a_cut_identification_is_no_known_codec() {
        for packet in [
            &b"\x01vorbis\0\0\0\0\x02"[..],
            b"OpusHead\x01\x02",
            b"\x7FFLAC\x01\x00\x00\x01fLaC",
        ] {
            assert_eq!(
                vorbis(packet)
                    .or_else(|| opus(packet))
                    .or_else(|| flac(packet)),
                None
            );
            assert_eq!(other(packet).0, Kind::Other);
        }
        assert_eq!(other(b"\x80theora").0, Kind::Theora);
    }
}
