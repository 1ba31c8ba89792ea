//! Tracks of a Matroska file, as far as a server must know them (RFC 9559 5.1.2, 5.1.4).

use super::elements::{children, number};

const TIMESTAMP_SCALE: u32 = 0x2A_D7B1;
const TRACK_ENTRY: u32 = 0xAE;
const TRACK_NUMBER: u32 = 0xD7;
const TRACK_TYPE: u32 = 0x83;
const AUDIO: u32 = 0xE1;
const SAMPLING_FREQUENCY: u32 = 0xB5;
const CHANNELS: u32 = 0x9F;
const VIDEO: u64 = 1;

/// See the module.
#[derive(Debug, PartialEq, Eq)]
pub struct Tracks {
    /// Nanoseconds of a unit of time.
    scale: u64,
    /// Number of the video track.
    pub video: Option<u64>,
    /// Of the audio track, 0 where unknown.
    pub sample_rate: u32,
    /// Of the audio track, 0 where unknown.
    pub channels: u8,
}

impl Default for Tracks {
    fn default() -> Self {
        Self {
            scale: 1_000_000,
            video: None,
            sample_rate: 0,
            channels: 0,
        }
    }
}

impl Tracks {
    /// Takes the scale from an Info element.
    pub fn read_info(&mut self, body: &[u8]) {
        let scale = children(body).find(|(id, _)| *id == TIMESTAMP_SCALE);
        if let Some((_, body)) = scale {
            self.scale = number(body).max(1);
        }
    }

    /// Takes what is known of a Tracks element.
    pub fn read_tracks(&mut self, body: &[u8]) {
        let entries = children(body).filter(|(id, _)| *id == TRACK_ENTRY);
        for (_, entry) in entries {
            let value = |wanted: u32| {
                let found = children(entry).find(|(id, _)| *id == wanted);
                found.map(|(_, body)| body)
            };
            if value(TRACK_TYPE).map(number) == Some(VIDEO) {
                self.video = self.video.or(value(TRACK_NUMBER).map(number));
            } else if let Some(audio) = value(AUDIO) {
                self.read_audio(audio);
            }
        }
    }

    fn read_audio(&mut self, body: &[u8]) {
        for (id, body) in children(body) {
            match id {
                SAMPLING_FREQUENCY => self.sample_rate = frequency(body),
                CHANNELS => self.channels = u8::try_from(number(body)).unwrap_or(0),
                _ => {}
            }
        }
    }

    /// Microseconds of so many units of time.
    pub fn micros(&self, units: u64) -> u64 {
        let nanos = u128::from(units) * u128::from(self.scale);
        u64::try_from(nanos / 1_000).unwrap_or(u64::MAX)
    }
}

/// A floating-point number of four or eight bytes, in Hertz; 0 where it is none.
fn frequency(body: &[u8]) -> u32 {
    let value = match (body.first_chunk::<8>(), body.first_chunk::<4>()) {
        (Some(eight), _) => f64::from_be_bytes(*eight),
        (None, Some(four)) => f64::from(f32::from_be_bytes(*four)),
        (None, None) => 0.0,
    };
    // A number beyond the range becomes its end, and none becomes 0.
    value as u32
}
