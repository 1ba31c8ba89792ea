//! Handing a request to the router of `admin`. One without a body is asked directly, and its connection comes
//! back for the next request, whatever that is; one with a body, and all that nodes say to each other, goes by
//! hyper, with what was read put back in front.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::{Body, HttpBody};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body_util::BodyExt;
use tower::ServiceExt;

use super::connection::{Conn, plain};
use super::gate::State;
use super::http::{self, Served, begin_answer, credential_of};
use super::stream::Rewound;
use super::{Edge, carry};
use crate::admin::Client;
use crate::base::wall::unix_millis;
use crate::control::Role;
use crate::engine::HALF_CLOSED;
use crate::telemetry::refuse;
use crate::wire::forwarded::Forwarded;
use crate::wire::head::{Method, Request, Version};
use crate::wire::response::Answer;
use crate::wire::validity;

/// Numbers the connections, so that beats can be told by theirs.
static CONNECTIONS: AtomicU64 = AtomicU64::new(1);

impl Edge {
    pub(super) async fn api(self: &Arc<Self>, conn: Conn, request: Request) -> Option<Conn> {
        if self.control.identity.role == Role::Relay && carry::is_the_primarys(request.path()) {
            self.carry(conn, request).await;
            return None;
        }
        let origin = conn.origin(&request, self);
        let trusted = self.is_trusted(conn.client.ip());
        let forwarded = Forwarded::of(&request.headers, conn.client.ip(), trusted);
        let connection = CONNECTIONS.fetch_add(1, Ordering::Relaxed);
        let client = Client {
            address: origin.address,
            https: origin.https,
            local: false,
            hosts: forwarded.hosts,
            hidden: forwarded.hidden,
            carried: carry::is_carried(&request),
            claimed: forwarded.claimed,
            connection,
        };
        // Only nodes ask many things in a row by hyper: no listener's request may come second there and find no
        // way back to the shards.
        let of_node = request.path().starts_with("/cluster/");
        if !of_node && !request.has_body() {
            return self.direct(conn, request, client).await;
        }
        self.by_hyper(conn, &request, client, of_node).await;
        None
    }

    /// Asks the router; the connection comes back where the client keeps it.
    async fn direct(&self, mut conn: Conn, request: Request, client: Client) -> Option<Conn> {
        let Some(question) = as_http(&request, client) else {
            let text = "the target is no path with a query";
            conn.answer(&plain(request.version, 400, text)).await;
            return None;
        };
        conn.is_at(State::Answer);
        let credential = credential_of(question.uri().path(), question.headers());
        let Ok(response) = self.api.clone().oneshot(question).await;
        if let Some(place) = &conn.place {
            begin_answer(&place.seat(), &response, credential.as_ref());
        }
        let (parts, body) = response.into_parts();
        let answer = Answer::new(request.version, parts.status.as_u16()).at(unix_millis());
        let is_head = request.method == Method::Head;
        let answer = parts.headers.iter().fold(answer, |answer, (name, value)| {
            answer.header(name.as_str(), String::from_utf8_lossy(value.as_bytes()))
        });
        if body.size_hint().exact().is_none() && !is_head {
            self.stream(conn, answer, body).await;
            return None;
        }
        let length = parts.headers.get(::http::header::CONTENT_LENGTH);
        let length = length.and_then(|text| text.to_str().ok()?.parse().ok());
        let bytes = body.collect().await.ok()?.to_bytes();
        conn.answered += 1;
        let keep = conn.may_ask_again(&request);
        let answer = answer.keep_alive_if(keep).head_only_if(is_head);
        let answer = answer.content(&bytes, length.unwrap_or(bytes.len()));
        if !keep {
            conn.answer(&answer).await;
            return None;
        }
        conn.reply(&answer).await.is_ok().then_some(conn)
    }

    /// An answer that goes on until one of both ends it.
    async fn stream(&self, mut conn: Conn, answer: Answer, mut body: Body) {
        let mut next = conn.say(&answer.stream_head()).await;
        let mut hears_only = false;
        while next.is_ok() {
            conn.buffer.clear();
            let frame = tokio::select! {
                () = self.shutdown.cancelled() => return,
                more = conn.fill(), if !hears_only => match more {
                    Ok(more) => {
                        hears_only = !more;
                        continue;
                    }
                    Err(_) => return,
                },
                () = tokio::time::sleep(HALF_CLOSED), if hears_only => return,
                frame = body.frame() => frame,
            };
            let Some(Ok(frame)) = frame else { break };
            if let Ok(data) = frame.into_data() {
                next = conn.say(&data).await;
            }
        }
        if next.is_ok() {
            conn.answer(b"").await;
        }
    }

    async fn by_hyper(
        self: &Arc<Self>,
        conn: Conn,
        request: &Request,
        client: Client,
        keep_alive: bool,
    ) {
        let Some(place) = conn.place else { return };
        let connection = client.connection;
        let stream = Rewound {
            head: joined(request.encode(), &conn.buffer),
            stream: conn.stream,
        };
        let served = Served {
            router: self.api.clone(),
            client,
            seat: place.seat(),
            keep_alive,
        };
        http::serve(stream, served, &self.shutdown).await;
        self.control.connection_closed(connection);
    }
}

/// A request without a body in the words of the router; `None` where its target is no path.
fn as_http(request: &Request, client: Client) -> Option<::http::Request<Body>> {
    let mut question = ::http::Request::builder()
        .method(request.method.as_str())
        .uri(request.relative())
        .body(Body::empty())
        .ok()?;
    for (name, value) in request.headers.iter() {
        let name = ::http::HeaderName::from_bytes(name.as_bytes());
        let value = ::http::HeaderValue::from_bytes(value.as_bytes());
        if let (Ok(name), Ok(value)) = (name, value) {
            question.headers_mut().append(name, value);
        }
    }
    question.extensions_mut().insert(client);
    Some(question)
}

/// Refuses what [`validity`] forbids: a node's second request on a connection is read by hyper alone, which takes `chunked`
/// twice and more than one `Host`.
pub(super) async fn valid_only(question: axum::extract::Request, next: Next) -> Response {
    let version = match question.version() {
        ::http::Version::HTTP_10 => Version::Http10,
        _ => Version::Http11,
    };
    let fields = question.headers().iter();
    let fields = fields.map(|(name, value)| (name.as_str(), value.as_bytes()));
    // Of all others the first request is the only one, and has been judged.
    let host_optional = !question.uri().path().starts_with("/cluster/");
    match validity::check_fields(version, fields, host_optional, false) {
        Ok(()) => next.run(question).await,
        Err(invalid) => {
            refuse(invalid.reason());
            let close = [(::http::header::CONNECTION, "close")];
            (StatusCode::BAD_REQUEST, close, invalid.text()).into_response()
        }
    }
}

/// A request again, and what came behind it.
fn joined(mut head: Vec<u8>, rest: &[u8]) -> Bytes {
    head.extend_from_slice(rest);
    head.into()
}
