//! From messages to frames.

use bytes::{BufMut, BytesMut};

use super::{
    DATA, DETAILS, END, FRAME_HEADER, Frame, FrameError, HEAD, MAX_MESSAGE, MAX_PAYLOAD, MORE,
    POSITION, SECTION, SectionFrame, TIME, TITLE,
};
use crate::wire::icy::clean_title;

/// Appends `frame` to `out`. Audio longer than one frame becomes several.
///
/// # Errors
/// [`FrameError::TooLarge`], with `out` as it was.
pub fn encode(frame: &Frame, out: &mut BytesMut) -> Result<(), FrameError> {
    match frame {
        Frame::Head(head) => {
            let json = serde_json::to_vec(head)
                .map_err(|_| FrameError::Malformed("a head cannot be written as JSON"))?;
            message(out, HEAD, &json)?;
        }
        Frame::Data { offset, bytes } => data(out, *offset, bytes),
        Frame::Title { offset, title } => {
            if title.has_details() {
                let json = serde_json::to_vec(title)
                    .map_err(|_| FrameError::Malformed("a title cannot be written as JSON"))?;
                message(out, DETAILS, &json)?;
            }
            let text = clean_title(&title.text);
            start(out, TITLE, 0, 8 + text.len());
            out.put_u64(*offset);
            out.put_slice(text.as_bytes());
        }
        Frame::Section { offset, section } => {
            message(out, SECTION, &section_payload(*offset, section)?)?
        }
        Frame::Time {
            offset,
            media_micros,
            wall_millis,
        } => three(out, TIME, [*offset, *media_micros, *wall_millis]),
        Frame::Position {
            epoch,
            live_edge,
            starved_millis,
        } => three(out, POSITION, [*epoch, *live_edge, *starved_millis]),
        Frame::End { reason } => {
            start(out, END, 0, 1);
            out.put_u8(reason.code());
        }
    }
    Ok(())
}

/// `length` is within [`MAX_PAYLOAD`] at every call.
fn start(out: &mut BytesMut, kind: u8, flags: u8, length: usize) {
    out.reserve(FRAME_HEADER + length);
    out.put_u8(kind);
    out.put_u8(flags);
    out.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
}

fn three(out: &mut BytesMut, kind: u8, numbers: [u64; 3]) {
    start(out, kind, 0, 24);
    for number in numbers {
        out.put_u64(number);
    }
}

fn data(out: &mut BytesMut, mut offset: u64, bytes: &[u8]) {
    for part in bytes.chunks(MAX_PAYLOAD - 8) {
        start(out, DATA, 0, 8 + part.len());
        out.put_u64(offset);
        out.put_slice(part);
        offset = offset.saturating_add(part.len() as u64);
    }
}

/// `payload` in as many frames as it takes.
fn message(out: &mut BytesMut, kind: u8, payload: &[u8]) -> Result<(), FrameError> {
    if payload.len() > MAX_MESSAGE {
        return Err(FrameError::TooLarge);
    }
    let mut parts = payload.chunks(MAX_PAYLOAD).peekable();
    while let Some(part) = parts.next() {
        let flags = if parts.peek().is_some() { MORE } else { 0 };
        start(out, kind, flags, part.len());
        out.put_slice(part);
    }
    Ok(())
}

fn section_payload(offset: u64, section: &SectionFrame) -> Result<Vec<u8>, FrameError> {
    let name = u8::try_from(section.codec.len()).map_err(|_| FrameError::TooLarge)?;
    let mut payload = Vec::with_capacity(19 + section.codec.len() + section.header.len());
    payload.put_u64(offset);
    payload.put_u32(section.sample_rate);
    payload.put_u8(section.channels);
    payload.put_u8(section.profile);
    payload.put_u32(section.bitrate);
    payload.put_u8(name);
    payload.put_slice(section.codec.as_bytes());
    payload.put_slice(&section.header);
    Ok(payload)
}
