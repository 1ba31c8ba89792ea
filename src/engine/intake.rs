//! The way in at the origin: a source's bytes become whole frames with addresses.
//!
//! A source that is connected has a claim (`engine::claims`). It feeds its mount from the first frame on that a listener can
//! play, and gives it back while nothing of what comes can be played: `hold` and the fallback begin then.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::Engine;
use super::claims::Claim;
use super::format::{self, Detector, Framer as _, Tally, Unplayable};
use super::mount::{Content, Feeder, Mount};
use super::sink::Sink;
use crate::base::ids::MountId;
use crate::telemetry::MountCounters;
use crate::wire::title::Title;

/// Bytes of tags and headers without any media that are waited for: two of the largest, since a song may end with one and
/// the next begin with another.
const WITHOUT_MEDIA: u64 = 2 * format::LARGEST_HEADER as u64 + format::GARBAGE;

/// What a source says before its first byte.
#[derive(Debug, Clone)]
pub struct Offer {
    /// As sent; empty means `audio/mpeg`, as Icecast takes it.
    pub content_type: String,
    /// All `icy-*` and `ice-*` headers, lower-case names.
    pub headers: Vec<(String, String)>,
    /// The encoder's address.
    pub address: IpAddr,
    /// The encoder's `User-Agent`.
    pub agent: String,
    /// How long a source that has the mount must have been silent to lose it.
    pub stale: Duration,
}

/// Why a source was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Nothing here plays this type.
    #[error(
        "content type `{0}` is no audio: send audio/mpeg, audio/aac, application/ogg or another audio type"
    )]
    Unsupported(String),
    /// Another source has the mount and still sends.
    #[error("mount in use: its source sent its last byte {} ms ago; stop it, or wait until it is stale", idle.as_millis())]
    InUse {
        /// Since when it is silent.
        idle: Duration,
    },
    /// `max_sources` is reached.
    #[error("too many sources connected: {0} of {0}; raise `max_sources`, or stop one")]
    TooMany(usize),
}

/// Why a source's bytes are taken no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    /// Another source took the mount over, or it was ended by an operator.
    #[error("replaced by another source")]
    Evicted,
    /// No frame of the declared type in 64 KiB; see [`Tally::lost`].
    #[error("64 KiB came without a frame of the declared content type; they look like {0}")]
    Garbage(&'static str),
    /// Bytes of the format, and nothing of them can be played.
    #[error("nothing can be played of what came: {0}")]
    Unplayable(Unplayable),
    /// Tags and headers without end.
    #[error("nothing but tags and headers came, 32 MiB of them")]
    NoMedia,
}

/// A source's hold on its mount; dropping it gives the mount back, and its listeners are held.
pub struct Intake {
    detector: Detector,
    sink: Sink,
    engine: Arc<Engine>,
    counters: Arc<MountCounters>,
    /// Bytes since the last media.
    since_media: u64,
    media_at: Option<Instant>,
}

impl Intake {
    pub(super) fn new(engine: Arc<Engine>, claim: Claim, offer: Offer) -> Result<Self, OpenError> {
        let limit = engine.header_limit();
        let detector = Detector::new(&offer.content_type, limit)
            .ok_or_else(|| OpenError::Unsupported(offer.content_type.clone()))?;
        let content = Content {
            content_type: format::normalise_content_type(&offer.content_type),
            headers: offer.headers,
        };
        let counters = engine.telemetry.mount(claim.id());
        Ok(Self {
            detector,
            sink: Sink::new(Arc::clone(&engine), claim, content),
            engine,
            counters,
            since_media: 0,
            media_at: None,
        })
    }

    /// Name of its mount.
    pub fn id(&self) -> &MountId {
        self.sink.claim().id()
    }

    /// The mount that it feeds; `None` while nothing of what comes can be played.
    pub fn mount(&self) -> Option<&Arc<Mount>> {
        self.sink.mount()
    }

    /// Cancelled when this source has lost its mount.
    pub fn evicted(&self) -> &CancellationToken {
        self.sink.claim().evicted()
    }

    /// True once a whole frame was found.
    pub fn has_media(&self) -> bool {
        self.media_at.is_some()
    }

    /// Time without a byte that belongs to the format: a frame, a page, a tag.
    pub fn idle(&self, now: Instant) -> Duration {
        self.sink.claim().idle(now)
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// See [`PushError`]; the source is to be ended then.
    pub fn push(&mut self, bytes: &[u8], now: Instant, wall_millis: u64) -> Result<(), PushError> {
        if self.evicted().is_cancelled() {
            return Err(PushError::Evicted);
        }
        let Self { detector, sink, .. } = self;
        sink.begin(now, wall_millis);
        let before = detector.tally();
        detector.push(bytes, &mut |piece| sink.piece(piece));
        let after = detector.tally();
        self.counters.add_received(bytes.len() as u64);
        let skipped = after.skipped().saturating_sub(before.skipped());
        self.counters.add_skipped(skipped);
        if after.known() != before.known() {
            sink.claim().progress(now);
        }
        sink.apply_title();
        if sink.has_changed() {
            // Those who wait for the mount to play look again.
            self.engine.announce();
        }
        if after.found > before.found {
            self.since_media = 0;
            self.media_at = Some(now);
        } else {
            self.since_media = self.since_media.saturating_add(bytes.len() as u64);
        }
        self.judge(after, now)
    }

    /// Whether the source may go on.
    fn judge(&self, tally: Tally, now: Instant) -> Result<(), PushError> {
        if tally.lost >= format::GARBAGE {
            return Err(PushError::Garbage(self.detector.looks_like()));
        }
        if self.since_media >= WITHOUT_MEDIA {
            return Err(PushError::NoMedia);
        }
        let hold = self.engine.config.load().hold;
        let given_up = self
            .media_at
            .is_none_or(|at| now.saturating_duration_since(at) >= hold);
        match self.sink.unplayable() {
            // Listeners of a mount that played are held first, as if the source were gone.
            Some(why) if given_up && tally.unheard >= format::GARBAGE => {
                Err(PushError::Unplayable(why))
            }
            _ => Ok(()),
        }
    }

    /// Sets the title in effect from here on.
    pub fn title(&mut self, title: Title) {
        self.sink.claim().put_title(title);
        self.sink.apply_title();
    }
}

impl Drop for Intake {
    fn drop(&mut self) {
        self.sink.let_go();
        self.engine.announce();
    }
}

impl Offer {
    pub(super) fn feeder(&self) -> Feeder {
        Feeder {
            address: Some(self.address),
            agent: self.agent.clone(),
            since_unix_millis: crate::base::wall::unix_millis(),
        }
    }
}
