//! Handing a request to the router of `admin`: by hyper, with what was read put back in front.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tower::ServiceExt;

use super::Edge;
use super::connection::Conn;
use super::gate::HEAD_TIMEOUT;
use super::stream::Front;
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
            connection,
        };
        // Only nodes ask many things in a row; for everybody else a connection is a question, so that no
        // listener's request can come second and find no way back to the shards.
        let keep_alive = request.path().starts_with("/cluster/");
        let io = Front {
            head: joined(request.encode(), conn.buffer.freeze()),
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

/// A request again, and what came behind it.
fn joined(mut head: Vec<u8>, rest: Bytes) -> Bytes {
    head.extend_from_slice(&rest);
    head.into()
}

/// Titles, and what nodes say to their primary, go to the origin; the stream is any node's own.
fn is_the_origins(path: &str) -> bool {
    let metadata = path == "/admin/metadata" || path == "/admin.cgi";
    let own = path.starts_with("/cluster/v1/stream") || path == "/cluster/v1/listeners";
    metadata || (path.starts_with("/cluster/") && !own)
}
