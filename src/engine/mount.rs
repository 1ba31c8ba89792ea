//! A mount: its ring now, what it says of itself, and whether anybody feeds it.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio_util::sync::CancellationToken;

use super::format::{Section, ogg};
use super::ring::{Bounds, Closed, Ring, Writer};
use crate::base::ids::{Epoch, MountId};
use crate::telemetry::MountCounters;

/// What a mount says of itself; carried from the source to every listener and every relay.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Content {
    /// Normalised, without parameters.
    pub content_type: String,
    /// `icy-*` and `ice-*` of the source: lower-case names, cleaned values.
    pub headers: Vec<(String, String)>,
}

impl Content {
    /// The value of a carried header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }
}

/// Who feeds a mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feeder {
    /// The encoder's or the parent's address.
    pub address: Option<IpAddr>,
    /// Its `User-Agent`, or the parent's name.
    pub agent: String,
    /// Since when, in milliseconds since 1970.
    pub since_unix_millis: u64,
}

/// Where a mount stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MountState {
    /// Bytes come.
    Live,
    /// Its feeder went; listeners are held until the hold is over.
    Held,
    /// It is over.
    Ended,
}

impl MountState {
    /// The word in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Held => "held",
            Self::Ended => "ended",
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Mount {
    /// Its name.
    pub id: MountId,
    /// Its counters.
    pub counters: Arc<MountCounters>,
    ring: ArcSwap<Ring>,
    content: ArcSwap<Content>,
    /// Bits a second that the source declared, 0 for none.
    declared: AtomicU64,
    /// Bits a second that the framer found, 0 for none.
    found: AtomicU64,
    /// Artist and title of its section's comments, in Ogg.
    tags: ArcSwapOption<ogg::Tags>,
    bounds: Bounds,
    /// Whether its source sends silence: see [`Mount::is_silent`].
    silence: AtomicU8,
    started: Instant,
    /// Milliseconds after `started` at which the last byte came.
    last_byte: AtomicU64,
    slot: Mutex<Slot>,
}

#[derive(Debug)]
struct Slot {
    feed: Feed,
    /// Grows with every feeder, so that one that was replaced cannot end its successor.
    generation: u64,
    feeder: Option<Feeder>,
    /// A title that came before the first byte.
    pending_title: Option<String>,
}

#[derive(Debug)]
enum Feed {
    Fed(CancellationToken),
    /// The writer waits here for the next feeder.
    Held {
        writer: Option<Writer>,
        since: Instant,
    },
    Ended,
}

/// A feeder's hold on its mount, from [`Mount::take`].
#[derive(Debug)]
pub(super) struct Taken {
    pub generation: u64,
    /// Cancelled when another feeder takes over.
    pub evicted: CancellationToken,
    /// The writer of the ring so far, if its last feeder gave it back.
    pub writer: Option<Writer>,
}

/// Why a mount cannot be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TakeError {
    InUse { idle: Duration },
    Ended,
}

impl Mount {
    /// A mount that nobody feeds yet; it begins in its hold.
    pub(super) fn new(
        id: MountId,
        counters: Arc<MountCounters>,
        content: Content,
        bounds: Bounds,
        now: Instant,
    ) -> Self {
        let writer = Ring::begin(Epoch(0), 0, bounds);
        Self {
            id,
            counters,
            ring: ArcSwap::new(Arc::clone(writer.ring())),
            declared: AtomicU64::new(declared_bits(&content)),
            found: AtomicU64::new(0),
            content: ArcSwap::from_pointee(content),
            tags: ArcSwapOption::empty(),
            bounds,
            silence: AtomicU8::new(0),
            started: now,
            last_byte: AtomicU64::new(0),
            slot: Mutex::new(Slot {
                feed: Feed::Held {
                    writer: None,
                    since: now,
                },
                generation: 0,
                feeder: None,
                pending_title: None,
            }),
        }
    }

    /// The ring that newcomers read.
    pub fn ring(&self) -> Arc<Ring> {
        self.ring.load_full()
    }

    /// What it says of itself.
    pub fn content(&self) -> Arc<Content> {
        self.content.load_full()
    }

    /// Where it stands.
    pub fn state(&self) -> MountState {
        match self.slot().feed {
            Feed::Fed(_) => MountState::Live,
            Feed::Held { .. } => MountState::Held,
            Feed::Ended => MountState::Ended,
        }
    }

    /// True while its source sends silence; none where nobody listens to that.
    pub fn is_silent(&self) -> Option<bool> {
        match self.silence.load(Ordering::Relaxed) {
            1 => Some(false),
            2 => Some(true),
            _ => None,
        }
    }

    /// Notes what [`Mount::is_silent`] tells.
    pub fn set_silent(&self, silent: bool) {
        self.silence.store(1 + u8::from(silent), Ordering::Relaxed);
    }

    /// True once a listener can be served: there are bytes and a decoder setup for them.
    pub fn is_playable(&self) -> bool {
        let ring = self.ring.load();
        ring.closed() != Closed::Ended && ring.end() > ring.start() && ring.section().is_some()
    }

    /// Who feeds it, or fed it last.
    pub fn feeder(&self) -> Option<Feeder> {
        self.slot().feeder.clone()
    }

    /// How long no byte has come.
    pub fn idle(&self, now: Instant) -> Duration {
        let last = Duration::from_millis(self.last_byte.load(Ordering::Relaxed));
        now.saturating_duration_since(self.started + last)
    }

    /// The title in effect at the live edge.
    pub fn title(&self) -> Option<Arc<str>> {
        self.ring
            .load()
            .with_indexes(|i| i.titles.back().map(|mark| Arc::clone(&mark.text)))
    }

    /// Artist and title as the comments of its Ogg section have them; a title that was set since is not among them.
    pub fn tags(&self) -> Option<Arc<ogg::Tags>> {
        self.tags.load_full()
    }

    /// Bits a second as the source declared or the framer found, 0 where unknown. Every visit of the fan-out asks.
    pub fn bitrate(&self) -> u64 {
        match self.declared.load(Ordering::Relaxed) {
            0 => self.found.load(Ordering::Relaxed),
            declared => declared,
        }
    }

    /// A section has begun.
    pub(super) fn note_section(&self, section: &Section) {
        self.found
            .store(u64::from(section.bitrate), Ordering::Relaxed);
        let is_ogg = section.params.codec.is_ogg();
        let tags = is_ogg.then(|| ogg::comment_tags(&section.header)).flatten();
        self.tags.store(tags.map(Arc::new));
    }

    pub(super) fn note_byte(&self, now: Instant) {
        let millis = now.saturating_duration_since(self.started).as_millis();
        self.last_byte
            .store(u64::try_from(millis).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Takes the mount for a feeder. One that had it is evicted if it has been silent for `stale`.
    pub(super) fn take(
        &self,
        feeder: Feeder,
        stale: Duration,
        now: Instant,
    ) -> Result<Taken, TakeError> {
        let mut slot = self.slot();
        let writer = match &mut slot.feed {
            Feed::Ended => return Err(TakeError::Ended),
            Feed::Fed(evicted) => {
                let idle = self.idle(now);
                if idle < stale {
                    return Err(TakeError::InUse { idle });
                }
                evicted.cancel();
                None
            }
            Feed::Held { writer, .. } => writer.take(),
        };
        let evicted = CancellationToken::new();
        slot.feed = Feed::Fed(evicted.clone());
        slot.generation += 1;
        slot.feeder = Some(feeder);
        self.note_byte(now);
        Ok(Taken {
            generation: slot.generation,
            evicted,
            writer,
        })
    }

    /// A feeder gives the mount back; listeners are held from its last byte on.
    pub(super) fn give_back(&self, generation: u64, writer: Option<Writer>, now: Instant) {
        let mut slot = self.slot();
        if slot.generation == generation && matches!(slot.feed, Feed::Fed(_)) {
            let since = now.checked_sub(self.idle(now)).unwrap_or(now);
            slot.feed = Feed::Held { writer, since };
        }
    }

    /// True where its hold is over, or it has ended.
    pub(super) fn is_over(&self, hold: Duration, now: Instant) -> bool {
        match &self.slot().feed {
            Feed::Held { since, .. } => now.saturating_duration_since(*since) >= hold,
            Feed::Ended => true,
            Feed::Fed(_) => false,
        }
    }

    /// Ends the mount: its feeder is evicted, its listeners get a clean end.
    pub(super) fn end(&self) {
        let before = std::mem::replace(&mut self.slot().feed, Feed::Ended);
        if let Feed::Fed(evicted) = before {
            evicted.cancel();
        }
        self.ring.load().close(Closed::Ended);
    }

    /// Keeps the name and the counters of a mount that has ended, and not its bytes; who still reads them holds
    /// them.
    pub(super) fn let_bytes_go(&self) {
        let old = self.ring.load_full();
        let mut empty = Ring::begin(old.epoch(), old.end(), self.bounds);
        if let Some(section) = old.section() {
            // Who came in this very moment still has to know whether its fallback fits.
            empty.section_at(old.end(), section);
        }
        empty.ring().close(Closed::Ended);
        self.ring.store(Arc::clone(empty.ring()));
    }

    /// A ring for a new epoch; the old one ends as replaced.
    pub(super) fn start_epoch(&self, epoch: Epoch, start: u64) -> Writer {
        let writer = Ring::begin(epoch, start, self.bounds);
        let old = self.ring.swap(Arc::clone(writer.ring()));
        old.close(Closed::Replaced);
        writer
    }

    pub(super) fn set_content(&self, content: Content) {
        self.declared
            .store(declared_bits(&content), Ordering::Relaxed);
        self.content.store(Arc::new(content));
    }

    pub(super) fn put_title(&self, title: String) {
        self.slot().pending_title = Some(title);
    }

    pub(super) fn take_title(&self) -> Option<String> {
        self.slot().pending_title.take()
    }

    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the source says of its rate, which is in kilobits.
fn declared_bits(content: &Content) -> u64 {
    let text = content
        .header("icy-br")
        .or_else(|| content.header("ice-bitrate"));
    let first = text.and_then(|text| text.split(',').next());
    let kilobits = first.and_then(|first| first.trim().parse::<u64>().ok());
    kilobits.unwrap_or(0).saturating_mul(1000)
}
