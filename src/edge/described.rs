//! What a source says of itself: its type and the headers that are carried to listeners. Pure.

use percent_encoding::percent_decode_str;

use crate::base::ids::MountId;
use crate::wire::head::Headers;
use crate::wire::icy::clean_field;

/// Carried headers at most.
const MAX_CARRIED: usize = 24;

/// The fields that three families of encoders name differently, and the name that players know.
const SYNONYMS: [(&str, &[&str]); 6] = [
    (
        "icy-br",
        &["ice-bitrate", "icy-br", "ice-br", "x-audiocast-bitrate"],
    ),
    (
        "icy-description",
        &[
            "ice-description",
            "icy-description",
            "x-audiocast-description",
        ],
    ),
    (
        "icy-genre",
        &["ice-genre", "icy-genre", "x-audiocast-genre"],
    ),
    ("icy-name", &["ice-name", "icy-name", "x-audiocast-name"]),
    (
        "icy-pub",
        &[
            "ice-public",
            "ice-pub",
            "icy-pub",
            "icy-public",
            "x-audiocast-public",
        ],
    ),
    ("icy-url", &["ice-url", "icy-url", "x-audiocast-url"]),
];

/// Of the source's headers those that go on to listeners and relays, under the names that players know,
/// in a fixed order. `ice-` wins over `icy-` over `x-audiocast-`, as in Icecast.
pub(super) fn carried_headers(headers: &Headers) -> Vec<(String, String)> {
    let mut carried: Vec<(String, String)> = Vec::new();
    for (name, synonyms) in SYNONYMS {
        let value = synonyms.iter().find_map(|synonym| headers.get(synonym));
        let from_info = || (name == "icy-br").then(|| info_bitrate(headers)).flatten();
        // A quality in place of a rate is of no use to a player.
        let is_usable = |value: &String| name != "icy-br" || begins_with_digit(value);
        let value = value.map(clean_field).filter(is_usable);
        if let Some(value) = value.or_else(from_info) {
            carried.push((name.to_owned(), value));
        }
    }
    for (name, value) in headers.iter() {
        let name = name.to_ascii_lowercase();
        let known = SYNONYMS
            .iter()
            .any(|(_, synonyms)| synonyms.contains(&name.as_str()));
        let ours = name.starts_with("icy-") || name == "ice-audio-info";
        let inner = matches!(name.as_str(), "icy-metaint" | "icy-metadata");
        if ours && !known && !inner && carried.len() < MAX_CARRIED {
            carried.push((name, clean_field(value)));
        }
    }
    carried
}

/// `bitrate` within `ice-audio-info: ice-samplerate=44100;ice-bitrate=128;ice-channels=2`.
fn info_bitrate(headers: &Headers) -> Option<String> {
    let info = headers.get("ice-audio-info")?;
    let mut pairs = info.split(';').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.find(|(key, _)| matches!(key.trim(), "ice-bitrate" | "bitrate"))?;
    // Escaped as in a URL: `Quality%3a%2010` from some encoders.
    let value = percent_decode_str(value.trim()).decode_utf8().ok()?;
    let value = clean_field(&value);
    begins_with_digit(&value).then_some(value)
}

fn begins_with_digit(value: &str) -> bool {
    value.starts_with(|c: char| c.is_ascii_digit())
}

/// The type as sent; where none is, by the mount's ending, else MP3 as every server before us takes it.
pub(super) fn content_type(sent: Option<&str>, mount: &MountId) -> String {
    if let Some(sent) = sent.map(str::trim).filter(|text| !text.is_empty()) {
        return sent.to_owned();
    }
    let ending = mount
        .path()
        .rsplit_once('.')
        .map_or("", |(_, ending)| ending);
    let guess = match ending.to_ascii_lowercase().as_str() {
        "ogg" | "oga" | "opus" => "application/ogg",
        "aac" | "aacp" => "audio/aac",
        "webm" => "audio/webm",
        _ => "audio/mpeg",
    };
    guess.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_families_one_name() {
        let mut headers = Headers::new();
        headers.push("Icy-Name", "icy");
        headers.push("ice-name", "ice");
        headers.push("x-audiocast-genre", "jazz");
        headers.push("ice-audio-info", "ice-samplerate=44100;ice-bitrate=128");
        headers.push("icy-logo", "http://l/");
        headers.push("icy-metaint", "8192");
        headers.push("Authorization", "Basic x");
        let carried = carried_headers(&headers);
        let pairs: Vec<(&str, &str)> = carried
            .iter()
            .map(|(n, v)| (n.as_str(), v.as_str()))
            .collect();
        let expected = [
            ("icy-br", "128"),
            ("icy-genre", "jazz"),
            ("icy-name", "ice"),
            ("ice-audio-info", "ice-samplerate=44100;ice-bitrate=128"),
            ("icy-logo", "http://l/"),
        ];
        assert_eq!(pairs, expected);
    }

    #[test]
    fn a_quality_is_no_bit_rate() {
        let rate = |name: &str, value: &str| {
            let mut headers = Headers::new();
            headers.push(name, value);
            let carried = carried_headers(&headers).into_iter();
            let mut rates = carried.filter(|(name, _)| name == "icy-br");
            rates.next().map(|(_, value)| value)
        };
        assert_eq!(rate("ice-audio-info", "bitrate=Quality%3a%2010"), None);
        assert_eq!(
            rate("ice-audio-info", "bitrate=12%38;x=y").as_deref(),
            Some("128")
        );
        assert_eq!(rate("ice-bitrate", "Quality 10"), None);
        assert_eq!(rate("icy-br", "128,128").as_deref(), Some("128,128"));
    }

    #[test]
    fn a_missing_type_is_guessed_from_the_mount() {
        let of = |path: &str| content_type(None, &MountId::new(path).unwrap());
        assert_eq!(of("/a.ogg"), "application/ogg");
        assert_eq!(of("/a"), "audio/mpeg");
        assert_eq!(
            content_type(Some(" audio/aac "), &MountId::new("/a").unwrap()),
            "audio/aac"
        );
    }
}
