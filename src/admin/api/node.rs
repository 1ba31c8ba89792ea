//! `/api/v1/status`: this node on one screen.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::Error;
use super::orders::Drain;
use crate::admin::access::Read;
use crate::admin::stats::present;
use crate::base::wall::{rfc3339, unix_millis};
use crate::control::{self, Control};
use crate::engine::{MountState, fanout};
use crate::outside::{self, Outside};
use crate::wire::tls;

/// How listeners are sent to.
#[derive(Serialize, ToSchema)]
pub(super) struct Fanout {
    /// `plain`: a system call for each send; `io_uring`: one for many.
    backend: &'static str,
    /// Why it was chosen.
    reason: String,
    /// Threads that send.
    threads: usize,
}

impl Fanout {
    fn of(report: fanout::Report) -> Self {
        Self {
            backend: report.backend.as_str(),
            reason: report.reason,
            threads: report.shards.iter().map(|(_, count)| count).sum(),
        }
    }
}

/// What carries the audio where that is no engine of our own.
#[derive(Serialize, ToSchema)]
pub(super) struct Engine {
    /// `icecast` or `shoutcast`; none where it is not known yet.
    kind: Option<&'static str>,
    /// `starting`, `up` or `down`.
    state: &'static str,
    /// Why it is not up.
    reason: Option<String>,
    /// What it calls itself.
    server: Option<String>,
    /// True for a server that runs by itself, false for a process of this node.
    attached: bool,
    /// How often this node has started it again.
    restarts: u64,
}

impl Engine {
    fn of(outside: &Outside) -> Self {
        let status = outside.status();
        let some = |text: String| Some(text).filter(|text| !text.is_empty());
        Self {
            kind: status.kind.map(outside::Kind::as_str),
            state: status.state.as_str(),
            reason: some(status.why),
            server: some(outside.statistics().server.clone()),
            attached: outside.is_attached(),
            restarts: outside.restarts(),
        }
    }
}

/// This node.
#[derive(Serialize, ToSchema)]
pub(super) struct Status {
    /// Its lasting identity.
    id: String,
    /// Its name.
    name: String,
    /// `primary` or `relay`.
    role: &'static str,
    /// `up`, `draining` while it takes nobody new, or `waiting to join`.
    state: &'static str,
    /// Troubles that keep listeners or sources away now, the gravest first.
    notices: Vec<Notice>,
    /// The source: `live`, `lost` while its listeners are held, `waiting` before any.
    source: &'static str,
    /// The program's version.
    version: &'static str,
    /// When the process began.
    started: String,
    /// How long ago that was.
    uptime_seconds: u64,
    /// Where listeners reach it by http.
    public_url: Option<String>,
    /// Where listeners reach it by https.
    public_url_https: Option<String>,
    /// What the data port shows to those who speak TLS; none where it speaks none.
    certificate: Option<Certificate>,
    /// Listeners here now.
    listeners: u64,
    /// Most listeners that it takes.
    max_listeners: u64,
    /// Bits a second that its listeners may take, 0 for no limit.
    max_bandwidth: u64,
    /// Its share of newcomers beside other relays; 100 is usual.
    weight: u32,
    /// How far its own drain is.
    drain: Option<Drain>,
    /// Mounts here, live or held.
    mounts: usize,
    /// How they are sent to.
    fanout: Fanout,
    /// The engine, where it is not our own.
    engine: Option<Engine>,
}

/// A condition with its cause and the next thing to do.
#[derive(Serialize, ToSchema)]
pub(super) struct Notice {
    /// `waiting_to_join`, `primary_silent`, `full`, `source_refused` or `join_refused`.
    kind: &'static str,
    /// Sentence for people.
    text: String,
}

impl From<control::Notice> for Notice {
    fn from(notice: control::Notice) -> Self {
        let control::Notice { kind, text } = notice;
        Self { kind, text }
    }
}

/// The certificate of the data port.
#[derive(Serialize, ToSchema)]
pub(super) struct Certificate {
    /// Names and addresses that it is for.
    names: Vec<String>,
    /// When it ends.
    not_after: String,
    /// Whole days until then; negative when it has ended.
    days_left: i64,
}

impl Certificate {
    fn of(certificate: &tls::Certificate) -> Self {
        let day = 86_400;
        let end = i64::try_from(certificate.not_after).unwrap_or(i64::MAX);
        let now = i64::try_from(unix_millis() / 1000).unwrap_or(i64::MAX);
        Self {
            names: certificate.names.clone(),
            not_after: rfc3339(certificate.not_after.saturating_mul(1000)),
            days_left: end.saturating_sub(now).div_euclid(day),
        }
    }
}

/// This node.
#[utoipa::path(
    get,
    path = "/api/v1/status",
    security(("password" = []), ("token" = ["read"])),
    responses((status = 200, body = Status), (status = 401, body = Error))
)]
pub(super) async fn status(_: Read, State(control): State<Arc<Control>>) -> Json<Status> {
    let config = control.config();
    let identity = &control.identity;
    let mounts = present(&control);
    let live = mounts.iter().any(|mount| mount.state() == MountState::Live);
    Json(Status {
        id: identity.id.to_string(),
        name: identity.name.to_string(),
        role: identity.role.as_str(),
        state: match (control.is_draining(), control.waiting()) {
            (true, _) => "draining",
            (false, Some(_)) => "waiting to join",
            (false, None) => "up",
        },
        notices: control
            .notices(Instant::now())
            .into_iter()
            .map(Notice::from)
            .collect(),
        source: match (live, mounts.is_empty()) {
            (true, _) => "live",
            (false, false) => "lost",
            (false, true) => "waiting",
        },
        version: identity.version,
        started: rfc3339(control.telemetry.started_unix_millis),
        uptime_seconds: control.telemetry.started.elapsed().as_secs(),
        public_url: config.public_urls.http.clone(),
        public_url_https: config.public_urls.https.clone(),
        certificate: config.certificate.as_ref().map(Certificate::of),
        listeners: control.telemetry.listeners(),
        max_listeners: config.max_listeners,
        max_bandwidth: config.max_bandwidth,
        weight: config.weight,
        drain: control.own_drain().map(|(_, progress)| progress.into()),
        mounts: mounts.len(),
        fanout: Fanout::of(control.engine.fanout()),
        engine: control.outside.as_deref().map(Engine::of),
    })
}
