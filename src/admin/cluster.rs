//! The serving side of the wire between nodes: join, beat, feed, stream.

use std::convert::Infallible;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use futures_util::{StreamExt as _, stream};
use serde_json::json;
use tokio::time::Instant;

use super::api::kick;
use super::api::listeners::{Page, own_page};
use super::query::Query;
use super::{Client, Routes};
use crate::base::ids::NodeId;
use crate::base::wall::unix_millis;
use crate::control::{Control, MemberError};
use crate::telemetry::{log_limit, refuse};
use crate::upstream::probe::{self, Prober};
use crate::upstream::stream::frames;
use crate::upstream::{Ask, AskError};
use crate::wire::message::{Beat, FeedLine, JoinRequest, ProbeResult, URL_HINT};

/// Longest message that a node may send, in bytes.
const MAX_MESSAGE: usize = 1 << 20;

/// The table's changes are gathered for this long, so that a hundred beats make one line.
const GATHER: Duration = Duration::from_millis(300);

/// A line at least this often, so that a dead connection is found out.
const PING: Duration = Duration::from_secs(1);

/// The routes under `/cluster/v1`, with the bound of their bodies.
pub(super) fn router() -> Router<Arc<Control>> {
    super::router_of(table())
        .layer(Extension(SharedProber::default()))
        .layer(DefaultBodyLimit::max(MAX_MESSAGE))
}

/// See [`router`].
pub(super) fn table() -> Routes {
    vec![
        ("/cluster/v1/join", post(join)),
        ("/cluster/v1/beat", post(beat)),
        ("/cluster/v1/feed", get(feed)),
        ("/cluster/v1/listeners", get(listeners)),
        ("/cluster/v1/kick", post(kick)),
        ("/cluster/v1/stream/{*mount}", get(stream_of)),
    ]
}

impl IntoResponse for MemberError {
    fn into_response(self) -> Response {
        refuse(self.reason());
        let status =
            StatusCode::from_u16(self.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, Json(json!({"error": self.to_string()}))).into_response()
    }
}

fn bearer(headers: &HeaderMap) -> &str {
    let value = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    value
        .and_then(|value| value.strip_prefix("Bearer "))
        .unwrap_or("")
        .trim()
}

/// One client for the probes of all joins, made for the first.
#[derive(Clone, Default)]
struct SharedProber(Arc<OnceLock<Prober>>);

impl SharedProber {
    fn get(&self) -> reqwest::Result<Prober> {
        if let Some(prober) = self.0.get() {
            return Ok(prober.clone());
        }
        let prober = Prober::new()?;
        Ok(self.0.get_or_init(|| prober).clone())
    }
}

/// Proof that a join request comes with a credential that may join: taken before the body is read, and using up nothing.
struct MayJoin;

impl FromRequestParts<Arc<Control>> for MayJoin {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<Control>) -> Result<Self, Response> {
        state.may_join(bearer(&parts.headers)).map_err(|error| {
            let peer = parts
                .extensions
                .get::<Client>()
                .map(|client| client.address);
            tracing::warn!(?peer, %error, "join refused");
            error.into_response()
        })?;
        Ok(Self)
    }
}

/// Proof that a request comes with a node's credential: taken before the body is read.
struct FromMember;

impl FromRequestParts<Arc<Control>> for FromMember {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<Control>) -> Result<Self, Response> {
        let known = state.member(bearer(&parts.headers));
        known.map_err(IntoResponse::into_response)?;
        Ok(Self)
    }
}

async fn join(
    _: MayJoin,
    State(control): State<Arc<Control>>,
    Extension(prober): Extension<SharedProber>,
    Extension(client): Extension<Client>,
    headers: HeaderMap,
    Json(request): Json<JoinRequest>,
) -> Response {
    let joining = control.join(bearer(&headers), request, client.address);
    let request = match joining.await {
        Ok(request) => request,
        Err(error) => {
            if log_limit::permits("join refused", client.address) {
                tracing::warn!(peer = %client.address, %error, "join refused");
            }
            return error.into_response();
        }
    };
    let began = tokio::time::Instant::now();
    let probe = match request.public_urls.first() {
        Some(url) => fetch(&control, &prober, url, &request).await,
        None => ProbeResult::unasked(),
    };
    if let Some(error) = &probe.error
        && log_limit::permits("probe of a join", client.address)
    {
        tracing::warn!(node = %request.name, url = probe.url, error, "a relay joins that cannot be fetched at its URL");
    }
    let mut answer = control.welcome(&request, probe);
    if answer.probe.blur() {
        // As late as the slowest failure.
        tokio::time::sleep_until(began + probe::PATIENCE).await;
    }
    Json(answer).into_response()
}

async fn fetch(
    control: &Control,
    prober: &SharedProber,
    url: &str,
    request: &JoinRequest,
) -> ProbeResult {
    let fetched = match prober.get() {
        Ok(prober) => prober
            .fetch(url, &request.id, &control.probe_token())
            .await
            .map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    ProbeResult {
        url: url.to_owned(),
        ok: fetched.is_ok(),
        hint: fetched.is_err().then(|| URL_HINT.to_owned()),
        error: fetched.err(),
    }
}

async fn beat(
    _: FromMember,
    State(control): State<Arc<Control>>,
    Extension(client): Extension<Client>,
    headers: HeaderMap,
    Json(beat): Json<Beat>,
) -> Response {
    let direct = is_direct(&headers, control.identity.data_port);
    let connection = direct.then_some(client.connection);
    match control.beat(bearer(&headers), beat, client.address, connection) {
        Ok(answer) => Json(answer).into_response(),
        Err(error) => error.into_response(),
    }
}

/// True where the port that the node asked for is ours. Else somebody stands in between, whose connections to us come
/// and go as he likes (HAProxy's do), and are no sign of the node's life.
fn is_direct(headers: &HeaderMap, data_port: u16) -> bool {
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let port = host.map(|host| match host.rsplit_once(':') {
        Some((_, port)) if !port.ends_with(']') => port.parse::<u16>().ok(),
        _ => None,
    });
    match port {
        Some(Some(port)) => port == data_port,
        Some(None) => matches!(data_port, 80 | 443),
        None => false,
    }
}

/// The feed of one relay: what it was told, and when.
struct Feed {
    control: Arc<Control>,
    mounts: tokio::sync::watch::Receiver<u64>,
    table: tokio::sync::watch::Receiver<u64>,
    told: u64,
    last_mounts: Option<FeedLine>,
    last_table: Option<Instant>,
}

async fn feed(State(control): State<Arc<Control>>, headers: HeaderMap) -> Response {
    if let Err(error) = control.member(bearer(&headers)) {
        return error.into_response();
    }
    let feed = Feed {
        mounts: control.engine.watch(),
        table: control.watch_table(),
        told: 0,
        last_mounts: None,
        last_table: None,
        control,
    };
    let lines = stream::unfold(feed, |mut feed| async move {
        let stopping = feed.control.stopping();
        tokio::select! {
            () = stopping.cancelled() => None,
            lines = feed.next() => Some((Ok::<_, Infallible>(lines), feed)),
        }
    });
    (
        [
            (header::CONTENT_TYPE, "application/jsonl"),
            (header::CACHE_CONTROL, "no-store"),
        ],
        Body::from_stream(lines),
    )
        .into_response()
}

impl Feed {
    /// The next lines: mounts at once, the table gathered, a ping if there is nothing else.
    async fn next(&mut self) -> Bytes {
        let ping_at = Instant::now() + PING;
        loop {
            let mut lines = self.changed_mounts();
            let due = self.last_table.is_none_or(|last| last.elapsed() >= GATHER);
            if due && (self.told == 0 || self.table.has_changed().unwrap_or(false)) {
                self.table.borrow_and_update();
                let (told, table) = self.control.table_lines(self.told);
                self.told = told;
                self.last_table = Some(Instant::now());
                lines.extend(table);
            }
            if lines.is_empty() && Instant::now() >= ping_at {
                lines.push(FeedLine::Ping {
                    unix_millis: unix_millis(),
                });
            }
            if !lines.is_empty() {
                return encode(&lines);
            }
            let gathered = self
                .last_table
                .map_or(ping_at, |last| last + GATHER)
                .min(ping_at);
            let wake = if due { ping_at } else { gathered };
            tokio::select! {
                _ = self.mounts.changed() => {}
                _ = self.table.changed(), if due => self.table.mark_changed(),
                () = tokio::time::sleep_until(wake) => {}
            }
        }
    }

    fn changed_mounts(&mut self) -> Vec<FeedLine> {
        self.mounts.borrow_and_update();
        let line = self.control.mount_line();
        if self.last_mounts.as_ref() == Some(&line) {
            return Vec::new();
        }
        let first = self.last_mounts.is_none();
        self.last_mounts = Some(line.clone());
        if first {
            vec![self.control.key_line(), line]
        } else {
            vec![line]
        }
    }
}

fn encode(lines: &[FeedLine]) -> Bytes {
    let mut text = Vec::new();
    for line in lines {
        // Lines are plain data of ours; one that cannot be written is left out rather than torn.
        if let Ok(json) = serde_json::to_vec(line) {
            text.extend(json);
            text.push(b'\n');
        }
    }
    text.into()
}

/// This node's own listeners, for the primary's list.
async fn listeners(
    State(control): State<Arc<Control>>,
    headers: HeaderMap,
    query: Query,
) -> Response {
    if let Some(refusal) = strange(&control, &headers) {
        return refusal;
    }
    let limit = query
        .number("limit")
        .and_then(|limit| usize::try_from(limit).ok());
    let page = Page {
        mount: query.mount().and_then(Result::ok),
        limit: limit.unwrap_or(1).min(10_000),
        after: query.number("after").unwrap_or(0),
    };
    Json(own_page(&control, &page)).into_response()
}

/// The primary ends a listener of this node.
async fn kick(State(control): State<Arc<Control>>, headers: HeaderMap, query: Query) -> Response {
    if let Some(refusal) = strange(&control, &headers) {
        return refusal;
    }
    let number = query.number("id").unwrap_or(0);
    match kick::own(&control, number) {
        Some(kicked) => Json(kicked).into_response(),
        None => kick::nobody(&number.to_string(), "this node").into_response(),
    }
}

/// The answer to a question that no node of this cluster asks.
fn strange(control: &Control, headers: &HeaderMap) -> Option<Response> {
    if control.is_question(bearer(headers)) {
        return None;
    }
    refuse("question");
    let error = Json(json!({"error": "no node of this cluster asks"}));
    Some((StatusCode::UNAUTHORIZED, error).into_response())
}

/// Why a child gets no stream here.
enum NoStream {
    Member(MemberError),
    Said(StatusCode, &'static str, String),
}

impl IntoResponse for NoStream {
    fn into_response(self) -> Response {
        match self {
            Self::Member(error) => error.into_response(),
            Self::Said(status, reason, error) => {
                refuse(reason);
                (status, Json(json!({ "error": error }))).into_response()
            }
        }
    }
}

async fn stream_of(
    State(control): State<Arc<Control>>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, NoStream> {
    use NoStream::Said;
    let id = child_of(&control, &headers)?;
    let bad = |error: AskError| Said(StatusCode::BAD_REQUEST, "bad_message", error.to_string());
    let ask = Ask::parse(uri.path(), uri.query()).map_err(bad)?;
    let mount = control.engine.mount(&ask.mount);
    let no_mount = || {
        Said(
            StatusCode::NOT_FOUND,
            "no_mount",
            "no such mount here".to_owned(),
        )
    };
    let mount = mount.ok_or_else(no_mount)?;
    let unavailable = |reason, error: String| Said(StatusCode::SERVICE_UNAVAILABLE, reason, error);
    let route = control.pulls.route(&ask.mount);
    let route = route.map_err(|error| unavailable("not_fed", error.to_string()))?;
    if route.borrow().path.iter().any(|node| node == id.as_str()) {
        let error = "this node has the mount through the asking one".to_owned();
        return Err(Said(StatusCode::CONFLICT, "circle", error));
    }
    let child = control.adopt(&id);
    let child = child.map_err(|error| unavailable("children", error.to_string()))?;
    let own = control.identity.id.clone();
    let body = frames(mount, own, route, ask.position, control.stopping());
    let body = body.inspect(move |_| {
        // Its place is taken for as long as the stream lasts.
        let _ = &child;
    });
    let kind = [(header::CONTENT_TYPE, "application/octet-stream")];
    Ok((kind, Body::from_stream(body)).into_response())
}

/// Which node asks: by the mark that any node can verify, or on the primary by the node's own credential.
fn child_of(control: &Control, headers: &HeaderMap) -> Result<NodeId, NoStream> {
    let named = headers.get("x-relayctl-node");
    let named: Option<NodeId> = named.and_then(|id| id.to_str().ok()?.parse().ok());
    let token = bearer(headers);
    let id = match named {
        Some(id) if control.is_child(&id, token) => id,
        _ => control.member(token).map_err(NoStream::Member)?,
    };
    if id == control.identity.id {
        let error = "a node does not feed itself".to_owned();
        return Err(NoStream::Said(
            StatusCode::MISDIRECTED_REQUEST,
            "itself",
            error,
        ));
    }
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_connection_it_is() {
        let direct = |host: &str, port: u16| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().unwrap());
            is_direct(&headers, port)
        };
        assert!(direct("radio.test:8000", 8000) && direct("[::1]:8000", 8000));
        assert!(direct("radio.test", 80) && direct("[::1]", 443));
        for behind in ["radio.test", "radio.test:443", "[::1]", "[::1]:80", "x:y"] {
            assert!(!direct(behind, 8000), "{behind}");
        }
        assert!(!is_direct(&HeaderMap::new(), 8000));
    }
}
