//! The lines of a head, before anyone asks what they say: where it ends, what bounds it has, its fields.

use std::mem::MaybeUninit;

use super::headers::{Headers, MAX_FIELDS, field_text};

/// Longest head in bytes, with empty lines before it and the one that ends it.
pub const MAX_HEAD: usize = 16 * 1024;

/// Longest request line in bytes.
pub const MAX_LINE: usize = 8 * 1024;

/// Why a head was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// Longer than [`MAX_HEAD`], or more than [`MAX_FIELDS`] fields.
    #[error("the head is longer than 16384 bytes or has more than 100 fields")]
    TooLarge,
    /// The request line is longer than [`MAX_LINE`].
    #[error("the request line is longer than 8192 bytes")]
    UriTooLong,
    /// A protocol that is spoken nowhere here.
    #[error("the protocol version is none of `HTTP/1.0`, `HTTP/1.1`, `ICE/1.0`")]
    Version,
    /// Not a head.
    #[error("{0}")]
    Bad(&'static str),
}

impl HeadError {
    /// The status to answer.
    pub fn status(&self) -> u16 {
        match self {
            Self::TooLarge => 431,
            Self::UriTooLong => 414,
            Self::Version => 505,
            Self::Bad(_) => 400,
        }
    }
}

/// Reads bare fields up to an empty line, and how many bytes they took: what a Shoutcast v1 source sends
/// after its password. Lines that are no fields are left out. `None` until the empty line is there.
///
/// # Errors
/// Where they are too long or too many.
pub fn parse_fields(buf: &[u8]) -> Result<Option<(Headers, usize)>, HeadError> {
    // An empty line at once is an empty list.
    let end = match buf {
        [b'\n', ..] => Some(1),
        [b'\r', b'\n', ..] => Some(2),
        _ => None,
    };
    if let Some(end) = end {
        return Ok(Some((Headers::new(), end)));
    }
    match scan(buf, 0)? {
        Some(end) => {
            let whole = buf.get(..end).unwrap_or_default();
            Ok(Some((fields(whole, true)?, end)))
        }
        None => Ok(None),
    }
}

/// A whole head: its first line without line end, the lines after it, and the bytes taken.
pub(super) struct Block<'a> {
    pub first: &'a [u8],
    pub rest: &'a [u8],
    pub consumed: usize,
}

/// Finds the head at the front of `buf`. It ends with an empty line; a line ends with `\n`, and any `\r`
/// before that belongs to the line end, which covers `\r\n\r\n`, `\n\n` and `\r\r\n\r\r\n` alike.
pub(super) fn block(buf: &[u8]) -> Result<Option<Block<'_>>, HeadError> {
    let window = buf.get(..MAX_HEAD).unwrap_or(buf);
    let start = window
        .iter()
        .take_while(|b| matches!(b, b'\r' | b'\n'))
        .count();
    let after = window.get(start..).unwrap_or_default();
    let line = after.iter().take(MAX_LINE + 1).position(|&b| b == b'\n');
    if line.is_none() && after.len() > MAX_LINE {
        return Err(HeadError::UriTooLong);
    }
    let Some(consumed) = scan(buf, start)? else {
        return Ok(None);
    };
    let head = buf.get(start..consumed).unwrap_or_default();
    let (first, rest) = head
        .split_at_checked(line.unwrap_or(0) + 1)
        .unwrap_or((head, b""));
    Ok(Some(Block {
        first: trim_end(first),
        rest,
        consumed,
    }))
}

/// Where the first empty line at or after `start` ends.
fn scan(buf: &[u8], start: usize) -> Result<Option<usize>, HeadError> {
    let window = buf.get(..MAX_HEAD).unwrap_or(buf);
    let mut at = start;
    for line in window
        .get(start..)
        .unwrap_or_default()
        .split_inclusive(|&b| b == b'\n')
    {
        at += line.len();
        if line.ends_with(b"\n") && trim_end(line).is_empty() {
            return Ok(Some(at));
        }
    }
    if buf.len() >= MAX_HEAD {
        return Err(HeadError::TooLarge);
    }
    Ok(None)
}

fn trim_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let carriage_returns = line.iter().rev().take_while(|&&b| b == b'\r').count();
    line.get(..line.len() - carriage_returns).unwrap_or(line)
}

/// The fields of `lines`, which end with an empty line. `lenient` leaves lines out that are no fields
/// instead of refusing them.
pub(super) fn fields(lines: &[u8], lenient: bool) -> Result<Headers, HeadError> {
    // A status line in front: only for answers has httparse its lenient ways.
    let mut text = Vec::with_capacity(lines.len() + 32);
    text.extend_from_slice(b"HTTP/1.0 200 OK\r\n");
    for line in lines.split_inclusive(|&b| b == b'\n') {
        text.extend_from_slice(trim_end(line));
        text.extend_from_slice(b"\r\n");
    }
    let mut config = httparse::ParserConfig::default();
    config
        .allow_spaces_after_header_name_in_responses(lenient)
        .allow_obsolete_multiline_headers_in_responses(lenient)
        .ignore_invalid_headers_in_responses(lenient);
    let mut room = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut answer = httparse::Response::new(&mut []);
    match config.parse_response_with_uninit_headers(&mut answer, &text, &mut room) {
        Ok(httparse::Status::Complete(_)) => {}
        Err(httparse::Error::TooManyHeaders) => return Err(HeadError::TooLarge),
        Ok(httparse::Status::Partial) | Err(_) => {
            return Err(HeadError::Bad("a header line is not `name: value`"));
        }
    }
    let mut headers = Headers::new();
    for field in answer.headers.iter() {
        headers.push(field.name, field_text(field.value));
    }
    Ok(headers)
}
