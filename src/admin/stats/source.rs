//! One mount under Icecast's names: what anybody may know of it, and what operators see besides.

use std::borrow::Cow;
use std::sync::Arc;

use percent_encoding::percent_decode_str;
use serde_json::Value;

use super::{date, iso8601, listen_url, said};
use crate::base::ids::MountId;
use crate::control::Control;
use crate::engine::format::{Codec, Section};
use crate::engine::{Content, Mount, MountState};
use crate::telemetry::Audience;

/// Keys of an encoder's `ice-audio-info` that become fields, at most.
const MAX_SAID: usize = 16;

/// Longest key and value of `ice-audio-info` that become a field, in bytes.
const LONGEST_SAID: (usize, usize) = (32, 128);

/// A field's name and value.
type Field = (Cow<'static, str>, Value);

/// One mount, as Icecast names things.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub(super) mount: MountId,
    /// The mount that is heard where this one's source stays away.
    pub(super) fallback: String,
    pub(super) audience: Audience,
    pub(super) content_type: String,
    pub(super) since_unix_millis: u64,
    pub(super) connected: bool,
    content: Arc<Content>,
    /// Kilobits a second.
    bitrate: Option<u64>,
    section: Option<Arc<Section>>,
    listenurl: String,
    artist: Option<String>,
    title: Option<String>,
    max_listeners: Option<u64>,
    source_ip: Option<String>,
    user_agent: String,
    received_bytes: u64,
}

impl Source {
    pub(super) fn of(mount: &Mount, base: &str, control: &Control) -> Self {
        let content = mount.content();
        let feeder = mount.feeder();
        let kilobits = mount.kilobits();
        let fallback = control.engine.fallback_of(&mount.id);
        let (artist, title) = artist_and_title(mount);
        Self {
            mount: mount.id.clone(),
            fallback: fallback.map(|to| to.mount.to_string()).unwrap_or_default(),
            audience: control.telemetry.audience(&mount.counters),
            content_type: content.content_type.clone(),
            since_unix_millis: feeder.as_ref().map_or(0, |f| f.since_unix_millis),
            connected: mount.state() == MountState::Live,
            content,
            bitrate: (kilobits > 0).then_some(kilobits),
            section: mount.ring().section(),
            listenurl: listen_url(base, &mount.id),
            artist,
            title,
            max_listeners: control.config().listed(&mount.id).max_listeners,
            source_ip: feeder
                .as_ref()
                .and_then(|f| f.address)
                .map(|a| a.to_string()),
            user_agent: feeder.map(|f| f.agent).unwrap_or_default(),
            received_bytes: mount.counters.received_bytes(),
        }
    }

    /// Returns what anybody may know, in Icecast's order.
    pub(super) fn public_fields(&self) -> Vec<Field> {
        let said = |name: &str| said(&self.content, name);
        let text = |name: &str, default: &str| said(name).unwrap_or_else(|| default.into());
        let since = self.since_unix_millis;
        let own = [
            ("artist", self.artist.clone().map(Value::from)),
            ("audio_info", said("audio-info").map(Value::from)),
            ("bitrate", self.bitrate.map(Value::from)),
            ("genre", Some(text("genre", "various").into())),
            ("ice-bitrate", self.bitrate.map(Value::from)),
            ("ice-channels", self.channels().map(Value::from)),
            ("ice-samplerate", self.sample_rate().map(Value::from)),
            ("listener_peak", Some(self.audience.peak.into())),
            ("listeners", Some(self.audience.share.listeners.into())),
            ("listenurl", Some(self.listenurl.clone().into())),
            (
                "server_description",
                Some(text("description", "Unspecified description").into()),
            ),
            ("server_name", Some(text("name", "Unspecified name").into())),
            ("server_type", Some(self.content_type.clone().into())),
            ("server_url", said("url").map(Value::from)),
            ("stream_start", Some(date(since).into())),
            ("stream_start_iso8601", Some(iso8601(since).into())),
            ("title", self.title.clone().map(Value::from)),
        ];
        let own = own.into_iter().chain(self.ogg_fields());
        let mut fields: Vec<Field> = own
            .filter_map(|(name, value)| Some((Cow::from(name), value?)))
            .collect();
        if let Some(info) = said("audio-info") {
            fields.extend(said_of_audio(&info));
        }
        // A field of ours holds before one of that name from the encoder.
        fields.sort_by(|a, b| a.0.cmp(&b.0));
        fields.dedup_by(|later, first| later.0 == first.0);
        fields
    }

    /// Returns all that operators see, in Icecast's order.
    pub(super) fn all_fields(&self) -> Vec<Field> {
        let most = self.max_listeners;
        let share = &self.audience.share;
        let private: [(&str, Value); PRIVATE.len()] = [
            (
                "max_listeners",
                most.map_or_else(|| "unlimited".into(), Value::from),
            ),
            ("public", u8::from(self.is_public()).into()),
            ("slow_listeners", share.slow_listeners.into()),
            (
                "source_ip",
                self.source_ip.clone().unwrap_or_default().into(),
            ),
            ("total_bytes_read", self.received_bytes.into()),
            ("total_bytes_sent", share.sent_bytes.into()),
            ("user_agent", self.user_agent.clone().into()),
        ];
        let mut fields = self.public_fields();
        fields.extend(private.map(|(name, value)| (Cow::from(name), value)));
        fields.sort_by(|a, b| a.0.cmp(&b.0));
        fields
    }

    /// Fields that Icecast has for Ogg alone.
    fn ogg_fields(&self) -> Vec<(&'static str, Option<Value>)> {
        let Some(section) = self.section.as_ref().filter(|s| s.params.codec.is_ogg()) else {
            return Vec::new();
        };
        let subtype = match section.params.codec {
            Codec::Vorbis => Some("Vorbis"),
            Codec::Opus => Some("Opus"),
            Codec::Flac => Some("FLAC"),
            _ => None,
        };
        let bits = u64::from(section.bitrate);
        let bits = (bits > 0).then_some(bits);
        vec![
            ("FLAC_version", flac_version(section).map(Value::from)),
            ("audio_bitrate", bits.map(Value::from)),
            ("audio_channels", self.channels().map(Value::from)),
            ("audio_samplerate", self.sample_rate().map(Value::from)),
            ("subtype", subtype.map(Value::from)),
        ]
    }

    fn channels(&self) -> Option<u8> {
        let section = self.section.as_ref()?;
        Some(section.params.channels).filter(|count| *count > 0)
    }

    fn sample_rate(&self) -> Option<u32> {
        let section = self.section.as_ref()?;
        Some(section.params.sample_rate).filter(|rate| *rate > 0)
    }

    fn is_public(&self) -> bool {
        let said = |name| said(&self.content, name);
        said("public").or_else(|| said("pub")).as_deref() == Some("1")
    }
}

/// Names of the fields that operators alone see.
const PRIVATE: [&str; 7] = [
    "max_listeners",
    "public",
    "slow_listeners",
    "source_ip",
    "total_bytes_read",
    "total_bytes_sent",
    "user_agent",
];

/// Names of ours that an encoder may not take where we leave the field out.
const OURS: [&str; 5] = [
    "artist",
    "dummy",
    "server_url",
    "title",
    "yp_currently_playing",
];

/// Artist and title apart where they are those of the stream's own comments, else the title alone.
fn artist_and_title(mount: &Mount) -> (Option<String>, Option<String>) {
    let Some(title) = mount.title() else {
        return (None, None);
    };
    match (&title.artist, &title.name) {
        (Some(artist), Some(name)) => (Some(artist.clone()), Some(name.clone())),
        _ => (None, Some(title.text.clone())),
    }
}

/// Major and minor version of FLAC's mapping to Ogg, in the section's first page.
fn flac_version(section: &Section) -> Option<f64> {
    let start = section.header.get(..64)?;
    let at = start.windows(5).position(|part| part == b"\x7FFLAC")?;
    let (major, minor) = (start.get(at + 5)?, start.get(at + 6)?);
    format!("{major}.{minor}").parse().ok()
}

/// The pairs of `ice-audio-info` as fields: each is one in Icecast. Values are escaped as in URLs.
fn said_of_audio(info: &str) -> impl Iterator<Item = Field> + '_ {
    let pairs = info.split(';').filter_map(|pair| pair.split_once('='));
    let fields = pairs.filter_map(|(key, value)| {
        let (key, value) = (key.trim(), value.trim());
        let of_name = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_');
        let is_name = key.bytes().all(of_name)
            && key.starts_with(|c: char| c.is_ascii_alphabetic())
            && key.len() <= LONGEST_SAID.0;
        let is_free = !PRIVATE.contains(&key) && !OURS.contains(&key);
        if !is_name || !is_free || value.is_empty() || value.len() > LONGEST_SAID.1 {
            return None;
        }
        let text = percent_decode_str(value).decode_utf8_lossy();
        Some((Cow::from(key.to_owned()), number_or_text(&text)))
    });
    fields.take(MAX_SAID)
}

/// A whole number or fraction as such, anything else as text.
fn number_or_text(text: &str) -> Value {
    let digits = text.bytes().all(|c| c.is_ascii_digit() || c == b'.');
    let number = text.parse::<u64>().ok().map(Value::from);
    let number = number.or_else(|| text.parse::<f64>().ok().map(Value::from));
    number
        .filter(|number| digits && !number.is_null())
        .unwrap_or_else(|| text.into())
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::admin::testing::{Scene, mount};
    use crate::base::wall::unix_millis;
    use crate::engine::{Intake, Offer};

    /// A file of the format's own tests, as a source sends it, but for its last byte, with which a page ends.
    fn playing(scene: &Scene, file: &[u8]) -> Intake {
        let offer = Offer {
            content_type: "application/ogg".into(),
            headers: vec![("ice-audio-info".into(), "ice-quality=5;quality=0.5".into())],
            address: IpAddr::from([198, 51, 100, 7]),
            agent: "encoder/1".into(),
            stale: Duration::from_secs(5),
        };
        let engine = &scene.control.engine;
        let mut intake = engine.open_source(&mount("/a.ogg"), offer).unwrap();
        let (front, _) = file.split_at(file.len() - 1);
        intake.push(front, Instant::now(), unix_millis()).unwrap();
        intake
    }

    /// As icecast2 2.4.4 says it of such files, and the bit rate of Opus and FLAC not.
    #[tokio::test]
    async fn ogg_has_the_fields_that_it_has_in_icecast() {
        for (file, subtype, artist_and_title, more) in [
            (
                &include_bytes!("../../../tests/fixtures/vorbis.ogg")[..],
                "Vorbis",
                ("Fixture", "Vorbis"),
                "audio_bitrate",
            ),
            (
                &include_bytes!("../../../tests/fixtures/opus.ogg")[..],
                "Opus",
                ("Fixture", "Opus"),
                "audio_channels",
            ),
            (
                &include_bytes!("../../../tests/fixtures/flac.ogg")[..],
                "FLAC",
                ("Fixture", "Flac"),
                "FLAC_version",
            ),
        ] {
            let scene = Scene::new();
            let mut intake = playing(&scene, file);
            let one = scene.ask("/status-json.xsl").send().await.json();
            let source = &one["icestats"]["source"];
            assert_eq!(source["subtype"], subtype);
            let (artist, title) = artist_and_title;
            assert_eq!(
                (&source["artist"], &source["title"]),
                (&artist.into(), &title.into())
            );
            assert!(source["audio_samplerate"].as_u64() > Some(0), "{source}");
            assert!(source[more].as_f64() > Some(0.0), "{more}: {source}");
            assert_eq!(
                (&source["ice-quality"], &source["quality"]),
                (&5.into(), &0.5.into())
            );
            // A title that was set since, in one text: it is in the stream from its next page on.
            intake.title(crate::wire::title::Title::of("Somebody - Something"));
            let last = &file[file.len() - 1..];
            intake.push(last, Instant::now(), unix_millis()).unwrap();
            let xml = scene.ask("/admin/stats").admin().send().await.text;
            assert!(!xml.contains("<artist>"), "{xml}");
            assert!(xml.contains("<title>Somebody - Something</title>"), "{xml}");
        }
    }

    #[test]
    fn what_an_encoder_says_of_its_audio_becomes_fields() {
        let info = "ice-samplerate=44100;ice-quality=5%2e0; quality =0.4;x=a%20b;listeners=9;title=t;user_agent=u;\
                    <b>=1;9=2;empty=;noise";
        let fields: Vec<(String, Value)> = said_of_audio(info)
            .map(|(name, value)| (name.into_owned(), value))
            .collect();
        let names: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            ["ice-samplerate", "ice-quality", "quality", "x", "listeners"]
        );
        assert_eq!(fields[0].1, 44_100);
        assert_eq!(fields[1].1, 5.0);
        assert_eq!(fields[3].1, "a b");
        let many: String = (0..100).map(|n| format!("k{n}=1;")).collect();
        assert_eq!(said_of_audio(&many).count(), MAX_SAID);
        assert_eq!(said_of_audio("nan=NaN").next().unwrap().1, "NaN");
    }
}
