//! Fragmented MP4 (ISO/IEC 14496-12): a late listener gets `ftyp` and `moov` first, and starts at a fragment.
//!
//! A file that is not fragmented has its samples behind one index of all of them, and no stream of it can be joined.

use super::super::carry::Scan;
use super::super::{Piece, Tally, Unplayable};
use super::{Over, Skip};

/// Boxes in front of a fragment that belong to it.
const BEFORE_FRAGMENT: [&[u8; 4]; 4] = [b"styp", b"sidx", b"emsg", b"prft"];
/// Boxes that are of no use to a listener.
const LEFT_OUT: [&[u8; 4]; 5] = [b"free", b"skip", b"wide", b"mfra", b"uuid"];
/// The largest front of a fragment that is waited for once the stream runs.
const LARGEST: u64 = 1024 * 1024;
/// More time between two fragments is a new beginning of the clock, in microseconds.
const LONGEST_STEP: u64 = 60_000_000;

pub struct Mp4Scan {
    limit: usize,
    state: State,
    /// Bytes of a box that is passed on which are still to come.
    pass: u64,
    /// Bytes of a box that is left out.
    skip: Skip,
    /// Boxes in front of a fragment.
    before: Vec<u8>,
    /// Track whose times are read, and its units a second.
    track: Option<(u32, u32)>,
    last_micros: Option<u64>,
    tally: Tally,
}

enum State {
    Begin,
    Head(Vec<u8>),
    Fragments,
    Over(Over),
}

/// Front of a box.
#[derive(Debug, Clone, Copy)]
struct Front {
    kind: [u8; 4],
    /// Bytes of the front, and of all of the box.
    front: usize,
    whole: u64,
}

enum Reading {
    More,
    None,
    Box(Front),
}

impl Scan for Mp4Scan {
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
            if self.pass > 0 {
                // Pieces are the same however the input is split.
                let left = usize::try_from(self.pass).unwrap_or(usize::MAX);
                let Some(piece) = at.get(..left.min(super::PIECE)) else {
                    return position;
                };
                self.pass -= piece.len() as u64;
                self.emit(piece, 0, false, out);
                position += piece.len();
                continue;
            }
            if let State::Over(over) = self.state {
                return position + over.count(at.len(), &mut self.tally);
            }
            let used = match read(at) {
                Reading::More => None,
                Reading::None => self.foreign(out),
                Reading::Box(front) => self.next_box(at, front, out),
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

impl Mp4Scan {
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            state: State::Begin,
            pass: 0,
            skip: Skip::default(),
            before: Vec::new(),
            track: None,
            last_micros: None,
            tally: Tally::default(),
        }
    }

    /// No box stands there.
    fn foreign(&mut self, out: &mut dyn FnMut(Piece<'_>)) -> Option<usize> {
        if matches!(self.state, State::Begin) {
            self.state = State::Over(Over::Other);
            return Some(0);
        }
        self.give_up(Unplayable::Container, out)
    }

    fn next_box(
        &mut self,
        at: &[u8],
        front: Front,
        out: &mut dyn FnMut(Piece<'_>),
    ) -> Option<usize> {
        match &mut self.state {
            State::Begin if &front.kind == b"ftyp" => {
                self.state = State::Head(Vec::new());
                Some(0)
            }
            State::Begin => self.foreign(out),
            State::Head(_) => self.head(at, front, out),
            State::Fragments | State::Over(_) => self.fragment(at, front, out),
        }
    }

    /// One box up to `moov`.
    fn head(&mut self, at: &[u8], front: Front, out: &mut dyn FnMut(Piece<'_>)) -> Option<usize> {
        let State::Head(kept) = &mut self.state else {
            return None;
        };
        let is_kept = matches!(&front.kind, b"ftyp" | b"moov");
        if matches!(&front.kind, b"mdat" | b"moof") {
            return self.give_up(Unplayable::Container, out);
        }
        if !is_kept {
            self.skip = Skip(front.whole);
            return Some(0);
        }
        if front.whole.saturating_add(kept.len() as u64) > self.limit as u64 {
            return self.give_up(Unplayable::Headers, out);
        }
        let whole = at.get(..usize::try_from(front.whole).ok()?)?;
        let body = whole.get(front.front..).unwrap_or_default();
        let is_index = &front.kind == b"moov";
        if is_index && find(body, b"mvex").is_none() {
            return self.give_up(Unplayable::Container, out);
        }
        kept.extend_from_slice(whole);
        self.tally.held += whole.len() as u64;
        if is_index {
            self.track = first_track(body);
            self.announce(out);
        }
        Some(whole.len())
    }

    fn announce(&mut self, out: &mut dyn FnMut(Piece<'_>)) {
        let State::Head(kept) = std::mem::replace(&mut self.state, State::Fragments) else {
            return;
        };
        super::announce(super::section(kept), &mut self.tally, out);
        self.last_micros = None;
    }

    fn give_up(&mut self, why: Unplayable, out: &mut dyn FnMut(Piece<'_>)) -> Option<usize> {
        self.tally.give_up_held();
        self.before.clear();
        self.state = State::Over(Over::Unplayable);
        out(Piece::Unplayable(why));
        Some(0)
    }

    /// One box of a fragment, or beside it.
    fn fragment(
        &mut self,
        at: &[u8],
        front: Front,
        out: &mut dyn FnMut(Piece<'_>),
    ) -> Option<usize> {
        if &front.kind == b"ftyp" {
            // Another file follows.
            self.state = State::Head(Vec::new());
            return Some(0);
        }
        if LEFT_OUT.contains(&&front.kind) || &front.kind == b"moov" {
            self.skip = Skip(front.whole);
            return Some(0);
        }
        let is_before = BEFORE_FRAGMENT.contains(&&front.kind);
        if !is_before && &front.kind != b"moof" {
            self.pass = front.whole;
            return Some(0);
        }
        if front.whole.saturating_add(self.before.len() as u64) > LARGEST {
            return self.give_up(Unplayable::Container, out);
        }
        let whole = at.get(..usize::try_from(front.whole).ok()?)?;
        if is_before {
            self.before.extend_from_slice(whole);
            self.tally.held += whole.len() as u64;
            return Some(whole.len());
        }
        let before = std::mem::take(&mut self.before);
        self.tally.held = self.tally.held.saturating_sub(before.len() as u64);
        let is_first = before.is_empty();
        if !is_first {
            self.emit(&before, 0, true, out);
        }
        let micros = self.step(whole.get(front.front..).unwrap_or_default());
        self.emit(whole, micros, is_first, out);
        Some(whole.len())
    }

    fn emit(&mut self, bytes: &[u8], micros: u64, edge: bool, out: &mut dyn FnMut(Piece<'_>)) {
        out(Piece::Media {
            bytes,
            micros,
            edge,
        });
        self.tally.found(bytes.len());
    }

    /// Microseconds since the fragment before.
    fn step(&mut self, moof: &[u8]) -> u64 {
        let Some((track, scale)) = self.track else {
            return 0;
        };
        let of_track = boxes(moof)
            .filter(|(kind, _)| kind == b"traf")
            .find(|(_, traf)| find(traf, b"tfhd").and_then(|body| word(body, 4)) == Some(track));
        let Some(time) = of_track.and_then(|(_, traf)| decode_time(find(traf, b"tfdt")?)) else {
            return 0;
        };
        let micros = u128::from(time) * 1_000_000 / u128::from(scale.max(1));
        let now = u64::try_from(micros).unwrap_or(u64::MAX);
        let before = self.last_micros.replace(now).unwrap_or(now);
        let step = now.saturating_sub(before);
        if step > LONGEST_STEP { 0 } else { step }
    }
}

fn read(at: &[u8]) -> Reading {
    let Some([s1, s2, s3, s4, kind @ ..]) = at.first_chunk::<8>() else {
        return Reading::More;
    };
    let is_name = |byte: &u8| (b' '..=b'~').contains(byte) || *byte == 0xA9;
    if !kind.iter().all(is_name) {
        return Reading::None;
    }
    let (front, whole) = match u32::from_be_bytes([*s1, *s2, *s3, *s4]) {
        // To the end of the file, which a stream has not.
        0 => (8, u64::MAX),
        1 => match at.get(8..).and_then(|rest| rest.first_chunk::<8>()) {
            Some(size) => (16, u64::from_be_bytes(*size)),
            None => return Reading::More,
        },
        size => (8, u64::from(size)),
    };
    if whole < front as u64 {
        return Reading::None;
    }
    Reading::Box(Front {
        kind: *kind,
        front,
        whole,
    })
}

/// The boxes within a body, whole ones only: kind and body.
fn boxes(mut body: &[u8]) -> impl Iterator<Item = ([u8; 4], &[u8])> {
    std::iter::from_fn(move || {
        let Reading::Box(front) = read(body) else {
            return None;
        };
        let whole = body.get(..usize::try_from(front.whole).ok()?)?;
        body = body.get(whole.len()..).unwrap_or_default();
        Some((front.kind, whole.get(front.front..).unwrap_or_default()))
    })
}

fn find<'a>(body: &'a [u8], kind: &[u8; 4]) -> Option<&'a [u8]> {
    boxes(body)
        .find(|(name, _)| name == kind)
        .map(|(_, body)| body)
}

fn word(body: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*body.get(at..)?.first_chunk::<4>()?))
}

/// Id and units a second of the first track.
fn first_track(moov: &[u8]) -> Option<(u32, u32)> {
    let track = find(moov, b"trak")?;
    let header = find(track, b"tkhd")?;
    // Version 1 has times of eight bytes.
    let id = word(header, if header.first() == Some(&1) { 20 } else { 12 })?;
    let media = find(find(track, b"mdia")?, b"mdhd")?;
    let scale = word(media, if media.first() == Some(&1) { 20 } else { 12 })?;
    Some((id, scale))
}

/// Time of a `tfdt`.
fn decode_time(body: &[u8]) -> Option<u64> {
    if body.first() == Some(&1) {
        return Some(u64::from_be_bytes(*body.get(4..)?.first_chunk::<8>()?));
    }
    word(body, 4).map(u64::from)
}
