//! Titles from the comment packets of Vorbis, Opus and FLAC (the Vorbis comment specification; RFC 7845 5.2).

use super::page::{Found, Page};
use crate::wire::title::Title;

/// What is being read of one logical stream.
struct Assembly {
    serial: u32,
    is_flac: bool,
    packet: Vec<u8>,
}

/// Artist and title from a section's header pages. Several artists are joined with `, `. `None` if there is neither.
pub fn comment_title(header: &[u8]) -> Option<Title> {
    let mut streams: Vec<Assembly> = Vec::new();
    let mut rest = header;
    while let Found::Page(page) = Page::at(rest) {
        rest = rest.get(page.bytes.len()..).unwrap_or_default();
        if let Some(tags) = read_page(&page, &mut streams) {
            return Some(tags);
        }
    }
    None
}

fn read_page(page: &Page<'_>, streams: &mut Vec<Assembly>) -> Option<Title> {
    if page.is_first() {
        streams.push(Assembly {
            serial: page.serial,
            is_flac: page
                .parts()
                .next()
                .is_some_and(|part| part.bytes.starts_with(b"\x7FFLAC")),
            packet: Vec::new(),
        });
        return None;
    }
    let stream = streams
        .iter_mut()
        .find(|stream| stream.serial == page.serial)?;
    for part in page.parts() {
        if part.starts {
            stream.packet.clear();
        }
        stream.packet.extend_from_slice(part.bytes);
        if part.ends
            && let Some(title) = comments(&stream.packet, stream.is_flac).and_then(title)
        {
            return Some(title);
        }
    }
    None
}

/// The comment block inside a comment packet.
fn comments(packet: &[u8], is_flac: bool) -> Option<&[u8]> {
    if is_flac {
        // Metadata block type 4 after the flag for the last block, then 24 bits of length.
        return (packet.first()? & 0x7F == 4).then(|| packet.get(4..))?;
    }
    packet
        .strip_prefix(b"\x03vorbis")
        .or_else(|| packet.strip_prefix(b"OpusTags"))
}

/// Comments about one song, which another title makes wrong.
const OF_SONG: [&str; 14] = [
    "artist",
    "title",
    "album",
    "albumartist",
    "tracknumber",
    "tracktotal",
    "discnumber",
    "date",
    "performer",
    "composer",
    "genre",
    "isrc",
    "version",
    "metadata_block_picture",
];

/// The comment packet with another title: what it says of one song goes, what it says of the stream (gains, the station)
/// stays. `None` where it is no comment packet.
pub fn with_title(packet: &[u8], title: &Title) -> Option<Vec<u8>> {
    let is_flac = packet.first().is_some_and(|kind| kind & 0x7F == 4);
    let block = comments(packet, is_flac)?;
    let front = packet.get(..packet.len() - block.len())?;
    let (vendor, block) = counted(block)?;
    let (count, mut rest) = number(block)?;
    let mut kept: Vec<Vec<u8>> = Vec::new();
    for _ in 0..count {
        let (comment, after) = counted(rest)?;
        rest = after;
        let text = String::from_utf8_lossy(comment);
        let key = text.split('=').next().unwrap_or_default();
        if !OF_SONG.iter().any(|name| key.eq_ignore_ascii_case(name)) {
            kept.push(comment.to_vec());
        }
    }
    let own = [
        ("ARTIST", title.artist.as_deref()),
        (
            "TITLE",
            title
                .name
                .as_deref()
                .or(Some(title.text.as_str()).filter(|_| title.artist.is_none())),
        ),
    ];
    for (key, value) in own {
        kept.extend(value.map(|value| format!("{key}={value}").into_bytes()));
    }
    let mut out = front.to_vec();
    put_counted(&mut out, vendor);
    out.extend(u32::try_from(kept.len()).ok()?.to_le_bytes());
    kept.iter()
        .for_each(|comment| put_counted(&mut out, comment));
    out.extend_from_slice(rest);
    if is_flac {
        let [_, high, middle, low] = u32::try_from(out.len() - 4).ok()?.to_be_bytes();
        out.get_mut(1..4)?.copy_from_slice(&[high, middle, low]);
    }
    Some(out)
}

fn put_counted(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(bytes);
}

fn title(block: &[u8]) -> Option<Title> {
    let (_vendor, block) = counted(block)?;
    let (count, mut rest) = number(block)?;
    let (mut artists, mut title) = (Vec::new(), None);
    for _ in 0..count {
        let Some((comment, after)) = counted(rest) else {
            break;
        };
        rest = after;
        let text = String::from_utf8_lossy(comment);
        let Some((key, value)) = text.split_once('=') else {
            continue;
        };
        let value = value.trim();
        if value.is_empty() {
            continue;
        }
        if key.eq_ignore_ascii_case("artist") {
            artists.push(value.to_owned());
        } else if key.eq_ignore_ascii_case("title") && title.is_none() {
            title = Some(value.to_owned());
        }
    }
    let artist = (!artists.is_empty()).then(|| artists.join(", "));
    Title::of_parts(artist.as_deref(), title.as_deref())
}

/// A length and so many bytes, and what follows.
fn counted(block: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = number(block)?;
    rest.split_at_checked(usize::try_from(len).ok()?)
}

fn number(block: &[u8]) -> Option<(u32, &[u8])> {
    let (bytes, rest) = block.split_first_chunk::<4>()?;
    Some((u32::from_le_bytes(*bytes), rest))
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::fixture;
    use super::super::testing::{opus_head, opus_tags, pages};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn from_files() {
        let title = |file: &[u8]| comment_title(file).map(|title| title.text);
        assert_eq!(
            title(fixture!("vorbis.ogg")).as_deref(),
            Some("Fixture - Vorbis")
        );
        assert_eq!(
            title(fixture!("opus.ogg")).as_deref(),
            Some("Fixture - Opus")
        );
        assert_eq!(
            title(fixture!("flac.ogg")).as_deref(),
            Some("Fixture - Flac")
        );
        // The header pages alone are enough, the first page is not.
        assert_eq!(
            title(&fixture!("vorbis.ogg")[..4_023]).as_deref(),
            Some("Fixture - Vorbis")
        );
        assert_eq!(title(&fixture!("vorbis.ogg")[..58]), None);
        assert_eq!(title(fixture!("tone.mp3")), None);
    }

    #[test]
    fn keys_in_any_case_and_parts_missing() {
        let title = |comments: &[&str]| {
            let tags = opus_tags(comments);
            comment_title(&pages(7, &[(&opus_head(), 0), (&tags, 0)])).map(|title| title.text)
        };
        assert_eq!(title(&["Artist=A", "TITLE=B"]).as_deref(), Some("A - B"));
        assert_eq!(title(&["title=B=C"]).as_deref(), Some("B=C"));
        assert_eq!(title(&["ARTIST=A", "ALBUM=X"]).as_deref(), Some("A"));
        assert_eq!(
            title(&["ARTIST=A", "ARTIST=Å", "TITLE= "]).as_deref(),
            Some("A, Å")
        );
        assert_eq!(title(&["nothing", "=", "GENRE=x"]), None);
        assert_eq!(title(&[]), None);
        // A comment over several pages.
        let long = format!("DESCRIPTION={}", "x".repeat(100_000));
        assert_eq!(title(&[&long, "TITLE=B"]).as_deref(), Some("B"));
    }

    proptest! {
        #[test]
        fn wrong_lengths_never_panic(mut block in proptest::collection::vec(0u8..8, 0..200)) {
            let _ = title(&block);
            block.splice(0..0, *b"OpusTags");
            let _ = comment_title(&pages(7, &[(&opus_head(), 0), (&block, 0)]));
        }
    }
}
