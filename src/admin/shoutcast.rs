//! What Shoutcast's tools ask: `/7.html`, `/stats`, and the title by `/admin.cgi`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value};

use super::access::{Caller, later};
use super::icecast::title_of;
use super::query::Query;
use super::stats::{listed, said, server_id, uptime};
use super::titles;
use super::xml::{Xml, answer};
use crate::base::ids::MountId;
use crate::base::wall::unix_millis;
use crate::cluster::snapshot::State as NodeState;
use crate::control::{Control, Denied, Role};
use crate::engine::{Mount, MountState};
use crate::telemetry::refuse;

/// What a Shoutcast v1 source is called, since it does not say who it is.
pub const SHOUTCAST_AGENT: &str = "Shoutcast v1";

/// One stream as Shoutcast counts.
#[derive(Debug, Clone, Default)]
struct Stream {
    current: u64,
    peak: u64,
    max: u64,
    unique: u64,
    average_seconds: u64,
    genre: String,
    url: String,
    name: String,
    title: String,
    hits: u64,
    live: bool,
    path: String,
    uptime: u64,
    kilobits: u64,
    sample_rate: u32,
    content: String,
    version: String,
}

impl Stream {
    fn of(control: &Control, query: &Query) -> Self {
        let mut stream = Self {
            max: most_of_all(control),
            version: server_id(control),
            ..Self::default()
        };
        if let Some(mount) = chosen(control, query) {
            stream.fill(control, &mount);
        }
        stream
    }

    fn fill(&mut self, control: &Control, mount: &Mount) {
        let content = mount.content();
        let word = |name: &str| said(&content, name).unwrap_or_default();
        control.telemetry.count_addresses();
        let audience = control.telemetry.audience(&mount.counters);
        let share = audience.share;
        if let Some(most) = control.config().listed(&mount.id).max_listeners {
            self.max = most;
        }
        self.current = share.listeners;
        self.peak = audience.peak;
        self.unique = share.unique_listeners;
        self.average_seconds = share
            .listened_seconds
            .checked_div(share.listeners)
            .unwrap_or(0);
        self.genre = word("genre");
        self.url = word("url");
        self.name = word("name");
        self.title = mount
            .title()
            .map(|title| title.text.clone())
            .unwrap_or_default();
        self.hits = share.sessions;
        self.live = mount.state() == MountState::Live;
        self.path = mount.id.path().to_owned();
        self.uptime = uptime(mount, unix_millis());
        self.kilobits = mount.kilobits();
        self.sample_rate = mount.ring().section().map_or(0, |s| s.params.sample_rate);
        self.content.clone_from(&content.content_type);
    }

    fn fields(&self) -> Vec<(&'static str, Value)> {
        vec![
            ("currentlisteners", self.current.into()),
            ("peaklisteners", self.peak.into()),
            ("maxlisteners", self.max.into()),
            ("uniquelisteners", self.unique.into()),
            ("averagetime", self.average_seconds.into()),
            ("servergenre", self.genre.clone().into()),
            ("serverurl", self.url.clone().into()),
            ("servertitle", self.name.clone().into()),
            ("songtitle", self.title.clone().into()),
            ("streamhits", self.hits.into()),
            ("streamstatus", u8::from(self.live).into()),
            ("streampath", self.path.clone().into()),
            ("streamuptime", self.uptime.into()),
            // These two are texts in Shoutcast's answer.
            ("bitrate", self.kilobits.to_string().into()),
            ("samplerate", self.sample_rate.to_string().into()),
            ("content", self.content.clone().into()),
            ("version", self.version.clone().into()),
        ]
    }
}

/// The mount that is meant: `mount=`, else the `sid`-th by name, else the Shoutcast source's, else the first one that is
/// live. Hidden mounts are none of them.
fn chosen(control: &Control, query: &Query) -> Option<Arc<Mount>> {
    let named = match query.mount() {
        Some(named) => named.ok()?,
        None => {
            let number = usize::try_from(query.number("sid").unwrap_or(1)).ok()?;
            control.stream_of(number)?
        }
    };
    let mut mounts = listed(control).into_iter();
    mounts.find(|mount| mount.id == named)
}

/// Most listeners at once where a mount has no limit of its own: of this node, on a primary of all that are not dead.
fn most_of_all(control: &Control) -> u64 {
    let own = control.config().max_listeners;
    if control.identity.role != Role::Primary {
        return own;
    }
    let table = control.snapshot();
    let others = table.nodes.iter();
    let others = others.filter(|n| n.id != control.identity.id && n.state != NodeState::Dead);
    others
        .map(|node| node.limits.max_listeners)
        .fold(own, u64::saturating_add)
}

/// `GET /7.html`: seven values in a page.
pub(super) async fn seven(State(control): State<Arc<Control>>, query: Query) -> Response {
    let s = Stream::of(&control, &query);
    let text = format!(
        "<html><body>{},{},{},{},{},{},{}</body></html>",
        s.current,
        u8::from(s.live),
        s.peak,
        s.max,
        s.unique,
        s.kilobits,
        quick_xml::escape::escape(&s.title),
    );
    answer(StatusCode::OK, "text/html; charset=utf-8", text)
}

/// `GET /stats?sid=&json=1`.
pub(super) async fn stats(State(control): State<Arc<Control>>, query: Query) -> Response {
    let stream = Stream::of(&control, &query);
    if query.text("json").is_some_and(|text| text == "1") {
        let fields = stream.fields().into_iter();
        let map: Map<String, Value> = fields
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        let text = Value::Object(map).to_string();
        return answer(StatusCode::OK, "application/json; charset=utf-8", text);
    }
    let text = Xml::document("SHOUTCASTSERVER", |xml| {
        for (name, value) in stream.fields() {
            match value {
                Value::String(text) => xml.text(&name.to_uppercase(), text),
                other => xml.text(&name.to_uppercase(), other),
            }
        }
    });
    answer(StatusCode::OK, "text/xml; charset=utf-8", text)
}

/// `GET /admin.cgi?mode=updinfo&pass=&song=`: how Shoutcast v1 encoders set a title.
pub(super) async fn admin_cgi(
    State(control): State<Arc<Control>>,
    caller: Caller,
    query: Query,
) -> Response {
    let pass = query.text("pass").unwrap_or_default();
    let (in_pass, password) = read_pass(&pass);
    let titled = titled(&control, &query, in_pass);
    let default = || control.config().default_mount.clone();
    let mount = titled.clone().unwrap_or_else(default);
    // An attached server judges the password when the title is set.
    if !titles::is_judged_there(&control)
        && let Err(denied) = may_title(&control, &caller, &mount, password)
    {
        caller.tell_refused_title(&control, &mount, denied);
        return refused(denied);
    }
    if titled.is_none() {
        return (StatusCode::BAD_REQUEST, "this names no mount\n").into_response();
    }
    if query.text("mode").as_deref() != Some("updinfo") {
        let text =
            "relayctl has only `mode=updinfo` here: see `/api/v1/openapi.json` for the rest\n";
        return (StatusCode::NOT_IMPLEMENTED, text).into_response();
    }
    let title = match title_of(&query, control.engine.charset(&mount)) {
        Ok(title) => title,
        Err(why) => return (StatusCode::BAD_REQUEST, format!("{why}\n")).into_response(),
    };
    let text = title.text.clone();
    match titles::set(&control, &mount, title, &caller, Some(password)).await {
        Ok(()) => {}
        Err(titles::NotSet::NoSource) => {
            let text = format!("no source feeds `{mount}` now: connect it first\n");
            return (StatusCode::NOT_FOUND, text).into_response();
        }
        Err(titles::NotSet::Denied(denied)) => return refused(denied),
        Err(titles::NotSet::Engine(status, text)) => {
            return (status, format!("{text}\n")).into_response();
        }
    }
    tracing::debug!(%mount, title = text, "title");
    answer(StatusCode::OK, "text/html; charset=utf-8", String::new())
}

/// By `Authorization` where there is one, else or besides by `pass=`.
fn may_title(
    control: &Control,
    caller: &Caller,
    mount: &MountId,
    password: &str,
) -> Result<(), Denied> {
    if caller.shows_credential() && caller.may_title(control, mount).is_ok() {
        return Ok(());
    }
    caller.may_title_by(control, mount, password)
}

fn refused(denied: Denied) -> Response {
    if let Denied::Delayed(seconds) = denied {
        return later("/admin.cgi", seconds);
    }
    refuse("source_password");
    let text = "invalid password: `pass` is the source password\n";
    (StatusCode::UNAUTHORIZED, text).into_response()
}

/// A password as a v1 source writes it: `secret`, `secret:#1`, or `/mount:secret`.
fn read_pass(pass: &str) -> (Option<&str>, &str) {
    if pass.starts_with('/')
        && let Some((mount, password)) = pass.split_once(':')
    {
        return (Some(mount), password);
    }
    match pass.rsplit_once(":#") {
        Some((password, stream)) if stream.bytes().all(|b| b.is_ascii_digit()) => (None, password),
        _ => (None, pass),
    }
}

/// The mount whose title is meant: the one that is named, else what a v1 source feeds, else the default.
fn titled(control: &Control, query: &Query, in_pass: Option<&str>) -> Option<MountId> {
    if let Some(path) = in_pass {
        return MountId::new(path).ok();
    }
    if let Some(named) = query.mount() {
        return named.ok();
    }
    let sources = control.engine.sources().into_iter();
    let mut fed = sources.filter(|(_, feeder)| feeder.agent == SHOUTCAST_AGENT);
    let default = || control.config().default_mount.clone();
    Some(fed.next().map_or_else(default, |(mount, _)| mount))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_as_v1_sources_write_them() {
        assert_eq!(read_pass("hackme"), (None, "hackme"));
        assert_eq!(read_pass("hackme:#2"), (None, "hackme"));
        assert_eq!(read_pass("a:#b"), (None, "a:#b"));
        assert_eq!(read_pass("/talk:hack:me"), (Some("/talk"), "hack:me"));
        assert_eq!(read_pass("/odd"), (None, "/odd"));
    }
}
