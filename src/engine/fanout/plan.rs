//! What one send carries: the pieces in order, and how an entry moves when the socket took part of them.
//!
//! Pure but for reading the ring: no socket, no clock.

use std::io::IoSlice;

use bytes::Bytes;

use super::entry::{Entry, OTHERS_TITLE, Phase};
use crate::engine::ring::Chain;
use crate::wire::icy;

/// Slices in one send at most.
pub(super) const MAX_SLICES: usize = 32;

/// Bytes in one send at most: a burst of 64 KiB goes out at once, a runaway cursor does not.
pub(super) const MAX_BYTES: usize = 256 * 1024;

/// One piece of a send.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    /// The head or the header pages, from `prefix_sent` on.
    Prefix(Bytes),
    /// Audio from an offset.
    Audio { offset: u64, len: usize },
    /// A metadata block from `meta_sent` on, and the title it carries (offset plus one).
    Meta { block: Bytes, title_seen: u64 },
}

impl Part {
    fn len(&self) -> usize {
        match self {
            Self::Prefix(bytes) | Self::Meta { block: bytes, .. } => bytes.len(),
            Self::Audio { len, .. } => *len,
        }
    }
}

/// A send in the making; the shard keeps one and reuses its memory.
#[derive(Debug, Default)]
pub(super) struct Plan {
    parts: Vec<Part>,
    total: usize,
    cut: bool,
}

/// The cursor while a plan is laid out.
struct Cursor {
    offset: u64,
    until_meta: u32,
    meta_sent: u16,
    title_seen: u64,
}

impl Plan {
    /// Bytes planned.
    pub fn total(&self) -> usize {
        self.total
    }

    /// True if more waits than one send may carry.
    pub fn is_cut(&self) -> bool {
        self.cut
    }

    /// Lets go of what it holds.
    pub fn clear(&mut self) {
        self.parts.clear();
        self.total = 0;
        self.cut = false;
    }

    /// Lays out all that `entry` has not had yet, within the bounds of one send.
    pub fn lay_out(&mut self, entry: &Entry, chain: &Chain) {
        self.clear();
        if entry.phase == Phase::Head {
            self.push(Part::Prefix(rest(&entry.side.head, entry.prefix_sent)));
        }
        if entry.phase != Phase::Audio {
            let sent = if entry.phase == Phase::Header {
                entry.prefix_sent
            } else {
                0
            };
            if let Some(header) = header_pages(entry) {
                self.push(Part::Prefix(rest(&header, sent)));
            }
        }
        self.lay_out_audio(entry, chain);
    }

    fn lay_out_audio(&mut self, entry: &Entry, chain: &Chain) {
        // Who leaves for another mount gets nothing beyond that edge.
        let end = chain.end().min(entry.limit());
        let mut at = Cursor {
            offset: entry.offset,
            until_meta: entry.until_meta,
            meta_sent: entry.meta_sent,
            title_seen: entry.title_seen,
        };
        // A block goes out only with audio behind it: titles that come later have a later offset then, so a
        // block that was sent in part can be made again.
        while at.offset < end && self.parts.len() < MAX_SLICES && self.total < MAX_BYTES {
            if entry.metaint > 0 && at.until_meta == 0 {
                let (block, title_seen) = block_at(entry, &at);
                self.push(Part::Meta {
                    block: rest(&block, at.meta_sent.into()),
                    title_seen,
                });
                at = Cursor {
                    until_meta: entry.metaint,
                    meta_sent: 0,
                    title_seen,
                    ..at
                };
                continue;
            }
            let slice = chain.slice_at(at.offset);
            let room = if entry.metaint > 0 {
                at.until_meta as usize
            } else {
                usize::MAX
            };
            let ahead = usize::try_from(end - at.offset).unwrap_or(usize::MAX);
            let most = room.min(ahead).min(MAX_BYTES - self.total);
            let len = slice.len().min(most);
            if len == 0 {
                break;
            }
            self.push(Part::Audio {
                offset: at.offset,
                len,
            });
            at.offset += len as u64;
            at.until_meta = at
                .until_meta
                .saturating_sub(u32::try_from(len).unwrap_or(u32::MAX));
        }
        self.cut = at.offset < end;
    }

    fn push(&mut self, part: Part) {
        self.total += part.len();
        self.parts.push(part);
    }

    /// The pieces as slices for one vectored send; returns how many there are.
    pub fn slices<'a>(
        &'a self,
        chain: &'a Chain,
        into: &mut [IoSlice<'a>; MAX_SLICES + 2],
    ) -> usize {
        let mut count = 0;
        for (part, place) in self.parts.iter().zip(into.iter_mut()) {
            *place = IoSlice::new(match part {
                Part::Prefix(bytes) | Part::Meta { block: bytes, .. } => bytes,
                Part::Audio { offset, len } => chain.slice_at(*offset).get(..*len).unwrap_or(&[]),
            });
            count += 1;
        }
        count
    }

    /// Moves `entry` by `taken` bytes of this plan.
    pub fn advance(&self, entry: &mut Entry, mut taken: usize) {
        for part in &self.parts {
            let took = taken.min(part.len());
            taken -= took;
            let whole = took == part.len();
            let count = u32::try_from(took).unwrap_or(u32::MAX);
            match part {
                Part::Prefix(_) => advance_prefix(entry, count, whole),
                Part::Audio { .. } => {
                    entry.phase = Phase::Audio;
                    entry.offset += took as u64;
                    entry.until_meta = entry.until_meta.saturating_sub(count);
                }
                Part::Meta { title_seen, .. } => {
                    entry.phase = Phase::Audio;
                    if whole {
                        entry.title_seen = *title_seen;
                        entry.until_meta = entry.metaint;
                        entry.meta_sent = 0;
                    } else {
                        entry.meta_sent += u16::try_from(took).unwrap_or(u16::MAX);
                    }
                }
            }
            if !whole || taken == 0 {
                return;
            }
        }
    }
}

fn advance_prefix(entry: &mut Entry, count: u32, whole: bool) {
    if !whole {
        entry.prefix_sent += count;
        return;
    }
    entry.prefix_sent = 0;
    if entry.phase == Phase::Head {
        // It has done its work; a kilobyte for each listener would be the most of what it costs.
        entry.side.head = Bytes::new();
    }
    entry.phase = match entry.phase {
        Phase::Head => Phase::Header,
        Phase::Header | Phase::Audio => Phase::Audio,
    };
}

/// The header pages that a listener needs before the byte at its offset: those of a section that began
/// earlier.
fn header_pages(entry: &Entry) -> Option<Bytes> {
    entry.ring.with_indexes(|indexes| {
        let mark = indexes.section_at(entry.offset)?;
        let late = mark.offset < entry.offset && !mark.section.header.is_empty();
        late.then(|| mark.section.header.clone())
    })
}

/// The block at a slot: the title in effect there if the listener has not had it, else the empty one.
fn block_at(entry: &Entry, at: &Cursor) -> (Bytes, u64) {
    let empty = Bytes::from_static(&icy::EMPTY);
    if entry.ring.newest_title() == at.title_seen && at.meta_sent == 0 {
        return (empty, at.title_seen);
    }
    entry
        .ring
        .with_indexes(|indexes| match indexes.title_at(at.offset) {
            Some(mark) if mark.offset + 1 != at.title_seen => (mark.block.clone(), mark.offset + 1),
            // What the other mount played is over.
            None if at.title_seen == OTHERS_TITLE => (icy::encode_title("", None), 0),
            _ => (empty, at.title_seen),
        })
}

fn rest(bytes: &Bytes, sent: u32) -> Bytes {
    bytes.slice((sent as usize).min(bytes.len())..)
}
