//! The serving side of the stream between nodes: a mount's ring as frames, whatever carries them.
//!
//! What is at an offset (a section, a title, a time mark) goes out after the bytes before it and before the
//! bytes from there on, so that the child's ring never knows more than it holds.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::pulls::Route;
use crate::base::ids::{Epoch, NodeId, Position};
use crate::engine::Mount;
use crate::engine::format::{Codec, Section};
use crate::engine::ring::{Closed, Indexes, Ring, TitleMark};
use crate::wire::frame::{EndReason, Frame, Head, PROTOCOL, SectionFrame, encode};
use crate::wire::title::Title;

/// How often a parent says where it is.
pub const POSITION_EVERY: Duration = Duration::from_millis(500);

/// `mount` for a child that asks from `ask` on, as the body of an answer. Starts at the byte asked for if it is
/// still there (or still to come in this epoch), else at the oldest place where a decoder can start. `route` is
/// that of the pull that feeds the mount, see [`Pulls::route`](super::Pulls::route); when it changes, a new head
/// says so, and a child that finds itself in it leaves. Ends with the mount, with its epoch, or with `shutdown`,
/// and says which.
pub fn frames(
    mount: Arc<Mount>,
    own: NodeId,
    route: watch::Receiver<Route>,
    ask: Option<Position>,
    shutdown: CancellationToken,
) -> impl Stream<Item = Result<Bytes, io::Error>> + Send + 'static {
    let serving = Serving::begin(mount, own, route, ask, shutdown);
    futures_util::stream::unfold(serving, |mut serving| async move {
        let bytes = serving.next().await?;
        Some((Ok(bytes), serving))
    })
    .fuse()
}

struct Serving {
    mount: Arc<Mount>,
    own: NodeId,
    route: watch::Receiver<Route>,
    /// As the last head said.
    way: Vec<String>,
    ring: Arc<Ring>,
    shutdown: CancellationToken,
    /// The next byte to send.
    cursor: u64,
    /// The last ones sent, by identity, since several may stand at one offset.
    section: Option<Arc<Section>>,
    title: Option<TitleMark>,
    /// Time marks before this offset are sent or of no use.
    next_time: u64,
    next_position: Instant,
    out: BytesMut,
    ended: bool,
}

impl Serving {
    fn begin(
        mount: Arc<Mount>,
        own: NodeId,
        route: watch::Receiver<Route>,
        ask: Option<Position>,
        shutdown: CancellationToken,
    ) -> Self {
        let ring = mount.ring();
        let start = start(&ring, ask);
        let mut serving = Self {
            mount,
            own,
            route,
            way: Vec::new(),
            ring,
            shutdown,
            cursor: start,
            section: None,
            title: None,
            next_time: start,
            next_position: Instant::now() + POSITION_EVERY,
            out: BytesMut::new(),
            ended: false,
        };
        serving.head();
        serving.in_effect();
        serving.position();
        serving
    }

    /// By which way the bytes come here, and where the next ones begin.
    fn head(&mut self) {
        let mut path = self.route.borrow_and_update().path.clone();
        self.way.clone_from(&path);
        path.push(self.own.as_str().to_owned());
        let content = self.mount.content();
        self.put(&Frame::Head(Head {
            version: PROTOCOL,
            capabilities: 0,
            mount: self.mount.id.to_string(),
            epoch: self.ring.epoch().0,
            start: self.cursor,
            content_type: content.content_type.clone(),
            headers: content.headers.clone(),
            path,
        }));
    }

    /// What was set before the first byte and still holds there.
    fn in_effect(&mut self) {
        let (section, title) = self.ring.with_indexes(|i| {
            let section = i.section_at(self.cursor).cloned();
            (section, i.title_at(self.cursor).cloned())
        });
        if let Some(mark) = section {
            self.put(&section_frame(mark.offset, &mark.section));
            self.section = Some(mark.section);
        }
        if let Some(mark) = title {
            self.put(&title_frame(&mark));
            self.title = Some(mark);
        }
    }

    /// The next bytes to send; `None` after the end.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if !self.out.is_empty() {
                return Some(self.out.split().freeze());
            }
            if self.ended {
                return None;
            }
            let ring = Arc::clone(&self.ring);
            let changed = ring.changed();
            self.step();
            if !self.ended && Instant::now() >= self.next_position {
                self.position();
                self.next_position = Instant::now() + POSITION_EVERY;
            }
            if !self.out.is_empty() {
                continue;
            }
            tokio::select! {
                biased;
                () = self.shutdown.cancelled() => self.end(EndReason::Shutdown),
                () = rerouted(&mut self.route) => self.say_way(),
                () = changed => {}
                () = tokio::time::sleep_until(self.next_position) => {}
            }
        }
    }

    /// All that can be said up to the end of the segment at the cursor, at most 64 KiB of audio.
    fn step(&mut self) {
        if self.shutdown.is_cancelled() {
            return self.end(EndReason::Shutdown);
        }
        // Looked at first: what was appended before it was closed is seen below.
        let ring = Arc::clone(&self.ring);
        let closed = ring.closed();
        let chain = ring.chain();
        if self.cursor < chain.start() {
            self.cursor = oldest(&ring).max(chain.start());
            self.next_time = self.next_time.max(self.cursor);
        }
        let slice = chain.slice_at(self.cursor);
        self.say_way();
        let to = self.cursor + slice.len() as u64;
        // Read after the bytes: whatever stands before the last of them is in by now.
        let marks = ring.with_indexes(|i| self.marks(i, to));
        let mut rest = slice;
        for (offset, frame) in marks {
            let ahead = usize::try_from(offset.saturating_sub(self.cursor)).unwrap_or(usize::MAX);
            let (part, after) = rest.split_at_checked(ahead).unwrap_or((rest, &[]));
            put_audio(&mut self.out, self.cursor, part);
            self.cursor += part.len() as u64;
            rest = after;
            put(&mut self.out, &frame);
        }
        put_audio(&mut self.out, self.cursor, rest);
        self.cursor = to;
        let nothing_left = self.out.is_empty();
        match closed {
            Closed::Open => {}
            _ if !nothing_left => {}
            Closed::Ended if self.route.borrow().over => self.end(EndReason::Over),
            Closed::Ended => self.end(EndReason::Ended),
            Closed::Replaced => self.end(EndReason::EpochChanged),
        }
    }

    /// The marks up to `to` that were not sent yet, in the order of their offsets.
    fn marks(&mut self, indexes: &Indexes, to: u64) -> Vec<(u64, Frame)> {
        let mut out = Vec::new();
        let last = self.section.clone();
        let new = indexes.sections.iter().rev().take_while(|mark| {
            let sent = last.as_ref();
            !sent.is_some_and(|sent| Arc::ptr_eq(sent, &mark.section))
        });
        for mark in new.filter(|mark| mark.offset <= to) {
            if out.is_empty() {
                self.section = Some(Arc::clone(&mark.section));
            }
            out.push((mark.offset, section_frame(mark.offset, &mark.section)));
        }
        let sections = out.len();
        let last = self.title.clone();
        let new = indexes.titles.iter().rev().take_while(|mark| {
            let sent = last.as_ref();
            !sent.is_some_and(|sent| {
                Arc::ptr_eq(&sent.title, &mark.title) || mark.offset < sent.offset
            })
        });
        for mark in new.filter(|mark| mark.offset <= to) {
            // Of several at one offset only the last, met first from behind, was ever in effect.
            let later = out.get(sections..).and_then(|titles| titles.last());
            if later.is_some_and(|(offset, _)| *offset == mark.offset) {
                continue;
            }
            if out.len() == sections {
                self.title = Some(mark.clone());
            }
            out.push((mark.offset, title_frame(mark)));
        }
        // So far from behind; a section comes before a title, a title before a time at the same offset.
        if let Some(part) = out.get_mut(..sections) {
            part.reverse();
        }
        let from = indexes.times.partition_point(|m| m.offset < self.next_time);
        for mark in indexes.times.range(from..) {
            if mark.offset > to {
                break;
            }
            self.next_time = mark.offset + 1;
            let frame = Frame::Time {
                offset: mark.offset,
                media_micros: mark.media_micros,
                wall_millis: mark.wall_millis,
            };
            out.push((mark.offset, frame));
        }
        out.sort_by_key(|(offset, _)| *offset);
        out
    }

    fn position(&mut self) {
        let idle = self.mount.idle(std::time::Instant::now());
        let starved = if idle < POSITION_EVERY {
            Duration::ZERO
        } else {
            idle
        };
        let live_edge = self.ring.end();
        self.say_way();
        let frame = Frame::Position {
            epoch: self.ring.epoch().0,
            live_edge,
            starved_millis: u64::try_from(starved.as_millis()).unwrap_or(u64::MAX),
        };
        self.put(&frame);
    }

    /// A new head, where the way has changed: before the bytes that came by it, and before the word that they are
    /// there, since a child judges both together. An end says its reason itself.
    fn say_way(&mut self) {
        let route = self.route.borrow_and_update();
        let news = route.path != self.way && !route.over;
        drop(route);
        if news {
            self.head();
        }
    }

    fn end(&mut self, reason: EndReason) {
        self.put(&Frame::End { reason });
        self.ended = true;
    }

    fn put(&mut self, frame: &Frame) {
        put(&mut self.out, frame);
    }
}

/// Completes when the mount comes by another way.
async fn rerouted(route: &mut watch::Receiver<Route>) {
    if route.changed().await.is_err() {
        std::future::pending().await
    }
}

/// Where to begin: the position asked for, else the oldest place that can be decoded from.
fn start(ring: &Ring, ask: Option<Position>) -> u64 {
    match ask {
        Some(at)
            if at.epoch == ring.epoch() && at.epoch != Epoch(0) && at.offset >= ring.start() =>
        {
            at.offset
        }
        _ => oldest(ring),
    }
}

/// The first section or edge that is still in the ring; a stream without any can be joined anywhere.
fn oldest(ring: &Ring) -> u64 {
    let start = ring.start();
    let edge = ring.edge_from(start);
    let section = ring.with_indexes(|i| {
        let mut offsets = i.sections.iter().map(|mark| mark.offset);
        offsets.find(|&offset| offset >= start)
    });
    edge.into_iter().chain(section).min().unwrap_or(start)
}

fn put(out: &mut BytesMut, frame: &Frame) {
    // Only a section's headers could be too long, and the framer bounds those below.
    if let Err(error) = encode(frame, out) {
        tracing::error!(%error, "a frame could not be written");
    }
}

fn put_audio(out: &mut BytesMut, offset: u64, part: &[u8]) {
    if !part.is_empty() {
        let bytes = Bytes::copy_from_slice(part);
        put(out, &Frame::Data { offset, bytes });
    }
}

fn title_frame(mark: &TitleMark) -> Frame {
    Frame::Title {
        offset: mark.offset,
        title: Title::clone(&mark.title),
    }
}

fn section_frame(offset: u64, section: &Section) -> Frame {
    let params = &section.params;
    Frame::Section {
        offset,
        section: SectionFrame {
            codec: codec_name(params.codec).to_owned(),
            sample_rate: params.sample_rate,
            channels: params.channels,
            profile: params.profile,
            bitrate: section.bitrate,
            header: section.header.clone(),
        },
    }
}

const CODECS: [(Codec, &str); 7] = [
    (Codec::Mp3, "mp3"),
    (Codec::Aac, "aac"),
    (Codec::Vorbis, "vorbis"),
    (Codec::Opus, "opus"),
    (Codec::Flac, "flac"),
    (Codec::Ogg, "ogg"),
    (Codec::Opaque, "opaque"),
];

fn codec_name(codec: Codec) -> &'static str {
    let found = CODECS.iter().find(|(known, _)| *known == codec);
    found.map_or("opaque", |(_, name)| name)
}

/// The codec of that name on the wire; one that we do not know is not looked into.
pub(super) fn codec_of(name: &str) -> Codec {
    let found = CODECS.iter().find(|(_, known)| *known == name);
    found.map_or(Codec::Opaque, |(codec, _)| *codec)
}

#[cfg(test)]
mod tests;
