//! Matroska and WebM (RFC 8794, RFC 9559).
//!
//! A late listener gets all from the EBML header to the first Cluster, with a Segment of unknown size and without pictures
//! and indexes, and starts at a Cluster; where there is video, at one that begins with a key frame.

use super::super::carry::Scan;
use super::super::{Piece, Tally, Unplayable};
use super::elements::{Element, Reading, children, number, read, unknown_size};
use super::tracks::Tracks;
use super::{Over, Skip};

const EBML: u32 = 0x1A45_DFA3;
const SEGMENT: u32 = 0x1853_8067;
const INFO: u32 = 0x1549_A966;
const TRACKS: u32 = 0x1654_AE6B;
const CLUSTER: u32 = 0x1F43_B675;
const TIMESTAMP: u32 = 0xE7;
const SIMPLE_BLOCK: u32 = 0xA3;
const BLOCK_GROUP: u32 = 0xA0;
const BLOCK: u32 = 0xA1;
const REFERENCE: u32 = 0xFB;
/// Seek head, cues, chapters, attachments, void: places in a file, and pictures.
const LEFT_OUT: [u32; 5] = [0x114D_9B74, 0x1C53_BB6B, 0x1043_A770, 0x1941_A469, 0xEC];
/// The largest block that is waited for: a picture of a video.
const LARGEST: u64 = 8 * 1024 * 1024;
/// The beginning of a Cluster is held back for its first block, or the first of the video, up to this size.
const LONGEST_FRONT: usize = 256 * 1024;
/// More time between two blocks is a new beginning of the clock, in microseconds.
const LONGEST_STEP: u64 = 10_000_000;

pub struct EbmlScan {
    limit: usize,
    state: State,
    /// Bytes of an element that is left out which are still to come.
    skip: Skip,
    /// True while a Cluster is looked for.
    is_lost: bool,
    tracks: Tracks,
    /// The beginning of a Cluster that is not known yet to be a place to start, and how long it plays.
    cluster: Vec<u8>,
    cluster_micros: u64,
    /// Time of the Cluster, in units of the tracks' scale.
    cluster_time: u64,
    last_micros: Option<u64>,
    tally: Tally,
}

enum State {
    Begin,
    /// Elements before the first Cluster.
    Head(Vec<u8>),
    Clusters,
    Over(Over),
}

impl Scan for EbmlScan {
    fn scan(&mut self, data: &[u8], out: &mut dyn FnMut(Piece<'_>)) -> usize {
        let mut position = 0;
        loop {
            let at = data.get(position..).unwrap_or_default();
            if at.is_empty() {
                return position;
            }
            if self.skip.0 > 0 {
                position += self.skip.take(at, &mut self.tally);
                continue;
            }
            if let State::Over(over) = self.state {
                return position + over.count(at.len(), &mut self.tally);
            }
            if self.is_lost {
                match self.find_cluster(at) {
                    Some(used) => position += used,
                    None => return position,
                }
                continue;
            }
            let element = match read(at) {
                Reading::More => return position,
                Reading::Element(element) => Some(element),
                Reading::None => None,
            };
            let used = match &self.state {
                State::Begin => self.begin(element),
                State::Head(_) => self.head(at, element, out),
                State::Clusters | State::Over(_) => self.clusters(at, element, out),
            };
            match used {
                Some(used) => position += used,
                None => return position,
            }
        }
    }

    fn counts(&self) -> Tally {
        self.tally
    }
}

impl EbmlScan {
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            state: State::Begin,
            skip: Skip::default(),
            is_lost: false,
            tracks: Tracks::default(),
            cluster: Vec::new(),
            cluster_micros: 0,
            cluster_time: 0,
            last_micros: None,
            tally: Tally::default(),
        }
    }

    fn begin(&mut self, element: Option<Element>) -> Option<usize> {
        self.state = match element {
            Some(Element { id: EBML, .. }) => State::Head(Vec::new()),
            _ => State::Over(Over::Other),
        };
        Some(0)
    }

    /// One element before the first Cluster.
    fn head(
        &mut self,
        at: &[u8],
        element: Option<Element>,
        out: &mut dyn FnMut(Piece<'_>),
    ) -> Option<usize> {
        let State::Head(kept) = &mut self.state else {
            return None;
        };
        let Some(element) = element else {
            return self.give_up(Unplayable::Container, out);
        };
        match (element.id, element.size) {
            (SEGMENT, _) => {
                kept.extend_from_slice(&SEGMENT.to_be_bytes());
                kept.extend(unknown_size(element.front - 4));
                self.tally.held += element.front as u64;
                Some(element.front)
            }
            (CLUSTER, _) => {
                self.announce(out);
                Some(0)
            }
            (id, Some(size)) if LEFT_OUT.contains(&id) => {
                self.skip = Skip(size);
                self.tally.tag(element.front);
                Some(element.front)
            }
            (_, Some(size)) if kept.len() as u64 + size <= self.limit as u64 => {
                let whole = at.get(..element.whole()?)?;
                kept.extend_from_slice(whole);
                self.tally.held += whole.len() as u64;
                let body = whole.get(element.front..).unwrap_or_default();
                match element.id {
                    INFO => self.tracks.read_info(body),
                    TRACKS => self.tracks.read_tracks(body),
                    _ => {}
                }
                Some(whole.len())
            }
            (_, Some(_)) => self.give_up(Unplayable::Headers, out),
            (_, None) => self.give_up(Unplayable::Container, out),
        }
    }

    fn give_up(&mut self, why: Unplayable, out: &mut dyn FnMut(Piece<'_>)) -> Option<usize> {
        self.tally.give_up_held();
        self.state = State::Over(Over::Unplayable);
        out(Piece::Unplayable(why));
        Some(0)
    }

    fn announce(&mut self, out: &mut dyn FnMut(Piece<'_>)) {
        let State::Head(kept) = std::mem::replace(&mut self.state, State::Clusters) else {
            return;
        };
        let mut section = super::section(kept);
        section.params.sample_rate = self.tracks.sample_rate;
        section.params.channels = self.tracks.channels;
        super::announce(section, &mut self.tally, out);
        self.cluster.clear();
        self.last_micros = None;
    }

    /// One element of a Cluster, or beside it.
    fn clusters(
        &mut self,
        at: &[u8],
        element: Option<Element>,
        out: &mut dyn FnMut(Piece<'_>),
    ) -> Option<usize> {
        let Some(element) = element else {
            return self.lose_sync();
        };
        match (element.id, element.size) {
            (EBML, _) => {
                // Another file follows.
                self.flush(false, out);
                self.tracks = Tracks::default();
                self.state = State::Head(Vec::new());
                Some(0)
            }
            (SEGMENT, _) => {
                self.tally.tag(element.front);
                Some(element.front)
            }
            (CLUSTER, _) => {
                self.flush(false, out);
                self.cluster.extend_from_slice(at.get(..element.front)?);
                self.tally.held += element.front as u64;
                Some(element.front)
            }
            (id, Some(size)) if LEFT_OUT.contains(&id) && !self.is_within(id) => {
                self.skip = Skip(size);
                self.tally.tag(element.front);
                Some(element.front)
            }
            (_, Some(size)) if size <= LARGEST => {
                let whole = at.get(..element.whole()?)?;
                self.element(element, whole, out);
                Some(whole.len())
            }
            _ => self.lose_sync(),
        }
    }

    /// Void may stand within a Cluster, whose size counts it.
    fn is_within(&self, id: u32) -> bool {
        id == 0xEC
    }

    fn element(&mut self, element: Element, whole: &[u8], out: &mut dyn FnMut(Piece<'_>)) {
        let body = whole.get(element.front..).unwrap_or_default();
        let block = match element.id {
            TIMESTAMP => {
                self.cluster_time = number(body);
                None
            }
            SIMPLE_BLOCK => Block::of(body).map(|block| (block, block.flags & 0x80 != 0)),
            BLOCK_GROUP => group(body),
            _ => None,
        };
        let Some((block, is_key)) = block else {
            if (1..LONGEST_FRONT).contains(&self.cluster.len()) {
                return self.hold(whole, 0);
            }
            self.flush(false, out);
            return self.emit(whole, 0, false, out);
        };
        let micros = self.step(block.time);
        let video = self.tracks.video;
        let is_before_video = video.is_some_and(|video| video != block.track);
        if is_before_video && (1..LONGEST_FRONT).contains(&self.cluster.len()) {
            return self.hold(whole, micros);
        }
        self.flush(video.is_none() || (is_key && !is_before_video), out);
        self.emit(whole, micros, false, out);
    }

    /// Adds an element to the beginning of the Cluster.
    fn hold(&mut self, whole: &[u8], micros: u64) {
        self.cluster.extend_from_slice(whole);
        self.cluster_micros += micros;
        self.tally.held += whole.len() as u64;
    }

    /// Emits the beginning of a Cluster.
    fn flush(&mut self, edge: bool, out: &mut dyn FnMut(Piece<'_>)) {
        if self.cluster.is_empty() {
            return;
        }
        let front = std::mem::take(&mut self.cluster);
        self.tally.held = self.tally.held.saturating_sub(front.len() as u64);
        let micros = std::mem::take(&mut self.cluster_micros);
        self.emit(&front, micros, edge, out);
    }

    fn emit(&mut self, bytes: &[u8], micros: u64, edge: bool, out: &mut dyn FnMut(Piece<'_>)) {
        out(Piece::Media {
            bytes,
            micros,
            edge,
        });
        self.tally.found(bytes.len());
    }

    /// Microseconds since the block before, for one at `offset` units from its Cluster.
    fn step(&mut self, offset: i16) -> u64 {
        let units = self.cluster_time.saturating_add_signed(offset.into());
        let now = self.tracks.micros(units);
        let before = self.last_micros.replace(now).unwrap_or(now);
        let step = now.saturating_sub(before);
        if step > LONGEST_STEP { 0 } else { step }
    }

    /// Something stands there that is no element: all up to the next Cluster is of no use.
    fn lose_sync(&mut self) -> Option<usize> {
        self.is_lost = true;
        self.tally.junk(1);
        Some(1)
    }

    /// Junk up to the next Cluster.
    fn find_cluster(&mut self, at: &[u8]) -> Option<usize> {
        let mark = CLUSTER.to_be_bytes();
        let next = at.windows(mark.len()).position(|four| four == mark);
        // The last bytes may be the beginning of one.
        let len = next.unwrap_or(at.len().saturating_sub(mark.len() - 1));
        self.is_lost = next.is_none();
        self.tally.junk(len);
        (len > 0 || next.is_some()).then_some(len)
    }
}

/// Front of a block: its track, its time, its flags (RFC 9559 10.2).
#[derive(Debug, Clone, Copy)]
struct Block {
    track: u64,
    time: i16,
    flags: u8,
}

impl Block {
    fn of(body: &[u8]) -> Option<Self> {
        let (track, len) = super::elements::size(body)?;
        let [high, low, flags] = *body.get(len..)?.first_chunk::<3>()?;
        Some(Self {
            track: track?,
            time: i16::from_be_bytes([high, low]),
            flags,
        })
    }
}

/// The block of a group; one that refers to no other is a key frame.
fn group(body: &[u8]) -> Option<(Block, bool)> {
    let mut block = None;
    let mut is_key = true;
    for (id, body) in children(body) {
        match id {
            BLOCK => block = Block::of(body),
            REFERENCE => is_key = false,
            _ => {}
        }
    }
    block.map(|block| (block, is_key))
}
