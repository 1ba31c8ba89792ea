//! A fixed run of bytes that one writer fills and many readers see up to a published end.
//!
//! The only `unsafe` of the ring. The rule that makes it sound: bytes below `len` never change again, and
//! `len` grows only after the bytes below it are written (Release), so a reader that loads it (Acquire) sees
//! them whole. That there is one writer is kept by [`super::Writer`], which is not `Clone` and appends
//! through `&mut self`.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes in a segment: large enough that the chain changes once in four seconds at 128 kbit/s, small enough
/// that a ring of a minute wastes little.
pub const SEGMENT: usize = 64 * 1024;

/// See the module.
#[derive(Debug)]
pub struct Segment {
    /// Offset of the first byte.
    pub base: u64,
    bytes: *mut u8,
    len: AtomicUsize,
}

// SAFETY: readers touch only bytes below the published `len`, which are never written again; the one writer
// touches only bytes at or above it.
unsafe impl Send for Segment {}
// SAFETY: as above.
unsafe impl Sync for Segment {}

impl Segment {
    /// An empty segment that begins at `base`.
    pub fn new(base: u64) -> Self {
        let boxed: Box<[u8]> = vec![0_u8; SEGMENT].into_boxed_slice();
        let bytes = Box::into_raw(boxed).cast::<u8>();
        Self {
            base,
            bytes,
            len: AtomicUsize::new(0),
        }
    }

    /// What has been written so far.
    pub fn written(&self) -> &[u8] {
        let len = self.len.load(Ordering::Acquire);
        // SAFETY: the allocation is SEGMENT bytes, `len` never exceeds it, and bytes below it are final.
        unsafe { std::slice::from_raw_parts(self.bytes, len) }
    }

    /// Appends as much of `input` as fits and returns how much that was.
    ///
    /// # Safety
    /// Only one thread may be in this function at a time for one segment.
    pub(super) unsafe fn append(&self, input: &[u8]) -> usize {
        let len = self.len.load(Ordering::Relaxed);
        let take = input.len().min(SEGMENT - len);
        // SAFETY: `len + take <= SEGMENT`, the ranges cannot overlap, and no reader looks above `len`.
        unsafe { std::ptr::copy_nonoverlapping(input.as_ptr(), self.bytes.add(len), take) };
        self.len.store(len + take, Ordering::Release);
        take
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        let slice = std::ptr::slice_from_raw_parts_mut(self.bytes, SEGMENT);
        // SAFETY: made by `Box::into_raw` from a boxed slice of this very length, and dropped once.
        drop(unsafe { Box::from_raw(slice) });
    }
}
