//! Content types: their spellings, and which framer each gets.

use super::{Framer, adts, containers, loas, mpeg, ogg, opaque};

/// Longest parameters that are kept, in bytes.
const MAX_PARAMETERS: usize = 200;

/// How the bytes of a content type are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    Mpeg,
    Adts,
    Loas,
    Ogg,
    Flac,
    Ebml,
    Mp4,
    Wav,
    /// Samples without any header: rate and channels are in the content type.
    Pcm(containers::Pcm),
    /// Anything: what comes tells.
    Any,
    /// A format that is not known here.
    Opaque,
}

/// The formats that a stream may be found to be, whatever it says.
const RECOGNISED: [Family; 8] = [
    Family::Mpeg,
    Family::Adts,
    Family::Loas,
    Family::Ogg,
    Family::Flac,
    Family::Ebml,
    Family::Mp4,
    Family::Wav,
];

impl Family {
    /// A framer at the start of a stream whose sections have at most `limit` bytes of headers.
    pub fn framer(self, limit: usize) -> Box<dyn Framer> {
        match self {
            Self::Mpeg => mpeg::framer(),
            Self::Adts => adts::framer(),
            Self::Loas => loas::framer(),
            Self::Ogg => ogg::framer(limit),
            Self::Flac => containers::flac(limit),
            Self::Ebml => containers::ebml(limit),
            Self::Mp4 => containers::mp4(limit),
            Self::Wav => containers::wav(limit),
            Self::Pcm(pcm) => containers::pcm(pcm),
            Self::Any => opaque::nothing(),
            Self::Opaque => opaque::framer(),
        }
    }

    /// True where the framer can tell a stream of another format.
    pub fn is_checked(self) -> bool {
        !matches!(self, Self::Pcm(_) | Self::Opaque)
    }

    /// The formats beside this one that a stream may be found to be.
    pub fn others(self) -> impl Iterator<Item = Self> {
        RECOGNISED.into_iter().filter(move |other| *other != self)
    }

    /// The type that listeners are told where the declared one is wrong.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Mpeg => "audio/mpeg",
            Self::Adts => "audio/aac",
            Self::Loas => "audio/mp4a-latm",
            Self::Ogg => "application/ogg",
            Self::Flac => "audio/flac",
            Self::Ebml => "video/webm",
            Self::Mp4 => "video/mp4",
            Self::Wav => "audio/wav",
            Self::Pcm(_) | Self::Any | Self::Opaque => "application/octet-stream",
        }
    }
}

/// True if a source of this content type is taken: if some listener could play it.
pub fn is_taken(content_type: &str) -> bool {
    family_of(content_type).is_some()
}

/// True if the format of this content type is known here, so that a listener may join at any time.
pub fn is_known_type(content_type: &str) -> bool {
    family_of(content_type).is_some_and(|family| family != Family::Opaque)
}

/// The content type in one spelling: lower case, without quotes, the colloquial and old names (`mp3`, `audio/aacp`,
/// `application/x-ogg`) replaced by the registered ones, then its parameters, since `audio/L16` is nothing without its
/// `rate` (RFC 2586). `charset` is not kept.
pub fn normalise_content_type(content_type: &str) -> String {
    let (bare, parameters) = split(content_type);
    let kept = parameters.split(';').map(str::trim).filter(|parameter| {
        let Some((name, value)) = parameter.split_once('=') else {
            return false;
        };
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&-^_.+*".contains(&byte);
        let is_plain = |byte: u8| (b' '..=b'~').contains(&byte);
        let name = name.trim();
        let is_name = !name.is_empty() && name.bytes().all(is_token);
        is_name && !name.eq_ignore_ascii_case("charset") && value.bytes().all(is_plain)
    });
    let mut whole = registered(bare);
    let limit = whole.len() + MAX_PARAMETERS;
    for parameter in kept {
        if whole.len() + parameter.len() + 2 <= limit {
            whole.push_str("; ");
            whole.push_str(parameter);
        }
    }
    whole
}

/// A content type without its parameters.
pub fn without_parameters(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

/// Type and parameters, without the quotes that some encoders put around all of it.
fn split(content_type: &str) -> (&str, &str) {
    let whole = content_type.trim();
    let quoted = |text: &'static str| whole.strip_prefix(text)?.strip_suffix(text);
    let whole = quoted("\"").or_else(|| quoted("'")).unwrap_or(whole);
    let (bare, parameters) = whole.split_once(';').unwrap_or((whole, ""));
    (bare.trim().trim_matches(['"', '\'']), parameters)
}

fn registered(bare: &str) -> String {
    let lower = bare.to_ascii_lowercase();
    let registered = match lower.as_str() {
        "audio/mp3" | "audio/x-mp3" | "audio/x-mpeg" | "audio/mpeg3" | "audio/x-mpeg-3"
        | "audio/mpa" | "audio/mpg" | "audio/x-mpg" | "audio/x-mpegaudio" | "audio/mpeg-3"
        | "application/mp3" | "application/mpeg" | "application/x-mp3" | "mp3" | "mpeg" | "mpa"
        | "mpg" => "audio/mpeg",
        "audio/aacp"
        | "audio/x-aac"
        | "audio/x-aacp"
        | "audio/adts"
        | "audio/x-hx-aac-adts"
        | "audio/vnd.dlna.adts"
        | "application/aac"
        | "application/aacp"
        | "aac"
        | "aacp"
        | "aac+"
        | "adts" => "audio/aac",
        "audio/aacp-latm" | "audio/x-loas" | "audio/loas" | "audio/aac-latm" | "latm" | "loas" => {
            "audio/mp4a-latm"
        }
        "audio/x-ogg" | "audio/ogg-flac" | "audio/x-ogg-flac" | "audio/oga" | "audio/x-vorbis"
        | "audio/vorbis+ogg" | "audio/x-vorbis+ogg" | "audio/x-opus+ogg" | "audio/x-opus"
        | "audio/opus+ogg" | "audio/x-flac+ogg" | "oga" => "audio/ogg",
        "application/x-ogg"
        | "application/x-ogg-flac"
        | "application/ogg-flac"
        | "ogg"
        | "vorbis"
        | "x-ogg" => "application/ogg",
        "opus" => "audio/opus",
        "video/x-ogg" | "ogv" => "video/ogg",
        "audio/x-flac" | "application/flac" | "application/x-flac" | "flac" => "audio/flac",
        "application/x-matroska" | "application/matroska" | "video/matroska" | "mkv" => {
            "video/x-matroska"
        }
        "audio/matroska" | "mka" => "audio/x-matroska",
        "application/webm" | "webm" => "video/webm",
        "audio/x-wav" | "audio/wave" | "audio/vnd.wave" | "audio/x-pn-wav" | "wav" => "audio/wav",
        "audio/x-m4a" | "audio/m4a" | "audio/x-mp4" | "m4a" => "audio/mp4",
        "application/mp4" | "video/x-mp4" | "video/x-m4v" | "mp4" => "video/mp4",
        _ => return lower,
    };
    registered.to_owned()
}

/// The family of a content type in any spelling; `None` if no listener could play such a thing (`text/html`,
/// `image/png`, nothing at all).
pub(super) fn family_of(content_type: &str) -> Option<Family> {
    let normal = normalise_content_type(content_type);
    let bare = without_parameters(&normal);
    Some(match bare {
        "audio/mpeg" => Family::Mpeg,
        "audio/aac" => Family::Adts,
        "audio/mp4a-latm" => Family::Loas,
        "application/ogg" | "audio/ogg" | "audio/opus" | "audio/vorbis" | "video/ogg" => {
            Family::Ogg
        }
        "audio/flac" => Family::Flac,
        "audio/webm" | "video/webm" | "audio/x-matroska" | "video/x-matroska" => Family::Ebml,
        "audio/mp4" | "video/mp4" => Family::Mp4,
        "audio/wav" => Family::Wav,
        "application/octet-stream" | "application/binary" => Family::Any,
        _ => {
            if let Some(pcm) = containers::Pcm::of(&normal) {
                return Some(Family::Pcm(pcm));
            }
            let (kind, name) = bare.split_once('/')?;
            let is_media = matches!(kind, "audio" | "video") && !name.is_empty();
            return is_media.then_some(Family::Opaque);
        }
    })
}

/// Name of the format that the first bytes of a stream look like, for a message.
pub(super) fn looks_like(bytes: &[u8]) -> &'static str {
    const MARKS: [(&[u8], &str); 14] = [
        (b"OggS", "Ogg"),
        (b"\x1A\x45\xDF\xA3", "WebM or Matroska"),
        (b"fLaC", "FLAC"),
        (b"RIFF", "WAV"),
        (b"RF64", "WAV"),
        (b"FORM", "AIFF"),
        (b"ID3", "an ID3 tag without MP3 frames"),
        (b"\x30\x26\xB2\x75", "ASF (Windows Media)"),
        (b"#EXTM3U", "a playlist"),
        (b"[playlist]", "a playlist"),
        (b"<", "a page or XML"),
        (b"{", "JSON"),
        (b"FLV", "FLV"),
        (b"caff", "CAF"),
    ];
    let found = MARKS.iter().find(|(mark, _)| bytes.starts_with(mark));
    if let Some((_, name)) = found {
        return name;
    }
    match bytes.get(4..8) {
        Some(b"ftyp" | b"moov" | b"styp" | b"moof") => "MP4",
        _ if bytes.iter().step_by(188).take(20).all(|byte| *byte == 0x47) && !bytes.is_empty() => {
            "an MPEG transport stream"
        }
        _ if bytes.is_ascii() && !bytes.is_empty() => "text",
        _ => "no format that is known here",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_has_its_framer() {
        let cases: [(Family, &[&str]); 9] = [
            (
                Family::Mpeg,
                &[
                    "audio/mpeg",
                    "audio/mp3",
                    "AUDIO/x-MPEG",
                    " audio/mpeg ; charset=utf-8",
                    "\"audio/mpeg\"",
                    "mp3",
                    "'audio/mpeg'; x=1",
                    "application/mp3",
                ],
            ),
            (
                Family::Adts,
                &[
                    "audio/aac",
                    "audio/aacp",
                    "audio/x-aac",
                    "audio/aacp;codecs=mp4a.40.5",
                    "AAC",
                ],
            ),
            (Family::Loas, &["audio/MP4A-LATM", "audio/loas"]),
            (
                Family::Ogg,
                &[
                    "application/ogg",
                    "application/x-ogg",
                    "audio/ogg; codecs=opus",
                    "audio/x-ogg",
                    "audio/opus",
                    "audio/vorbis",
                    "video/ogg",
                    "ogg",
                    "application/x-ogg-flac",
                ],
            ),
            (Family::Flac, &["audio/flac", "audio/x-flac"]),
            (
                Family::Ebml,
                &[
                    "audio/webm",
                    "video/webm",
                    "audio/x-matroska",
                    "application/x-matroska",
                ],
            ),
            (Family::Mp4, &["audio/mp4", "video/mp4", "audio/x-m4a"]),
            (Family::Wav, &["audio/wav", "audio/x-wav"]),
            (
                Family::Opaque,
                &["video/nsv", "audio/basic-ish", "audio/amr"],
            ),
        ];
        for (family, names) in cases {
            for name in names {
                assert_eq!(family_of(name), Some(family), "{name}");
                assert_eq!(is_known_type(name), family != Family::Opaque, "{name}");
            }
        }
        assert!(matches!(
            family_of("audio/L16;rate=44100;channels=2"),
            Some(Family::Pcm(_))
        ));
        assert_eq!(family_of("application/octet-stream"), Some(Family::Any));
        for name in [
            "text/html",
            "application/json",
            "image/png",
            "",
            "audio",
            "audio/",
            ";audio/mpeg",
            "\"\"",
        ] {
            assert!(!is_taken(name), "{name}");
        }
    }

    #[test]
    fn one_spelling_and_the_parameters() {
        for (sent, normal) in [
            ("Audio/AACP; codecs=\"mp4a\"", "audio/aac; codecs=\"mp4a\""),
            ("audio/MP3", "audio/mpeg"),
            ("application/x-ogg", "application/ogg"),
            ("Video/WebM", "video/webm"),
            (
                "audio/L16;rate=44100;channels=2",
                "audio/l16; rate=44100; channels=2",
            ),
            ("audio/mpeg; charset=utf-8", "audio/mpeg"),
            ("\"audio/mpeg\"", "audio/mpeg"),
            ("\"audio/ogg; codecs=opus\"", "audio/ogg; codecs=opus"),
            ("audio/ogg;\r\nX: y", "audio/ogg"),
            ("mp3", "audio/mpeg"),
        ] {
            assert_eq!(normalise_content_type(sent), normal);
            assert_eq!(normalise_content_type(normal), normal, "twice");
        }
        let long = format!("audio/ogg; a={}; b=c", "x".repeat(300));
        assert_eq!(normalise_content_type(&long), "audio/ogg; b=c");
    }

    #[test]
    fn what_came_has_a_name() {
        for (bytes, name) in [
            (&b"OggS\0\x02"[..], "Ogg"),
            (b"\0\0\0\x18ftypisom", "MP4"),
            (b"<!DOCTYPE html>", "a page or XML"),
            (b"hello", "text"),
            (b"\x01\x02\x03\x80", "no format that is known here"),
            (b"", "no format that is known here"),
        ] {
            assert_eq!(looks_like(bytes), name);
        }
    }
}
