//! What a connection speaks, by its first bytes.

use super::headers::is_token_byte;
use super::proxy_protocol::{V1_PREFIX, V2_SIGNATURE};

/// Longest Shoutcast v1 password line in bytes, line end left out.
pub const MAX_PASSWORD_LINE: usize = 256;

/// Most empty lines' bytes that may come before anything else.
const MAX_BLANK: usize = 64;

/// Longest method.
const MAX_METHOD: usize = 16;

/// Methods after which nothing but HTTP can follow.
const METHODS: [&[u8]; 12] = [
    b"GET",
    b"HEAD",
    b"OPTIONS",
    b"PUT",
    b"POST",
    b"PATCH",
    b"DELETE",
    b"SOURCE",
    b"STATS",
    b"TRACE",
    b"CONNECT",
    b"PROPFIND",
];

/// What the first bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sniff {
    /// Too few to tell.
    More,
    /// A TLS record.
    Tls,
    /// An HTTP or ICE request.
    Http,
    /// A whole line that is no request: a Shoutcast v1 password (or libshout's `!POKE`).
    Password,
    /// The PROXY protocol's text form.
    ProxyV1,
    /// The PROXY protocol's binary form.
    ProxyV2,
    /// Nothing that is spoken here.
    Garbage,
}

/// Tells what `buf`, all that came so far, begins with. The answer changes only from [`Sniff::More`].
pub fn sniff(buf: &[u8]) -> Sniff {
    if buf.first() == Some(&0x16) {
        return Sniff::Tls;
    }
    if buf.starts_with(&V2_SIGNATURE) {
        return Sniff::ProxyV2;
    }
    if V2_SIGNATURE.starts_with(buf) {
        return Sniff::More;
    }
    let blank = buf
        .iter()
        .take_while(|b| matches!(b, b'\r' | b'\n'))
        .count();
    if blank > MAX_BLANK {
        return Sniff::Garbage;
    }
    let text = buf.get(blank..).unwrap_or_default();
    if blank == 0 && text.starts_with(V1_PREFIX) {
        return Sniff::ProxyV1;
    }
    let method = text.iter().take_while(|&&b| is_token_byte(b)).count();
    let method = match text.get(method) {
        Some(b' ') => text
            .get(..method)
            .filter(|m| (1..=MAX_METHOD).contains(&m.len())),
        _ => None,
    };
    match method {
        Some(known) if METHODS.contains(&known) => Sniff::Http,
        other => line(text, other.is_some()),
    }
}

/// Judges by the whole first line: a request with a method we do not know, or a password.
fn line(text: &[u8], has_method: bool) -> Sniff {
    for (at, &byte) in text.iter().enumerate() {
        let before = text.get(..at).unwrap_or_default();
        let bare_return = before.ends_with(b"\r") && !matches!(byte, b'\r' | b'\n');
        let printable = !byte.is_ascii_control() || matches!(byte, b'\r' | b'\n');
        if bare_return || !printable {
            return Sniff::Garbage;
        }
        if byte == b'\n' {
            return if has_method && ends_with_version(before.trim_ascii_end()) {
                Sniff::Http
            } else {
                Sniff::Password
            };
        }
        if at >= MAX_PASSWORD_LINE && byte != b'\r' {
            // Too long for a password; a request's parser has its own bound and answer.
            return if has_method {
                Sniff::Http
            } else {
                Sniff::Garbage
            };
        }
        if at >= MAX_PASSWORD_LINE + 2 {
            return Sniff::Garbage;
        }
    }
    Sniff::More
}

fn ends_with_version(line: &[u8]) -> bool {
    matches!(line, [.., b'/', b'0'..=b'9', b'.', b'0'..=b'9'])
}

/// Cuts the password line from the front of `buf`: the line without its end, and how many bytes it took
/// (empty lines before it counted). `None` until the line is whole, or where [`sniff`] says something else.
pub fn password_line(buf: &[u8]) -> Option<(String, usize)> {
    if sniff(buf) != Sniff::Password {
        return None;
    }
    let blank = buf
        .iter()
        .take_while(|b| matches!(b, b'\r' | b'\n'))
        .count();
    let text = buf.get(blank..)?;
    let end = text.iter().position(|&b| b == b'\n')?;
    let line = text.get(..end)?;
    let returns = line.iter().rev().take_while(|&&b| b == b'\r').count();
    let line = line.get(..end - returns)?;
    Some((super::headers::field_text(line), blank + end + 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn first_bytes() {
        let long_password = format!("{}\r\n", "p".repeat(256));
        let too_long = "p".repeat(257);
        let long_target = format!("FETCH /{}", "x".repeat(300));
        for (bytes, expected) in [
            (&b""[..], Sniff::More),
            (b"\x16", Sniff::Tls),
            (b"\x16\x03\x01", Sniff::Tls),
            (b"\r\n", Sniff::More),
            (b"\r\n\r\n\0\r\nQUIT", Sniff::More),
            (b"\r\n\r\n\0\r\nQUIT\n", Sniff::ProxyV2),
            (b"\r\n\r\n\0\r\nQUIZ\n", Sniff::Garbage),
            (b"PROXY", Sniff::More),
            (b"PROXY TCP4 ", Sniff::ProxyV1),
            (b"GET", Sniff::More),
            (b"GET ", Sniff::Http),
            (b"\r\nGET ", Sniff::Http),
            (b"SOURCE /live ICE/1.0\r\n", Sniff::Http),
            (b"FETCH /x", Sniff::More),
            (b"FETCH /x HTTP/1.1\r\n", Sniff::Http),
            (long_target.as_bytes(), Sniff::Http),
            (b"hackme", Sniff::More),
            (b"hackme\r", Sniff::More),
            (b"hackme\r\n", Sniff::Password),
            (b"hackme\r\r\n", Sniff::Password),
            (b"hackme\n", Sniff::Password),
            (b"hack me\n", Sniff::Password),
            (b"/live:hackme\r\n", Sniff::Password),
            (b"p\xc3\xa4ss\n", Sniff::Password),
            (b"!POKE\n", Sniff::Password),
            (b"hack\rme\n", Sniff::Garbage),
            (b"hack\0me\n", Sniff::Garbage),
            (b"\x01\x02", Sniff::Garbage),
            (b"\xff\xfb\x90\x64\0\0", Sniff::Garbage),
            (long_password.as_bytes(), Sniff::Password),
            (too_long.as_bytes(), Sniff::Garbage),
        ] {
            assert_eq!(
                sniff(bytes),
                expected,
                "{:?}",
                bytes.escape_ascii().to_string()
            );
        }
    }

    #[test]
    fn the_password_is_its_line() {
        assert_eq!(
            password_line(b"\r\nhackme:#2\r\nicy-name:x\r\n"),
            Some(("hackme:#2".into(), 13))
        );
        assert_eq!(password_line(b"hackme\r\r\n"), Some(("hackme".into(), 9)));
        assert_eq!(password_line(b"hackme"), None);
        assert_eq!(password_line(b"GET / HTTP/1.0\r\n"), None);
    }

    proptest! {
        #[test]
        fn a_verdict_stands(head in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..300),
            "(\r\n){0,3}[A-Z]{1,20} [ -~]{0,280}(\r|)\n".prop_map(String::into_bytes),
            "[ -~]{0,280}\r{0,4}\n".prop_map(String::into_bytes),
        ]) {
            let whole = sniff(&head);
            let mut verdict = Sniff::More;
            for end in 0..=head.len() {
                let now = sniff(&head[..end]);
                prop_assert!(verdict == Sniff::More || verdict == now);
                verdict = now;
            }
            prop_assert_eq!(verdict, whole);
        }
    }
}
