//! Response heads: those of upstreams read, our own plain answers written.

use std::cell::Cell;
use std::io::Write;

use super::block::{HeadError, block, fields};
use super::head::{Headers, Version};
use super::headers::{field_text, write_field};
use super::icy::clean_field;

/// Fields of every answer with a body of our own, as lines: a browser takes the type that is told, runs no script, frames
/// nothing of it (clickjacking), and loads no more than audio.
pub const GUARDS: &str = "X-Content-Type-Options: nosniff\r\nX-Frame-Options: DENY\r\n\
    Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'; media-src *; form-action 'self'; \
    frame-ancestors 'none'; base-uri 'none'\r\nReferrer-Policy: same-origin\r\n";

/// An upstream's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// 100 to 999.
    pub status: u16,
    /// What follows the status, often empty.
    pub reason: String,
    /// The status line began with `ICY`.
    pub icy: bool,
    /// The fields.
    pub headers: Headers,
}

impl Response {
    /// True for `100 Continue` and its like: another head follows.
    pub fn is_interim(&self) -> bool {
        (100..200).contains(&self.status)
    }
}

/// Reads a response's head from the front of `buf`, and how many bytes it took. `None` until it is whole.
/// Takes `HTTP/1.x`, `HTTP` without version, and `ICY`, with or without reason; lines that are no fields
/// are left out.
///
/// # Errors
/// Where the bytes can no longer become a head.
pub fn parse_response(buf: &[u8]) -> Result<Option<(Response, usize)>, HeadError> {
    let block = match block(buf) {
        Ok(Some(block)) => block,
        Ok(None) => return Ok(None),
        Err(HeadError::UriTooLong) => return Err(HeadError::TooLarge),
        Err(error) => return Err(error),
    };
    let (icy, status, reason) = status_line(block.first)?;
    let response = Response {
        status,
        reason,
        icy,
        headers: fields(block.rest, true)?,
    };
    Ok(Some((response, block.consumed)))
}

fn status_line(line: &[u8]) -> Result<(bool, u16, String), HeadError> {
    const SHAPE: HeadError =
        HeadError::Bad("the status line is not `HTTP/1.x STATUS` or `ICY STATUS`");
    let space = line.iter().position(|&b| b == b' ').ok_or(SHAPE)?;
    let (protocol, rest) = line.split_at_checked(space).ok_or(SHAPE)?;
    let icy = match protocol {
        b"ICY" => true,
        b"HTTP" => false,
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'0'..=b'9'] => false,
        [b'H', b'T', b'T', b'P', b'/', ..] => return Err(HeadError::Version),
        _ => return Err(SHAPE),
    };
    let rest = rest.trim_ascii();
    let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    let (number, reason) = rest.split_at_checked(digits).ok_or(SHAPE)?;
    if digits != 3 || !matches!(reason.first(), None | Some(b' ')) {
        return Err(SHAPE);
    }
    let status = number
        .iter()
        .fold(0, |sum, &b| sum * 10 + u16::from(b - b'0'));
    if status < 100 {
        return Err(SHAPE);
    }
    Ok((icy, status, clean_field(&field_text(reason.trim_ascii()))))
}

/// Writes the head of an answer of our own, and its body where there is one. Says `Connection: close`
/// unless told otherwise, and a length wherever there is a body. Headers that would frame the body
/// differently (`Content-Length`, `Transfer-Encoding`, `Connection`) are left out of those given.
///
/// The whole answer is made in one buffer: the fields are written as they come, behind a gap that the status line
/// fills in the end.
#[derive(Debug, Clone)]
pub struct Answer {
    version: Version,
    status: u16,
    reason: Option<String>,
    icy: bool,
    at: Option<u64>,
    keep_alive: bool,
    upgrade: bool,
    head_only: bool,
    out: Vec<u8>,
}

/// Room for the status line, `Date` and `Connection`; longer ones move the fields.
const GAP: usize = 128;

/// What most answers fit into.
const USUAL: usize = 1024;

impl Answer {
    /// An answer to a client that spoke `version`.
    pub fn new(version: Version, status: u16) -> Self {
        Self::within(Vec::with_capacity(USUAL), version, status)
    }

    /// The same, made in a buffer that was used before.
    pub fn within(mut buffer: Vec<u8>, version: Version, status: u16) -> Self {
        buffer.clear();
        buffer.resize(GAP, 0);
        Self {
            version,
            status,
            reason: None,
            icy: false,
            at: None,
            keep_alive: false,
            upgrade: false,
            head_only: false,
            out: buffer,
        }
    }

    /// Another reason phrase than the usual one.
    #[must_use]
    pub fn reason(mut self, text: &str) -> Self {
        self.reason = Some(clean_field(text));
        self
    }

    /// `ICY 200 OK` in place of `HTTP/1.x 200 OK`, for the few clients that need it.
    #[must_use]
    pub fn icy(mut self) -> Self {
        self.icy = true;
        self
    }

    /// Adds `Date`; `unix_millis` is now.
    #[must_use]
    pub fn at(mut self, unix_millis: u64) -> Self {
        self.at = Some(unix_millis);
        self
    }

    /// Adds a header after the others. One whose name is no token is left out; control characters leave
    /// the value.
    #[must_use]
    pub fn header(mut self, name: impl AsRef<str>, value: impl AsRef<str>) -> Self {
        const FRAMING: [&str; 3] = ["content-length", "transfer-encoding", "connection"];
        let name = name.as_ref();
        if !FRAMING.iter().any(|f| name.eq_ignore_ascii_case(f)) {
            write_field(&mut self.out, name, value.as_ref());
        }
        self
    }

    /// Adds headers after the others.
    #[must_use]
    pub fn headers<'a>(self, fields: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let add = |answer: Self, (name, value)| answer.header(name, value);
        fields.into_iter().fold(self, add)
    }

    /// Adds whole lines of our own, `name: value` and the line's end, as they are.
    #[must_use]
    pub fn lines(mut self, lines: &'static str) -> Self {
        self.out.extend_from_slice(lines.as_bytes());
        self
    }

    /// `Connection: keep-alive`: another request may follow. Without effect on [`Answer::stream_head`].
    #[must_use]
    pub fn keep_alive(self) -> Self {
        self.keep_alive_if(true)
    }

    /// The same where `keep` holds.
    #[must_use]
    pub fn keep_alive_if(mut self, keep: bool) -> Self {
        self.keep_alive = keep;
        self
    }

    /// Adds `Upgrade`: the protocols that are spoken next after a 101, or that may be asked for (RFC 9110, 7.8).
    #[must_use]
    pub fn upgrade(mut self, protocols: &str) -> Self {
        self.upgrade = true;
        self.header("Upgrade", protocols)
    }

    /// For HEAD: all headers, the length too, but no body.
    #[must_use]
    pub fn head_only(self) -> Self {
        self.head_only_if(true)
    }

    /// The same where `head` holds.
    #[must_use]
    pub fn head_only_if(mut self, head: bool) -> Self {
        self.head_only = head;
        self
    }

    /// The whole answer with this body.
    pub fn body(self, content_type: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
        self.body_of(content_type, &[body.as_ref()])
    }

    /// The whole answer with a body of several parts.
    pub fn body_of(mut self, content_type: &str, parts: &[&[u8]]) -> Vec<u8> {
        if self.allows_body() {
            let length: usize = parts.iter().map(|part| part.len()).sum();
            write_field(&mut self.out, "Content-Type", content_type);
            self.length(length);
        }
        self.out.extend_from_slice(b"\r\n");
        if self.allows_body() && !self.head_only {
            for part in parts {
                self.out.extend_from_slice(part);
            }
        }
        self.finish()
    }

    /// The whole answer with a body whose type was given by [`Answer::header`]. `length` is told; it differs
    /// from that of `body` only where none is sent.
    pub fn content(mut self, body: &[u8], length: usize) -> Vec<u8> {
        if self.allows_body() {
            self.length(length);
        }
        self.out.extend_from_slice(b"\r\n");
        if self.allows_body() && !self.head_only {
            self.out.extend_from_slice(body);
        }
        self.finish()
    }

    /// The whole answer without a body.
    pub fn empty(mut self) -> Vec<u8> {
        if self.allows_body() {
            self.length(0);
        }
        self.out.extend_from_slice(b"\r\n");
        self.finish()
    }

    /// The head of an answer that lasts until the connection closes: no length, no chunks. The type is
    /// given by [`Answer::header`].
    pub fn stream_head(mut self) -> Vec<u8> {
        self.keep_alive = false;
        self.out.extend_from_slice(b"\r\n");
        self.finish()
    }

    fn allows_body(&self) -> bool {
        !matches!(self.status, 100..=199 | 204 | 304)
    }

    fn length(&mut self, bytes: usize) {
        self.out.extend_from_slice(b"Content-Length: ");
        let mut digits = [b'0'; 20];
        let (mut left, mut from) = (bytes, digits.len());
        loop {
            from -= 1;
            if let Some(digit) = digits.get_mut(from) {
                *digit = b'0' + (left % 10) as u8;
            }
            left /= 10;
            if left == 0 || from == 0 {
                break;
            }
        }
        self.out
            .extend_from_slice(digits.get(from..).unwrap_or_default());
        self.out.extend_from_slice(b"\r\n");
    }

    /// Puts what stands before the fields where it belongs.
    fn finish(mut self) -> Vec<u8> {
        let mut gap = [0_u8; GAP];
        let mut rest = gap.as_mut_slice();
        let fits = self.write_start(&mut rest).is_ok();
        let free = rest.len();
        if fits && let Some(start) = gap.get(..GAP - free) {
            let length = start.len();
            self.out.copy_within(GAP.., length);
            self.out.truncate(self.out.len() - GAP + length);
            if let Some(front) = self.out.get_mut(..length) {
                front.copy_from_slice(start);
            }
        } else {
            let mut start = Vec::with_capacity(2 * GAP);
            let _ = self.write_start(&mut start);
            self.out.splice(..GAP, start);
        }
        self.out
    }

    fn write_start(&self, out: &mut impl Write) -> std::io::Result<()> {
        let protocol = if self.icy {
            "ICY"
        } else {
            self.version.status_version()
        };
        let usual = || reason(self.status);
        let reason = self.reason.as_deref().unwrap_or_else(usual);
        let digit = |by: u16| b'0' + (self.status / by % 10) as u8;
        out.write_all(protocol.as_bytes())?;
        out.write_all(&[b' ', digit(100), digit(10), digit(1), b' '])?;
        out.write_all(reason.as_bytes())?;
        out.write_all(b"\r\n")?;
        if let Some(millis) = self.at {
            out.write_all(b"Date: ")?;
            out.write_all(&date_now(millis))?;
            out.write_all(b"\r\n")?;
        }
        let connection: &[u8] = match (self.keep_alive, self.upgrade) {
            _ if self.status == 101 => b"Connection: Upgrade\r\n",
            (true, false) => b"Connection: keep-alive\r\n",
            (true, true) => b"Connection: keep-alive, Upgrade\r\n",
            (false, false) => b"Connection: close\r\n",
            (false, true) => b"Connection: close, Upgrade\r\n",
        };
        out.write_all(connection)
    }
}

/// The date of an answer: worked out once a second by each thread.
fn date_now(unix_millis: u64) -> [u8; 29] {
    thread_local! {
        static LAST: Cell<(u64, [u8; 29])> = const { Cell::new((u64::MAX, [0; 29])) };
    }
    let second = unix_millis / 1000;
    let (known, text) = LAST.get();
    if known == second {
        return text;
    }
    let mut text = [b' '; 29];
    for (to, from) in text.iter_mut().zip(imf_fixdate(unix_millis).bytes()) {
        *to = from;
    }
    LAST.set((second, text));
    text
}

/// The usual phrase of a status.
pub fn reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        206 => "Partial Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        507 => "Insufficient Storage",
        508 => "Loop Detected",
        _ => "Unknown",
    }
}

/// `unix_millis` as RFC 9110 writes dates: `Sat, 21 Nov 2026 02:32:45 GMT`.
pub fn imf_fixdate(unix_millis: u64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = [
        "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec", "Jan", "Feb",
    ];
    let seconds = unix_millis / 1000;
    let days = seconds / 86_400;
    // Days since 1 March of the year 0, so that a leap day ends its year; 400 years are 146,097 days.
    let since = days + 719_468;
    let (era, of_era) = (since / 146_097, since % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let year = era * 400 + year_of_era + u64::from(month >= 10);
    let name = |list: &[&'static str], at: u64| {
        let at = usize::try_from(at).unwrap_or_default();
        list.get(at).copied().unwrap_or_default()
    };
    format!(
        "{}, {day:02} {} {year:04} {:02}:{:02}:{:02} GMT",
        name(&DAYS, days % 7),
        name(&MONTHS, month),
        seconds / 3600 % 24,
        seconds / 60 % 60,
        seconds % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn status_lines_of_all_kinds() {
        for (head, icy, status, reason) in [
            (&b"HTTP/1.0 200 OK\r\n\r\n"[..], false, 200, "OK"),
            (
                b"HTTP/1.1 404 File Not Found\r\n\r\n",
                false,
                404,
                "File Not Found",
            ),
            (b"HTTP/1.0 200\r\n\r\n", false, 200, ""),
            (b"ICY 200 OK\r\nicy-br:128\r\n\r\n", true, 200, "OK"),
            (
                b"ICY 401 Service Unavailable\n\n",
                true,
                401,
                "Service Unavailable",
            ),
            (b"HTTP 200 OK\r\n\r\n", false, 200, "OK"),
        ] {
            let (response, used) = parse_response(head).unwrap().unwrap();
            assert_eq!(used, head.len());
            assert_eq!(
                (response.icy, response.status, response.reason.as_str()),
                (icy, status, reason)
            );
        }
        for bad in [
            "HTTP/1.1 20 OK",
            "HTTP/1.1 2000 OK",
            "HTTP/1.1 099 X",
            "OK2",
            "ICY OK",
            "HTTP/2.0 200 OK",
        ] {
            assert!(
                parse_response(format!("{bad}\r\n\r\n").as_bytes()).is_err(),
                "{bad}"
            );
        }
    }

    #[test]
    fn an_upstreams_fields_are_read_tolerantly() {
        let head = b"ICY 200 OK\r\nicy-notice1:<BR>x\r\nnonsense\r\nicy-name : A\r\n B\r\nicy-metaint:8192\r\n\r\n\xff";
        let (response, used) = parse_response(head).unwrap().unwrap();
        assert_eq!(used, head.len() - 1);
        assert_eq!(response.headers.get("icy-metaint"), Some("8192"));
        assert_eq!(response.headers.get("icy-name"), Some("A B"));
        assert_eq!(response.headers.len(), 3);
    }

    #[test]
    fn an_answer_byte_for_byte() {
        let answer = || {
            Answer::new(Version::Http10, 404)
                .at(1_795_228_365_999)
                .header("X-A", "b\r\nc\0")
        };
        assert_eq!(
            String::from_utf8(answer().body("text/plain", "no such mount\n")).unwrap(),
            "HTTP/1.0 404 Not Found\r\nDate: Sat, 21 Nov 2026 02:32:45 GMT\r\nConnection: close\r\n\
             X-A: bc\r\nContent-Type: text/plain\r\nContent-Length: 14\r\n\r\nno such mount\n"
        );
        let head = answer().head_only().body("text/plain", "no such mount\n");
        assert!(head.ends_with(b"Content-Length: 14\r\n\r\n"));
    }

    #[test]
    fn streams_have_no_length_and_no_chunks() {
        let head = Answer::new(Version::Http11, 200)
            .keep_alive()
            .header("Content-Type", "audio/mpeg")
            .header("content-length", "5")
            .header("Transfer-Encoding", "chunked")
            .headers([("icy-name", "Ä")])
            .stream_head();
        assert_eq!(
            String::from_utf8(head).unwrap(),
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: audio/mpeg\r\nicy-name: Ä\r\n\r\n"
        );
        assert!(
            Answer::new(Version::Http10, 200)
                .icy()
                .stream_head()
                .starts_with(b"ICY 200 OK\r\n")
        );
    }

    #[test]
    fn bodies_and_statuses() {
        let empty = Answer::new(Version::Http11, 302)
            .keep_alive()
            .header("Location", "/x")
            .empty();
        assert_eq!(
            empty,
            b"HTTP/1.1 302 Found\r\nConnection: keep-alive\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n"
        );
        let none = Answer::new(Version::Http11, 204).body("text/plain", "x");
        assert_eq!(
            none,
            b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"
        );
        let own = Answer::new(Version::Ice10, 403)
            .reason("Mountpoint in use")
            .empty();
        assert!(own.starts_with(b"HTTP/1.0 403 Mountpoint in use\r\n"));
    }

    #[test]
    fn dates() {
        for (seconds, expected) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_399, "Mon, 28 Feb 2000 23:59:59 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (951_868_800, "Wed, 01 Mar 2000 00:00:00 GMT"),
            (1_704_067_199, "Sun, 31 Dec 2023 23:59:59 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
        ] {
            assert_eq!(imf_fixdate(seconds * 1000), expected);
        }
    }

    proptest! {
        #[test]
        fn any_split_says_the_same(
            head in prop_oneof![
                "(HTTP/1.0|ICY|HTTP) [0-9]{2,4}( [a-z]{0,4})?(\r\n|\n)([a-z: ]{0,8}(\r\n|\n)){0,4}(\r\n|\n)[a-z]{0,5}"
                    .prop_map(String::into_bytes),
                prop::collection::vec(any::<u8>(), 0..200),
            ],
        ) {
            let outcome = parse_response(&head);
            for end in 0..head.len() {
                let early = parse_response(&head[..end]);
                prop_assert!(early == Ok(None) || early == outcome);
            }
        }

        #[test]
        fn our_answers_read_back(status in 200_u16..600, value in ".{0,30}", body in prop::collection::vec(any::<u8>(), 0..50)) {
            let bytes = Answer::new(Version::Http11, status).header("X-V", &value).body("a/b", &body);
            let (response, used) = parse_response(&bytes).unwrap().unwrap();
            prop_assert_eq!(response.status, status);
            prop_assert_eq!(response.headers.get("x-v").map(str::to_owned), Some(clean_field(&value)));
            if !matches!(status, 204 | 304) {
                prop_assert_eq!(&bytes[used..], &body);
                prop_assert_eq!(response.headers.get("content-length").map(str::to_owned),
                    Some(body.len().to_string()));
            }
        }
    }
}
