//! Which framer a content type gets.

use super::{Framer, adts, mpeg, ogg, opaque};

/// How the bytes of a content type are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Mpeg,
    Adts,
    Ogg,
    Opaque,
}

/// The framer for a source's content type, or `None` if no listener could play such a thing (`text/html`,
/// `image/png`, nothing at all). Parameters after `;` and case make no difference.
pub fn for_content_type(content_type: &str) -> Option<Box<dyn Framer>> {
    Some(match family(&normalise_content_type(content_type))? {
        Family::Mpeg => mpeg::framer(),
        Family::Adts => adts::framer(),
        Family::Ogg => ogg::framer(),
        Family::Opaque => opaque::framer(),
    })
}

/// True if streams of this content type travel in Ogg pages.
pub fn is_ogg_type(content_type: &str) -> bool {
    family(&normalise_content_type(content_type)) == Some(Family::Ogg)
}

/// The content type in one spelling: lower case, without parameters, and the old names of MP3, AAC and Ogg
/// replaced by the registered ones (`audio/mpeg`, `audio/aac`, `audio/ogg`, `application/ogg`). Equal results
/// mean equal formats.
pub fn normalise_content_type(content_type: &str) -> String {
    let bare = content_type.split(';').next().unwrap_or_default().trim();
    let lower = bare.to_ascii_lowercase();
    let registered = match lower.as_str() {
        "audio/mp3" | "audio/x-mp3" | "audio/x-mpeg" | "audio/mpeg3" | "audio/x-mpeg-3"
        | "audio/mpa" => "audio/mpeg",
        "audio/aacp" | "audio/x-aac" | "audio/x-aacp" => "audio/aac",
        "audio/x-ogg" => "audio/ogg",
        "application/x-ogg" => "application/ogg",
        "video/x-ogg" => "video/ogg",
        _ => return lower,
    };
    registered.to_owned()
}

/// Takes what [`normalise_content_type`] returned.
fn family(normal: &str) -> Option<Family> {
    match normal {
        "audio/mpeg" => Some(Family::Mpeg),
        "audio/aac" => Some(Family::Adts),
        "application/ogg" | "audio/ogg" | "audio/opus" | "audio/vorbis" | "video/ogg" => {
            Some(Family::Ogg)
        }
        "application/octet-stream" => Some(Family::Opaque),
        _ => {
            let (kind, name) = normal.split_once('/')?;
            (matches!(kind, "audio" | "video") && !name.is_empty()).then_some(Family::Opaque)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn family_of(content_type: &str) -> Option<Family> {
        family(&normalise_content_type(content_type))
    }

    #[test]
    fn every_type_has_its_framer() {
        for name in [
            "audio/mpeg",
            "audio/mp3",
            "AUDIO/x-MPEG",
            " audio/mpeg ; charset=utf-8",
        ] {
            assert_eq!(family_of(name), Some(Family::Mpeg), "{name}");
        }
        for name in [
            "audio/aac",
            "audio/aacp",
            "audio/x-aac",
            "audio/aacp;codecs=mp4a.40.5",
        ] {
            assert_eq!(family_of(name), Some(Family::Adts), "{name}");
        }
        for name in [
            "application/ogg",
            "application/x-ogg",
            "audio/ogg; codecs=opus",
            "audio/x-ogg",
            "audio/opus",
            "audio/vorbis",
            "video/ogg",
        ] {
            assert_eq!(family_of(name), Some(Family::Ogg), "{name}");
            assert!(is_ogg_type(name), "{name}");
        }
        for name in [
            "audio/webm",
            "video/webm",
            "audio/x-matroska",
            "application/octet-stream",
            "audio/flac",
            "video/nsv",
            "audio/wav",
        ] {
            assert_eq!(family_of(name), Some(Family::Opaque), "{name}");
            assert!(for_content_type(name).is_some(), "{name}");
            assert!(!is_ogg_type(name), "{name}");
        }
        for name in [
            "text/html",
            "application/json",
            "image/png",
            "",
            "audio",
            "audio/",
            ";audio/mpeg",
        ] {
            assert!(for_content_type(name).is_none(), "{name}");
        }
    }

    #[test]
    fn one_spelling() {
        assert_eq!(
            normalise_content_type("Audio/AACP; codecs=\"mp4a\""),
            "audio/aac"
        );
        assert_eq!(normalise_content_type("audio/MP3"), "audio/mpeg");
        assert_eq!(
            normalise_content_type("application/x-ogg"),
            "application/ogg"
        );
        assert_eq!(normalise_content_type("Video/WebM"), "video/webm");
    }
}
