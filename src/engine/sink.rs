//! From a source's pieces to its mount's ring: sections, media, marks of time, titles.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Engine;
use super::claims::Claim;
use super::format::ogg::{self, Retitled};
use super::format::{Codec, Piece, Section, Unplayable, is_known_type};
use super::mount::{Content, Mount, Taken};
use super::ring::{TimeMark, Writer};
use super::titles::Encoder;
use crate::wire::title::Title;

/// Media between two marks of the time index, at most (where the format has edges that often).
const MARK_EVERY: Duration = Duration::from_millis(250);

/// Way of a source's pieces into its mount's ring.
pub(super) struct Sink {
    engine: Arc<Engine>,
    claim: Claim,
    content: Content,
    encoder: Encoder,
    /// The mount, while what comes can be played.
    fed: Option<Fed>,
    codec: Codec,
    link: Link,
    marked: Option<u64>,
    now: Instant,
    wall_millis: u64,
    /// For formats without media time: what passed since the last push.
    elapsed_micros: u64,
    /// Why nothing can be played since the last section.
    unplayable: Option<Unplayable>,
    /// Something of the mount is new for those who wait for it.
    changed: bool,
}

/// Titles of an Ogg stream that are set from outside.
#[derive(Default)]
struct Link {
    /// The title for which a link is to begin at the next page that may.
    wanted: Option<Title>,
    /// The last section of the source itself.
    section: Option<Arc<Section>>,
    /// The link that was begun for a title, and how many there were.
    now: Option<Retitled>,
    count: u32,
}

struct Fed {
    mount: Arc<Mount>,
    generation: u64,
    writer: Writer,
}

impl Sink {
    pub fn new(engine: Arc<Engine>, claim: Claim, content: Content) -> Self {
        let encoder = Encoder::new(claim.feeder(), &content);
        Self {
            engine,
            claim,
            content,
            encoder,
            fed: None,
            codec: Codec::Opaque,
            link: Link::default(),
            marked: None,
            now: Instant::now(),
            wall_millis: 0,
            elapsed_micros: 0,
            unplayable: None,
            changed: false,
        }
    }

    pub fn claim(&self) -> &Claim {
        &self.claim
    }

    pub fn mount(&self) -> Option<&Arc<Mount>> {
        self.fed.as_ref().map(|fed| &fed.mount)
    }

    /// Why nothing can be played of what comes now.
    pub fn unplayable(&self) -> Option<Unplayable> {
        self.unplayable
    }

    /// True once after a change.
    pub fn has_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Pieces follow that came in now.
    pub fn begin(&mut self, now: Instant, wall_millis: u64) {
        let elapsed = self.claim.idle(now).as_micros();
        self.elapsed_micros = u64::try_from(elapsed).unwrap_or(0);
        self.now = now;
        self.wall_millis = wall_millis;
        self.apply_title();
    }

    pub fn piece(&mut self, piece: Piece<'_>) {
        match piece {
            Piece::Type(found) => self.found_type(found),
            Piece::Section(section) => self.section(section),
            Piece::Media {
                bytes,
                micros,
                edge,
            } => self.media(bytes, micros, edge),
            Piece::Unplayable(why) => self.give_up(why),
        }
    }

    /// Gives the mount back; its listeners are held from its last byte on.
    pub fn let_go(&mut self) {
        if let Some(fed) = self.fed.take() {
            let now = Instant::now();
            fed.mount.give_back(fed.generation, Some(fed.writer), now);
            self.changed = true;
        }
    }

    fn found_type(&mut self, found: &'static str) {
        let (mount, declared) = (self.claim.id(), &self.content.content_type);
        tracing::warn!(%mount, declared, found, "the source sends another format than its Content-Type says: it is announced as what it is; set the encoder's Content-Type to it");
        self.content.content_type = found.to_owned();
    }

    fn give_up(&mut self, why: Unplayable) {
        self.unplayable = Some(why);
        self.let_go();
        self.engine.say_unplayable(self.claim.id(), why);
    }

    /// The first section decides whether the epoch goes on; each Ogg chain begins a section of its own.
    fn section(&mut self, section: Section) {
        self.codec = section.params.codec;
        self.unplayable = None;
        let mut fed = match self.fed.take() {
            Some(fed) => fed,
            None => self.feed(&section),
        };
        fed.mount.note_section(&section);
        let section = Arc::new(section);
        fed.writer
            .section_at(fed.writer.ring().end(), Arc::clone(&section));
        self.fed = Some(fed);
        if section.params.codec.is_ogg() {
            if let Some(title) = ogg::comment_title(&section.header) {
                // What was set before it is older.
                self.link.wanted = None;
                self.set_title(title);
            }
            self.link.section = Some(section);
            self.link.now = None;
        }
        self.apply_title();
    }

    /// Takes the mount for what begins here.
    fn feed(&mut self, section: &Section) -> Fed {
        let (mount, taken) = self.engine.feed(&self.claim);
        let Taken {
            generation, writer, ..
        } = taken;
        let same_type = mount.content().content_type == self.content.content_type;
        let is_same = |writer: &Writer| {
            let last = writer.ring().section();
            last.is_some_and(|last| last.params == section.params)
        };
        let goes_on = same_type && self.codec != Codec::Opaque;
        let kept = writer.filter(|writer| goes_on && is_same(writer));
        let goes_on = kept.is_some();
        // Before the epoch: whoever sees the new ring must see what it holds.
        mount.set_content(self.content.clone());
        let epochs = self.engine.epochs();
        let writer = kept.unwrap_or_else(|| mount.start_epoch(epochs.next(), 0));
        let mut fed = Fed {
            mount,
            generation,
            writer,
        };
        self.inherit_title(&mut fed, goes_on);
        self.say_unknown();
        self.marked = None;
        self.changed = true;
        fed
    }

    /// A format that is not known is passed on as it comes.
    fn say_unknown(&self) {
        let declared = &self.content.content_type;
        if !is_known_type(declared) {
            let mount = self.claim.id();
            tracing::warn!(%mount, declared, "the format of this source is not known here: nobody who comes late gets its beginning, and most players decode nothing then; send Ogg, WebM, MP3 or AAC");
        }
    }

    /// An encoder that comes back plays what it played, and does not say so again; another one plays something else.
    fn inherit_title(&self, fed: &mut Fed, goes_on: bool) {
        let known = self.engine.titles().of(self.claim.id(), &self.encoder);
        let shown = fed.mount.title();
        match known {
            Some(title) if !goes_on => fed.writer.title_at(fed.writer.ring().end(), title),
            None if goes_on && shown.is_some_and(|shown| !shown.is_empty()) => {
                fed.writer
                    .title_at(fed.writer.ring().end(), Title::default());
            }
            _ => {}
        }
    }

    fn media(&mut self, bytes: &[u8], micros: u64, edge: bool) {
        if edge
            && micros > 0
            && let Some(title) = self.link.wanted.take()
        {
            self.begin_link(title);
        }
        let rewritten = self.link.now.as_mut().map(|link| link.page(bytes));
        self.append(rewritten.as_deref().unwrap_or(bytes), micros, edge);
    }

    /// A link of the chain for a title: the source's headers with other comments.
    fn begin_link(&mut self, title: Title) {
        let Some(own) = self.link.section.clone() else {
            return;
        };
        self.link.count = self.link.count.wrapping_add(1);
        let link = Retitled::begin(&own.header, &title, self.link.count);
        let Some((link, (header, ends))) = link else {
            let mount = self.claim.id();
            tracing::warn!(%mount, "a title that was set before this Ogg stream began cannot be put into it: it has several streams, or a codec whose comments are not known here");
            return;
        };
        self.link.now = Some(link);
        if let Some(fed) = &mut self.fed {
            let header = header.clone();
            fed.writer.section(Section {
                header,
                ..Section::clone(&own)
            });
        }
        self.set_title(title);
        let mut start = 0;
        for end in ends {
            let page = header.get(start..end).unwrap_or_default();
            self.append(page, 0, start == 0);
            start = end;
        }
    }

    fn append(&mut self, bytes: &[u8], micros: u64, edge: bool) {
        let Some(fed) = &mut self.fed else {
            return;
        };
        let micros = match self.codec {
            Codec::Opaque if micros == 0 => std::mem::take(&mut self.elapsed_micros),
            _ => micros,
        };
        let writer = &mut fed.writer;
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
        fed.mount.note_byte(self.now);
    }

    /// Puts a title that was left for the source where the next byte will be.
    pub fn apply_title(&mut self) {
        if self.fed.is_none() {
            return;
        }
        match self.claim.take_title() {
            Some(title) if self.codec.is_ogg() => self.link.wanted = Some(title),
            Some(title) => self.set_title(title),
            None => {}
        }
    }

    fn set_title(&mut self, title: Title) {
        let Some(fed) = &mut self.fed else {
            return;
        };
        let id = self.claim.id();
        self.engine.titles().remember(id, &self.encoder, &title);
        let offset = fed.writer.ring().end();
        fed.writer.title_at(offset, title);
    }
}
