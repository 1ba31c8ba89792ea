//! Request heads, new and old: HTTP/1.x by `httparse`, with a shim for `SOURCE /live ICE/1.0`, line ends of
//! `\n` and `\r\r\n`, and targets with bare spaces or bytes beyond ASCII (old encoders send titles so).
//!
//! A head that is not whole yet is no error, and the outcome never depends on how the bytes were split.

use std::fmt;
use std::mem::MaybeUninit;

pub use super::block::{HeadError, MAX_HEAD, MAX_LINE, parse_fields};
use super::block::{block, fields};
pub use super::headers::{Headers, MAX_FIELDS};
use super::headers::{field_text, is_token};
pub use super::sniff::{Sniff, sniff};

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Method {
    /// `GET`.
    Get,
    /// `HEAD`.
    Head,
    /// `OPTIONS`.
    Options,
    /// `PUT`.
    Put,
    /// `POST`.
    Post,
    /// `PATCH`.
    Patch,
    /// `DELETE`.
    Delete,
    /// Icecast's `SOURCE`.
    Source,
    /// Icecast's `STATS`.
    Stats,
    /// Any other token.
    Other(String),
}

impl Method {
    fn of(token: &str) -> Self {
        match token {
            "GET" => Self::Get,
            "HEAD" => Self::Head,
            "OPTIONS" => Self::Options,
            "PUT" => Self::Put,
            "POST" => Self::Post,
            "PATCH" => Self::Patch,
            "DELETE" => Self::Delete,
            "SOURCE" => Self::Source,
            "STATS" => Self::Stats,
            other => Self::Other(other.to_owned()),
        }
    }

    /// As it stands on the wire.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Options => "OPTIONS",
            Self::Put => "PUT",
            Self::Post => "POST",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::Source => "SOURCE",
            Self::Stats => "STATS",
            Self::Other(token) => token,
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The protocol that the head names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Version {
    /// `HTTP/1.0`.
    Http10,
    /// `HTTP/1.1`, and any later 1.x.
    Http11,
    /// `ICE/1.0`, Icecast's own.
    Ice10,
}

impl Version {
    /// What our status line says to such a client: encoders that spoke 1.0 break on a 1.1 answer.
    pub fn status_version(self) -> &'static str {
        match self {
            Self::Http10 | Self::Ice10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
        }
    }
}

/// A request's head.
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    /// What is asked.
    pub method: Method,
    /// The target as sent, always ASCII: bare spaces and bytes beyond ASCII are percent-encoded.
    pub target: String,
    /// The protocol.
    pub version: Version,
    /// The fields.
    pub headers: Headers,
}

impl Request {
    /// A request of our own, to be sent by [`Request::encode`].
    pub fn new(method: Method, target: impl Into<String>, version: Version) -> Self {
        Self {
            method,
            target: target.into(),
            version,
            headers: Headers::new(),
        }
    }

    /// The path, percent-encoded as sent and without the query. `http://host/path` is reduced to `/path`.
    pub fn path(&self) -> &str {
        let target = origin_form(&self.target);
        let path = target.split_once('?').map_or(target, |(path, _)| path);
        if path.is_empty() { "/" } else { path }
    }

    /// The target as sent, from its path on: `http://host/path?x` is reduced to `/path?x`.
    pub fn relative(&self) -> &str {
        origin_form(&self.target)
    }

    /// What follows the first `?`, as sent.
    pub fn query(&self) -> Option<&str> {
        origin_form(&self.target).split_once('?').map(|(_, q)| q)
    }

    /// The decoded bytes of the first `key=` in the query, `+` as a space. Titles need the bytes, since
    /// their character set is a matter of [`super::icy::decode_title_bytes`].
    pub fn query_bytes(&self, key: &str) -> Option<Vec<u8>> {
        pairs(self.query()?).find_map(|(name, value)| {
            (decode_component(name) == key.as_bytes()).then(|| decode_component(value))
        })
    }

    /// The decoded text of the first `key=` in the query, `+` as a space; UTF-8, else Latin-1.
    pub fn query_value(&self, key: &str) -> Option<String> {
        self.query_bytes(key).map(|raw| field_text(&raw))
    }

    /// The query without any `key=`, all else as sent and in order; empty where nothing is left.
    pub fn query_without(&self, key: &str) -> String {
        let query = self.query().unwrap_or_default();
        let kept: Vec<&str> = query
            .split('&')
            .filter(|pair| {
                let name = pair.split_once('=').map_or(*pair, |(name, _)| name);
                decode_component(name) != key.as_bytes()
            })
            .collect();
        kept.join("&")
    }

    /// True where the client lets us keep the connection for another request.
    pub fn keep_alive(&self) -> bool {
        match self.version {
            Version::Http11 => !self.headers.has_token("connection", "close"),
            Version::Http10 => self.headers.has_token("connection", "keep-alive"),
            Version::Ice10 => false,
        }
    }

    /// True where a body follows the head.
    pub fn has_body(&self) -> bool {
        self.headers.get("transfer-encoding").is_some()
            || self
                .headers
                .all("content-length")
                .any(|length| length != "0")
    }

    /// True where the client waits for `100 Continue` before its body.
    pub fn expects_continue(&self) -> bool {
        self.version == Version::Http11 && self.headers.has_token("expect", "100-continue")
    }

    /// The head's bytes, with the empty line that ends it. Control characters and spaces leave the target.
    pub fn encode(&self) -> Vec<u8> {
        let target: String = self.target.chars().filter(char::is_ascii_graphic).collect();
        let version = match self.version {
            Version::Ice10 => "ICE/1.0",
            other => other.status_version(),
        };
        let mut out = format!("{} {target} {version}\r\n", self.method).into_bytes();
        self.headers.write(&mut out);
        out.extend_from_slice(b"\r\n");
        out
    }
}

impl fmt::Debug for Request {
    /// Without the query, since passwords and tokens travel there.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("path", &self.path())
            .field("version", &self.version)
            .field("headers", &self.headers)
            .finish()
    }
}

fn origin_form(target: &str) -> &str {
    if target.starts_with('/') {
        return target;
    }
    let scheme = target
        .split_once("://")
        .filter(|(s, _)| s.eq_ignore_ascii_case("http") || s.eq_ignore_ascii_case("https"));
    let Some((_, rest)) = scheme else {
        return target;
    };
    let at = rest.find(['/', '?']).unwrap_or(rest.len());
    rest.get(at..).unwrap_or_default()
}

fn pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

/// Decodes a name or a value of a query: `%xx`, and `+` as a space.
pub fn decode_component(raw: &str) -> Vec<u8> {
    let spaced: Vec<u8> = raw
        .bytes()
        .map(|b| if b == b'+' { b' ' } else { b })
        .collect();
    percent_encoding::percent_decode(&spaced).collect()
}

/// Reads a request's head from the front of `buf`, and how many bytes it took (empty lines before it
/// counted). `None` until it is whole.
///
/// # Errors
/// Where the bytes can no longer become a head; [`HeadError::status`] is what to answer.
pub fn parse(buf: &[u8]) -> Result<Option<(Request, usize)>, HeadError> {
    let mut request = Request::new(Method::Get, String::new(), Version::Http11);
    let used = parse_into(buf, &mut request)?;
    Ok(used.map(|used| (request, used)))
}

/// As [`parse`], into a request that was used before: whoever reads one head after the other allocates nothing.
/// What the request holds afterwards is a request only where its length is told.
///
/// # Errors
/// See [`parse`].
pub fn parse_into(buf: &[u8], request: &mut Request) -> Result<Option<usize>, HeadError> {
    if let Some(used) = plain(buf, request) {
        return Ok(Some(used));
    }
    let Some(block) = block(buf)? else {
        return Ok(None);
    };
    let (method, target, version) = request_line(block.first)?;
    let lenient = method == Method::Source || version == Version::Ice10;
    request.headers = fields(block.rest, lenient)?;
    request.target = target;
    (request.method, request.version) = (method, version);
    Ok(Some(block.consumed))
}

/// A whole head of HTTP/1.x without oddities, which nearly all are. `None` for every other one, good or bad: it
/// takes the long way.
fn plain(buf: &[u8], request: &mut Request) -> Option<usize> {
    let window = buf.get(..MAX_HEAD).unwrap_or(buf);
    let mut room = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut head = httparse::Request::new(&mut []);
    let used = match head.parse_with_uninit_headers(window, &mut room) {
        Ok(httparse::Status::Complete(used)) => used,
        Ok(httparse::Status::Partial) | Err(_) => return None,
    };
    let (method, target) = (head.method?, head.path?);
    let is_odd = |byte: u8| !byte.is_ascii_graphic();
    let too_long = method.len() > 32 || method.len() + target.len() > MAX_LINE - LINE_REST;
    if too_long || method == "SOURCE" || target.bytes().any(is_odd) {
        return None;
    }
    request.version = match head.version? {
        0 => Version::Http10,
        _ => Version::Http11,
    };
    request.method = Method::of(method);
    request.target.clear();
    request.target.push_str(target);
    request.headers.clear();
    for field in head.headers.iter() {
        match std::str::from_utf8(field.value) {
            Ok(value) => request.headers.push(field.name, value),
            Err(_) => request.headers.push(field.name, field_text(field.value)),
        };
    }
    Some(used)
}

/// Of a request line what is neither method nor target: two spaces, `HTTP/1.x` and the line's end.
const LINE_REST: usize = 12;

fn request_line(line: &[u8]) -> Result<(Method, String, Version), HeadError> {
    const SHAPE: HeadError = HeadError::Bad("the request line is not `METHOD TARGET VERSION`");
    let space = line.iter().position(|&b| b == b' ').ok_or(SHAPE)?;
    let (method, rest) = line.split_at_checked(space).ok_or(SHAPE)?;
    if !is_token(method) || method.len() > 32 {
        return Err(HeadError::Bad(
            "the method is no token of up to 32 characters",
        ));
    }
    let method = Method::of(&String::from_utf8_lossy(method));
    let rest = rest.trim_ascii();
    let space = rest.iter().rposition(|&b| b == b' ').ok_or(SHAPE)?;
    let (target, last) = rest.split_at_checked(space).ok_or(SHAPE)?;
    let version = version(last.trim_ascii())?;
    Ok((method, target_text(target.trim_ascii())?, version))
}

fn version(token: &[u8]) -> Result<Version, HeadError> {
    match token {
        b"HTTP/1.0" => Ok(Version::Http10),
        b"ICE/1.0" => Ok(Version::Ice10),
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'1'..=b'9'] => Ok(Version::Http11),
        [name @ .., b'/', b'0'..=b'9', b'.', b'0'..=b'9'] if is_token(name) => {
            Err(HeadError::Version)
        }
        _ => Err(HeadError::Bad("the request line names no protocol version")),
    }
}

fn target_text(raw: &[u8]) -> Result<String, HeadError> {
    if raw.is_empty() || raw.iter().any(u8::is_ascii_control) {
        return Err(HeadError::Bad(
            "the target is empty or has control characters",
        ));
    }
    Ok(percent_encoding::percent_encode(raw, SPACE).to_string())
}

/// `percent_encode` adds everything beyond ASCII by itself.
const SPACE: &percent_encoding::AsciiSet = &percent_encoding::AsciiSet::EMPTY.add(b' ');

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn whole(head: &[u8]) -> Request {
        let (request, used) = parse(head).unwrap().unwrap();
        assert_eq!(used, head.len());
        request
    }

    #[test]
    fn a_listener_and_two_old_sources() {
        let get = whole(b"GET /live.mp3?rt=a HTTP/1.1\r\nHost: r:8000\r\nIcy-MetaData:1\r\n\r\n");
        assert_eq!(get.method, Method::Get);
        assert_eq!((get.path(), get.query()), ("/live.mp3", Some("rt=a")));
        assert_eq!(get.version.status_version(), "HTTP/1.1");
        assert_eq!(get.headers.get("icy-metadata"), Some("1"));

        let ice =
            whole(b"SOURCE /live ICE/1.0\nice-name: Caf\xe9\nnot a field\nice-public : 1\n\n");
        assert_eq!((ice.method, ice.version), (Method::Source, Version::Ice10));
        assert_eq!(ice.version.status_version(), "HTTP/1.0");
        assert_eq!(
            ice.headers.iter().collect::<Vec<_>>(),
            [("ice-name", "Café"), ("ice-public", "1")]
        );

        let source = whole(b"\r\nSOURCE /live HTTP/1.0\r\r\nUser-Agent: x\r\r\n\r\r\n");
        assert_eq!(source.version, Version::Http10);
        assert_eq!(source.headers.get("user-agent"), Some("x"));
        assert_eq!(whole(b"OPTIONS / HTTP/1.0\r\n\r\n").headers.len(), 0);
    }

    #[test]
    fn what_follows_the_head_is_left() {
        let (_, used) = parse(b"PUT /a HTTP/1.1\r\n\r\n\n\nID3").unwrap().unwrap();
        assert_eq!(used, 19);
        let (headers, used) = parse_fields(b"icy-name:One\r\nicy-br:128\r\n\r\n\xff\xfb")
            .unwrap()
            .unwrap();
        assert_eq!((headers.get("icy-br"), used), (Some("128"), 28));
        assert_eq!(
            parse_fields(b"\r\n\xff").unwrap().unwrap(),
            (Headers::new(), 2)
        );
        assert_eq!(parse_fields(b"icy-name:One\r\n").unwrap(), None);
        assert_eq!(parse_fields(b"\r").unwrap(), None);
    }

    #[test]
    fn refusals_carry_their_status() {
        let long_line = format!("GET /{}", "x".repeat(9000));
        let long_head = format!("GET / HTTP/1.1\r\n{}", "a: b\r\n".repeat(3000));
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(101));
        for (head, status) in [
            (&b"GET /\r\n\r\n"[..], 400),
            (b"GET / HTTP/2.0\r\n\r\n", 505),
            (b"DESCRIBE /live RTSP/1.0\r\n\r\n", 505),
            (b"GET / FOO\r\n\r\n", 400),
            (b"G\xc3T / HTTP/1.0\r\n\r\n", 400),
            (b"GET /a\0b HTTP/1.0\r\n\r\n", 400),
            (b" / HTTP/1.0\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nno field\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nA : b\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nA: b\0c\r\n\r\n", 400),
            (long_line.as_bytes(), 414),
            (long_head.as_bytes(), 431),
            (many.as_bytes(), 431),
            (&[b'\n'; 20_000], 431),
        ] {
            let shown: String = head.escape_ascii().to_string().chars().take(60).collect();
            assert_eq!(parse(head).unwrap_err().status(), status, "{shown}");
        }
        assert_eq!(parse(&[b'\n'; 300]), Ok(None));
    }

    #[test]
    fn bounds_are_exact() {
        let pad = MAX_HEAD - "GET / HTTP/1.1\r\nA: \r\n\r\n".len();
        let fits = format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "x".repeat(pad));
        assert_eq!(
            whole(fits.as_bytes()).headers.get("a").map(str::len),
            Some(pad)
        );
        let over = format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "x".repeat(pad + 1));
        assert_eq!(parse(over.as_bytes()), Err(HeadError::TooLarge));
        let hundred = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(100));
        assert_eq!(whole(hundred.as_bytes()).headers.len(), 100);
    }

    #[test]
    fn targets() {
        let request = |target: &str| Request::new(Method::Get, target, Version::Http11);
        for (target, path, query) in [
            ("/a%20b?x=1?y", "/a%20b", Some("x=1?y")),
            ("http://h:80/live?x", "/live", Some("x")),
            ("HTTPS://h", "/", None),
            ("http://h?x", "/", Some("x")),
            ("/to/http://h/x", "/to/http://h/x", None),
            ("*", "*", None),
            ("/;stream.mp3", "/;stream.mp3", None),
        ] {
            let request = request(target);
            assert_eq!((request.path(), request.query()), (path, query), "{target}");
        }
        let update = request("/admin/metadata?mount=%2Flive&song=A+%2B%20B&song=C&raw=%e9&flag");
        assert_eq!(update.query_value("mount").as_deref(), Some("/live"));
        assert_eq!(update.query_value("song").as_deref(), Some("A + B"));
        assert_eq!(update.query_bytes("raw").as_deref(), Some(&[0xe9][..]));
        assert_eq!(update.query_value("raw").as_deref(), Some("é"));
        assert_eq!(update.query_value("flag").as_deref(), Some(""));
        assert_eq!(update.query_value("none"), None);
        assert_eq!(update.query_without("song"), "mount=%2Flive&raw=%e9&flag");
        assert_eq!(request("/a?rt=1").query_without("rt"), "");
        assert_eq!(request("/a").query_without("rt"), "");
        assert_eq!(request("/a?b=1&%72t=2&c").query_without("rt"), "b=1&c");
    }

    #[test]
    fn old_encoders_send_bare_spaces_and_latin1() {
        let request = whole(b"GET /admin.cgi?song=Mot\xf6r head HTTP/1.0\r\n\r\n");
        assert_eq!(request.target, "/admin.cgi?song=Mot%F6r%20head");
        assert_eq!(request.query_value("song").as_deref(), Some("Motör head"));
    }

    #[test]
    fn connection_and_expectation() {
        let keep = |head: &[u8]| whole(head).keep_alive();
        assert!(keep(b"GET / HTTP/1.1\r\n\r\n"));
        assert!(!keep(b"GET / HTTP/1.1\r\nConnection: x, Close\r\n\r\n"));
        assert!(!keep(b"GET / HTTP/1.0\r\n\r\n"));
        assert!(keep(b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"));
        assert!(whole(b"PUT / HTTP/1.1\r\nExpect: 100-Continue\r\n\r\n").expects_continue());
        assert!(!whole(b"PUT / HTTP/1.0\r\nExpect: 100-continue\r\n\r\n").expects_continue());
    }

    #[test]
    fn what_is_written_cannot_be_split() {
        let mut request = Request::new(Method::Get, "/a\r\nX: y", Version::Http10);
        request.headers.push("Host", "h\r\nEvil: 1");
        assert_eq!(
            request.encode(),
            b"GET /aX:y HTTP/1.0\r\nHost: hEvil: 1\r\n\r\n"
        );
        let debug = format!(
            "{:?}",
            Request::new(Method::Get, "/a?pass=hackme", Version::Http10)
        );
        assert!(!debug.contains("hackme"), "{debug}");
    }

    fn heads() -> impl Strategy<Value = Vec<u8>> {
        let line_end = prop_oneof![Just("\r\n"), Just("\n"), Just("\r\r\n")];
        let first = "(GET|SOURCE|PUT|X) /[a-z?=&%]{0,12} ?(HTTP/1.0|HTTP/1.1|ICE/1.0|HTTP/9.9|)";
        let fields = prop::collection::vec("[a-zA-Z-]{0,6} ?: ?[ -~]{0,10}", 0..5);
        (
            first,
            fields,
            line_end,
            prop::collection::vec(any::<u8>(), 0..9),
        )
            .prop_map(|(first, fields, end, body)| {
                let mut head = format!("{first}{end}");
                for field in fields {
                    head.push_str(&field);
                    head.push_str(end);
                }
                head.push_str(end);
                let mut head = head.into_bytes();
                head.extend(body);
                head
            })
    }

    proptest! {
        /// The short way is no other way.
        #[test]
        fn both_ways_read_the_same(
            line in "(GET|HEAD|POST|SOURCE|FETCH|G T) {1,2}/[a-z%?=&é ]{0,12} HTTP/1\\.[0-2]",
            fields in prop::collection::vec("(Host|icy-metadata|X y|Authorization|A):[ \t]{0,2}[ -~é\t]{0,12}", 0..5),
            end in prop::sample::select(vec!["\r\n", "\n", "\r\r\n"]),
            front in prop::sample::select(vec!["", "\r\n", "\n\n"]),
        ) {
            let mut text = format!("{front}{line}{end}");
            for field in &fields {
                text.push_str(field);
                text.push_str(end);
            }
            text.push_str(end);
            text.push_str("rest");
            let mut short = Request::new(Method::Delete, "/before", Version::Ice10);
            short.headers.push("before", "yes");
            if let Some(used) = plain(text.as_bytes(), &mut short) {
                let block = block(text.as_bytes()).unwrap().unwrap();
                let (method, target, version) = request_line(block.first).unwrap();
                let headers = super::fields(block.rest, false).unwrap();
                prop_assert_eq!(used, block.consumed);
                prop_assert_eq!(short, Request { method, target, version, headers });
            }
        }


        #[test]
        fn any_split_says_the_same(head in prop_oneof![heads(), prop::collection::vec(any::<u8>(), 0..200)]) {
            let outcome = parse(&head);
            for end in 0..head.len() {
                let early = parse(&head[..end]);
                prop_assert!(early == Ok(None) || early == outcome);
            }
            if let Ok(Some((request, used))) = outcome {
                prop_assert!(used <= head.len() && request.target.is_ascii());
            }
        }

        #[test]
        fn what_is_written_reads_back(
            target in "/[!-~]{0,40}",
            fields in prop::collection::vec(("[a-zA-Z-]{1,10}", "[!-~äé]{0,20}"), 0..20),
        ) {
            let mut request = Request::new(Method::Source, target, Version::Ice10);
            for (name, value) in &fields {
                prop_assert!(request.headers.push(name, value));
            }
            let bytes = request.encode();
            prop_assert_eq!(parse(&bytes), Ok(Some((request, bytes.len()))));
        }
    }
}
