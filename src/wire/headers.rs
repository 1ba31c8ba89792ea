//! Header fields in the order in which they came, bounded, found without regard to case.

use std::fmt;

use super::icy::clean;
use crate::base::charset::Charset;

/// Most fields that one head may carry.
pub const MAX_FIELDS: usize = 100;

/// Names whose values are never shown by `Debug`.
const HIDDEN: [&str; 5] = [
    "authorization",
    "proxy-authorization",
    "cookie",
    "set-cookie",
    "ice-password",
];

/// The fields of a head. At most [`MAX_FIELDS`]; names are tokens, values carry no control characters.
/// One text holds them all, so that a head costs two allocations, and none where another was parsed before.
#[derive(Clone, Default)]
pub struct Headers {
    text: String,
    fields: Vec<Field>,
}

/// Where in the text a field is: its name up to `value`, its value up to `end`.
#[derive(Clone, Copy)]
struct Field {
    start: u32,
    value: u32,
    end: u32,
}

impl Headers {
    /// No fields.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a field after the others; control characters leave the value. False, and nothing added, where
    /// the name is no token or [`MAX_FIELDS`] are there already.
    pub fn push(&mut self, name: impl AsRef<str>, value: impl AsRef<str>) -> bool {
        let name = name.as_ref();
        if self.fields.len() >= MAX_FIELDS || !is_token(name.as_bytes()) {
            return false;
        }
        let at = |text: &String| u32::try_from(text.len()).unwrap_or(u32::MAX);
        let start = at(&self.text);
        self.text.push_str(name);
        let value_at = at(&self.text);
        self.text.push_str(&clean(value.as_ref()));
        self.fields.push(Field {
            start,
            value: value_at,
            end: at(&self.text),
        });
        true
    }

    /// Takes away every field of that name.
    pub fn remove(&mut self, name: &str) {
        let text = &self.text;
        self.fields
            .retain(|field| !field.name(text).eq_ignore_ascii_case(name));
    }

    /// Takes away all fields; their room stays.
    pub fn clear(&mut self) {
        self.text.clear();
        self.fields.clear();
    }

    /// The first value of that name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v)
    }

    /// Every value of that name, in order.
    pub fn all<'a, 'n>(&'a self, name: &'n str) -> impl Iterator<Item = &'a str> + use<'a, 'n> {
        self.iter()
            .filter(move |(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v)
    }

    /// True where a value of that name, read as a comma separated list, holds `token` (any case).
    pub fn has_token(&self, name: &str, token: &str) -> bool {
        self.all(name)
            .flat_map(|v| v.split(','))
            .any(|t| t.trim().eq_ignore_ascii_case(token))
    }

    /// Names and values, in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&str, &str)> {
        self.fields
            .iter()
            .map(|field| (field.name(&self.text), field.text(&self.text)))
    }

    /// How many fields.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// True without fields.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// Appends `name: value` lines to `out`, without the empty line after them.
    pub fn write(&self, out: &mut Vec<u8>) {
        for (name, value) in self.iter() {
            write_field(out, name, value);
        }
    }
}

impl Field {
    fn name(self, text: &str) -> &str {
        text.get(self.start as usize..self.value as usize)
            .unwrap_or_default()
    }

    fn text(self, text: &str) -> &str {
        text.get(self.value as usize..self.end as usize)
            .unwrap_or_default()
    }
}

impl PartialEq for Headers {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Headers {}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.iter().map(|(name, value)| {
            let hide = HIDDEN.iter().any(|h| name.eq_ignore_ascii_case(h));
            (name, if hide { "***" } else { value })
        });
        f.debug_map().entries(shown).finish()
    }
}

/// The text of a value as it stood on the wire: UTF-8 where it is valid, else Latin-1.
pub fn field_text(raw: &[u8]) -> String {
    Charset::UTF_8.decode(raw)
}

/// One line of a head; a name that is no token writes nothing.
pub(super) fn write_field(out: &mut Vec<u8>, name: &str, value: &str) {
    if !is_token(name.as_bytes()) {
        return;
    }
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(clean(value).as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// RFC 9110 section 5.6.2.
pub(super) fn is_token(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|&b| is_token_byte(b))
}

pub(super) fn is_token_byte(b: u8) -> bool {
    /// A bit for each byte of ASCII, looked up for every byte of every name.
    const TOKEN: u128 = {
        let (mut bits, mut b) = (0, 0_u8);
        while b < 128 {
            let mark = matches!(
                b,
                b'!' | b'#'
                    | b'$'
                    | b'%'
                    | b'&'
                    | b'\''
                    | b'*'
                    | b'+'
                    | b'-'
                    | b'.'
                    | b'^'
                    | b'_'
                    | b'`'
                    | b'|'
                    | b'~'
            );
            if mark || b.is_ascii_alphanumeric() {
                bits |= 1 << b;
            }
            b += 1;
        }
        bits
    };
    b < 128 && TOKEN >> b & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn found_in_any_case_and_kept_in_order() {
        let mut headers = Headers::new();
        assert!(headers.push("Icy-Name", "One"));
        assert!(headers.push("X", "keep-alive, Upgrade"));
        assert!(headers.push("icy-NAME", "Two"));
        assert_eq!(headers.get("ICY-name"), Some("One"));
        assert_eq!(headers.all("icy-name").collect::<Vec<_>>(), ["One", "Two"]);
        assert!(headers.has_token("x", "upgrade") && !headers.has_token("x", "grade"));
        headers.remove("ICY-NAME");
        assert_eq!(
            headers.iter().collect::<Vec<_>>(),
            [("X", "keep-alive, Upgrade")]
        );
    }

    #[test]
    fn bounded_clean_and_discreet() {
        let mut headers = Headers::new();
        assert!(!headers.push("two words", "x"));
        assert!(!headers.push("", "x"));
        assert!(headers.push("A", "b\r\nSet-Cookie: c\0"));
        assert_eq!(headers.get("a"), Some("bSet-Cookie: c"));
        assert!(headers.push("Authorization", "Basic aGFja21l"));
        assert!(!format!("{headers:?}").contains("aGFja21l"));
        let added = (0..200).filter(|_| headers.push("N", "v")).count();
        assert_eq!((added, headers.len()), (98, MAX_FIELDS));
        let mut out = Vec::new();
        write_field(&mut out, "bad name", "v");
        write_field(&mut out, "n", "v\r\n\r\n");
        assert_eq!(out, b"n: v\r\n");
    }

    #[test]
    fn values_are_utf8_or_latin1() {
        assert_eq!(field_text("Motörhead".as_bytes()), "Motörhead");
        assert_eq!(field_text(b"Mot\xf6rhead"), "Motörhead");
    }
}
