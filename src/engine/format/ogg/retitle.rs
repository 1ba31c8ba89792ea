//! A title that is set from outside, as comments in an Ogg stream.
//!
//! Players of Ogg read titles from the comments at the beginning of a link of the chain, and nowhere else. So the stream goes on
//! as a new link: the same headers with other comments, and the source's pages under the link's serial number.

use bytes::Bytes;

use super::comments::with_title;
use super::page::{Page, Segments, renumber};
use crate::wire::title::Title;

/// Serial numbers of links are the source's own and so many more.
const STEP: u32 = 0x9E37_79B9;

/// A link that was begun for a title; its pages are the source's, under other numbers.
#[derive(Debug)]
pub struct Retitled {
    serial: u32,
    sequence: u32,
}

/// Header pages, and where each of them ends.
pub type Headers = (Bytes, Vec<usize>);

/// True if a title can be set within a stream that begins with `header`: one logical stream of Vorbis, Opus or FLAC.
pub fn can_retitle(header: &[u8]) -> bool {
    packets(header).is_some_and(|(_, packets)| comments_of(&packets).is_some())
}

impl Retitled {
    /// The `number`-th link after the source's own one, and its header pages: those of `header` with another title. `None`
    /// where [`can_retitle`] says no.
    pub fn begin(header: &[u8], title: &Title, number: u32) -> Option<(Self, Headers)> {
        let (own, mut packets) = packets(header)?;
        let place = comments_of(&packets)?;
        let comments = packets.get_mut(place)?;
        *comments = with_title(comments, title)?;
        let serial = own.wrapping_add(number.wrapping_mul(STEP));
        let mut segments = Segments::new(serial);
        let (mut out, mut ends) = (Vec::new(), Vec::new());
        for (number, packet) in packets.iter().enumerate() {
            segments.packet(packet, &mut out, &mut ends);
            if number == 0 {
                segments.end_page(&mut out, &mut ends);
            }
        }
        segments.end_page(&mut out, &mut ends);
        let sequence = u32::try_from(ends.len()).unwrap_or(u32::MAX);
        Some((Self { serial, sequence }, (out.into(), ends)))
    }

    /// A page of the source in this link.
    pub fn page(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut page = bytes.to_vec();
        renumber(&mut page, self.serial, self.sequence);
        self.sequence = self.sequence.wrapping_add(1);
        page
    }
}

/// Serial number and header packets of the one logical stream; `None` where there are several, or a packet is not whole.
fn packets(header: &[u8]) -> Option<(u32, Vec<Vec<u8>>)> {
    let mut serial = None;
    let mut packets: Vec<Vec<u8>> = Vec::new();
    let mut is_open = false;
    for page in Page::all(header) {
        if *serial.get_or_insert(page.serial) != page.serial {
            return None;
        }
        for part in page.parts() {
            match packets.last_mut() {
                Some(last) if !part.starts => last.extend_from_slice(part.bytes),
                _ => packets.push(part.bytes.to_vec()),
            }
            is_open = !part.ends;
        }
    }
    (!is_open).then_some((serial?, packets))
}

/// Place of the comments among the header packets.
fn comments_of(packets: &[Vec<u8>]) -> Option<usize> {
    let first = packets.first()?;
    let is_comments = |packet: &&Vec<u8>| -> bool {
        if first.starts_with(b"\x7FFLAC") {
            return packet.first().is_some_and(|kind| kind & 0x7F == 4);
        }
        packet.starts_with(b"OpusTags") || packet.starts_with(b"\x03vorbis")
    };
    let rest = packets.get(1..)?;
    rest.iter()
        .position(|packet| is_comments(&packet))
        .map(|place| place + 1)
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{Seen, fixture};
    use super::super::{OggFramer, comment_title};
    use super::*;

    #[test]
    fn the_stream_goes_on_as_a_link_with_another_title() {
        let files: [&[u8]; 3] = [
            fixture!("vorbis.ogg"),
            fixture!("opus.ogg"),
            fixture!("flac.ogg"),
        ];
        for file in files {
            let seen = Seen::of(OggFramer::new(1 << 20), &[file]);
            let header = seen.sections[0].1.header.clone();
            assert!(can_retitle(&header));
            let title = Title::of_parts(Some("Å"), Some("B")).unwrap();
            let (mut link, (new, ends)) = Retitled::begin(&header, &title, 1).unwrap();
            assert_eq!(comment_title(&new), Some(title));
            assert_eq!(ends.last(), Some(&new.len()));
            let mut stream = file.to_vec();
            stream.extend_from_slice(&new);
            for page in Page::all(&file[header.len()..]) {
                stream.extend(link.page(page.bytes));
            }
            // Another reader finds the same packets twice, but for the comments.
            let mut reader = ::ogg::PacketReader::new(std::io::Cursor::new(&stream));
            let mut packets = Vec::new();
            while let Some(packet) = reader.read_packet().unwrap() {
                packets.push((packet.stream_serial(), packet.data));
            }
            let half = packets.len() / 2;
            let (first, second) = packets.split_at(half);
            let differ = first.iter().zip(second).filter(|(a, b)| a.1 != b.1).count();
            assert_eq!(differ, 1);
            assert!(first[0].0 != second[0].0 && second.iter().all(|p| p.0 == second[0].0));
            let again = Seen::of(OggFramer::new(1 << 20), &[&stream]);
            assert_eq!((again.sections.len(), again.skipped), (2, 0));
            assert_eq!(again.sections[0].1.params, again.sections[1].1.params);
        }
    }

    #[test]
    fn several_streams_and_unknown_ones_have_no_title_to_set() {
        let (one, two) = (fixture!("vorbis.ogg"), fixture!("opus.ogg"));
        let both = [&one[..58], &two[..47]].concat();
        for header in [&both[..], &one[..58], b"no page"] {
            assert!(!can_retitle(header));
            assert!(Retitled::begin(header, &Title::of("x"), 1).is_none());
        }
    }
}
