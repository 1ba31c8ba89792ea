//! The serving side of the wire between nodes: join, beat, stream; `feed` has the lines that come down.

use std::net::Ipv4Addr;
use std::sync::{Arc, OnceLock};

use axum::body::Body;
use axum::extract::{DefaultBodyLimit, FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use futures_util::StreamExt as _;
use serde_json::json;

use super::api::kick;
use super::api::listeners::{Page, own_page};
use super::feed::{bearer, feed};
use super::query::Query;
use super::{Client, MAX_BODY, Routes};
use crate::base::ids::NodeId;
use crate::control::{Control, MemberError, Role};
use crate::telemetry::{log_limit, refuse};
use crate::throttle::Remote;
use crate::upstream::probe::{self, Prober};
use crate::upstream::stream::frames;
use crate::upstream::{Ask, AskError};
use crate::wire::message::{
    Beat, CREDENTIAL_HEADER, JoinRequest, NODE_NAME_HEADER, NodeName, ProbeResult, URL_HINT,
};

/// The routes under `/cluster/v1`, with the bound of their bodies.
pub(super) fn router() -> Router<Arc<Control>> {
    super::router_of(table())
        .layer(Extension(SharedProber::default()))
        .layer(DefaultBodyLimit::max(MAX_BODY))
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
        let mut response = (status, Json(json!({"error": self.to_string()}))).into_response();
        let seconds = match self {
            Self::TooFast(wait) => Some(wait.as_secs().saturating_add(1)),
            Self::Delayed(seconds) => Some(seconds),
            _ => None,
        };
        if let Some(seconds) = seconds {
            let fields = response.headers_mut();
            fields.insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

/// The credential of an earlier join.
fn shown(headers: &HeaderMap) -> Option<&str> {
    headers.get(CREDENTIAL_HEADER)?.to_str().ok()
}

/// The name that a joining node gives itself; nothing proves it.
fn named(headers: &HeaderMap) -> Option<NodeName> {
    headers.get(NODE_NAME_HEADER)?.to_str().ok()?.parse().ok()
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
        let nobody = Remote::direct(Ipv4Addr::UNSPECIFIED.into());
        let client = parts.extensions.get::<Client>();
        let remote = client.map_or(nobody, Client::remote);
        let judged = state.may_join(bearer(&parts.headers), shown(&parts.headers), remote);
        judged.map_err(|error| {
            let name = named(&parts.headers);
            state.join_refused(name, remote.address, &error.to_string());
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
    let name = request.name.clone();
    let joining = control.join(bearer(&headers), shown(&headers), request, client.address);
    let request = match joining.await {
        Ok(request) => request,
        Err(error) => {
            control.join_refused(Some(name), client.address, &error.to_string());
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
            .fetch(url, &request.id, &control.probe_token("/health"))
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
    // A relay that carries a beat closes its connection behind it.
    let direct = !client.carried && is_direct(&headers, control.identity.data_port);
    let connection = direct.then_some(client.connection);
    let name = beat.name.clone();
    match control.beat(bearer(&headers), beat, client.address, connection) {
        Ok(answer) => Json(answer).into_response(),
        Err(error) => {
            // Its credential is good, and yet it is none of us: another process has its id or its name.
            if matches!(error, MemberError::Refused(_)) {
                control.join_refused(Some(name), client.address, &error.to_string());
            }
            error.into_response()
        }
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

/// This node's own listeners, for the primary's list.
async fn listeners(
    State(control): State<Arc<Control>>,
    headers: HeaderMap,
    uri: Uri,
    query: Query,
) -> Response {
    if let Some(refusal) = strange(&control, &headers, "GET", &uri) {
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
async fn kick(
    State(control): State<Arc<Control>>,
    headers: HeaderMap,
    uri: Uri,
    query: Query,
) -> Response {
    if let Some(refusal) = strange(&control, &headers, "POST", &uri) {
        return refusal;
    }
    let number = query.number("id").unwrap_or(0);
    match kick::own(&control, number) {
        Some(kicked) => Json(kicked).into_response(),
        None => kick::nobody(&number.to_string(), "this node").into_response(),
    }
}

/// The answer to a question that the primary does not ask.
fn strange(control: &Control, headers: &HeaderMap, method: &str, uri: &Uri) -> Option<Response> {
    let path = uri.path_and_query().map_or("", |path| path.as_str());
    if control.is_question(method, path, bearer(headers)) {
        return None;
    }
    refuse("question");
    let error = Json(json!({"error": "only the primary asks this, and signs it for this node"}));
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
    let id = child_of(&control, &headers).await?;
    let removed = control.removed(&id);
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
    let body = body.take_until(removed);
    let kind = [(header::CONTENT_TYPE, "application/octet-stream")];
    Ok((kind, Body::from_stream(body)).into_response())
}

/// Which node asks: on the primary by the node's own credential, on a relay, which cannot verify that, by a mark under
/// the cluster's key and the table.
async fn child_of(control: &Control, headers: &HeaderMap) -> Result<NodeId, NoStream> {
    let named = headers.get("x-relayctl-node");
    let named: Option<NodeId> = named.and_then(|id| id.to_str().ok()?.parse().ok());
    let token = bearer(headers);
    let id = match (control.identity.role, named) {
        (Role::Relay, Some(id)) if control.is_child(&id, token) => id,
        _ => control.member(token).map_err(NoStream::Member)?,
    };
    if control.identity.role == Role::Relay && !control.is_member(&id).await {
        let error = format!("`{id}` is no member of this cluster");
        return Err(NoStream::Said(StatusCode::FORBIDDEN, "no_member", error));
    }
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
