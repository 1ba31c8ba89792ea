//! Characters that make a text look like another one where it is shown.

use std::borrow::Cow;
use std::fmt::Write as _;

/// True for characters that no line of text from outside may carry to a terminal, a log or a page as they are: control
/// characters (C0 and C1), line and paragraph separators, marks and overrides of writing direction (Unicode
/// Standard Annex 9), and characters without width that join or split words unseen. The joiners U+200C and U+200D stay, since
/// Persian words and many emoji are written with them.
pub fn is_deceptive(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{061c}'
            | '\u{180e}'
            | '\u{200b}'
            | '\u{200e}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{2069}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0001}')
}

/// `text` with U+FFFD for each deceptive character: as wide as before, for cells and pages.
pub fn replaced(text: &str) -> Cow<'_, str> {
    if !text.contains(is_deceptive) {
        return Cow::Borrowed(text);
    }
    let shown = |c| if is_deceptive(c) { '\u{fffd}' } else { c };
    Cow::Owned(text.chars().map(shown).collect())
}

/// `text` with `\uXXXX` (its UTF-16 units, as JSON writes them) for each deceptive character that `kept` does not hold: for
/// logs, whose lines stay valid JSON where they were.
pub fn escaped<'a>(text: &'a str, kept: &[char]) -> Cow<'a, str> {
    let is_bad = |c: char| is_deceptive(c) && !kept.contains(&c);
    if !text.contains(is_bad) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if is_bad(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_deceives_is_shown() {
        let listed = "\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\u{2066}\u{2067}\u{2068}\u{2069}\u{200e}\u{200f}\
                      \u{061c}\u{2028}\u{2029}\u{85}\u{9b}\u{1b}\u{7f}\u{0}\u{feff}\u{200b}\u{2060}";
        assert_eq!(listed.chars().count(), 22);
        assert!(listed.chars().all(is_deceptive));
        assert!(replaced(listed).chars().all(|c| c == '\u{fffd}'));
        assert_eq!(escaped("a\u{202e}b\nc\n", &['\n']), "a\\u202eb\nc\n");
        assert_eq!(escaped("a\u{2028}\u{1b}[31m", &[]), "a\\u2028\\u001b[31m");
        for text in ["Café", "می‌خواهم", "👨‍👩‍👧", "Ελλάδα 日本", "", "a b"]
        {
            assert!(matches!(replaced(text), Cow::Borrowed(_)), "{text}");
            assert!(matches!(escaped(text, &[]), Cow::Borrowed(_)), "{text}");
        }
    }
}
