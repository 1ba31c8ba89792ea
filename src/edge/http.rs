//! Requests that hyper reads: those with a body, all that nodes say to each other, and the node's own socket.
//!
//! Credentials are judged before a byte of a body is read, since the router reads a body last (`edge::body`).

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, HttpBody};
use bytes::BytesMut;
use http::header::{AUTHORIZATION, CONNECTION, CONTENT_TYPE, HeaderValue};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::Edge;
use super::body::Gathered;
use super::connection::drain;
use super::gate::{Fault, HEAD_TIMEOUT, Seat, State, hold};
use super::paced::{Paced, time_for};
use crate::admin::Client;

/// Most that hyper holds of a connection, and so its longest head, in bytes: what our own heads may have, and a little.
const MAX_BUFFER: usize = 32 * 1024;

/// How long a connection may wait for its next request, and take for its head: nodes ask once a second.
const NEXT_HEAD: std::time::Duration = HEAD_TIMEOUT.saturating_mul(6);

/// Port or socket that serves a connection.
pub(super) struct Served {
    pub router: Router,
    pub client: Client,
    pub seat: Arc<Seat>,
    /// Another request may follow.
    pub keep_alive: bool,
}

impl Edge {
    /// Serves a connection to the node's own socket.
    pub async fn serve_own(self: Arc<Self>, stream: UnixStream, client: Client) {
        let place = self.gate.enter(State::Answer, None);
        place.vouch(b"the node's own socket");
        let served = Served {
            router: self.api.clone(),
            client,
            seat: place.seat(),
            keep_alive: true,
        };
        let (seat, stream) = (place.seat(), Paced::new(stream, place.seat()));
        let task = serve(stream, served, &self.shutdown);
        hold(seat, std::time::Instant::now(), task).await;
    }
}

/// Answers requests until either end closes. A client that still sends then is heard for a moment, so that it can read
/// why it was refused.
pub(super) async fn serve<S>(stream: S, served: Served, shutdown: &CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let Served {
        router,
        client,
        seat,
        keep_alive,
    } = served;
    let asked = Arc::clone(&seat);
    let service = service_fn(move |request: Request<Incoming>| {
        let answering = answer(router.clone(), client.clone(), Arc::clone(&asked), request);
        // Boxed, since the connection is taken apart in the end.
        Box::pin(async move { Ok::<_, Infallible>(answering.await) })
            as Pin<Box<dyn Future<Output = _> + Send>>
    });
    let mut serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(NEXT_HEAD)
        .max_buf_size(MAX_BUFFER)
        .keep_alive(keep_alive)
        // Nodes ask on, and one that has closed is gone; everybody else may close behind the only request.
        .half_close(!keep_alive)
        .serve_connection(TokioIo::new(stream), service);
    let mut going = false;
    let ended = loop {
        tokio::select! {
            ended = poll_fn(|cx| Pin::new(&mut serving).poll(cx)) => break ended,
            () = shutdown.cancelled(), if !going => {
                going = true;
                Pin::new(&mut serving).graceful_shutdown();
            }
        }
    };
    match ended {
        Ok(()) => {
            let mut stream = serving.into_parts().io.into_inner();
            seat.set_state(State::Closing);
            drain(&mut stream, &mut BytesMut::new()).await;
        }
        Err(error) => tracing::debug!(%error, "an API connection broke"),
    }
}

async fn answer(
    router: Router,
    client: Client,
    seat: Arc<Seat>,
    mut request: Request<Incoming>,
) -> Response<Body> {
    let credential = credential_of(request.uri().path(), request.headers());
    seat.answer_within(None);
    seat.set_state(if request.body().is_end_stream() {
        State::Answer
    } else {
        State::Body
    });
    request.extensions_mut().insert(client);
    let request = request.map(|body| Body::new(Gathered::new(body, Arc::clone(&seat))));
    let Ok(response) = router.oneshot(request).await;
    let mut response = match seat.signal().fault() {
        Some(fault) => given_up(fault),
        None => response,
    };
    // Whoever is not let in may not ask on: each try costs a connection.
    if matches!(response.status().as_u16(), 401 | 403 | 408 | 413 | 429)
        || seat.signal().fault().is_some()
    {
        let fields = response.headers_mut();
        fields.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    begin_answer(&seat, &response, credential.as_ref());
    response
}

/// Notes for the gate that an answer is about to be written.
pub(super) fn begin_answer(
    seat: &Seat,
    response: &Response<Body>,
    credential: Option<&HeaderValue>,
) {
    if let Some(credential) = credential.filter(|_| response.status().is_success()) {
        seat.vouch(credential.as_bytes());
    }
    match response.body().size_hint().exact() {
        Some(length) => {
            seat.set_state(State::Answer);
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            seat.answer_within(Some(time_for(length)));
        }
        None => seat.set_state(State::Stream),
    }
}

/// The credential of a request that nobody is answered well without: these paths look at it, whatever they are asked.
pub(super) fn credential_of(path: &str, fields: &http::HeaderMap) -> Option<HeaderValue> {
    let demands_one = path.starts_with("/cluster/v1/") || path == "/api/v1/events";
    fields.get(AUTHORIZATION).filter(|_| demands_one).cloned()
}

fn given_up(fault: Fault) -> Response<Body> {
    let (status, text) = match fault {
        Fault::Budget => (
            StatusCode::SERVICE_UNAVAILABLE,
            "too many unfinished requests here: try again\n",
        ),
        Fault::Slow => (
            StatusCode::REQUEST_TIMEOUT,
            "the body came too slowly: none of it for 10 s, or not all of it in 60 s\n",
        ),
        Fault::Long => (
            StatusCode::PAYLOAD_TOO_LARGE,
            "the body is longer than 1 MiB\n",
        ),
    };
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    response
}
