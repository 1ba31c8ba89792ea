//! From frames to messages.

use bytes::{Buf, Bytes, BytesMut};

use super::{
    DATA, DETAILS, END, EndReason, FRAME_HEADER, Frame, FrameError, HEAD, Head, MAX_MESSAGE,
    MAX_PAYLOAD, MORE, MUST, POSITION, SECTION, SectionFrame, TIME, TITLE,
};
use crate::wire::bounds::{MAX_BYTES, MAX_MILLIS};
use crate::wire::headers::{Headers, MAX_FIELDS};
use crate::wire::title::Title;

/// Reads frames from bytes in any split. Holds at most one frame beyond what was pushed, if every push is
/// followed by [`FrameDecoder::next_frame`] until that says `None`.
#[derive(Debug, Default)]
pub struct FrameDecoder {
    buffer: BytesMut,
    /// Bytes of a frame that is being skipped.
    skip: usize,
    /// A message's earlier frames, and their kind.
    parts: Option<(u8, BytesMut)>,
    /// Parts of the title that follows.
    details: Option<Title>,
    failed: Option<FrameError>,
}

impl FrameDecoder {
    /// At the beginning of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes.
    pub fn push(&mut self, input: &[u8]) {
        if self.failed.is_none() {
            let (_, rest) = input.split_at_checked(self.skip).unwrap_or((input, b""));
            let taken = input.len().saturating_sub(rest.len());
            self.skip = self.skip.saturating_sub(taken);
            self.buffer.extend_from_slice(rest);
        }
    }

    /// The next whole message, `None` until there is one.
    ///
    /// # Errors
    /// Where the stream is broken; every later call says the same.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        match self.failed {
            Some(error) => Err(error),
            None => self.read().inspect_err(|&error| {
                self.failed = Some(error);
                self.buffer = BytesMut::new();
                self.parts = None;
            }),
        }
    }

    fn read(&mut self) -> Result<Option<Frame>, FrameError> {
        loop {
            let Some(&[kind, flags, a, b, c, d]) = self.buffer.first_chunk::<FRAME_HEADER>() else {
                return match self.buffer.first() {
                    Some(&kind) if kind < 0x80 => Err(FrameError::NotAFrame(kind)),
                    _ => Ok(None),
                };
            };
            if kind < 0x80 {
                return Err(FrameError::NotAFrame(kind));
            }
            let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
            if length > MAX_PAYLOAD {
                return Err(FrameError::TooLarge);
            }
            if !(HEAD..=DETAILS).contains(&kind) {
                if flags & MUST != 0 {
                    return Err(FrameError::Unsupported(kind));
                }
                self.skip(length);
                continue;
            }
            if self.buffer.len() < FRAME_HEADER + length {
                return Ok(None);
            }
            self.buffer.advance(FRAME_HEADER);
            let payload = self.buffer.split_to(length).freeze();
            if let Some(payload) = self.assemble(kind, flags, payload)? {
                if kind == DETAILS {
                    self.details = details(&payload);
                    continue;
                }
                return self.decode(kind, payload).map(Some);
            }
        }
    }

    fn decode(&mut self, kind: u8, payload: Bytes) -> Result<Frame, FrameError> {
        let mut frame = decode(kind, payload)?;
        if let Frame::Title { title, .. } = &mut frame
            && let Some(details) = self.details.take().filter(|said| said.text == title.text)
        {
            *title = details;
        }
        Ok(frame)
    }

    /// Drops the frame at the front, what has come of it and what has not.
    fn skip(&mut self, length: usize) {
        let there = self.buffer.len().min(FRAME_HEADER + length);
        self.buffer.advance(there);
        self.skip = FRAME_HEADER + length - there;
    }

    /// A message's whole payload once its last frame is there.
    fn assemble(
        &mut self,
        kind: u8,
        flags: u8,
        payload: Bytes,
    ) -> Result<Option<Bytes>, FrameError> {
        let more = flags & MORE != 0;
        let Some((begun, mut whole)) = self.parts.take() else {
            if !more {
                return Ok(Some(payload));
            }
            self.parts = Some((kind, BytesMut::from(payload)));
            return Ok(None);
        };
        if begun != kind {
            return Err(FrameError::Malformed(
                "a message is interrupted by another one",
            ));
        }
        if whole.len() + payload.len() > MAX_MESSAGE {
            return Err(FrameError::TooLarge);
        }
        whole.extend_from_slice(&payload);
        if more {
            self.parts = Some((kind, whole));
            return Ok(None);
        }
        Ok(Some(whole.freeze()))
    }
}

pub(super) const SHORT: FrameError =
    FrameError::Malformed("a frame's payload is too short for its kind");

fn number(payload: &mut Bytes) -> Result<u64, FrameError> {
    payload.try_get_u64().map_err(|_| SHORT)
}

/// An offset, or microseconds of media: at most [`MAX_BYTES`], so that no later sum of it overflows.
fn address(payload: &mut Bytes) -> Result<u64, FrameError> {
    number(payload).and_then(|number| within(number, MAX_BYTES))
}

/// A time or an epoch, which is one: no later than the year 9999.
fn time(payload: &mut Bytes) -> Result<u64, FrameError> {
    number(payload).and_then(|number| within(number, MAX_MILLIS))
}

fn within(number: u64, most: u64) -> Result<u64, FrameError> {
    if number > most {
        return Err(FrameError::Malformed(
            "a number in a frame is beyond its range",
        ));
    }
    Ok(number)
}

fn decode(kind: u8, mut payload: Bytes) -> Result<Frame, FrameError> {
    match kind {
        HEAD => head(&payload).map(Frame::Head),
        DATA => {
            let offset = address(&mut payload)?;
            Ok(Frame::Data {
                offset,
                bytes: payload,
            })
        }
        TITLE => {
            let offset = address(&mut payload)?;
            let text = std::str::from_utf8(&payload)
                .map_err(|_| FrameError::Malformed("a title is no UTF-8"))?;
            Ok(Frame::Title {
                offset,
                title: Title::of(text),
            })
        }
        SECTION => {
            let offset = address(&mut payload)?;
            section(payload).map(|section| Frame::Section { offset, section })
        }
        TIME => Ok(Frame::Time {
            offset: address(&mut payload)?,
            media_micros: address(&mut payload)?,
            wall_millis: time(&mut payload)?,
        }),
        POSITION => Ok(Frame::Position {
            epoch: time(&mut payload)?,
            live_edge: address(&mut payload)?,
            starved_millis: time(&mut payload)?,
        }),
        END => Ok(Frame::End {
            reason: EndReason::of_code(payload.try_get_u8().map_err(|_| SHORT)?),
        }),
        other => Err(FrameError::Unsupported(other)),
    }
}

/// Details that cannot be read are left out: the title itself follows.
fn details(payload: &[u8]) -> Option<Title> {
    let title: Title = serde_json::from_slice(payload).ok()?;
    Some(title.cleaned())
}

fn head(payload: &[u8]) -> Result<Head, FrameError> {
    let mut head: Head = serde_json::from_slice(payload)
        .map_err(|_| FrameError::Malformed("a head is no JSON of the known shape"))?;
    within(head.epoch, MAX_MILLIS)?;
    within(head.start, MAX_BYTES)?;
    let mut clean = Headers::new();
    for (name, value) in head.headers.into_iter().take(MAX_FIELDS) {
        clean.push(name, value);
    }
    head.headers = clean
        .iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    Ok(head)
}

fn section(mut payload: Bytes) -> Result<SectionFrame, FrameError> {
    let sample_rate = payload.try_get_u32().map_err(|_| SHORT)?;
    let channels = payload.try_get_u8().map_err(|_| SHORT)?;
    let profile = payload.try_get_u8().map_err(|_| SHORT)?;
    let bitrate = payload.try_get_u32().map_err(|_| SHORT)?;
    let name = usize::from(payload.try_get_u8().map_err(|_| SHORT)?);
    if payload.len() < name {
        return Err(SHORT);
    }
    let codec = payload.split_to(name);
    let codec = std::str::from_utf8(&codec)
        .map_err(|_| FrameError::Malformed("a codec's name is no UTF-8"))?
        .to_owned();
    Ok(SectionFrame {
        codec,
        sample_rate,
        channels,
        profile,
        bitrate,
        // A copy: the payload is a part of what was read at once, which would be kept as long.
        header: Bytes::copy_from_slice(&payload),
    })
}
