//! Carrying a connection through to the origin, raw: a source or a metadata update that landed on a relay,
//! and what nodes say to their primary by way of a relay.

use std::time::Duration;

use tokio::io::{AsyncWriteExt, copy_bidirectional};
use url::Url;

use super::Edge;
use super::connection::{Conn, plain};
use crate::discovery::Stream;
use crate::telemetry::refuse;
use crate::wire::head::{Request, Version};

/// Names the nodes that carried a request; one that finds itself answers 421.
pub(super) const VIA: &str = "X-Relayctl-Via";

/// How long the origin may take to answer the connection.
const CONNECT: Duration = Duration::from_secs(5);

impl Edge {
    /// Carries a request and all that follows.
    pub(super) async fn carry(&self, conn: Conn, mut request: Request) {
        let own = self.control.identity.id.as_str();
        if request.headers.all(VIA).any(|id| id == own) {
            refuse("loop");
            conn.answer(&plain(
                request.version,
                421,
                "this request has been here before: the nodes point at each other",
            ))
            .await;
            return;
        }
        request.headers.push(VIA, own);
        let version = request.version;
        self.splice(conn, &request.encode(), version).await;
    }

    /// Carries a Shoutcast v1 source.
    pub(super) async fn carry_line(&self, conn: Conn, line: &str) {
        self.splice(conn, format!("{line}\r\n").as_bytes(), Version::Http10)
            .await;
    }

    async fn splice(&self, mut conn: Conn, head: &[u8], version: Version) {
        let origin = self.control.origin();
        let connected = match &origin {
            Some(url) => tokio::time::timeout(CONNECT, self.connect(url))
                .await
                .ok()
                .and_then(Result::ok),
            None => None,
        };
        let Some(mut upstream) = connected else {
            refuse("origin");
            let place = origin.map_or_else(|| "unknown".into(), |url| shown(&url));
            let text =
                format!("this relay cannot reach its primary: send the source to {place} instead");
            conn.answer(&plain(version, 502, &text)).await;
            return;
        };
        let first = [head, &conn.buffer].concat();
        if upstream.write_all(&first).await.is_err() {
            return;
        }
        conn.place = None;
        tokio::select! {
            () = self.shutdown.cancelled() => {}
            _ = copy_bidirectional(&mut conn.stream, &mut upstream) => {}
        }
    }

    async fn connect(&self, url: &Url) -> std::io::Result<Stream> {
        let port = url.port_or_known_default().unwrap_or(80);
        let tls = url.scheme() == "https";
        self.connector
            .connect(url.host_str().unwrap_or_default(), port, tls)
            .await
    }
}

/// `http://host:port`: an encoder wants the port written.
fn shown(url: &Url) -> String {
    let port = url.port_or_known_default().unwrap_or(80);
    format!(
        "{}://{}:{port}",
        url.scheme(),
        url.host_str().unwrap_or_default()
    )
}
