//! The last minute of one epoch of one mount, by absolute offset: one writer, any number of readers, no copy
//! for a reader and no wait for the writer.
//!
//! Must never: hold a socket, read the clock, or know a listener. [`Writer`] is held by `engine::intake` or
//! `engine::replica`; `engine::fanout` and the cluster's stream read.

mod chain;
mod index;
mod segment;

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use tokio::sync::Notify;

pub use chain::{Chain, Standing};
pub use index::{Indexes, SectionMark, TimeMark, TitleMark};
pub use segment::{SEGMENT, Segment};

use super::format::Section;
use crate::base::ids::Epoch;
use crate::wire::title::Title;

/// How much a ring keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Media time kept (default 60 s).
    pub window: Duration,
    /// Bytes kept at most (default 32 MiB).
    pub max_bytes: u64,
}

/// What a newcomer is given at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Burst {
    /// At most this many bytes (default 64 KiB) …
    pub bytes: u64,
    /// … and at most this much media (default 10 s) …
    pub longest: Duration,
    /// … but never less media than this (2 s), whatever it takes in bytes.
    pub shortest: Duration,
}

/// Why a ring grows no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Closed {
    /// It may still grow.
    Open = 0,
    /// The mount ended.
    Ended = 1,
    /// Another epoch took its place.
    Replaced = 2,
}

/// See the module.
#[derive(Debug)]
pub struct Ring {
    epoch: Epoch,
    chain: ArcSwap<Chain>,
    indexes: RwLock<Indexes>,
    media_micros: AtomicU64,
    /// Offset of the newest title plus one, 0 for none: lets readers skip the lock.
    newest_title: AtomicU64,
    /// Where the bytes went on after the last gap, 0 before any.
    gap_end: AtomicU64,
    closed: AtomicU8,
    appended: Notify,
    bounds: Bounds,
}

impl Ring {
    /// An empty ring whose first byte will be `start`, and its only writer.
    pub fn begin(epoch: Epoch, start: u64, bounds: Bounds) -> Writer {
        let chain = Chain {
            segments: vec![Arc::new(Segment::new(start))],
        };
        let ring = Arc::new(Self {
            epoch,
            chain: ArcSwap::from_pointee(chain),
            indexes: RwLock::default(),
            media_micros: AtomicU64::new(0),
            newest_title: AtomicU64::new(0),
            gap_end: AtomicU64::new(0),
            closed: AtomicU8::new(Closed::Open as u8),
            appended: Notify::new(),
            bounds,
        });
        Writer { ring }
    }

    /// The numbering of these bytes.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The chain as it is now; bytes that are appended to its last segment later show in it too.
    pub fn chain(&self) -> Guard<Arc<Chain>> {
        self.chain.load()
    }

    /// The same to be kept: its segments stay as long as it is held.
    pub fn pinned(&self) -> Arc<Chain> {
        self.chain.load_full()
    }

    /// Offset after the newest byte.
    pub fn end(&self) -> u64 {
        self.chain.load().end()
    }

    /// Offset of the oldest byte.
    pub fn start(&self) -> u64 {
        self.chain.load().start()
    }

    /// How a reader at `offset` stands.
    pub fn standing(&self, offset: u64) -> Standing {
        self.chain.load().standing(offset)
    }

    /// Media time written so far, in microseconds.
    pub fn media_micros(&self) -> u64 {
        self.media_micros.load(Ordering::Relaxed)
    }

    /// Why it grows no more, or that it may.
    pub fn closed(&self) -> Closed {
        match self.closed.load(Ordering::Acquire) {
            1 => Closed::Ended,
            2 => Closed::Replaced,
            _ => Closed::Open,
        }
    }

    /// Ends the ring; readers that reach its end see why. The first reason stays.
    pub fn close(&self, why: Closed) {
        let open = Closed::Open as u8;
        let _ = self
            .closed
            .compare_exchange(open, why as u8, Ordering::AcqRel, Ordering::Acquire);
        self.appended.notify_waiters();
    }

    /// Completes when bytes or a title are appended or the ring is closed. Make it before looking, await it
    /// after.
    pub fn changed(&self) -> tokio::sync::futures::Notified<'_> {
        self.appended.notified()
    }

    /// Looks at the indexes. Short: the writer waits for it.
    pub fn with_indexes<T>(&self, look: impl FnOnce(&Indexes) -> T) -> T {
        let guard = self
            .indexes
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        look(&guard)
    }

    /// Offset of the newest title plus one, 0 where there is none.
    pub fn newest_title(&self) -> u64 {
        self.newest_title.load(Ordering::Acquire)
    }

    /// Where the bytes went on after the last gap: a reader that stood before it has not been slow. 0 before any.
    pub fn gap_end(&self) -> u64 {
        self.gap_end.load(Ordering::Acquire)
    }

    /// The decoder setup at the live edge.
    pub fn section(&self) -> Option<Arc<Section>> {
        self.with_indexes(|i| i.sections.back().map(|mark| Arc::clone(&mark.section)))
    }

    /// Where a newcomer starts, always at an edge, and how much media lies between there and the live edge.
    pub fn burst_start(&self, burst: Burst) -> (u64, Duration) {
        let end = self.end();
        let now = self.media_micros();
        let ahead = |mark: &TimeMark| Duration::from_micros(now.saturating_sub(mark.media_micros));
        self.with_indexes(|indexes| {
            let mut best = None;
            for mark in indexes.times.iter().rev() {
                let fits =
                    end.saturating_sub(mark.offset) <= burst.bytes && ahead(mark) <= burst.longest;
                let short = best.is_none_or(|b: TimeMark| ahead(&b) < burst.shortest);
                if !fits && !short {
                    break;
                }
                best = Some(*mark);
            }
            best.map_or((end, Duration::ZERO), |mark| (mark.offset, ahead(&mark)))
        })
    }

    /// Mean bits a second of the last `window` of media; 0 where less than a second is there.
    pub fn rate(&self, window: Duration) -> u64 {
        const ENOUGH: u64 = 1_000_000;
        let window = u64::try_from(window.as_micros()).unwrap_or(u64::MAX);
        self.with_indexes(|i| {
            let last = i.times.back()?;
            let since = last.media_micros.saturating_sub(window);
            let first = i.times.partition_point(|mark| mark.media_micros < since);
            let first = i.times.get(first)?;
            let micros = last.media_micros.checked_sub(first.media_micros)?;
            let bits = u128::from(last.offset.saturating_sub(first.offset)) * 8;
            let rate = (bits * 1_000_000).checked_div(micros.into())?;
            (micros >= ENOUGH).then(|| u64::try_from(rate).unwrap_or(u64::MAX))
        })
        .unwrap_or(0)
    }

    /// Where a listener goes on who has heard another mount until now: at the first edge where all that is here
    /// plays for less than `fresh`, else at the newest one.
    pub fn entry_edge(&self, fresh: Duration) -> Option<u64> {
        let (start, end, now) = (self.start(), self.end(), self.media_micros());
        self.with_indexes(|i| {
            let mut here = i.times.iter();
            let first = here.find(|m| (start..=end).contains(&m.offset))?;
            let played = Duration::from_micros(now.saturating_sub(first.media_micros));
            if played < fresh {
                return Some(first.offset);
            }
            let newest = i.times.iter().rev().find(|m| m.offset <= end);
            newest.map(|mark| mark.offset)
        })
    }

    /// The first edge at or after `offset`.
    pub fn edge_from(&self, offset: u64) -> Option<u64> {
        self.with_indexes(|i| {
            i.times
                .iter()
                .map(|m| m.offset)
                .find(|edge| *edge >= offset)
        })
    }
}

/// The one who fills a ring.
#[derive(Debug)]
pub struct Writer {
    ring: Arc<Ring>,
}

impl Writer {
    /// The ring, for readers.
    pub fn ring(&self) -> &Arc<Ring> {
        &self.ring
    }

    /// Appends bytes that play for `micros`.
    pub fn append(&mut self, mut bytes: &[u8], micros: u64) {
        while !bytes.is_empty() {
            let chain = self.ring.chain.load_full();
            // SAFETY: this is the only writer of the ring, and it is borrowed exclusively.
            let took = chain
                .segments
                .last()
                .map_or(0, |last| unsafe { last.append(bytes) });
            bytes = bytes.get(took..).unwrap_or(&[]);
            if !bytes.is_empty() {
                self.grow(&chain);
            }
        }
        self.ring.media_micros.fetch_add(micros, Ordering::Relaxed);
        self.ring.appended.notify_waiters();
    }

    /// Marks the next byte as the first of `section`.
    pub fn section(&mut self, section: Section) {
        let offset = self.ring.end();
        self.section_at(offset, Arc::new(section));
    }

    /// Marks `offset` as the first byte of `section` (a replica may learn of one that began before its
    /// window).
    pub fn section_at(&mut self, offset: u64, section: Arc<Section>) {
        let mark = SectionMark { offset, section };
        self.indexes(|i| i.add_section(mark));
    }

    /// Sets the title in effect from `offset`.
    pub fn title_at(&mut self, offset: u64, title: Title) {
        self.indexes(|i| i.add_title(offset, title));
        let seen = offset.saturating_add(1);
        self.ring.newest_title.store(seen, Ordering::Release);
        self.ring.appended.notify_waiters();
    }

    /// Marks an edge with its time.
    pub fn time(&mut self, mark: TimeMark) {
        self.indexes(|i| i.add_time(mark));
    }

    /// Sets the media time at the live edge: a replica takes it from the origin's marks.
    pub fn set_media_micros(&mut self, micros: u64) {
        self.ring.media_micros.store(micros, Ordering::Relaxed);
    }

    /// Goes on at `offset`, beyond the live edge: what lies between is lost and what was there is let go, so
    /// that the window never has a hole. Readers find themselves [`Standing::Behind`].
    pub fn skip_to(&mut self, offset: u64) {
        self.ring.gap_end.store(offset, Ordering::Release);
        self.ring.chain.store(Arc::new(Chain {
            segments: vec![Arc::new(Segment::new(offset))],
        }));
        self.indexes(|i| i.forget_before(offset));
    }

    fn indexes(&self, change: impl FnOnce(&mut Indexes)) {
        change(
            &mut self
                .ring
                .indexes
                .write()
                .unwrap_or_else(std::sync::PoisonError::into_inner),
        );
    }

    /// Adds a segment and lets go of those that the bounds allow no more.
    fn grow(&self, chain: &Chain) {
        let mut segments = chain.segments.clone();
        segments.push(Arc::new(Segment::new(chain.end())));
        let too_old = self.older_than_window();
        let most = usize::try_from(self.ring.bounds.max_bytes / SEGMENT as u64)
            .unwrap_or(usize::MAX)
            .max(2);
        let expired = segments
            .iter()
            .take_while(|s| s.base + SEGMENT as u64 <= too_old)
            .count();
        let excess = segments.len().saturating_sub(most);
        segments.drain(..expired.max(excess).min(segments.len() - 1));
        let next = Chain { segments };
        let start = next.start();
        self.ring.chain.store(Arc::new(next));
        self.indexes(|i| i.forget_before(start));
    }

    /// The newest edge that is older than the window: everything before it may go.
    fn older_than_window(&self) -> u64 {
        let window = u64::try_from(self.ring.bounds.window.as_micros()).unwrap_or(u64::MAX);
        let limit = self.ring.media_micros().saturating_sub(window);
        self.ring.with_indexes(|i| {
            i.times
                .iter()
                .rev()
                .find(|m| m.media_micros < limit)
                .map_or(0, |mark| mark.offset)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BOUNDS: Bounds = Bounds {
        window: Duration::from_secs(60),
        max_bytes: 4 * SEGMENT as u64,
    };
    const BURST: Burst = Burst {
        bytes: 64 * 1024,
        longest: Duration::from_secs(10),
        shortest: Duration::from_secs(2),
    };

    fn pattern(offset: u64) -> u8 {
        u8::try_from((offset * 31 + offset / 251) % 256).unwrap()
    }

    fn fill(writer: &mut Writer, count: u64) {
        let from = writer.ring().end();
        let bytes: Vec<u8> = (from..from + count).map(pattern).collect();
        writer.append(&bytes, 0);
    }

    /// 128 kbit/s: a frame of 400 bytes every 25 ms, an edge at each.
    fn play(writer: &mut Writer, frames: u64) {
        for _ in 0..frames {
            let mark = TimeMark {
                offset: writer.ring().end(),
                media_micros: writer.ring().media_micros(),
                wall_millis: 0,
            };
            writer.time(mark);
            fill(writer, 400);
            writer.set_media_micros(mark.media_micros + 25_000);
        }
    }

    proptest! {
        #[test]
        fn any_interleaving_reads_a_contiguous_run_or_behind(
            steps in proptest::collection::vec((any::<bool>(), 1_u64..90_000), 1..60)
        ) {
            let mut writer = Ring::begin(Epoch(1), 7, BOUNDS);
            let ring = Arc::clone(writer.ring());
            let mut cursor = 7;
            for (write, amount) in steps {
                if write {
                    fill(&mut writer, amount);
                    continue;
                }
                match ring.standing(cursor) {
                    Standing::Behind => {
                        prop_assert!(cursor < ring.start());
                        cursor = ring.start();
                    }
                    Standing::Wait => prop_assert_eq!(cursor, ring.end()),
                    Standing::Data => {
                        let chain = ring.chain();
                        let slice = chain.slice_at(cursor);
                        prop_assert!(!slice.is_empty());
                        let take = slice.len().min(usize::try_from(amount).unwrap());
                        for (at, byte) in slice.iter().take(take).enumerate() {
                            prop_assert_eq!(*byte, pattern(cursor + at as u64));
                        }
                        cursor += take as u64;
                    }
                }
            }
        }
    }

    #[test]
    fn the_window_is_bounded_by_bytes_and_by_time() {
        let mut writer = Ring::begin(Epoch(1), 0, BOUNDS);
        fill(&mut writer, 20 * SEGMENT as u64);
        assert!(writer.ring().end() - writer.ring().start() <= BOUNDS.max_bytes);

        let wide = Bounds {
            window: Duration::from_secs(60),
            max_bytes: u64::MAX,
        };
        let mut writer = Ring::begin(Epoch(1), 0, wide);
        play(&mut writer, 40 * 300);
        let kept = writer.ring().end() - writer.ring().start();
        let minute = 40 * 60 * 400;
        assert!(
            (minute..minute + 2 * SEGMENT as u64).contains(&kept),
            "{kept}"
        );
    }

    #[test]
    fn a_burst_starts_at_an_edge_within_its_bounds() {
        let mut writer = Ring::begin(
            Epoch(1),
            0,
            Bounds {
                max_bytes: u64::MAX,
                ..BOUNDS
            },
        );
        assert_eq!(writer.ring().burst_start(BURST), (0, Duration::ZERO));
        play(&mut writer, 40);
        assert_eq!(
            writer.ring().burst_start(BURST),
            (0, Duration::from_secs(1))
        );
        play(&mut writer, 40 * 59);
        let (start, ahead) = writer.ring().burst_start(BURST);
        assert_eq!(start % 400, 0);
        assert!(writer.ring().end() - start <= 65_536);
        assert!(ahead > Duration::from_secs(4) && ahead < Duration::from_secs(5));
        let tiny = Burst {
            bytes: 1000,
            ..BURST
        };
        assert_eq!(writer.ring().burst_start(tiny).1, Duration::from_secs(2));
    }

    #[test]
    fn indexes_keep_what_is_still_in_effect() {
        let mut writer = Ring::begin(Epoch(1), 0, BOUNDS);
        writer.title_at(0, Title::of("one"));
        fill(&mut writer, 5);
        writer.title_at(5, Title::of("two"));
        fill(&mut writer, 20 * SEGMENT as u64);
        writer.title_at(writer.ring().end(), Title::of("three"));
        let start = writer.ring().start();
        let texts = writer.ring().with_indexes(|i| {
            (
                i.title_at(start).unwrap().title.text.clone(),
                i.titles.len(),
            )
        });
        assert_eq!(texts, ("two".to_string(), 2));
    }

    #[test]
    fn a_skip_leaves_no_hole() {
        let mut writer = Ring::begin(Epoch(1), 0, BOUNDS);
        fill(&mut writer, 100);
        writer.skip_to(500);
        assert_eq!(writer.ring().standing(100), Standing::Behind);
        assert_eq!(writer.ring().standing(500), Standing::Wait);
        fill(&mut writer, 10);
        assert_eq!(writer.ring().chain().slice_at(500).len(), 10);
    }

    #[test]
    fn the_rate_is_the_mean_of_the_last_while() {
        let mut writer = Ring::begin(Epoch(1), 0, BOUNDS);
        let mut second = |number: u64, bytes: usize| {
            let offset = writer.ring().end();
            writer.time(TimeMark {
                offset,
                media_micros: number * 1_000_000,
                wall_millis: 0,
            });
            writer.append(&vec![0; bytes], 1_000_000);
            writer.ring().rate(Duration::from_secs(10))
        };
        assert_eq!((second(0, 1_000), second(1, 1_000)), (0, 8_000));
        assert_eq!(second(2, 1_000), 8_000);
        let rates: Vec<u64> = (3..20).map(|number| second(number, 3_000)).collect();
        assert!(rates.is_sorted() && rates[2] < 24_000, "{rates:?}");
        assert_eq!(rates[16], 24_000);
    }

    #[test]
    fn readers_on_other_threads_see_whole_bytes() {
        let mut writer = Ring::begin(Epoch(1), 0, BOUNDS);
        let ring = Arc::clone(writer.ring());
        let reader = std::thread::spawn(move || {
            let mut cursor = 0;
            while cursor < 3 * SEGMENT as u64 {
                let chain = ring.chain();
                for byte in chain.slice_at(cursor) {
                    assert_eq!(*byte, pattern(cursor));
                    cursor += 1;
                }
            }
        });
        for _ in 0..3 * SEGMENT / 64 {
            fill(&mut writer, 64);
        }
        reader.join().unwrap();
    }
}
