//! ICY metadata: titles made harmless, written as blocks, and taken out of a stream that carries them.
//!
//! After every `metaint` bytes of audio stands one byte L and then 16 × L bytes
//! `StreamTitle='…';[StreamUrl='…';]`, filled up with NUL; L is 0 where nothing changed.

use std::borrow::Cow;

use bytes::{BufMut, Bytes, BytesMut};

use super::title::Title;
use crate::base::charset::Charset;

/// Longest text of a block in bytes: 255 times 16.
pub const MAX_BLOCK: usize = 4080;

/// Longest title in bytes: the block without `StreamTitle='';`.
pub const MAX_TITLE: usize = MAX_BLOCK - TITLE_OPEN.len() - CLOSE.len();

/// Longest URL that is sent along; a cut one would be useless, so a longer one is left out.
pub const MAX_URL: usize = 1024;

/// The block that says that nothing changed.
pub const EMPTY: [u8; 1] = [0];

const TITLE_OPEN: &str = "StreamTitle='";
const URL_OPEN: &str = "StreamUrl='";
const CLOSE: &str = "';";

/// The block that announces `title`, and `url` where one is given: the length byte and the padded text.
/// Both are cleaned as by [`clean_title`]; the title is cut at a character's edge so that the text has at
/// most [`MAX_BLOCK`] bytes.
pub fn encode_title(title: &str, url: Option<&str>) -> Bytes {
    let url = url
        .map(harmless)
        .filter(|u| !u.is_empty() && u.len() <= MAX_URL)
        .map(|u| format!("{URL_OPEN}{u}{CLOSE}"))
        .unwrap_or_default();
    let title = harmless(title);
    let title = cut(&title, MAX_TITLE - url.len());
    let length = TITLE_OPEN.len() + title.len() + CLOSE.len() + url.len();
    let units = length.div_ceil(16);
    let mut block = BytesMut::with_capacity(1 + units * 16);
    block.put_u8(u8::try_from(units).unwrap_or(u8::MAX));
    for part in [TITLE_OPEN, title, CLOSE, &url] {
        block.put_slice(part.as_bytes());
    }
    block.put_bytes(0, units * 16 - length);
    block.freeze()
}

/// A title as it is kept and carried: control characters removed (CR, LF and NUL among them), `';` spaced
/// apart, since players end the title there, trimmed, and cut at [`MAX_TITLE`] bytes on a character's edge.
pub fn clean_title(raw: &str) -> String {
    cut(&harmless(raw), MAX_TITLE).to_owned()
}

/// A header's value as it is carried: control characters removed (CR, LF and NUL among them; a tab becomes
/// a space), trimmed.
pub fn clean_field(raw: &str) -> String {
    clean(raw).into_owned()
}

/// The same, without a copy where there is nothing to remove.
pub(super) fn clean(raw: &str) -> Cow<'_, str> {
    // Without a way out in between, so that many bytes are looked at in one step.
    let is_plain = |byte: u8| (b' '..=b'~').contains(&byte);
    if raw.bytes().fold(true, |plain, byte| plain & is_plain(byte)) {
        return Cow::Borrowed(raw.trim_ascii());
    }
    let kept: String = raw
        .chars()
        .map(|c| if c == '\t' { ' ' } else { c })
        .filter(|c| !c.is_control())
        .collect();
    Cow::Owned(kept.trim().to_owned())
}

fn harmless(raw: &str) -> String {
    clean_field(raw).replace(CLOSE, "' ;")
}

/// The front of `text`, at most `limit` bytes, whole characters, without a space at the cut.
fn cut(text: &str, limit: usize) -> &str {
    if text.len() <= limit {
        return text;
    }
    let mut end = limit;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().trim_end()
}

/// Takes the metadata out of a stream that carries it every `metaint` bytes.
#[derive(Debug, Clone)]
pub struct Stripper {
    metaint: u64,
    charset: Charset,
    /// Audio bytes until the next length byte.
    until_block: u64,
    /// Bytes of the current block that are still to come.
    missing: usize,
    block: Vec<u8>,
    audio: u64,
}

impl Stripper {
    /// For a stream with that `icy-metaint`; with 0 everything is audio.
    pub fn new(metaint: u32) -> Self {
        Self {
            metaint: metaint.into(),
            charset: Charset::UTF_8,
            until_block: metaint.into(),
            missing: 0,
            block: Vec::new(),
            audio: 0,
        }
    }

    /// Reads titles in that character set.
    #[must_use]
    pub fn with_charset(mut self, charset: Charset) -> Self {
        self.charset = charset;
        self
    }

    /// Audio bytes given out so far.
    pub fn audio_bytes(&self) -> u64 {
        self.audio
    }

    /// Takes the next bytes, in any split. Appends the audio, and each title with the audio bytes given
    /// out before it since the beginning. A block without `StreamTitle=` says nothing.
    pub fn push(&mut self, mut input: &[u8], audio: &mut Vec<u8>, titles: &mut Vec<(u64, Title)>) {
        if self.metaint == 0 {
            self.take_audio(input, audio);
            return;
        }
        while !input.is_empty() {
            if self.missing > 0 {
                let (part, rest) = split_at_most(input, self.missing);
                self.block.extend_from_slice(part);
                self.missing -= part.len();
                input = rest;
                if self.missing == 0 {
                    titles.extend(self.title().map(|title| (self.audio, title)));
                    self.block.clear();
                }
            } else if self.until_block > 0 {
                let room = usize::try_from(self.until_block).unwrap_or(usize::MAX);
                let (part, rest) = split_at_most(input, room);
                self.until_block -= part.len() as u64;
                self.take_audio(part, audio);
                input = rest;
            } else if let Some((&units, rest)) = input.split_first() {
                self.missing = usize::from(units) * 16;
                self.until_block = self.metaint;
                input = rest;
            }
        }
    }

    fn take_audio(&mut self, part: &[u8], audio: &mut Vec<u8>) {
        audio.extend_from_slice(part);
        self.audio += part.len() as u64;
    }

    fn title(&self) -> Option<Title> {
        let title = self.charset.decode(value(&self.block, b"streamtitle=")?);
        let url = value(&self.block, b"streamurl=").map(|raw| self.charset.decode(raw));
        Some(Title::of(&title).with_url(url.as_deref()))
    }
}

fn split_at_most(input: &[u8], limit: usize) -> (&[u8], &[u8]) {
    input.split_at_checked(limit).unwrap_or((input, b""))
}

/// The value of `key` in a block's text: between quotes, up to the first `';` after which the text ends or another key
/// begins, since many servers send titles with `';` in them as they are. A missing end or missing quotes are forgiven.
fn value<'a>(block: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    let filled = block.iter().rev().take_while(|&&b| b == 0).count();
    let text = block.get(..block.len() - filled)?;
    let is_key = |at: &usize| {
        let before = at.checked_sub(1).and_then(|before| text.get(before));
        let here = text.get(*at..*at + key.len());
        // Not within a value.
        here.is_some_and(|here| here.eq_ignore_ascii_case(key))
            && before.is_none_or(|byte| matches!(byte, b';' | b' ' | b'\n' | b'\r'))
    };
    let at = (0..text.len()).find(is_key)?;
    let value = text.get(at + key.len()..)?;
    let Some(quoted) = value.strip_prefix(b"'") else {
        let end = value.iter().position(|&b| b == b';').unwrap_or(value.len());
        return value.get(..end);
    };
    let end = quoted
        .windows(CLOSE.len())
        .enumerate()
        .filter(|(_, w)| *w == CLOSE.as_bytes())
        .find(|(at, _)| ends_here(quoted.get(at + CLOSE.len()..).unwrap_or_default()))
        .map(|(at, _)| at);
    match end {
        Some(end) => quoted.get(..end),
        None => Some(quoted.strip_suffix(b"'").unwrap_or(quoted)),
    }
}

/// True where the text ends, or a key of any name follows: `adw_ad='true'`.
fn ends_here(rest: &[u8]) -> bool {
    let rest = rest.trim_ascii_start();
    let is_in_key = |b: &&u8| b.is_ascii_graphic() && !matches!(b, b'=' | b'\'' | b'"' | b';');
    let key = rest.iter().take_while(is_in_key).count();
    let after = rest.get(key..).unwrap_or_default();
    rest.is_empty() || (key > 0 && (after.starts_with(b"='") || after.starts_with(b"=\"")))
}

#[cfg(test)]
mod tests {
    use super::super::headers::field_text;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn blocks_byte_for_byte() {
        assert_eq!(&encode_title("", None)[..], b"\x01StreamTitle='';\0");
        assert_eq!(&encode_title("A", None)[..], b"\x01StreamTitle='A';");
        assert_eq!(
            &encode_title("A - B", Some("http://u/"))[..],
            b"\x03StreamTitle='A - B';StreamUrl='http://u/';\0\0\0\0\0\0"
        );
        assert_eq!(
            &encode_title("x';StreamUrl='y\r\n\0", None)[..],
            b"\x02StreamTitle='x' ;StreamUrl='y';\0"
        );
    }

    #[test]
    fn long_titles_are_cut_on_a_characters_edge() {
        let block = encode_title(&"é".repeat(4000), None);
        assert_eq!((block[0], block.len()), (255, 1 + MAX_BLOCK));
        let text = std::str::from_utf8(&block[1..])
            .unwrap()
            .trim_end_matches('\0');
        assert_eq!(text.len(), MAX_BLOCK - 1);
        assert!(text.ends_with("é';"));
        let block = encode_title(&"x".repeat(5000), Some("http://u/"));
        assert_eq!(block.len(), 1 + MAX_BLOCK);
        assert!(block.ends_with(b"x';StreamUrl='http://u/';"));
        assert!(!encode_title("t", Some(&"u".repeat(1025))).ends_with(b"u';"));
        assert_eq!(clean_title(&"x".repeat(5000)).len(), MAX_TITLE);
    }

    #[test]
    fn titles_and_fields_are_cleaned() {
        assert_eq!(clean_title("  a\r\nb\0c\u{7} "), "abc");
        assert_eq!(clean_title("Rock 'n'; Roll"), "Rock 'n' ; Roll");
        assert_eq!(clean_title("a''; b"), "a'' ; b");
        assert_eq!(clean_field("\ta\tb\r\nX: y"), "a bX: y");
    }

    #[test]
    fn titles_of_foreign_servers() {
        for (text, title) in [
            (&b"StreamTitle='A - B';"[..], Some("A - B")),
            (
                b"StreamTitle='A - B';StreamUrl='http://x';\0\0",
                Some("A - B"),
            ),
            (
                b"StreamTitle='It's; that';StreamUrl='';",
                Some("It's; that"),
            ),
            (b"StreamTitle='a'; b';StreamUrl='';", Some("a' ; b")),
            (b"StreamTitle='Rock 'n'';", Some("Rock 'n'")),
            (b"StreamUrl='u';StreamTitle='late';", Some("late")),
            (b"streamtitle='low';", Some("low")),
            (b"StreamTitle='open", Some("open")),
            (b"StreamTitle='open'", Some("open")),
            (b"StreamTitle=bare;", Some("bare")),
            (b"StreamTitle='';", Some("")),
            (b"StreamTitle='caf\xe9';", Some("café")),
            (b"StreamUrl='u';", None),
            (b"MyStreamTitle='no';", None),
            (b"", None),
            // Keys of advertisements, of any kind.
            (
                b"StreamTitle='';adw_ad='true';durationMilliseconds='30000';",
                Some(""),
            ),
            (b"StreamTitle='Three';adw_ad='true';", Some("Three")),
            (b"StreamTitle='Four';ad-id=\"4\";", Some("Four")),
            (b"StreamTitle='Five'; x.y:z='1'", Some("Five")),
            (b"adw_ad='true';StreamTitle='Six';", Some("Six")),
        ] {
            let found = value(text, b"streamtitle=").map(|raw| clean_title(&field_text(raw)));
            assert_eq!(found.as_deref(), title, "{}", text.escape_ascii());
        }
    }

    #[test]
    fn a_blocks_url_stays_with_its_title() {
        let title = Title::of("A").with_url(Some("https://x/art.jpg"));
        let block = encode_title(&title.text, title.url.as_deref());
        let (mut audio, mut titles) = (Vec::new(), Vec::new());
        let stream = [b"a", &block[..]].concat();
        Stripper::new(1).push(&stream, &mut audio, &mut titles);
        assert_eq!(titles, [(1, title)]);
        let russian = Charset::of("windows-1251").unwrap();
        let mut stripper = Stripper::new(1).with_charset(russian);
        stripper.push(b"a\x01StreamTitle='\xcf\xf0';", &mut audio, &mut titles);
        assert_eq!(titles[1].1, Title::of("Пр"));
    }

    #[test]
    fn without_metaint_all_is_audio() {
        let (mut audio, mut titles) = (Vec::new(), Vec::new());
        Stripper::new(0).push(b"abc", &mut audio, &mut titles);
        assert_eq!((audio, titles), (b"abc".to_vec(), vec![]));
    }

    /// What a server does: a title counts from the first slot at or after its offset.
    fn insert(audio: &[u8], metaint: usize, titles: &[(usize, String)]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut waiting = titles.iter().peekable();
        for (slot, part) in audio.chunks(metaint).enumerate() {
            out.extend_from_slice(part);
            if part.len() < metaint {
                break;
            }
            let mut latest = None;
            while let Some((_, title)) = waiting.next_if(|(at, _)| *at <= (slot + 1) * metaint) {
                latest = Some(title);
            }
            match latest {
                Some(title) => out.extend_from_slice(&encode_title(title, None)),
                None => out.extend_from_slice(&EMPTY),
            }
        }
        out
    }

    fn strip(stream: &[u8], metaint: usize, cuts: &[usize]) -> (Vec<u8>, Vec<(u64, Title)>) {
        let mut stripper = Stripper::new(u32::try_from(metaint).unwrap());
        let (mut audio, mut titles) = (Vec::new(), Vec::new());
        let mut rest = stream;
        for &cut in cuts.iter().cycle().take(stream.len()) {
            let (part, after) = rest.split_at(cut.min(rest.len()));
            stripper.push(part, &mut audio, &mut titles);
            rest = after;
        }
        stripper.push(rest, &mut audio, &mut titles);
        assert_eq!(stripper.audio_bytes(), audio.len() as u64);
        (audio, titles)
    }

    proptest! {
        #[test]
        fn what_is_inserted_is_taken_out(
            audio in prop::collection::vec(any::<u8>(), 0..600),
            metaint in 1_usize..50,
            texts in prop::collection::vec(".{0,40}", 0..5),
            cuts in prop::collection::vec(1_usize..30, 1..8),
        ) {
            // One title a slot at most, so that none hides another.
            let titles: Vec<(usize, String)> = texts.into_iter().enumerate()
                .map(|(n, text)| (n * 2 * metaint + 1, text)).collect();
            let stream = insert(&audio, metaint, &titles);
            let (stripped, seen) = strip(&stream, metaint, &cuts);
            prop_assert_eq!(&stripped, &audio);
            let expected: Vec<(u64, Title)> = titles.iter()
                .map(|(at, text)| (at.div_ceil(metaint) * metaint, Title::of(text)))
                .filter(|(slot, _)| *slot <= audio.len())
                .map(|(slot, title)| (slot as u64, title)).collect();
            prop_assert_eq!(seen, expected);
        }

        #[test]
        fn any_bytes_in_any_split(
            stream in prop::collection::vec(any::<u8>(), 0..3000),
            metaint in 0_usize..40,
            cuts in prop::collection::vec(1_usize..300, 1..8),
        ) {
            prop_assert_eq!(strip(&stream, metaint, &cuts), strip(&stream, metaint, &[usize::MAX]));
        }

        #[test]
        fn cleaning_is_final_and_blocks_are_whole(title in "\\PC{0,60}|[';x ]{0,30}|.{2000,3000}") {
            let clean = clean_title(&title);
            prop_assert_eq!(&clean_title(&clean), &clean);
            prop_assert!(!clean.contains("';") && clean.len() <= MAX_TITLE);
            let block = encode_title(&title, None);
            prop_assert_eq!(block.len(), 1 + usize::from(block[0]) * 16);
            let text = value(&block[1..], b"streamtitle=").map(field_text);
            prop_assert_eq!(text, Some(clean));
        }
    }
}
