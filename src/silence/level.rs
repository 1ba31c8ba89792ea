//! How loud a piece of a stream is, by decoding it.

use std::io::Cursor;

use symphonia::core::codecs::audio::AudioDecoderOptions;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatOptions, TrackType};
use symphonia::core::io::{MediaSourceStream, ReadOnlySource};
use symphonia::core::meta::MetadataOptions;

use crate::engine::format::Codec;
use crate::engine::ring::Chain;

/// Packets at the beginning that are decoded and not judged: they lean on what came before the piece.
const WARM_UP: usize = 2;

/// What complete digital silence is said to be.
const FLOOR: f64 = -200.0;

/// The bytes from `start` to `end`.
pub(super) fn copy(chain: &Chain, start: u64, end: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut offset = start;
    while offset < end {
        let slice = chain.slice_at(offset);
        let wanted = usize::try_from(end - offset).unwrap_or(usize::MAX);
        let Some(part) = slice
            .get(..wanted.min(slice.len()))
            .filter(|part| !part.is_empty())
        else {
            break;
        };
        bytes.extend_from_slice(part);
        offset += part.len() as u64;
    }
    bytes
}

/// The effective value (root of the mean square) over all channels, in decibels below full scale (0 or less);
/// none where nothing could be decoded. `header` are an Ogg stream's header pages.
pub(super) fn effective(codec: Codec, header: &[u8], audio: Vec<u8>) -> Option<f64> {
    let mut hint = Hint::new();
    hint.with_extension(match codec {
        Codec::Mp3 => "mp3",
        Codec::Aac => "aac",
        _ => "ogg",
    });
    let bytes = if header.is_empty() {
        audio
    } else {
        [header, &audio].concat()
    };
    // Not to be searched for its length, which a seekable source would be.
    let source = ReadOnlySource::new(Cursor::new(bytes));
    let stream = MediaSourceStream::new(Box::new(source), Default::default());
    let mut format = symphonia::default::get_probe()
        .probe(
            &hint,
            stream,
            FormatOptions::default(),
            MetadataOptions::default(),
        )
        .ok()?;
    let track = format.default_track(TrackType::Audio)?;
    let parameters = track.codec_params.as_ref()?.audio()?;
    let mut decoder = symphonia::default::get_codecs()
        .make_audio_decoder(parameters, &AudioDecoderOptions::default())
        .ok()?;
    let track = track.id;
    let (mut squares, mut count, mut packets) = (0.0, 0_u64, 0);
    let mut samples: Vec<f32> = Vec::new();
    // The end of the piece is the end of no stream: it shows as an error.
    while let Ok(Some(packet)) = format.next_packet() {
        if packet.track_id != track {
            continue;
        }
        let Ok(decoded) = decoder.decode(&packet) else {
            continue;
        };
        packets += 1;
        if packets <= WARM_UP {
            continue;
        }
        samples.clear();
        decoded.copy_to_vec_interleaved(&mut samples);
        squares += samples.iter().map(|s| f64::from(*s).powi(2)).sum::<f64>();
        count += samples.len() as u64;
    }
    #[allow(clippy::cast_precision_loss)]
    let mean = squares / count as f64;
    (count > 0).then(|| (10.0 * mean.log10()).max(FLOOR))
}
