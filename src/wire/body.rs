//! Bodies: how long one is, and its bytes without the framing.

use super::head::{Headers, Method, Request};
use super::response::Response;

/// Longest chunk-size line in bytes, extensions counted, line end left out.
pub const MAX_CHUNK_LINE: usize = 64;

/// Longest trailer section in bytes.
pub const MAX_TRAILERS: usize = 4096;

/// How a body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// With the connection.
    UntilClose,
    /// After that many bytes.
    Length(u64),
    /// With its last chunk.
    Chunked,
}

/// Why a body was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// `Content-Length` is no number, or several that differ.
    #[error("`Content-Length` is no single number")]
    Length,
    /// `Content-Length` beside `Transfer-Encoding`: a proxy before us may have read the other one.
    #[error("`Content-Length` and `Transfer-Encoding` are both given")]
    Conflict,
    /// A transfer coding other than `chunked`.
    #[error("the only transfer coding that is understood is `chunked`")]
    Encoding,
    /// A chunk-size line that is no hexadecimal number.
    #[error("a chunk does not begin with its size")]
    ChunkSize,
    /// A chunk-size line or trailers beyond their bound.
    #[error("a chunk's size line or the trailers are too long")]
    TooLong,
    /// No line end after a chunk.
    #[error("a chunk does not end where its size says")]
    ChunkEnd,
    /// The connection closed before the end.
    #[error("the body ended before its length or its last chunk")]
    Truncated,
}

impl BodyError {
    /// The status to answer where the body is a request's.
    pub fn status(&self) -> u16 {
        match self {
            Self::Encoding => 501,
            _ => 400,
        }
    }
}

impl Framing {
    /// How a request's body ends. A source without length (`SOURCE`, or `PUT` without framing) sends until
    /// it closes; a length on `SOURCE` means nothing, since old encoders send made-up ones. Any other
    /// request without framing has no body.
    ///
    /// # Errors
    /// Where the framing is in doubt.
    pub fn of_request(request: &Request) -> Result<Self, BodyError> {
        let length = content_length(&request.headers);
        if let Some(chunked) = chunked(&request.headers) {
            if !chunked {
                return Err(BodyError::Encoding);
            }
            if request.method != Method::Source && length != Ok(None) {
                return Err(BodyError::Conflict);
            }
            return Ok(Self::Chunked);
        }
        if request.method == Method::Source {
            return Ok(Self::UntilClose);
        }
        Ok(match length? {
            Some(length) => Self::Length(length),
            None if request.method == Method::Put => Self::UntilClose,
            None => Self::Length(0),
        })
    }

    /// How a response's body ends (to anything but HEAD). A length that is no number means nothing.
    ///
    /// # Errors
    /// Where the transfer coding is not understood.
    pub fn of_response(response: &Response) -> Result<Self, BodyError> {
        if matches!(response.status, 100..=199 | 204 | 304) {
            return Ok(Self::Length(0));
        }
        match chunked(&response.headers) {
            Some(true) => return Ok(Self::Chunked),
            Some(false) => return Err(BodyError::Encoding),
            None => {}
        }
        Ok(match content_length(&response.headers) {
            Ok(Some(length)) if !response.icy => Self::Length(length),
            _ => Self::UntilClose,
        })
    }
}

/// `Some(false)` where there is a coding that we do not know; `identity` is none at all.
fn chunked(headers: &Headers) -> Option<bool> {
    let mut codings = headers
        .all("transfer-encoding")
        .flat_map(|v| v.split(','))
        .map(str::trim)
        .filter(|c| !c.is_empty() && !c.eq_ignore_ascii_case("identity"));
    let first = codings.next()?;
    Some(first.eq_ignore_ascii_case("chunked") && codings.next().is_none())
}

fn content_length(headers: &Headers) -> Result<Option<u64>, BodyError> {
    let mut length = None;
    let values = headers.all("content-length").flat_map(|v| v.split(','));
    for value in values.map(str::trim) {
        let digits = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
        let number = value.parse::<u64>().ok().filter(|_| digits);
        let number = number.ok_or(BodyError::Length)?;
        if length.is_some_and(|other| other != number) {
            return Err(BodyError::Length);
        }
        length = Some(number);
    }
    Ok(length)
}

/// Takes the framing off a body.
#[derive(Debug, Clone)]
pub struct BodyDecoder {
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    UntilClose,
    Length(u64),
    Size(SizeLine),
    Chunk(u64),
    ChunkEnd { returned: bool },
    Trailers { seen: usize, line_empty: bool },
    Done,
    Failed(BodyError),
}

/// A chunk-size line so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct SizeLine {
    size: u64,
    digits: u8,
    seen: usize,
    /// In what follows the number: spaces, extensions.
    extension: bool,
    returned: bool,
}

impl BodyDecoder {
    /// For a body of that framing.
    pub fn new(framing: Framing) -> Self {
        let state = match framing {
            Framing::UntilClose => State::UntilClose,
            Framing::Length(0) => State::Done,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Size(SizeLine::default()),
        };
        Self { state }
    }

    /// Takes the next bytes, in any split, and appends the body's to `out`. Returns how many were taken:
    /// all, unless the body ended before. Trailers are skipped.
    ///
    /// # Errors
    /// Where the framing is broken; every later call says the same. What came before it is in `out`.
    pub fn push(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<usize, BodyError> {
        let mut rest = input;
        loop {
            match self.state {
                State::Failed(error) => return Err(error),
                State::Done => return Ok(input.len() - rest.len()),
                _ if rest.is_empty() => return Ok(input.len()),
                State::UntilClose => {
                    out.extend_from_slice(rest);
                    return Ok(input.len());
                }
                State::Length(left) => {
                    let left = take(left, &mut rest, out);
                    self.state = if left == 0 {
                        State::Done
                    } else {
                        State::Length(left)
                    };
                }
                State::Chunk(left) => {
                    let left = take(left, &mut rest, out);
                    self.state = match left {
                        0 => State::ChunkEnd { returned: false },
                        left => State::Chunk(left),
                    };
                }
                framing => {
                    if let Some((&byte, after)) = rest.split_first() {
                        rest = after;
                        self.state = step(framing, byte).unwrap_or_else(State::Failed);
                    }
                }
            }
        }
    }

    /// True once the whole body has been given out; never for one that lasts until the connection closes.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Whether the connection may close here.
    ///
    /// # Errors
    /// Where the body is not whole or its framing is broken.
    pub fn finish(&self) -> Result<(), BodyError> {
        match self.state {
            State::Done | State::UntilClose => Ok(()),
            State::Failed(error) => Err(error),
            _ => Err(BodyError::Truncated),
        }
    }
}

/// Moves at most `left` bytes from `input` to `out`; what is left after that.
fn take(left: u64, input: &mut &[u8], out: &mut Vec<u8>) -> u64 {
    let limit = usize::try_from(left).unwrap_or(usize::MAX);
    let (part, rest) = input.split_at_checked(limit).unwrap_or((input, b""));
    out.extend_from_slice(part);
    *input = rest;
    left - part.len() as u64
}

/// One byte between chunks.
fn step(state: State, byte: u8) -> Result<State, BodyError> {
    match state {
        State::Size(line) => size_line(line, byte),
        State::ChunkEnd { returned } => match byte {
            b'\r' if !returned => Ok(State::ChunkEnd { returned: true }),
            b'\n' => Ok(State::Size(SizeLine::default())),
            _ => Err(BodyError::ChunkEnd),
        },
        State::Trailers { seen, .. } if seen >= MAX_TRAILERS => Err(BodyError::TooLong),
        State::Trailers { seen, line_empty } => Ok(match byte {
            b'\n' if line_empty => State::Done,
            b'\n' => State::Trailers {
                seen: seen + 1,
                line_empty: true,
            },
            b'\r' => State::Trailers {
                seen: seen + 1,
                line_empty,
            },
            _ => State::Trailers {
                seen: seen + 1,
                line_empty: false,
            },
        }),
        other => Ok(other),
    }
}

fn size_line(mut line: SizeLine, byte: u8) -> Result<State, BodyError> {
    if byte == b'\n' {
        return match (line.digits, line.size) {
            (0, _) => Err(BodyError::ChunkSize),
            (_, 0) => Ok(State::Trailers {
                seen: 0,
                line_empty: true,
            }),
            (_, size) => Ok(State::Chunk(size)),
        };
    }
    if line.returned {
        return Err(BodyError::ChunkSize);
    }
    if byte == b'\r' {
        line.returned = true;
        return Ok(State::Size(line));
    }
    line.seen += 1;
    if line.seen > MAX_CHUNK_LINE {
        return Err(BodyError::TooLong);
    }
    let digit = char::from(byte).to_digit(16).filter(|_| !line.extension);
    if let Some(digit) = digit {
        // Fifteen digits cannot overflow, and no chunk is that long.
        if line.digits >= 15 {
            return Err(BodyError::ChunkSize);
        }
        line.digits += 1;
        line.size = line.size * 16 + u64::from(digit);
    } else if line.extension || (line.digits > 0 && matches!(byte, b';' | b' ' | b'\t')) {
        line.extension = true;
    } else {
        return Err(BodyError::ChunkSize);
    }
    Ok(State::Size(line))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::head::{Version, parse};
    use crate::wire::response::parse_response;
    use proptest::prelude::*;

    fn of(head: &str) -> Result<Framing, BodyError> {
        Framing::of_request(
            &parse(format!("{head}\r\n\r\n").as_bytes())
                .unwrap()
                .unwrap()
                .0,
        )
    }

    #[test]
    fn framing_of_requests() {
        for (head, framing) in [
            ("GET / HTTP/1.1", Ok(Framing::Length(0))),
            (
                "POST / HTTP/1.1\r\nContent-Length: 5",
                Ok(Framing::Length(5)),
            ),
            (
                "POST / HTTP/1.1\r\nContent-Length: 5, 5",
                Ok(Framing::Length(5)),
            ),
            (
                "POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6",
                Err(BodyError::Length),
            ),
            (
                "POST / HTTP/1.1\r\nContent-Length: +5",
                Err(BodyError::Length),
            ),
            ("PUT /a HTTP/1.1", Ok(Framing::UntilClose)),
            (
                "PUT /a HTTP/1.1\r\nContent-Length: 9",
                Ok(Framing::Length(9)),
            ),
            (
                "PUT /a HTTP/1.1\r\nTransfer-Encoding: Chunked",
                Ok(Framing::Chunked),
            ),
            (
                "PUT /a HTTP/1.1\r\nTransfer-Encoding: gzip, chunked",
                Err(BodyError::Encoding),
            ),
            (
                "PUT /a HTTP/1.1\r\nTransfer-Encoding: identity",
                Ok(Framing::UntilClose),
            ),
            (
                "PUT /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 1",
                Err(BodyError::Conflict),
            ),
            ("SOURCE /a ICE/1.0", Ok(Framing::UntilClose)),
            (
                "SOURCE /a HTTP/1.0\r\nContent-Length: -1",
                Ok(Framing::UntilClose),
            ),
            (
                "SOURCE /a HTTP/1.1\r\nTransfer-Encoding: chunked",
                Ok(Framing::Chunked),
            ),
        ] {
            assert_eq!(of(head), framing, "{head}");
        }
        assert_eq!(BodyError::Encoding.status(), 501);
        assert_eq!(
            Request::new(Method::Get, "/", Version::Http10)
                .headers
                .len(),
            0
        );
    }

    #[test]
    fn framing_of_responses() {
        for (head, framing) in [
            ("ICY 200 OK\r\nContent-Length: 5", Ok(Framing::UntilClose)),
            ("HTTP/1.0 200 OK", Ok(Framing::UntilClose)),
            (
                "HTTP/1.0 200 OK\r\nContent-Length: many",
                Ok(Framing::UntilClose),
            ),
            (
                "HTTP/1.0 404 X\r\nContent-Length: 5",
                Ok(Framing::Length(5)),
            ),
            ("HTTP/1.1 204 X", Ok(Framing::Length(0))),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked",
                Ok(Framing::Chunked),
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: br",
                Err(BodyError::Encoding),
            ),
        ] {
            let response = parse_response(format!("{head}\r\n\r\n").as_bytes())
                .unwrap()
                .unwrap()
                .0;
            assert_eq!(Framing::of_response(&response), framing, "{head}");
        }
    }

    fn decode(framing: Framing, input: &[u8]) -> (Result<usize, BodyError>, Vec<u8>, bool) {
        let mut decoder = BodyDecoder::new(framing);
        let mut out = Vec::new();
        let taken = decoder.push(input, &mut out);
        (taken, out, decoder.is_done())
    }

    #[test]
    fn chunks() {
        for (input, body, taken) in [
            (&b"5\r\nhello\r\n0\r\n\r\nnext"[..], &b"hello"[..], Ok(15)),
            (b"5\nhello\n0\n\n", b"hello", Ok(11)),
            (
                b"00A;x=\"y\" ; z\r\n0123456789\r\n0\r\nA: b\r\nC: d\r\n\r\n",
                b"0123456789",
                Ok(44),
            ),
            (b"1 \r\na\r\n0\r\n\r\n", b"a", Ok(12)),
            (b"\r\n", b"", Err(BodyError::ChunkSize)),
            (b"x\r\n", b"", Err(BodyError::ChunkSize)),
            (b"-1\r\n", b"", Err(BodyError::ChunkSize)),
            (b"1\rx", b"", Err(BodyError::ChunkSize)),
            (b"1111111111111111\r\n", b"", Err(BodyError::ChunkSize)),
            (b"1\r\nab", b"a", Err(BodyError::ChunkEnd)),
        ] {
            let (result, out, done) = decode(Framing::Chunked, input);
            assert_eq!(
                (result, out.as_slice()),
                (taken, body),
                "{}",
                input.escape_ascii()
            );
            assert_eq!(done, taken.is_ok());
        }
    }

    #[test]
    fn lines_are_bounded() {
        let line = |n: usize| format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(n));
        assert!(decode(Framing::Chunked, line(MAX_CHUNK_LINE - 2).as_bytes()).2);
        let (result, _, _) = decode(Framing::Chunked, line(MAX_CHUNK_LINE - 1).as_bytes());
        assert_eq!(result, Err(BodyError::TooLong));
        let trailers = format!("0\r\n{}\r\n", "A: b\r\n".repeat(2000));
        assert_eq!(
            decode(Framing::Chunked, trailers.as_bytes()).0,
            Err(BodyError::TooLong)
        );
    }

    #[test]
    fn lengths_and_ends() {
        assert_eq!(
            decode(Framing::Length(3), b"abcd"),
            (Ok(3), b"abc".to_vec(), true)
        );
        assert_eq!(decode(Framing::Length(0), b"abcd"), (Ok(0), vec![], true));
        assert_eq!(
            decode(Framing::UntilClose, b"abcd"),
            (Ok(4), b"abcd".to_vec(), false)
        );
        let mut out = Vec::new();
        let mut decoder = BodyDecoder::new(Framing::Chunked);
        decoder.push(b"5\r\nhel", &mut out).unwrap();
        assert_eq!(decoder.finish(), Err(BodyError::Truncated));
        decoder.push(b"lo\r\n0\r\n\r\n", &mut out).unwrap();
        assert_eq!((decoder.finish(), out.as_slice()), (Ok(()), &b"hello"[..]));
        let mut broken = BodyDecoder::new(Framing::Chunked);
        assert!(broken.push(b"zz", &mut out).is_err());
        assert_eq!(broken.push(b"1\r\n", &mut out), Err(BodyError::ChunkSize));
    }

    /// Pushes in pieces until the decoder stops; what it took, gave, and said.
    fn in_pieces(
        framing: Framing,
        input: &[u8],
        cuts: &[usize],
    ) -> (usize, Vec<u8>, Result<(), BodyError>) {
        let mut decoder = BodyDecoder::new(framing);
        let (mut out, mut taken) = (Vec::new(), 0);
        for &cut in cuts.iter().cycle() {
            let end = (taken + cut).min(input.len());
            match decoder.push(&input[taken..end], &mut out) {
                Ok(n) => taken += n,
                Err(error) => return (0, out, Err(error)),
            }
            if decoder.is_done() || taken == input.len() {
                break;
            }
        }
        (taken, out, decoder.finish())
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_bytes(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..60), 0..8),
            extension in "(;[a-z=]{0,10})?",
            cuts in prop::collection::vec(1_usize..20, 1..8),
            after in prop::collection::vec(any::<u8>(), 0..10),
        ) {
            let mut wire = Vec::new();
            for chunk in &chunks {
                wire.extend(format!("{:x}{extension}\r\n", chunk.len()).bytes());
                wire.extend(chunk);
                wire.extend(b"\r\n");
            }
            wire.extend(b"0\r\nTrailer: x\r\n\r\n");
            let whole = wire.len();
            wire.extend(after);
            let (taken, out, end) = in_pieces(Framing::Chunked, &wire, &cuts);
            prop_assert_eq!((taken, end), (whole, Ok(())));
            prop_assert_eq!(out, chunks.concat());
        }

        #[test]
        fn random_bytes_never_panic(
            wire in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..200),
                "([0-9a-f]{1,2}[; ]?\r?\n[a-z]{0,20}\r?\n){0,6}".prop_map(String::into_bytes),
            ],
            cuts in prop::collection::vec(1_usize..20, 1..8),
            length in 0_u64..300,
        ) {
            for framing in [Framing::Chunked, Framing::Length(length), Framing::UntilClose] {
                prop_assert_eq!(in_pieces(framing, &wire, &cuts), in_pieces(framing, &wire, &[1000]));
            }
        }
    }
}
