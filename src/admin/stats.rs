//! What Icecast tells of itself and its sources, once collected, and said as JSON and as XML.
//!
//! The shapes are those of Icecast 2.4.4, quirks included where tools count on them: `source` is absent without a
//! mount, an object with one, an array with more. Unlike there the JSON is always valid.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Map, Value, json};

use super::access::Caller;
use super::query::Query;
use super::xml::{Xml, answer};
use crate::base::ids::MountId;
use crate::base::wall::rfc3339;
use crate::control::Control;
use crate::engine::{Content, Mount, MountState};
use crate::wire::response::imf_fixdate;

/// A node and its mounts at one moment.
#[derive(Debug, Clone)]
pub(super) struct Stats {
    admin: String,
    host: String,
    location: String,
    server_id: String,
    started_unix_millis: u64,
    sessions: u64,
    sources: Vec<Source>,
}

/// One mount, as Icecast names things.
#[derive(Debug, Clone)]
struct Source {
    mount: MountId,
    /// The mount that is heard where this one's source stays away.
    fallback: String,
    audio_info: Option<String>,
    /// Kilobits a second.
    bitrate: Option<u64>,
    channels: Option<u8>,
    samplerate: Option<u32>,
    genre: String,
    description: String,
    name: String,
    url: Option<String>,
    content_type: String,
    public: bool,
    listeners: u64,
    listener_peak: u64,
    listenurl: String,
    since_unix_millis: u64,
    title: Option<String>,
    connected: bool,
    slow_listeners: u64,
    source_ip: Option<String>,
    user_agent: String,
    received_bytes: u64,
    sent_bytes: u64,
}

/// `base` and the mount's path, as a URL.
pub(super) fn listen_url(base: &str, mount: &MountId) -> String {
    use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
    const KEPT: AsciiSet = NON_ALPHANUMERIC
        .remove(b'/')
        .remove(b'-')
        .remove(b'.')
        .remove(b'_')
        .remove(b'~');
    format!("{base}{}", utf8_percent_encode(mount.path(), &KEPT))
}

/// The mounts that are there: live or held.
pub(super) fn present(control: &Control) -> Vec<Arc<Mount>> {
    let mut mounts = control.engine.mounts();
    mounts.retain(|m| m.state() != MountState::Ended && !m.content().content_type.is_empty());
    mounts
}

/// What a source says under `icy-` or `ice-`.
pub(super) fn said(content: &Content, name: &str) -> Option<String> {
    let of = |prefix: &str| content.header(&format!("{prefix}{name}"));
    let value = of("ice-").or_else(|| of("icy-"))?;
    (!value.is_empty()).then(|| value.to_owned())
}

impl Source {
    fn of(mount: &Mount, base: &str, control: &Control) -> Self {
        let content = mount.content();
        let counters = &mount.counters;
        let feeder = mount.feeder();
        let params = mount.ring().section().map(|section| section.params.clone());
        let kilobits = mount.kilobits();
        let or = |name: &str, default: &str| said(&content, name).unwrap_or_else(|| default.into());
        Self {
            mount: mount.id.clone(),
            fallback: control
                .engine
                .fallback_of(&mount.id)
                .map(|fallback| fallback.mount.to_string())
                .unwrap_or_default(),
            audio_info: said(&content, "audio-info"),
            bitrate: (kilobits > 0).then_some(kilobits),
            channels: params.as_ref().map(|p| p.channels).filter(|n| *n > 0),
            samplerate: params.as_ref().map(|p| p.sample_rate).filter(|n| *n > 0),
            genre: or("genre", "various"),
            description: or("description", "Unspecified description"),
            name: or("name", "Unspecified name"),
            url: said(&content, "url"),
            content_type: content.content_type.clone(),
            public: said(&content, "public")
                .or_else(|| said(&content, "pub"))
                .as_deref()
                == Some("1"),
            listeners: counters.listeners(),
            listener_peak: counters.peak(),
            listenurl: listen_url(base, &mount.id),
            since_unix_millis: feeder.as_ref().map_or(0, |f| f.since_unix_millis),
            title: mount.title().map(|title| title.text.clone()),
            connected: mount.state() == MountState::Live,
            slow_listeners: counters.slow_jumps() + counters.slow_closes(),
            source_ip: feeder
                .as_ref()
                .and_then(|f| f.address)
                .map(|a| a.to_string()),
            user_agent: feeder.map(|f| f.agent).unwrap_or_default(),
            received_bytes: counters.received_bytes(),
            sent_bytes: counters.sent_bytes(),
        }
    }

    /// What anybody may know, in Icecast's order.
    fn public_fields(&self) -> Vec<(&'static str, Value)> {
        let since = self.since_unix_millis;
        let fields = [
            ("audio_info", self.audio_info.clone().map(Value::from)),
            ("bitrate", self.bitrate.map(Value::from)),
            ("genre", Some(self.genre.clone().into())),
            ("ice-bitrate", self.bitrate.map(Value::from)),
            ("ice-channels", self.channels.map(Value::from)),
            ("ice-samplerate", self.samplerate.map(Value::from)),
            ("listener_peak", Some(self.listener_peak.into())),
            ("listeners", Some(self.listeners.into())),
            ("listenurl", Some(self.listenurl.clone().into())),
            ("server_description", Some(self.description.clone().into())),
            ("server_name", Some(self.name.clone().into())),
            ("server_type", Some(self.content_type.clone().into())),
            ("server_url", self.url.clone().map(Value::from)),
            ("stream_start", Some(date(since).into())),
            ("stream_start_iso8601", Some(iso8601(since).into())),
            ("title", self.title.clone().map(Value::from)),
        ];
        let known = fields.into_iter().filter_map(|(k, v)| Some((k, v?)));
        known.collect()
    }

    /// What operators see besides.
    fn private_fields(&self) -> Vec<(&'static str, Value)> {
        vec![
            ("max_listeners", "unlimited".into()),
            ("public", u8::from(self.public).into()),
            ("slow_listeners", self.slow_listeners.into()),
            (
                "source_ip",
                self.source_ip.clone().unwrap_or_default().into(),
            ),
            ("total_bytes_read", self.received_bytes.into()),
            ("total_bytes_sent", self.sent_bytes.into()),
            ("user_agent", self.user_agent.clone().into()),
        ]
    }
}

/// `Sat, 21 Nov 2026 02:31:26 +0000`.
fn date(unix_millis: u64) -> String {
    imf_fixdate(unix_millis).replace("GMT", "+0000")
}

/// `2026-11-21T02:31:26+0000`, without a colon in the offset as Icecast writes it.
fn iso8601(unix_millis: u64) -> String {
    let text = rfc3339(unix_millis);
    format!("{}+0000", text.get(..19).unwrap_or_default())
}

impl Stats {
    /// All mounts as they are now; `base` is where this client reaches them.
    pub fn collect(control: &Control, base: &str) -> Self {
        let config = control.config();
        let mounts = present(control);
        let counters = control.telemetry.mounts();
        Self {
            admin: config.admin_contact.clone(),
            host: host_of(base),
            location: config.location.clone(),
            server_id: server_id(control),
            started_unix_millis: control.telemetry.started_unix_millis,
            sessions: counters.iter().map(|(_, c)| c.sessions()).sum(),
            sources: mounts
                .iter()
                .map(|m| Source::of(m, base, control))
                .collect(),
        }
    }

    /// Keeps one mount.
    #[must_use]
    pub fn only(mut self, mount: &MountId) -> Self {
        self.sources.retain(|source| source.mount == *mount);
        self
    }

    /// `/status-json.xsl`. With `array` the sources are always an array.
    pub fn json(&self, array: bool) -> Value {
        let mut icestats = Map::new();
        for (name, value) in [
            ("admin", self.admin.clone()),
            ("host", self.host.clone()),
            ("location", self.location.clone()),
            ("server_id", self.server_id.clone()),
            ("server_start", date(self.started_unix_millis)),
            ("server_start_iso8601", iso8601(self.started_unix_millis)),
        ] {
            icestats.insert(name.into(), value.into());
        }
        let mut sources: Vec<Value> = self.sources.iter().map(source_json).collect();
        let source = match sources.len() {
            _ if array => Some(Value::Array(sources)),
            0 => None,
            1 => sources.pop(),
            _ => Some(Value::Array(sources)),
        };
        if let Some(source) = source {
            icestats.insert("source".into(), source);
        }
        json!({ "icestats": icestats })
    }

    /// `/admin/stats`.
    pub fn xml(&self) -> String {
        let listeners = self.sources.iter().map(|s| s.listeners);
        let listeners = listeners.fold(0_u64, u64::saturating_add);
        let connected = self.sources.iter().filter(|s| s.connected).count();
        Xml::document("icestats", |xml| {
            xml.text("admin", &self.admin);
            xml.text("clients", listeners.saturating_add(connected as u64));
            xml.text("host", &self.host);
            xml.text("listener_connections", self.sessions);
            xml.text("listeners", listeners);
            xml.text("location", &self.location);
            xml.text("server_id", &self.server_id);
            xml.text("server_start", date(self.started_unix_millis));
            xml.text("server_start_iso8601", iso8601(self.started_unix_millis));
            xml.text("sources", connected);
            for source in &self.sources {
                let name = source.mount.to_string();
                xml.element("source", &[("mount", &name)], |xml| {
                    let mut fields = source.public_fields();
                    fields.extend(source.private_fields());
                    fields.sort_by_key(|(name, _)| *name);
                    for (name, value) in &fields {
                        match value {
                            Value::String(text) => xml.text(name, text),
                            other => xml.text(name, other),
                        }
                    }
                });
            }
        })
    }

    /// `/admin/listmounts`.
    pub fn list_xml(&self, now_unix_millis: u64) -> String {
        Xml::document("icestats", |xml| {
            for source in &self.sources {
                let name = source.mount.to_string();
                let connected = now_unix_millis.saturating_sub(source.since_unix_millis) / 1000;
                xml.element("source", &[("mount", &name)], |xml| {
                    xml.text("fallback", &source.fallback);
                    xml.text("listeners", source.listeners);
                    xml.text("Connected", connected);
                    xml.text("content-type", &source.content_type);
                });
            }
        })
    }
}

fn source_json(source: &Source) -> Value {
    let mut fields = Map::new();
    for (name, value) in source.public_fields() {
        fields.insert(name.into(), value);
    }
    fields.insert("dummy".into(), Value::Null);
    Value::Object(fields)
}

/// `relayctl 0.1.0`.
pub(super) fn server_id(control: &Control) -> String {
    format!("relayctl {}", control.identity.version)
}

fn host_of(base: &str) -> String {
    let host = url::Url::parse(base)
        .ok()
        .and_then(|url| url.host_str().map(str::to_owned));
    host.unwrap_or_default()
}

/// How long `mount` has been fed, in whole seconds; 0 while it is not.
pub(super) fn uptime(mount: &Mount, now_unix_millis: u64) -> u64 {
    let since = mount
        .feeder()
        .map_or(now_unix_millis, |f| f.since_unix_millis);
    let live = mount.state() == MountState::Live;
    if live {
        now_unix_millis.saturating_sub(since) / 1000
    } else {
        0
    }
}

/// How long no byte has come, in seconds.
pub(super) fn idle_seconds(mount: &Mount) -> f64 {
    (mount.idle(Instant::now()).as_secs_f64() * 1000.0).round() / 1000.0
}

/// `GET /status-json.xsl?mount=&array=1`.
pub(super) async fn status_json(
    State(control): State<Arc<Control>>,
    caller: Caller,
    query: Query,
) -> Response {
    let mut stats = Stats::collect(&control, &caller.base_url(&control));
    match query.mount() {
        Some(Ok(mount)) => stats = stats.only(&mount),
        Some(Err(_)) => stats.sources.clear(),
        None => {}
    }
    let array = query.text("array").is_some_and(|text| text == "1");
    let text = stats.json(array).to_string();
    answer(StatusCode::OK, "application/json; charset=UTF-8", text)
}
