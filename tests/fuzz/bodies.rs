//! Bodies of the fuzz targets: each takes arbitrary bytes and panics where a parser breaks one of its laws.
//!
//! The same functions run on a stable compiler over the corpus and its mutations (`tests/fuzz/main.rs`) and under
//! libFuzzer (`tests/fuzz/fuzz_targets`). A law is more than "does not panic": a parser gives the same in any split of
//! its input, takes no more than it was given, and reads back what it wrote.

use std::io::Write as _;

use bytes::BytesMut;
use relayctl::base::charset::Charset;
use relayctl::base::ids::{Epoch, MountId};
use relayctl::engine::format::{self, Detector, Framer, Piece};
use relayctl::settings::{self, Sources};
use relayctl::wire::basic::Credentials;
use relayctl::wire::body::{BodyDecoder, Framing};
use relayctl::wire::bounds::Clock;
use relayctl::wire::frame::{self, Frame, FrameDecoder};
use relayctl::wire::head::{self, Headers, parse_fields};
use relayctl::wire::icy::{self, Stripper};
use relayctl::wire::message::{Beat, BeatAnswer, FeedLine, JoinAnswer, JoinRequest};
use relayctl::wire::response::parse_response;
use relayctl::wire::sniff::{self, Sniff, sniff};
use relayctl::wire::title::Title;
use relayctl::wire::{forwarded, proxy_protocol};

/// A target's name, which is also its corpus directory, and its body.
pub type Target = (&'static str, fn(&[u8]));

/// Every target. `tests/fuzz/main.rs` fails where one has no corpus or no file in `fuzz_targets`.
pub const TARGETS: [Target; 18] = [
    ("heads", heads),
    ("responses", responses),
    ("first_bytes", first_bytes),
    ("proxy_protocol", proxy_protocol_header),
    ("forwarded", forwarded_headers),
    ("chunks", chunks),
    ("icy_stream", icy_stream),
    ("titles", titles),
    ("frames", frames),
    ("mpeg", mpeg),
    ("adts", adts),
    ("ogg", ogg),
    ("yaml", yaml),
    ("environment", environment),
    ("containers", containers),
    ("detector", detector),
    ("messages", messages),
    ("names", names),
];

/// Runs one input of the named target.
///
/// # Panics
/// Where a law is broken, or there is no such target.
pub fn run(name: &str, data: &[u8]) {
    let (_, body) = TARGETS
        .into_iter()
        .find(|(own, _)| *own == name)
        .expect("a target of the table");
    body(data);
}

/// Splits off the first byte as a length of at least one, for targets that try their input in pieces.
fn piece_length(data: &[u8]) -> (usize, &[u8]) {
    match data.split_first() {
        Some((first, rest)) => (usize::from(*first).max(1), rest),
        None => (1, data),
    }
}

/// Request heads: what was read is written and read back alike, and no byte behind the head is taken.
pub fn heads(data: &[u8]) {
    let Ok(Some((request, used))) = head::parse(data) else {
        return;
    };
    assert!(used <= data.len());
    let _ = (
        request.keep_alive(),
        request.has_body(),
        request.expects_continue(),
        request.query_value("mount"),
        request.query_without("rt"),
        Framing::of_request(&request),
        Credentials::of(&request.headers),
    );
    let written = request.encode();
    let (again, taken) = head::parse(&written)
        .expect("a written head is read")
        .expect("a written head is whole");
    assert_eq!(taken, written.len());
    assert_eq!(again, request);
}

/// Answers of other servers, and the fields of a Shoutcast v1 source.
pub fn responses(data: &[u8]) {
    if let Ok(Some((response, used))) = parse_response(data) {
        assert!(used <= data.len());
        let _ = (response.is_interim(), Framing::of_response(&response));
    }
    if let Ok(Some((_, used))) = parse_fields(data) {
        assert!(used <= data.len());
    }
}

/// First bytes of a connection: once told, what it is never changes with more bytes.
pub fn first_bytes(data: &[u8]) {
    let data = &data[..data.len().min(600)];
    let mut told = Sniff::More;
    for end in 0..=data.len() {
        let now = sniff(&data[..end]);
        assert!(
            told == Sniff::More || told == now,
            "{told:?} became {now:?}"
        );
        told = now;
    }
    if let Some((line, used)) = sniff::password_line(data) {
        // A byte that is no UTF-8 becomes a character of Windows-1252, three bytes at most.
        assert!(used <= data.len() && line.len() <= data.len() * 3);
    }
}

/// PROXY headers, both versions: what was read is the same however much follows.
pub fn proxy_protocol_header(data: &[u8]) {
    let Ok(Some((info, used))) = proxy_protocol::parse(data) else {
        return;
    };
    assert!(used <= data.len());
    let alone = proxy_protocol::parse(&data[..used]);
    assert_eq!(alone, Ok(Some((info, used))));
    if let Some(info) = info {
        let written = proxy_protocol::encode_v2(&info);
        assert_eq!(
            proxy_protocol::parse(&written),
            Ok(Some((Some(info), written.len())))
        );
    }
}

/// Forwarding headers: an untrusted peer is the client whatever it writes.
pub fn forwarded_headers(data: &[u8]) {
    let Ok(Some((fields, _))) = parse_fields(data) else {
        return;
    };
    let fields: Headers = fields;
    let peer = "192.0.2.1".parse().expect("an address");
    let nobody = forwarded::client_origin(&fields, peer, false, &[]);
    assert_eq!((nobody.address, nobody.https), (peer, false));
    let trusted = ["192.0.2.0/24".parse().expect("a net")];
    let _ = forwarded::client_origin(&fields, peer, false, &trusted);
}

/// Chunked bodies: the same in any split, and nothing is given out twice.
pub fn chunks(data: &[u8]) {
    let (length, data) = piece_length(data);
    let decode = |length: usize| {
        let (mut decoder, mut out, mut taken) = (BodyDecoder::new(Framing::Chunked), Vec::new(), 0);
        for piece in data.chunks(length) {
            match decoder.push(piece, &mut out) {
                Ok(count) => taken += count,
                Err(error) => return (out, taken, Err(error)),
            }
            if decoder.is_done() {
                break;
            }
        }
        let end = decoder.finish();
        (out, taken, end)
    };
    let (whole, split) = (decode(data.len().max(1)), decode(length));
    assert_eq!(whole.0, split.0);
    assert_eq!(whole.2, split.2);
    assert!(whole.0.len() <= data.len());
    if whole.2.is_ok() {
        assert_eq!(whole.1, split.1);
    }
}

/// Inline metadata: audio and titles are the same in any split, and every title is clean.
pub fn icy_stream(data: &[u8]) {
    let (length, data) = piece_length(data);
    let (metaint, data) = piece_length(data);
    let metaint = u32::try_from(metaint).unwrap_or(1);
    let strip = |length: usize| {
        let (mut audio, mut titles) = (Vec::new(), Vec::new());
        let mut stripper = Stripper::new(metaint);
        for piece in data.chunks(length) {
            stripper.push(piece, &mut audio, &mut titles);
        }
        assert_eq!(stripper.audio_bytes(), audio.len() as u64);
        (audio, titles)
    };
    let whole = strip(data.len().max(1));
    assert_eq!(whole, strip(length));
    assert!(whole.0.len() <= data.len());
}

/// Titles: whatever comes in, a clean title has no control character, does not end the block early, and comes
/// back out of the block that carries it.
pub fn titles(data: &[u8]) {
    for label in [
        "utf-8",
        "latin1",
        "koi8-r",
        "shift_jis",
        "gb18030",
        "utf-16",
    ] {
        let charset = Charset::of(label).expect("a label of the standard");
        let text = charset.decode(data);
        let title = icy::clean_title(&text);
        assert!(title.len() <= icy::MAX_TITLE);
        assert!(!title.chars().any(char::is_control), "{title:?}");
        assert!(!title.contains("';"), "{title:?}");
        let block = icy::encode_title(&title, None);
        assert!(block.len() <= 1 + icy::MAX_BLOCK);
        let (mut audio, mut read) = (Vec::new(), Vec::new());
        let mut stripper = Stripper::new(1).with_charset(Charset::UTF_8);
        stripper.push(&[0], &mut audio, &mut read);
        stripper.push(&block, &mut audio, &mut read);
        assert_eq!(read, [(1, Title::of(&title))]);
    }
}

/// Frames between nodes: the same in any split, and written again they are read again.
pub fn frames(data: &[u8]) {
    let (length, data) = piece_length(data);
    let whole = decoded(data, data.len().max(1));
    assert_eq!(whole, decoded(data, length));
    for frame in whole {
        let mut out = BytesMut::new();
        if frame::encode(&frame, &mut out).is_ok() {
            let again = decoded(&out, out.len());
            assert_eq!(again.len(), 1, "{frame:?}");
            assert_eq!(again[0], frame);
        }
    }
}

fn decoded(data: &[u8], length: usize) -> Vec<Frame> {
    let (mut decoder, mut read) = (FrameDecoder::new(), Vec::new());
    for piece in data.chunks(length) {
        decoder.push(piece);
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => read.push(frame),
                Ok(None) => break,
                Err(_) => return read,
            }
        }
    }
    read
}

/// MPEG audio frames.
pub fn mpeg(data: &[u8]) {
    framed(data, format::mpeg::framer);
}

/// AAC in ADTS.
pub fn adts(data: &[u8]) {
    framed(data, format::adts::framer);
}

/// Ogg pages, chained and multiplexed.
pub fn ogg(data: &[u8]) {
    framed(data, || format::ogg::framer(HEADERS));
}

/// Containers, one after the other.
pub fn containers(data: &[u8]) {
    framed(data, || format::containers::ebml(HEADERS));
    framed(data, || format::containers::flac(HEADERS));
    framed(data, || format::containers::mp4(HEADERS));
    framed(data, || format::containers::wav(HEADERS));
}

/// Bytes of any format under a content type that says another.
pub fn detector(data: &[u8]) {
    let detector = || Detector::new("application/octet-stream", HEADERS);
    framed(data, || Box::new(detector().expect("a type that is taken")));
}

/// Most bytes of headers that a framer keeps here.
const HEADERS: usize = 64 * 1024;

/// A framer's output: the same media and sections in any split, counted exactly, and never more than came in.
fn framed(data: &[u8], make: impl Fn() -> Box<dyn Framer>) {
    let (length, data) = piece_length(data);
    let run = |length: usize| {
        let (mut framer, mut media, mut sections) = (make(), Vec::new(), 0_u32);
        for piece in data.chunks(length) {
            framer.push(piece, &mut |piece| match piece {
                Piece::Section(_) => sections += 1,
                Piece::Media { bytes, .. } => media.extend_from_slice(bytes),
                Piece::Type(_) | Piece::Unplayable(_) => {}
            });
        }
        let tally = framer.tally();
        assert_eq!(tally.found, media.len() as u64);
        assert!(tally.found + tally.skipped() <= data.len() as u64);
        (media, sections)
    };
    assert_eq!(run(data.len().max(1)), run(length));
}

/// A settings file: problems are reported, and reported problems have words.
pub fn yaml(data: &[u8]) {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(data).expect("a temporary file is written");
    load(Sources {
        file: Some(file.path().to_owned()),
        ..Sources::default()
    });
}

/// Environment variables, one `NAME=VALUE` a line.
pub fn environment(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    load(Sources {
        environment: pairs
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
        ..Sources::default()
    });
}

fn load(sources: Sources) {
    if let Err(error) = settings::load(&sources) {
        assert!(!error.problems.is_empty());
        assert!(!error.to_string().trim().is_empty());
    }
}

/// Messages between nodes, as JSON.
pub fn messages(data: &[u8]) {
    let clock = Clock {
        unix_millis: 1_800_000_000_000,
        stamped: Epoch(0),
    };
    if let Ok(request) = serde_json::from_slice::<JoinRequest>(data) {
        let _ = request.check(&clock);
    }
    if let Ok(beat) = serde_json::from_slice::<Beat>(data) {
        let _ = beat.check(&clock);
    }
    let _ = serde_json::from_slice::<JoinAnswer>(data).map(|answer| answer.check());
    let _ = serde_json::from_slice::<BeatAnswer>(data).map(|answer| answer.check());
    let _ = serde_json::from_slice::<FeedLine>(data).map(|line| line.check());
}

/// Mount paths and the paths of positioned pulls.
pub fn names(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(mount) = MountId::new(&text) {
        let path = mount.path();
        assert!(path.starts_with('/') && !path.contains("/../") && !path.ends_with("/.."));
        assert!(!path.chars().any(char::is_control), "{path:?}");
    }
    let (path, query) = match text.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (&*text, None),
    };
    if let Ok(ask) = relayctl::upstream::Ask::parse(path, query) {
        let target = ask.target();
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target.as_str(), None),
        };
        assert_eq!(relayctl::upstream::Ask::parse(path, query), Ok(ask));
    }
}
