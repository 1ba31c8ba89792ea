//! Header pages of a section, kept until it is announced: verbatim, or without their pictures where those are large.
//!
//! Every listener and every relay gets these pages before the first sound, and a cover of some megabytes in them (RFC 9639
//! 8.8; `METADATA_BLOCK_PICTURE` in Vorbis comments) is of no use to a player of a live stream.

use bytes::Bytes;

use super::cut::Cutter;
use super::page::{Page, Segments};

/// Header pages up to this size are passed on as they are, pictures included.
const VERBATIM: usize = 256 * 1024;

/// The header pages of a section are too large to be kept, even without pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLarge;

/// Header pages of the logical streams that begin together.
#[derive(Debug, Default)]
pub struct Headers {
    /// Bytes that came in.
    taken: usize,
    kept: Kept,
}

#[derive(Debug)]
enum Kept {
    /// The pages, and where each of them ends.
    Verbatim { pages: Vec<u8>, ends: Vec<usize> },
    /// Their packets, without pictures.
    Cut(Vec<Stream>),
}

/// Header packets of one logical stream.
#[derive(Debug)]
struct Stream {
    serial: u32,
    cutter: Cutter,
}

impl Default for Kept {
    fn default() -> Self {
        Self::Verbatim {
            pages: Vec::new(),
            ends: Vec::new(),
        }
    }
}

impl Headers {
    /// Bytes of the pages that were added.
    pub fn taken(&self) -> usize {
        self.taken
    }

    /// Adds a page. At most `limit` bytes of packets are kept.
    ///
    /// # Errors
    /// [`TooLarge`] beyond that.
    pub fn add(&mut self, page: &Page<'_>, limit: usize) -> Result<(), TooLarge> {
        self.taken += page.bytes.len();
        match &mut self.kept {
            Kept::Verbatim { pages, ends }
                if pages.len() + page.bytes.len() <= VERBATIM.min(limit) =>
            {
                pages.extend_from_slice(page.bytes);
                ends.push(pages.len());
                return Ok(());
            }
            Kept::Verbatim { pages, .. } => {
                let so_far = std::mem::take(pages);
                let mut streams = Vec::new();
                for page in Page::all(&so_far) {
                    add_to(&mut streams, &page);
                }
                self.kept = Kept::Cut(streams);
            }
            Kept::Cut(_) => {}
        }
        if let Kept::Cut(streams) = &mut self.kept {
            add_to(streams, page);
            let kept: usize = streams.iter().map(|stream| stream.cutter.kept()).sum();
            if kept > limit {
                return Err(TooLarge);
            }
        }
        Ok(())
    }

    /// The pages, and where each of them ends; nothing is left. `None` where a packet that was cut has no end.
    pub fn finish(&mut self) -> Option<(Bytes, Vec<usize>)> {
        self.taken = 0;
        match std::mem::take(&mut self.kept) {
            Kept::Verbatim { pages, ends } => Some((pages.into(), ends)),
            Kept::Cut(streams) => written(streams),
        }
    }
}

fn add_to(streams: &mut Vec<Stream>, page: &Page<'_>) {
    let known = streams
        .iter()
        .position(|stream| stream.serial == page.serial);
    let index = known.unwrap_or_else(|| {
        let cutter = Cutter::default();
        let serial = page.serial;
        streams.push(Stream { serial, cutter });
        streams.len() - 1
    });
    let Some(stream) = streams.get_mut(index) else {
        return;
    };
    for part in page.parts() {
        stream.cutter.push(&part);
    }
}

/// Pages anew: the first packet of each stream on a page of its own, as RFC 3533 wants it, then the others.
fn written(streams: Vec<Stream>) -> Option<(Bytes, Vec<usize>)> {
    let (mut out, mut ends) = (Vec::new(), Vec::new());
    let mut rests = Vec::new();
    for stream in streams {
        let mut packets = stream.cutter.finish()?.into_iter();
        let mut segments = Segments::new(stream.serial);
        if let Some(first) = packets.next() {
            segments.packet(&first, &mut out, &mut ends);
            segments.end_page(&mut out, &mut ends);
        }
        rests.push((segments, packets));
    }
    for (mut segments, packets) in rests {
        for packet in packets {
            segments.packet(&packet, &mut out, &mut ends);
        }
        segments.end_page(&mut out, &mut ends);
    }
    Some((out.into(), ends))
}
