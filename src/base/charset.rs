//! Character sets of titles, by the labels of the WHATWG Encoding Standard.

use encoding_rs::{Encoding, REPLACEMENT, UTF_8, WINDOWS_1252};

/// A character set that titles may be in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Charset(&'static Encoding);

impl Charset {
    /// UTF-8, the usual one.
    pub const UTF_8: Self = Self(UTF_8);

    /// The character set of a label in any case (`windows-1251`, `koi8-r`, `latin1`, `shift_jis`); `None` for one that
    /// nobody knows.
    pub fn of(label: &str) -> Option<Self> {
        let label = label.trim();
        // Spellings of the field that are no labels of the standard.
        let label = match label.to_ascii_lowercase().as_str() {
            "latin-1" => "latin1",
            "latin9" | "latin-9" => "iso-8859-15",
            "cp-1252" => "windows-1252",
            "utf" => "utf-8",
            _ => label,
        };
        let found = Encoding::for_label(label.as_bytes())?;
        (found != REPLACEMENT).then_some(Self(found))
    }

    /// Its name in the standard.
    pub fn name(self) -> &'static str {
        self.0.name()
    }

    /// The text of a title's bytes. What is no UTF-8 where that was said is read as Latin-1, as the web reads it.
    pub fn decode(self, raw: &[u8]) -> String {
        let is_other = self.0 == UTF_8 && std::str::from_utf8(raw).is_err();
        let encoding = if is_other { WINDOWS_1252 } else { self.0 };
        let (text, _) = encoding.decode_without_bom_handling(raw);
        text.into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_the_standard_and_of_the_field() {
        for (raw, label, text) in [
            (&b"Mot\xc3\xb6rhead"[..], "UTF-8", "Motörhead"),
            (b"Mot\xf6rhead", "utf-8", "Motörhead"),
            (b"\xc3\xb6", "ISO-8859-1", "Ã¶"),
            (b"\x93\x80\x94", "windows-1252", "“€”"),
            (b"\xa4", "iso-8859-15", "€"),
            (b"\xa4", " Latin9 ", "€"),
            (b"\xcf\xf0\xe8\xe2\xe5\xf2", "windows-1251", "Привет"),
            (b"\xf0\xd2\xc9\xd7\xc5\xd4", "koi8-r", "Привет"),
            (b"\xb1\xe6", "iso-8859-2", "ąć"),
            (b"\xdd\xfe", "iso-8859-9", "İş"),
            (b"\x93\xfa\x96{", "shift_jis", "日本"),
            (b"\xc6\xfc\xcb\xdc", "euc-jp", "日本"),
            (b"\xc4\xe3\xba\xc3", "gb2312", "你好"),
            (b"\xa7A\xa6n", "big5", "你好"),
            (b"\xbe\xc8\xb3\xe7", "euc-kr", "안녕"),
            (b"\xe1\xe9\xfc", "cp1250", "áéü"),
            (b"\xe1", "windows-1253", "α"),
        ] {
            assert_eq!(Charset::of(label).unwrap().decode(raw), text, "{label}");
        }
        for unknown in ["klingon", "", "iso-2022-kr", "windows-9999"] {
            assert_eq!(Charset::of(unknown), None, "{unknown}");
        }
    }
}
