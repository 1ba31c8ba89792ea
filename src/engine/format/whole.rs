//! Where the last whole frame of a run of bytes ends, for who has the bytes from an edge on and nothing else.

use super::Codec;
use super::adts::AdtsHeader;
use super::frames::Header;
use super::mpeg::MpegHeader;
use super::ogg::{Found, Page};

/// How many bytes at the start of `at`, which is an edge, are whole frames or pages. What follows them is the start of
/// one. `None` where something there is no frame: nothing is known of its edges then.
pub fn whole(codec: Codec, at: &[u8]) -> Option<usize> {
    match codec {
        Codec::Mp3 => units(at, frame::<MpegHeader>),
        Codec::Aac => units(at, frame::<AdtsHeader>),
        Codec::Vorbis | Codec::Opus | Codec::Flac | Codec::Ogg => units(at, page),
        Codec::Opaque => None,
    }
}

/// What stands at an edge.
enum Unit {
    Whole(usize),
    Begun,
    Foreign,
}

fn units(at: &[u8], judge: impl Fn(&[u8]) -> Unit) -> Option<usize> {
    let mut whole = 0;
    loop {
        match judge(at.get(whole..).unwrap_or_default()) {
            Unit::Whole(len) => whole += len.max(1),
            Unit::Begun => return Some(whole),
            Unit::Foreign => return None,
        }
    }
}

fn frame<H: Header>(at: &[u8]) -> Unit {
    match H::parse(at) {
        Some(frame) if frame.len <= at.len() => Unit::Whole(frame.len),
        Some(_) => Unit::Begun,
        None if at.len() < H::LEN => Unit::Begun,
        None => Unit::Foreign,
    }
}

fn page(at: &[u8]) -> Unit {
    match Page::at(at) {
        Found::Page(page) => Unit::Whole(page.bytes.len()),
        Found::Wait => Unit::Begun,
        Found::Junk(_) => Unit::Foreign,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::fixture;
    use super::*;

    /// The edges of a file, found one after the other.
    fn edges(codec: Codec, file: &[u8]) -> Vec<usize> {
        let mut edges = vec![0];
        for end in 1..=file.len() {
            let from = edges[edges.len() - 1];
            match whole(codec, &file[from..end]) {
                Some(0) => {}
                Some(len) => edges.push(from + len),
                None => panic!("no {codec:?} at {from}"),
            }
        }
        edges
    }

    #[test]
    fn whole_frames_and_pages_are_told_from_begun_ones() {
        let files: [(Codec, &[u8]); 2] = [
            (Codec::Mp3, fixture!("tone.mp3")),
            (Codec::Vorbis, fixture!("vorbis.ogg")),
        ];
        for (codec, file) in files {
            let edges = edges(codec, file);
            assert!(edges.len() > 3 && edges[edges.len() - 1] == file.len());
            let (last, middle) = (edges[edges.len() - 2], edges[edges.len() / 2]);
            assert_eq!(whole(codec, &file[..file.len() - 1]), Some(last));
            assert_eq!(whole(codec, &file[middle..]), Some(file.len() - middle));
            assert_eq!(whole(codec, &file[middle + 1..]), None, "not at an edge");
        }
        assert_eq!(whole(Codec::Opaque, b"anything"), None);
        assert_eq!(whole(Codec::Aac, &[0xFF]), Some(0));
        assert_eq!(whole(Codec::Aac, b"no frame"), None);
    }
}
