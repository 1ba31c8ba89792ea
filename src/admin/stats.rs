//! What Icecast tells of itself and its sources, once collected, and said as JSON and as XML.
//!
//! The shapes are those of Icecast 2.4.4, quirks included where tools count on them: `source` is absent without a
//! mount, an object with one, an array with more. Unlike there the JSON is always valid.

mod source;

use std::sync::Arc;
use std::time::Instant;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Map, Value, json};

use super::access::Caller;
use super::query::Query;
use super::xml::{Xml, answer};
use crate::base::ids::{MountId, encoded_path};
use crate::base::wall::rfc3339;
use crate::control::Control;
use crate::engine::{Content, Mount, MountState};
use crate::wire::message::Counts;
use crate::wire::response::imf_fixdate;
use source::Source;

/// A node and its mounts at one moment; on a primary the numbers are the station's.
#[derive(Debug, Clone)]
pub(super) struct Stats {
    admin: String,
    host: String,
    location: String,
    server_id: String,
    build: &'static str,
    started_unix_millis: u64,
    listeners: u64,
    counts: Counts,
    sources: Vec<Source>,
}

/// `base` and the mount's path, as a URL.
pub(super) fn listen_url(base: &str, mount: &MountId) -> String {
    use percent_encoding::{AsciiSet, NON_ALPHANUMERIC};
    const KEPT: &AsciiSet = &NON_ALPHANUMERIC
        .remove(b'/')
        .remove(b'-')
        .remove(b'.')
        .remove(b'_')
        .remove(b'~');
    format!("{base}{}", encoded_path(mount.path(), KEPT))
}

/// The mounts that are there: live or held.
pub(super) fn present(control: &Control) -> Vec<Arc<Mount>> {
    let mut mounts = control.engine.mounts();
    mounts.retain(|m| m.state() != MountState::Ended && !m.content().content_type.is_empty());
    mounts
}

/// Mounts that public pages and lists name.
pub(super) fn listed(control: &Control) -> Vec<Arc<Mount>> {
    let mut mounts = present(control);
    mounts.retain(|mount| !control.is_hidden(&mount.id));
    mounts
}

/// What a source says under `icy-` or `ice-`.
pub(super) fn said(content: &Content, name: &str) -> Option<String> {
    let of = |prefix: &str| content.header(&format!("{prefix}{name}"));
    let value = of("ice-").or_else(|| of("icy-"))?;
    (!value.is_empty()).then(|| value.to_owned())
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
    pub fn of_all(control: &Control, base: &str) -> Self {
        Self::of(control, base, &present(control))
    }

    /// The mounts that are not hidden.
    fn of_listed(control: &Control, base: &str) -> Self {
        Self::of(control, base, &listed(control))
    }

    fn of(control: &Control, base: &str, mounts: &[Arc<Mount>]) -> Self {
        let config = control.config();
        let sources = mounts.iter().map(|m| Source::of(m, base, control));
        Self {
            admin: config.admin_contact.clone(),
            host: host_of(base),
            location: config.location.clone(),
            server_id: server_id(control),
            build: control.identity.version,
            started_unix_millis: control.telemetry.started_unix_millis,
            listeners: control.station_listeners(),
            counts: control.station_counts(),
            sources: sources.collect(),
        }
    }

    /// Keeps one mount.
    #[must_use]
    pub fn only(mut self, mount: &MountId) -> Self {
        self.sources.retain(|source| source.mount == *mount);
        self
    }

    /// True where there is no mount.
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
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
        Xml::document("icestats", |xml| {
            self.globals(xml);
            for source in &self.sources {
                let name = source.mount.to_string();
                xml.element("source", &[("mount", &name)], |xml| {
                    for (name, value) in &source.all_fields() {
                        match value {
                            Value::String(text) => xml.text(name, text),
                            other => xml.text(name, other),
                        }
                    }
                });
            }
        })
    }

    /// Icecast's counters of the whole server, and the two that icecast-kh has besides.
    fn globals(&self, xml: &mut Xml) {
        let counts = &self.counts;
        let connected = self.sources.iter().filter(|s| s.connected).count() as u64;
        let sources = counts
            .source_client_connections
            .saturating_add(counts.source_relay_connections);
        xml.text("admin", &self.admin);
        // No address is ever banned here, as in an icecast-kh that bans nobody.
        xml.text("banned_IPs", 0);
        xml.text("build", self.build);
        xml.text("client_connections", counts.client_connections);
        xml.text("clients", self.listeners.saturating_add(connected));
        xml.text("connections", counts.connections);
        xml.text("file_connections", counts.file_connections);
        xml.text("host", &self.host);
        xml.text("listener_connections", counts.listener_connections);
        xml.text("listeners", self.listeners);
        xml.text("location", &self.location);
        xml.text("server_id", &self.server_id);
        xml.text("server_start", date(self.started_unix_millis));
        xml.text("server_start_iso8601", iso8601(self.started_unix_millis));
        xml.text(
            "source_client_connections",
            counts.source_client_connections,
        );
        xml.text("source_relay_connections", counts.source_relay_connections);
        xml.text("source_total_connections", sources);
        xml.text("sources", connected);
        // Those who follow statistics by the method STATS, which is not taken here (405).
        xml.text("stats", 0);
        xml.text("stats_connections", 0);
    }

    /// `/admin/listmounts`.
    pub fn list_xml(&self, now_unix_millis: u64) -> String {
        Xml::document("icestats", |xml| {
            for source in &self.sources {
                let name = source.mount.to_string();
                let connected = now_unix_millis.saturating_sub(source.since_unix_millis) / 1000;
                xml.element("source", &[("mount", &name)], |xml| {
                    xml.text("fallback", &source.fallback);
                    xml.text("listeners", source.audience.share.listeners);
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
        fields.insert(name.into_owned(), value);
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
    let mut stats = Stats::of_listed(&control, &caller.base_url(&control));
    match query.mount() {
        Some(Ok(mount)) => stats = stats.only(&mount),
        Some(Err(_)) => stats.sources.clear(),
        None => {}
    }
    let array = query.text("array").is_some_and(|text| text == "1");
    let text = stats.json(array).to_string();
    answer(StatusCode::OK, "application/json; charset=UTF-8", text)
}
