//! The way in on a relay: bytes that already have their addresses are stored under the same ones.
//!
//! A parent's connection can break within a frame. Listeners who go elsewhere then, to a fallback, must have had whole
//! frames alone; so the start of a frame is kept back until its rest has come, and is asked for again where it does not.

use std::sync::Arc;
use std::time::Instant;

use tokio_util::sync::CancellationToken;

use super::Engine;
use super::format::{Codec, Section, whole};
use super::mount::{Content, Mount};
use super::ring::{Ring, TimeMark, Writer};
use crate::base::ids::{Epoch, Position};
use crate::wire::title::Title;

/// A relay's hold on a mount that it carries; dropping it gives the mount back, and its listeners are held.
pub struct Replica {
    mount: Arc<Mount>,
    engine: Arc<Engine>,
    writer: Option<Writer>,
    generation: u64,
    evicted: CancellationToken,
    /// Bytes lost since this mark; the next mark says how much time that was.
    lost: Option<(u64, TimeMark)>,
    /// True while the ring is known to end at an edge. Else all is stored as it comes, until the next mark.
    at_edge: bool,
    /// The start of a frame, after the ring's end: less than a frame or page.
    begun: Vec<u8>,
}

/// Bytes after the last mark in which edges are looked for; marks are 250 ms apart.
const LOOKED_THROUGH: u64 = 1024 * 1024;

impl Replica {
    pub(super) fn new(
        engine: Arc<Engine>,
        mount: Arc<Mount>,
        taken: super::mount::Taken,
        evicted: CancellationToken,
    ) -> Self {
        Self {
            mount,
            engine,
            writer: taken.writer,
            generation: taken.generation,
            evicted,
            lost: None,
            at_edge: false,
            begun: Vec::new(),
        }
    }

    /// The mount.
    pub fn mount(&self) -> &Arc<Mount> {
        &self.mount
    }

    /// Cancelled when the mount was taken away.
    pub fn evicted(&self) -> &CancellationToken {
        &self.evicted
    }

    /// The next byte that this parent is to send: where the ring and what is kept back end. `None` before the first
    /// one.
    pub fn position(&self) -> Option<Position> {
        let ring = self.mount.ring();
        (ring.epoch() != Epoch(0)).then(|| Position {
            epoch: ring.epoch(),
            offset: ring.end() + self.begun.len() as u64,
        })
    }

    /// The parent answers: its bytes begin at `start` of `epoch`. Goes on in the same ring where the epoch is
    /// the same, with the gap counted; else a new ring takes over.
    pub fn begin(&mut self, epoch: Epoch, start: u64, mut content: Content) {
        if let Some(preset) = self.engine.config.load().preset(&self.mount.id) {
            preset.describe_replica(&mut content);
        }
        self.engine.epochs().raise(epoch);
        let kept = self
            .writer
            .as_ref()
            .filter(|writer| writer.ring().epoch() == epoch);
        let goes_on = kept.is_some();
        // Before the epoch: whoever sees the new ring must see what it holds.
        self.mount.set_content(content);
        if !goes_on {
            self.writer = Some(self.mount.start_epoch(epoch, start));
            self.at_edge = false;
            self.begun.clear();
        } else if !self.at_edge {
            self.at_edge = ends_at_edge(&self.mount.ring());
        }
        self.engine.announce();
    }

    /// A section begins (or began, before the window) at `offset`.
    pub fn section(&mut self, offset: u64, section: Section) {
        self.edge(offset);
        let Some(writer) = &mut self.writer else {
            return;
        };
        // Another parent says again what is known, or is behind.
        let known = writer.ring().with_indexes(|i| {
            i.sections.back().is_some_and(|last| {
                last.offset > offset || (last.offset == offset && *last.section == section)
            })
        });
        if !known {
            self.mount.note_section(&section);
            writer.section_at(offset, Arc::new(section));
            self.engine.announce();
        }
    }

    /// A title is in effect from `offset`. At one offset the last one holds.
    pub fn title(&mut self, offset: u64, title: Title) {
        let Some(writer) = &mut self.writer else {
            return;
        };
        let known = writer.ring().with_indexes(|i| {
            i.titles.back().is_some_and(|last| {
                last.offset > offset || (last.offset == offset && *last.title == title)
            })
        });
        if !known {
            writer.title_at(offset, title);
        }
    }

    /// An edge with its time.
    pub fn time(&mut self, mark: TimeMark) {
        self.edge(mark.offset);
        if let Some(writer) = &mut self.writer {
            writer.set_media_micros(mark.media_micros);
            writer.time(mark);
            if let Some((lost, before)) = self.lost.take() {
                self.mount
                    .counters
                    .add_gap_micros(media_of(lost, before, mark));
            }
        }
    }

    /// The parent is at `live_edge`. Before the first byte it says how much of the past comes first.
    pub fn parent_at(&mut self, live_edge: u64) {
        let ring = self.mount.ring();
        if self.writer.is_some() && ring.end() == ring.start() && live_edge > ring.end() {
            self.mount.fill_to(live_edge);
        }
    }

    /// Bytes. What is there already is left out; what is missing before them is counted as a gap.
    pub fn data(&mut self, offset: u64, bytes: &[u8], now: Instant) {
        let Some(writer) = &mut self.writer else {
            return;
        };
        let stored = writer.ring().end();
        let was_playable = self.mount.is_playable();
        let end = stored + self.begun.len() as u64;
        if offset > end {
            // What is kept back will never be whole.
            self.begun.clear();
            self.at_edge = false;
            let gap = offset - stored;
            self.mount.counters.add_gap(gap);
            let before = writer.ring().with_indexes(|i| i.times.back().copied());
            let (lost, since) = self
                .lost
                .map_or((0, before), |(lost, since)| (lost, Some(since)));
            self.lost = since.map(|since| (lost + gap, since));
            writer.skip_to(offset);
        }
        let known = usize::try_from(end.saturating_sub(offset)).unwrap_or(usize::MAX);
        let fresh = bytes.get(known..).unwrap_or(&[]);
        let before = writer.ring().end();
        self.store(fresh);
        let came = self.mount.ring().end().saturating_sub(before);
        if !was_playable && self.mount.is_playable() {
            // Those who wait for the mount to play look again.
            self.engine.announce();
        }
        self.mount.counters.add_received(came);
        self.mount.note_byte(now);
    }

    /// Stores all of `fresh` but the start of a frame at its end.
    fn store(&mut self, fresh: &[u8]) {
        let Some(writer) = &mut self.writer else {
            return;
        };
        if !self.at_edge {
            return writer.append(fresh, 0);
        }
        let section = writer.ring().section();
        let codec = section.map_or(Codec::Opaque, |section| section.params.codec);
        let mut kept = std::mem::take(&mut self.begun);
        let all = if kept.is_empty() {
            fresh
        } else {
            kept.extend_from_slice(fresh);
            &kept
        };
        let found = whole(codec, all);
        self.at_edge = found.is_some();
        let (now, later) = all
            .split_at_checked(found.unwrap_or(all.len()))
            .unwrap_or((all, &[]));
        writer.append(now, 0);
        self.begun = later.to_vec();
    }

    /// The origin says that there is an edge at `offset`.
    fn edge(&mut self, offset: u64) {
        let Some(writer) = &mut self.writer else {
            return;
        };
        if writer.ring().end() + self.begun.len() as u64 == offset {
            // It knows better than the headers that were read here.
            writer.append(&std::mem::take(&mut self.begun), 0);
            self.at_edge = true;
        }
    }
}

/// True where the frames after the last mark are whole to the last byte.
fn ends_at_edge(ring: &Ring) -> bool {
    let end = ring.end();
    let last = ring.with_indexes(|i| i.times.iter().rev().find(|m| m.offset <= end).copied());
    let (Some(mark), Some(section)) = (last, ring.section()) else {
        return false;
    };
    if end - mark.offset > LOOKED_THROUGH {
        return false;
    }
    let (chain, mut bytes, mut at) = (ring.pinned(), Vec::new(), mark.offset);
    while at < end {
        let slice = chain.slice_at(at);
        if slice.is_empty() {
            return false;
        }
        bytes.extend_from_slice(slice);
        at += slice.len() as u64;
    }
    whole(section.params.codec, &bytes) == Some(bytes.len())
}

/// The playing time of `lost` bytes between two marks, by their share of the bytes between them.
fn media_of(lost: u64, before: TimeMark, after: TimeMark) -> u64 {
    let bytes = after.offset.saturating_sub(before.offset).max(1);
    let micros = after.media_micros.saturating_sub(before.media_micros);
    let share = u128::from(micros) * u128::from(lost.min(bytes)) / u128::from(bytes);
    u64::try_from(share).unwrap_or(u64::MAX)
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.mount
            .give_back(self.generation, self.writer.take(), Instant::now());
        self.engine.announce();
    }
}
