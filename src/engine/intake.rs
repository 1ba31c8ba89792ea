//! The way in at the origin: a source's bytes become whole frames with addresses.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::format::{self, Codec, Framer, Piece, Section};
use super::mount::{Content, Feeder, Mount};
use super::ring::{TimeMark, Writer};
use super::{Engine, EpochClock};

/// Media between two marks of the time index, at most (where the format has edges that often).
const MARK_EVERY: Duration = Duration::from_millis(250);

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
    /// No frame of the declared type in 64 KiB; see [`Framer::lost`].
    #[error("no frame of the declared content type in 64 KiB")]
    Garbage,
}

/// A source's hold on its mount; dropping it gives the mount back, and its listeners are held.
pub struct Intake {
    framer: Box<dyn Framer>,
    announced: bool,
    sink: Sink,
    engine: Arc<Engine>,
    generation: u64,
    evicted: CancellationToken,
}

struct Sink {
    mount: Arc<Mount>,
    epochs: Arc<EpochClock>,
    /// `None` until the first section says whether the ring so far can go on.
    writer: Option<Writer>,
    /// True until this source's first section.
    first: bool,
    codec: Codec,
    same_type: bool,
    content: Content,
    marked: Option<u64>,
    wall_millis: u64,
    /// For formats without media time: what passed since the last push.
    elapsed_micros: u64,
}

impl Intake {
    pub(super) fn new(
        engine: Arc<Engine>,
        mount: Arc<Mount>,
        offer: Offer,
        taken: super::mount::Taken,
    ) -> Result<Self, OpenError> {
        let framer = format::for_content_type(&offer.content_type)
            .ok_or_else(|| OpenError::Unsupported(offer.content_type.clone()))?;
        let content = Content {
            content_type: format::normalise_content_type(&offer.content_type),
            headers: offer.headers,
        };
        let same_type = mount.content().content_type == content.content_type;
        let epochs = Arc::clone(engine.epochs());
        let sink = Sink {
            mount,
            epochs,
            writer: taken.writer,
            first: true,
            codec: Codec::Opaque,
            same_type,
            content,
            marked: None,
            wall_millis: 0,
            elapsed_micros: 0,
        };
        Ok(Self {
            framer,
            announced: false,
            sink,
            engine,
            generation: taken.generation,
            evicted: taken.evicted,
        })
    }

    /// The mount.
    pub fn mount(&self) -> &Arc<Mount> {
        &self.sink.mount
    }

    /// Cancelled when this source has lost its mount.
    pub fn evicted(&self) -> &CancellationToken {
        &self.evicted
    }

    /// True once a whole frame was found.
    pub fn has_media(&self) -> bool {
        self.framer.found() > 0
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// See [`PushError`]; the source is to be ended then.
    pub fn push(&mut self, bytes: &[u8], now: Instant, wall_millis: u64) -> Result<(), PushError> {
        if self.evicted.is_cancelled() {
            return Err(PushError::Evicted);
        }
        let Self { framer, sink, .. } = self;
        let elapsed = sink.mount.idle(now).as_micros();
        sink.elapsed_micros = u64::try_from(elapsed).unwrap_or(0);
        sink.wall_millis = wall_millis;
        let skipped = framer.skipped();
        framer.push(bytes, &mut |piece| sink.piece(piece));
        let counters = &sink.mount.counters;
        counters.add_received(bytes.len() as u64);
        counters.add_skipped(framer.skipped() - skipped);
        sink.mount.note_byte(now);
        sink.apply_title();
        if !self.announced && self.framer.found() > 0 {
            // Those who wait for the mount to play look again.
            self.announced = true;
            self.engine.announce();
        }
        if self.framer.lost() >= format::GARBAGE {
            return Err(PushError::Garbage);
        }
        Ok(())
    }

    /// Sets the title in effect from here on.
    pub fn title(&mut self, title: &str) {
        self.sink.mount.put_title(title.to_owned());
        self.sink.apply_title();
    }
}

impl Drop for Intake {
    fn drop(&mut self) {
        self.sink
            .mount
            .give_back(self.generation, self.sink.writer.take(), Instant::now());
        self.engine.announce();
    }
}

impl Sink {
    fn piece(&mut self, piece: Piece<'_>) {
        match piece {
            Piece::Section(section) => self.section(section),
            Piece::Media {
                bytes,
                micros,
                edge,
            } => self.media(bytes, micros, edge),
        }
    }

    /// The first section decides whether the epoch goes on; each Ogg chain begins a section of its own.
    fn section(&mut self, section: Section) {
        self.codec = section.params.codec;
        if std::mem::take(&mut self.first) {
            let goes_on = self.same_type
                && self.codec != Codec::Opaque
                && self.writer.as_ref().is_some_and(|writer| {
                    writer
                        .ring()
                        .section()
                        .is_some_and(|last| last.params == section.params)
                });
            // Before the epoch: whoever sees the new ring must see what it holds.
            self.mount.set_content(self.content.clone());
            if !goes_on {
                self.writer = Some(self.mount.start_epoch(self.epochs.next(), 0));
            }
        }
        if section.params.codec.is_ogg()
            && let Some(title) = format::ogg::comment_title(&section.header)
        {
            self.mount.put_title(title);
        }
        if let Some(writer) = &mut self.writer {
            self.mount.note_section(&section);
            writer.section(section);
        }
        self.apply_title();
    }

    fn media(&mut self, bytes: &[u8], micros: u64, edge: bool) {
        let Some(writer) = &mut self.writer else {
            return;
        };
        let micros = match self.codec {
            Codec::Opaque => std::mem::take(&mut self.elapsed_micros),
            _ => micros,
        };
        let media_micros = writer.ring().media_micros();
        let due = |last: u64| media_micros.saturating_sub(last) >= MARK_EVERY.as_micros() as u64;
        if edge && self.marked.is_none_or(due) {
            self.marked = Some(media_micros);
            let offset = writer.ring().end();
            writer.time(TimeMark {
                offset,
                media_micros,
                wall_millis: self.wall_millis,
            });
        }
        writer.append(bytes, micros);
    }

    fn apply_title(&mut self) {
        let Some(writer) = &mut self.writer else {
            return;
        };
        if let Some(title) = self.mount.take_title() {
            let offset = writer.ring().end();
            writer.title_at(offset, &title);
        }
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
