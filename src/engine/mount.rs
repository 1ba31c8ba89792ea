//! A mount: its ring now, what it says of itself, and whether anybody feeds it.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio_util::sync::CancellationToken;

use super::format::Section;
use super::ring::{Bounds, Closed, Ring, Writer};
use crate::base::ids::{Epoch, MountId};
use crate::telemetry::MountCounters;
use crate::wire::title::Title;

/// Bits a second of a mount that has just begun, and whose headers do not say.
const UNKNOWN: u64 = 128_000;

/// Media over which the rate of a mount is measured.
const MEASURED: Duration = Duration::from_secs(60);

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
    /// Bytes come that listeners can play.
    Live,
    /// None come; listeners are held until the hold is over.
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
    /// Bits a second that the first frame or the headers say, 0 for none.
    found: AtomicU64,
    /// Bits a second of the last minute, 0 before there is enough to tell.
    measured: AtomicU64,
    bounds: Bounds,
    /// Whether its source sends silence: see [`Mount::is_silent`].
    silence: AtomicU8,
    started: Instant,
    /// Milliseconds after `started` at which the last byte came.
    last_byte: AtomicU64,
    /// A replica has what its parent had when it began once the ring ends here; 0 where nothing is waited for.
    fill_to: AtomicU64,
    /// True once a byte of the feeder has come.
    flows: AtomicBool,
    slot: Mutex<Slot>,
}

#[derive(Debug)]
struct Slot {
    feed: Feed,
    /// Grows with every feeder, so that one that was replaced cannot end its successor.
    generation: u64,
    feeder: Option<Feeder>,
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
    /// The writer of the ring so far, if its last feeder gave it back.
    pub writer: Option<Writer>,
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
            measured: AtomicU64::new(0),
            content: ArcSwap::from_pointee(content),
            bounds,
            silence: AtomicU8::new(0),
            started: now,
            last_byte: AtomicU64::new(0),
            fill_to: AtomicU64::new(0),
            flows: AtomicBool::new(false),
            slot: Mutex::new(Slot {
                feed: Feed::Held {
                    writer: None,
                    since: now,
                },
                generation: 0,
                feeder: None,
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
            // A feeder of which no byte has come yet changes nothing for the listeners.
            Feed::Fed(_) if self.flows.load(Ordering::Relaxed) => MountState::Live,
            Feed::Fed(_) | Feed::Held { .. } => MountState::Held,
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

    /// True once a listener can be served: there are bytes and a decoder setup for them, and a replica has caught up with
    /// its parent. The burst of one who came before would be all that the ring still gets.
    pub fn is_playable(&self) -> bool {
        let ring = self.ring.load();
        let end = ring.end();
        ring.closed() != Closed::Ended
            && end > ring.start()
            && end >= self.fill_to.load(Ordering::Relaxed)
            && ring.section().is_some()
    }

    /// The ring is being filled up to `offset`.
    pub(super) fn fill_to(&self, offset: u64) {
        self.fill_to.store(offset, Ordering::Relaxed);
    }

    /// Who feeds it, or fed it last.
    pub fn feeder(&self) -> Option<Feeder> {
        self.slot().feeder.clone()
    }

    /// How long no byte has come that listeners can play.
    pub fn idle(&self, now: Instant) -> Duration {
        let last = Duration::from_millis(self.last_byte.load(Ordering::Relaxed));
        now.saturating_duration_since(self.started + last)
    }

    /// The title in effect at the live edge.
    pub fn title(&self) -> Option<Arc<Title>> {
        self.ring
            .load()
            .with_indexes(|i| i.titles.back().map(|mark| Arc::clone(&mark.title)))
    }

    /// Bits a second as the source declared them, else as they are measured, 0 where unknown. Every visit of the fan-out
    /// asks.
    pub fn bitrate(&self) -> u64 {
        match self.declared.load(Ordering::Relaxed) {
            0 => self.sent_rate(),
            declared => declared,
        }
    }

    /// [`Self::bitrate`] in kilobits, rounded.
    pub fn kilobits(&self) -> u64 {
        self.bitrate().saturating_add(500) / 1000
    }

    /// Bits a second that a listener must be expected to take: what was declared, or more where more is sent. Never 0.
    pub fn committed_rate(&self) -> u64 {
        match self.declared.load(Ordering::Relaxed).max(self.sent_rate()) {
            0 => UNKNOWN,
            known => known,
        }
    }

    /// The mean of the last minute; before there is one, what the first frame or the headers say.
    fn sent_rate(&self) -> u64 {
        match self.measured.load(Ordering::Relaxed) {
            0 => self.found.load(Ordering::Relaxed),
            measured => measured,
        }
    }

    /// Measures the rate anew. To be called a few times a second.
    pub(super) fn measure(&self) {
        let rate = self.ring.load().rate(MEASURED);
        self.measured.store(rate, Ordering::Relaxed);
    }

    /// A section has begun.
    pub(super) fn note_section(&self, section: &Section) {
        self.found
            .store(u64::from(section.bitrate), Ordering::Relaxed);
    }

    pub(super) fn note_byte(&self, now: Instant) {
        let millis = now.saturating_duration_since(self.started).as_millis();
        self.last_byte
            .store(u64::try_from(millis).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.flows.store(true, Ordering::Relaxed);
    }

    /// Takes the mount for a feeder, whose token is cancelled when another one takes over; the one that had it is evicted.
    /// `None` where it has ended.
    pub(super) fn take(&self, feeder: Feeder, evicted: CancellationToken) -> Option<Taken> {
        let mut slot = self.slot();
        let writer = match &mut slot.feed {
            Feed::Ended => return None,
            Feed::Fed(other) => {
                other.cancel();
                None
            }
            Feed::Held { writer, .. } => writer.take(),
        };
        slot.feed = Feed::Fed(evicted);
        self.flows.store(false, Ordering::Relaxed);
        slot.generation += 1;
        slot.feeder = Some(feeder);
        Some(Taken {
            generation: slot.generation,
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
        self.fill_to(0);
        let old = self.ring.swap(Arc::clone(writer.ring()));
        old.close(Closed::Replaced);
        writer
    }

    pub(super) fn set_content(&self, content: Content) {
        self.declared
            .store(declared_bits(&content), Ordering::Relaxed);
        self.content.store(Arc::new(content));
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
