//! The bytes of a ring: a run of segments, of which only the last one grows.

use std::sync::Arc;

use super::{SEGMENT, Segment};

/// The segments that exist, oldest first, without gaps, all but the last one full.
#[derive(Debug, Default)]
pub struct Chain {
    pub(super) segments: Vec<Arc<Segment>>,
}

impl Chain {
    /// Offset of the oldest byte kept.
    pub fn start(&self) -> u64 {
        self.segments.first().map_or(0, |segment| segment.base)
    }

    /// Offset after the newest byte.
    pub fn end(&self) -> u64 {
        self.segments
            .last()
            .map_or(0, |last| last.base + last.written().len() as u64)
    }

    /// How a reader at `offset` stands.
    pub fn standing(&self, offset: u64) -> Standing {
        let end = self.end();
        match offset {
            o if o < self.start() || o > end => Standing::Behind,
            o if o == end => Standing::Wait,
            _ => Standing::Data,
        }
    }

    /// The bytes from `offset` to the end of its segment as written so far; empty at the live edge and
    /// outside the window.
    pub fn slice_at(&self, offset: u64) -> &[u8] {
        let Some(distance) = offset.checked_sub(self.start()) else {
            return &[];
        };
        let index = usize::try_from(distance / SEGMENT as u64).unwrap_or(usize::MAX);
        let Some(segment) = self.segments.get(index) else {
            return &[];
        };
        let within = usize::try_from(distance % SEGMENT as u64).unwrap_or(usize::MAX);
        segment.written().get(within..).unwrap_or(&[])
    }
}

/// Standing of a reader at its offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Bytes are there.
    Data,
    /// At the live edge.
    Wait,
    /// The offset has left the window, or was never in it.
    Behind,
}
