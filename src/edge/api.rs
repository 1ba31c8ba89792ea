//! Handing a request to the router of `admin`: by hyper, with what was read put back in front.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tower::ServiceExt;

use super::Edge;
use super::connection::Conn;
use super::gate::HEAD_TIMEOUT;
use super::loopback;
use crate::admin::Client;

use crate::control::Role;
use crate::wire::head::Request;

/// Numbers the connections, so that beats can be told by theirs.
static CONNECTIONS: AtomicU64 = AtomicU64::new(1);

impl Edge {
    pub(super) async fn api(self: &Arc<Self>, conn: Conn, request: Request) {
        if self.control.identity.role == Role::Relay && is_the_origins(request.path()) {
            return self.carry(conn, request).await;
        }
        let origin = conn.origin(&request, self);
        let connection = CONNECTIONS.fetch_add(1, Ordering::Relaxed);
        let client = Client {
            address: origin.address,
            https: origin.https,
            local: false,
            neighbour: is_neighbour(&conn, &request).await,
            connection,
        };
        // Only nodes ask many things in a row; for everybody else a connection is a question, so that no
        // listener's request can come second and find no way back to the shards.
        let keep_alive = request.path().starts_with("/cluster/");
        let head = Bytes::from(request.encode());
        let io = Rewound {
            head,
            rest: conn.buffer.freeze(),
            stream: conn.stream,
        };
        let router = self.api.clone().layer(axum::Extension(client));
        let service =
            TowerToHyperService::new(router.map_request(
                |r: hyper::Request<hyper::body::Incoming>| r.map(axum::body::Body::new),
            ));
        let serving = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT * 6)
            .keep_alive(keep_alive)
            .serve_connection(TokioIo::new(io), service);
        tokio::pin!(serving);
        let served = tokio::select! {
            served = serving.as_mut() => served,
            () = self.shutdown.cancelled() => {
                serving.as_mut().graceful_shutdown();
                serving.await
            }
        };
        self.control.connection_closed(connection);
        if let Err(error) = served {
            tracing::debug!(%error, "an API connection broke");
        }
    }
}

/// True for a question about this very node from a process of its own user on this machine. A proxy here that runs
/// as another user is none; one that tells whom it speaks for is none either.
async fn is_neighbour(conn: &Conn, request: &Request) -> bool {
    let asks = matches!(request.path(), "/api/v1/drain" | "/api/v1/resume");
    let relayed = ["forwarded", "x-forwarded-for", "x-real-ip", "via"];
    let relayed = relayed
        .iter()
        .any(|name| request.headers.get(name).is_some());
    let Ok(own) = conn.stream.local_addr() else {
        return false;
    };
    if !asks || relayed || conn.peer != conn.client {
        return false;
    }
    let peer = conn.peer;
    // The kernel's table is a file of a line for each connection.
    let looked = tokio::task::spawn_blocking(move || loopback::is_own_user(peer, own));
    looked.await.unwrap_or(false)
}

/// Titles, and what nodes say to their primary, go to the origin; the stream is any node's own.
fn is_the_origins(path: &str) -> bool {
    let metadata = path == "/admin/metadata" || path == "/admin.cgi";
    let own = path.starts_with("/cluster/v1/stream")
        || matches!(path, "/cluster/v1/listeners" | "/cluster/v1/kick");
    metadata || (path.starts_with("/cluster/") && !own)
}

/// A stream with bytes put back in front.
struct Rewound {
    head: Bytes,
    rest: Bytes,
    stream: TcpStream,
}

impl AsyncRead for Rewound {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        for front in [&mut this.head, &mut this.rest] {
            if front.has_remaining() {
                let count = front.len().min(into.remaining());
                into.put_slice(&front.split_to(count));
                return Poll::Ready(Ok(()));
            }
        }
        Pin::new(&mut this.stream).poll_read(cx, into)
    }
}

impl AsyncWrite for Rewound {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
