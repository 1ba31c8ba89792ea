//! The way in on a relay: bytes that already have their addresses are stored under the same ones.

use std::sync::Arc;
use std::time::Instant;

use tokio_util::sync::CancellationToken;

use super::Engine;
use super::format::Section;
use super::mount::{Content, Mount};
use super::ring::{TimeMark, Writer};
use crate::base::ids::{Epoch, Position};

/// A relay's hold on a mount that it carries; dropping it gives the mount back, and its listeners are held.
pub struct Replica {
    mount: Arc<Mount>,
    engine: Arc<Engine>,
    writer: Option<Writer>,
    generation: u64,
    evicted: CancellationToken,
    /// Bytes lost since this mark; the next mark says how much time that was.
    lost: Option<(u64, TimeMark)>,
}

impl Replica {
    pub(super) fn new(engine: Arc<Engine>, mount: Arc<Mount>, taken: super::mount::Taken) -> Self {
        Self {
            mount,
            engine,
            writer: taken.writer,
            generation: taken.generation,
            evicted: taken.evicted,
            lost: None,
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

    /// The next byte wanted: where the ring ends. `None` before the first one.
    pub fn position(&self) -> Option<Position> {
        let ring = self.mount.ring();
        (ring.epoch() != Epoch(0)).then(|| Position {
            epoch: ring.epoch(),
            offset: ring.end(),
        })
    }

    /// The parent answers: its bytes begin at `start` of `epoch`. Goes on in the same ring where the epoch is
    /// the same, with the gap counted; else a new ring takes over.
    pub fn begin(&mut self, epoch: Epoch, start: u64, content: Content) {
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
        }
        self.engine.announce();
    }

    /// A section begins (or began, before the window) at `offset`.
    pub fn section(&mut self, offset: u64, section: Section) {
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
    pub fn title(&mut self, offset: u64, text: &str) {
        let Some(writer) = &mut self.writer else {
            return;
        };
        let known = writer.ring().with_indexes(|i| {
            i.titles.back().is_some_and(|last| {
                last.offset > offset || (last.offset == offset && *last.text == *text)
            })
        });
        if !known {
            writer.title_at(offset, text);
        }
    }

    /// An edge with its time.
    pub fn time(&mut self, mark: TimeMark) {
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

    /// Bytes. What is there already is left out; what is missing before them is counted as a gap.
    pub fn data(&mut self, offset: u64, bytes: &[u8], now: Instant) {
        let Some(writer) = &mut self.writer else {
            return;
        };
        let end = writer.ring().end();
        if offset > end {
            let gap = offset - end;
            self.mount.counters.add_gap(gap);
            let before = writer.ring().with_indexes(|i| i.times.back().copied());
            let (lost, since) = self
                .lost
                .map_or((0, before), |(lost, since)| (lost, Some(since)));
            self.lost = since.map(|since| (lost + gap, since));
            writer.skip_to(offset);
        }
        let known = usize::try_from(end.saturating_sub(offset)).unwrap_or(usize::MAX);
        let fresh = if offset > end {
            bytes
        } else {
            bytes.get(known..).unwrap_or(&[])
        };
        let was_empty = end == writer.ring().start();
        writer.append(fresh, 0);
        if was_empty {
            // Those who wait for the mount to play look again.
            self.engine.announce();
        }
        self.mount.counters.add_received(fresh.len() as u64);
        self.mount.note_byte(now);
    }
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
