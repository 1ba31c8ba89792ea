//! The stream between nodes: binary frames that carry a mount's bytes with their addresses.
//!
//! A frame is one byte of kind (top bit set, so that text can never be one), one of flags, the payload's
//! length in four (big endian, as all numbers here), and the payload, at most [`MAX_PAYLOAD`] bytes. A
//! message longer than that goes on in further frames of its kind, all but the last flagged [`MORE`].
//! Payloads may grow at their end, and kinds may be added: what a reader does not know it skips, unless the
//! frame is flagged [`MUST`].
//!
//! Must never: hold a socket, know the engine, or trust the other node's lengths and texts. Neighbours: the
//! serving and the pulling side of the stream, above.

mod read;
mod write;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::title::Title;

pub use read::FrameDecoder;
pub use write::encode;

/// The version of the stream's protocol that this program speaks.
pub const PROTOCOL: u16 = 1;

/// Bytes before a payload.
pub const FRAME_HEADER: usize = 6;

/// Longest payload of one frame.
pub const MAX_PAYLOAD: usize = 256 * 1024;

/// Longest message over several frames; only the headers of a section come near.
pub const MAX_MESSAGE: usize = 16 * 1024 * 1024 + 1024;

/// Flag: a reader that does not know the kind must give up.
pub const MUST: u8 = 0x01;

/// Flag: the message goes on in the next frame.
pub const MORE: u8 = 0x02;

const HEAD: u8 = 0x81;
const DATA: u8 = 0x82;
const TITLE: u8 = 0x83;
const SECTION: u8 = 0x84;
const TIME: u8 = 0x85;
const POSITION: u8 = 0x86;
const END: u8 = 0x87;
/// Parts of a title beside its text, as JSON, before the title itself; readers of old skip them.
const DETAILS: u8 = 0x88;

/// How a stream begins. Travels as JSON; a field that a reader does not know is skipped.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Head {
    /// [`PROTOCOL`] of the sender.
    pub version: u16,
    /// What the sender can do, a bit each.
    pub capabilities: u64,
    /// The mount in text form.
    pub mount: String,
    /// The numbering of the bytes that follow.
    pub epoch: u64,
    /// The offset of the first byte that follows.
    pub start: u64,
    /// The audio's media type.
    pub content_type: String,
    /// The source's `icy-*` and `ice-*` headers, at most [`MAX_FIELDS`](crate::wire::headers::MAX_FIELDS); read, they are clean.
    pub headers: Vec<(String, String)>,
    /// The ids of the nodes that the bytes came through, the origin first, the sender last.
    pub path: Vec<String>,
}

/// The beginning of a run of bytes that one decoder setup can play.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SectionFrame {
    /// The codec's name, at most 255 bytes.
    pub codec: String,
    /// Samples a second, 0 where unknown.
    pub sample_rate: u32,
    /// Channels, 0 where unknown.
    pub channels: u8,
    /// What else sets a decoder up, 0 where there is nothing.
    pub profile: u8,
    /// Nominal bits a second, 0 where unknown.
    pub bitrate: u32,
    /// The header pages, verbatim; empty for formats without.
    pub header: Bytes,
}

/// Why a stream ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EndReason {
    /// The source is gone for good.
    Ended,
    /// The mount goes on under another epoch.
    EpochChanged,
    /// The sender stops; others still have the mount. Also what an unknown reason is read as.
    Shutdown,
    /// The offset asked for has left the sender's ring, or never was.
    Gone,
    /// As [`Self::Ended`], said by a relay that heard it from the origin: nobody has the mount.
    Over,
}

impl EndReason {
    /// On the wire.
    pub fn code(self) -> u8 {
        match self {
            Self::Ended => 1,
            Self::EpochChanged => 2,
            Self::Shutdown => 3,
            Self::Gone => 4,
            Self::Over => 5,
        }
    }

    /// From the wire.
    pub fn of_code(code: u8) -> Self {
        match code {
            1 => Self::Ended,
            2 => Self::EpochChanged,
            4 => Self::Gone,
            5 => Self::Over,
            _ => Self::Shutdown,
        }
    }
}

/// One message of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// The first.
    Head(Head),
    /// Audio.
    Data {
        /// The address of the first byte.
        offset: u64,
        /// The bytes.
        bytes: Bytes,
    },
    /// A title.
    Title {
        /// In effect from the first metadata slot at or after it.
        offset: u64,
        /// Clean; read, it always is.
        title: Title,
    },
    /// A new decoder setup.
    Section {
        /// The first byte that needs it.
        offset: u64,
        /// The setup.
        section: SectionFrame,
    },
    /// A point of the time index.
    Time {
        /// The byte.
        offset: u64,
        /// Its media time, microseconds since the epoch's first byte.
        media_micros: u64,
        /// When the origin stamped it, unix milliseconds.
        wall_millis: u64,
    },
    /// Where the sender is; every 500 ms.
    Position {
        /// The numbering.
        epoch: u64,
        /// The sender's next offset.
        live_edge: u64,
        /// For how many milliseconds the sender has had nothing new itself; 0 where it has.
        starved_millis: u64,
    },
    /// The last.
    End {
        /// Why.
        reason: EndReason,
    },
}

impl Frame {
    /// Bytes that it keeps in memory, roughly.
    pub fn weight(&self) -> usize {
        let more = match self {
            Self::Head(head) => {
                let fields = head.headers.iter();
                let fields = fields.map(|(name, value)| name.len() + value.len() + 48);
                let path = head.path.iter().map(|node| node.len() + 24);
                head.mount.len()
                    + head.content_type.len()
                    + fields.sum::<usize>()
                    + path.sum::<usize>()
            }
            Self::Data { bytes, .. } => bytes.len(),
            Self::Title { title, .. } => title.weight(),
            Self::Section { section, .. } => section.header.len() + section.codec.len(),
            Self::Time { .. } | Self::Position { .. } | Self::End { .. } => 0,
        };
        size_of::<Self>() + more
    }
}

/// Why a stream was refused; nothing more can be read from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The byte where a kind should stand is none.
    #[error("byte `{0:#04x}` begins no frame: the other end does not speak the cluster's stream")]
    NotAFrame(u8),
    /// Over [`MAX_PAYLOAD`], [`MAX_MESSAGE`], or a codec's name over 255 bytes.
    #[error("a frame is longer than 262144 bytes, or a message than 4194304")]
    TooLarge,
    /// A payload that its kind cannot have.
    #[error("{0}")]
    Malformed(&'static str),
    /// A kind that we do not know and must.
    #[error("a frame of kind `{0:#04x}` needs a newer version of this program")]
    Unsupported(u8),
}

#[cfg(test)]
mod tests {
    use super::read::SHORT;
    use super::*;
    use crate::wire::bounds::{MAX_BYTES, MAX_MILLIS};
    use bytes::BytesMut;
    use proptest::prelude::*;

    fn bytes_of(frames: &[Frame]) -> Vec<u8> {
        let mut out = BytesMut::new();
        for frame in frames {
            encode(frame, &mut out).unwrap();
        }
        out.to_vec()
    }

    fn read_in(stream: &[u8], cuts: &[usize]) -> (Vec<Frame>, Option<FrameError>) {
        let mut decoder = FrameDecoder::new();
        let (mut frames, mut at) = (Vec::new(), 0);
        for &cut in cuts.iter().cycle() {
            let end = (at + cut).min(stream.len());
            decoder.push(&stream[at..end]);
            at = end;
            loop {
                match decoder.next_frame() {
                    Ok(Some(frame)) => frames.push(frame),
                    Ok(None) => break,
                    Err(error) => {
                        decoder.push(b"more");
                        assert_eq!(decoder.next_frame(), Err(error));
                        return (frames, Some(error));
                    }
                }
            }
            if at == stream.len() {
                break;
            }
        }
        (frames, None)
    }

    #[test]
    fn byte_for_byte() {
        assert_eq!(
            bytes_of(&[
                Frame::Data {
                    offset: 0x0102,
                    bytes: Bytes::from_static(b"ab")
                },
                Frame::Title {
                    offset: 7,
                    title: Title::of("T")
                },
                Frame::Position {
                    epoch: 1,
                    live_edge: 2,
                    starved_millis: 3
                },
                Frame::End {
                    reason: EndReason::Gone
                },
            ]),
            b"\x82\0\0\0\0\x0a\0\0\0\0\0\0\x01\x02ab\
              \x83\0\0\0\0\x09\0\0\0\0\0\0\0\x07T\
              \x86\0\0\0\0\x18\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x03\
              \x87\0\0\0\0\x01\x04"
        );
    }

    #[test]
    fn newer_senders_are_understood() {
        let stream = [
            &b"\x90\0\0\0\0\x03abc"[..],
            b"\xff\0\0\0\0\0",
            b"\x87\0\0\0\0\x03\x02xx",
            b"\x87\0\0\0\0\x01\x63",
            b"\x81\0\0\0\0\x21{\"epoch\":5,\"new\":[],\"path\":[\"a\"]}",
        ]
        .concat();
        let head = Head {
            epoch: 5,
            path: vec!["a".into()],
            ..Head::default()
        };
        for cut in 1..stream.len() {
            let (frames, error) = read_in(&stream, &[cut]);
            assert_eq!(error, None);
            assert_eq!(
                frames,
                [
                    Frame::End {
                        reason: EndReason::EpochChanged
                    },
                    Frame::End {
                        reason: EndReason::Shutdown
                    },
                    Frame::Head(head.clone()),
                ]
            );
        }
    }

    #[test]
    fn what_is_refused() {
        let broken = |stream: &[u8]| read_in(stream, &[1]).1;
        assert_eq!(
            broken(b"HTTP/1.1 200 OK"),
            Some(FrameError::NotAFrame(b'H'))
        );
        assert_eq!(broken(b"\x82\0\0\x04\0\x01"), Some(FrameError::TooLarge));
        assert_eq!(
            broken(b"\x90\x01\0\0\0\0"),
            Some(FrameError::Unsupported(0x90))
        );
        assert_eq!(broken(b"\x82\0\0\0\0\x07\0\0\0\0\0\0\0"), Some(SHORT));
        assert_eq!(broken(b"\x84\0\0\0\0\x08\0\0\0\0\0\0\0\0"), Some(SHORT));
        for stream in [
            &b"\x83\0\0\0\0\x09\0\0\0\0\0\0\0\0\xff"[..],
            b"\x83\0\0\0\0\x09\x10\0\0\0\0\0\0\x01x",
            b"\x81\0\0\0\0\x1e{\"epoch\":18446744073709551615}",
            b"\x86\0\0\0\0\x18\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x03",
            b"\x81\0\0\0\0\x02{]",
            b"\x82\0\0\0\0\x09\xff\xff\xff\xff\xff\xff\xff\xffx",
            b"\x84\x02\0\0\0\x01x\x87\0\0\0\0\x01\x01",
        ] {
            assert!(matches!(broken(stream), Some(FrameError::Malformed(_))));
        }
    }

    #[test]
    fn what_is_read_is_clean() {
        let head = Head {
            headers: vec![
                ("icy-name".into(), "a\r\nX: b".into()),
                ("b\r\nad".into(), "c".into()),
            ],
            ..Head::default()
        };
        let (frames, _) = read_in(&bytes_of(&[Frame::Head(head)]), &[5]);
        let Some(Frame::Head(head)) = frames.first() else {
            panic!("{frames:?}")
        };
        assert_eq!(head.headers, [("icy-name".to_owned(), "aX: b".to_owned())]);
        let (frames, _) = read_in(b"\x83\0\0\0\0\x0c\0\0\0\0\0\0\0\0a';\n", &[3]);
        assert_eq!(
            frames,
            [Frame::Title {
                offset: 0,
                title: Title::of("a';")
            }]
        );
    }

    #[test]
    fn long_messages_take_several_frames() {
        let header = Bytes::from(vec![7_u8; 2 * MAX_PAYLOAD + 5]);
        let section = Frame::Section {
            offset: 9,
            section: SectionFrame {
                codec: "flac".into(),
                header: header.clone(),
                ..SectionFrame::default()
            },
        };
        let audio = Frame::Data {
            offset: 10,
            bytes: header,
        };
        let stream = bytes_of(&[section.clone(), audio]);
        let (frames, error) = read_in(&stream, &[10_000]);
        assert_eq!((frames.len(), error), (4, None));
        assert_eq!(frames[0], section);
        let mut next = 10;
        for frame in &frames[1..] {
            let Frame::Data { offset, bytes } = frame else {
                panic!("{frame:?}")
            };
            assert_eq!(*offset, next);
            next += bytes.len() as u64;
        }
        assert_eq!(next, 10 + 2 * MAX_PAYLOAD as u64 + 5);
        let mut out = BytesMut::new();
        let huge = SectionFrame {
            header: vec![0; MAX_MESSAGE].into(),
            ..SectionFrame::default()
        };
        let huge = Frame::Section {
            offset: 0,
            section: huge,
        };
        assert_eq!(encode(&huge, &mut out), Err(FrameError::TooLarge));
        assert!(out.is_empty());
        let endless = [&b"\x84\x02\0\x04\0\0"[..], &[0; MAX_PAYLOAD]]
            .concat()
            .repeat(MAX_MESSAGE / MAX_PAYLOAD + 1);
        assert_eq!(
            read_in(&endless, &[MAX_PAYLOAD]).1,
            Some(FrameError::TooLarge)
        );
    }

    fn frame() -> impl Strategy<Value = Frame> {
        let bytes = || prop::collection::vec(any::<u8>(), 1..80).prop_map(Bytes::from);
        let text = ".{0,20}";
        let number = || prop_oneof![Just(0), 0..=MAX_MILLIS, Just(MAX_MILLIS)];
        let numbers = || [number(), number(), number()];
        prop_oneof![
            (numbers(), text, prop::collection::vec(text, 0..4)).prop_map(|(n, text, path)| {
                Frame::Head(Head {
                    version: PROTOCOL,
                    capabilities: n[0],
                    mount: text.clone(),
                    epoch: n[1],
                    start: n[2],
                    content_type: text,
                    headers: vec![("icy-br".into(), "128".into())],
                    path,
                })
            }),
            (0..=MAX_BYTES, bytes()).prop_map(|(offset, bytes)| Frame::Data { offset, bytes }),
            (number(), text).prop_map(|(offset, t)| Frame::Title {
                offset,
                title: Title::of(&t)
            }),
            (number(), any::<(u32, u8, u8, u32)>(), "[a-z]{0,9}", bytes()).prop_map(
                |(offset, (sample_rate, channels, profile, bitrate), codec, header)| {
                    Frame::Section {
                        offset,
                        section: SectionFrame {
                            codec,
                            sample_rate,
                            channels,
                            profile,
                            bitrate,
                            header,
                        },
                    }
                }
            ),
            numbers().prop_map(|[offset, media_micros, wall_millis]| Frame::Time {
                offset,
                media_micros,
                wall_millis
            }),
            numbers().prop_map(|[epoch, live_edge, starved_millis]| Frame::Position {
                epoch,
                live_edge,
                starved_millis
            }),
            (1_u8..=4).prop_map(|code| Frame::End {
                reason: EndReason::of_code(code)
            }),
        ]
    }

    proptest! {
        #[test]
        fn reads_back_in_any_split(
            frames in prop::collection::vec(frame(), 0..12),
            cuts in prop::collection::vec(1_usize..40, 1..8),
        ) {
            prop_assert_eq!(read_in(&bytes_of(&frames), &cuts), (frames, None));
        }

        #[test]
        fn random_bytes_never_panic(
            frames in prop::collection::vec(frame(), 0..4),
            noise in prop::collection::vec(any::<u8>(), 0..80),
            // Headers that are right in front of payloads that are not.
            lies in prop::collection::vec((0x80_u8..=0x90, 0_u8..4, 0_u8..40, prop::collection::vec(any::<u8>(), 40)), 0..6),
            cuts in prop::collection::vec(1_usize..40, 1..8),
        ) {
            let mut stream = bytes_of(&frames);
            for (kind, flags, length, payload) in lies {
                stream.extend([kind, flags, 0, 0, 0, length]);
                stream.extend(&payload[..usize::from(length)]);
            }
            stream.extend(noise);
            prop_assert_eq!(read_in(&stream, &cuts), read_in(&stream, &[usize::MAX / 2]));
        }
    }
}
