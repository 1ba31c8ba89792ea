//! Requests that a relay carries to its primary: a source or a title that landed here, and what nodes say to their
//! primary by way of a relay.
//!
//! One connection carries one request. `head` writes request and answer anew, `exchange` passes both bodies on by their
//! framing, and the connection ends with the answer, so a second request never meets the primary under the relay's
//! address. The primary learns the client's address by a mark that the relay signs (`control::carried`). Must never: judge
//! a credential, or carry a path that this node answers itself.

mod exchange;
mod head;
mod line;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::AsyncWriteExt as _;
use url::Url;

use super::Edge;
use super::connection::{Conn, plain};
use super::gate::{Place, State};
use super::paced::PROGRESS;
use crate::discovery::Stream;
use crate::telemetry::refuse;
use crate::wire::body::Framing;
use crate::wire::head::{Method, Request, Version};
use exchange::{End, Exchange, Pace};
pub(super) use line::is_line;

/// Names the nodes that carried a request; one that finds itself answers 421.
pub(super) const VIA: &str = "X-Relayctl-Via";

/// Relays that a request may pass.
const MAX_HOPS: usize = 4;

/// How long the primary may take to answer the connection.
const CONNECT: Duration = Duration::from_secs(5);

/// Longest time for a request with its answer, unless it is endless by nature.
const TOTAL: Duration = Duration::from_secs(60);

/// Added to a source's own timeout, so that the primary, which judges it, speaks first.
const AFTER_PRIMARY: Duration = Duration::from_secs(5);

/// The feed of a relay, whose lines have no end; its pings keep it from being idle.
const FEED: &str = "/cluster/v1/feed";

/// True for what a relay's primary answers: titles, and what nodes say to their primary.
pub(super) fn is_the_primarys(path: &str) -> bool {
    matches!(
        path,
        "/admin/metadata" | "/admin.cgi" | "/cluster/v1/join" | "/cluster/v1/beat" | FEED
    )
}

/// True for a request that a relay carried here. It is not near, whatever its address.
pub(super) fn is_carried(request: &Request) -> bool {
    request.headers.get(VIA).is_some()
}

/// True for a source and a feed.
fn is_endless(request: &Request) -> bool {
    matches!(request.method, Method::Put | Method::Source) || request.path() == FEED
}

impl Edge {
    /// Carries one request and its answer; the connection ends with it.
    pub(super) async fn carry(&self, mut conn: Conn, request: Request) {
        if self.has_been_here(&request) {
            refuse("loop");
            let text = "this request has been here before: the nodes point at each other";
            return conn.answer(&plain(request.version, 421, text)).await;
        }
        let framing = match Framing::of_request(&request) {
            Ok(framing) => framing,
            Err(error) => {
                refuse("carried_framing");
                let answer = plain(request.version, error.status(), &error.to_string());
                return conn.answer(&answer).await;
            }
        };
        let mark = self.mark(&conn, &request);
        let own = self.control.identity.id.as_str();
        let head = head::request(&request, framing, mark.as_deref(), own);
        let Some(mut primary) = self.to_primary().await else {
            return self.no_primary(conn, request.version).await;
        };
        let place = Held::of(&mut conn);
        let exchange = Exchange {
            request: &request,
            framing,
            pace: self.pace(&request),
            endless: is_endless(&request),
            taken: &|| place.give_back(),
        };
        let Conn { stream, buffer, .. } = &mut conn;
        let running = async {
            if primary.write_all(&head).await.is_err() {
                return (End::Cut, false);
            }
            exchange.run(stream, buffer, primary).await
        };
        let (end, answered) = tokio::select! {
            () = self.shutdown.cancelled() => (End::Shutdown, true),
            ended = running => ended,
        };
        conn.place = place.into_inner();
        finish(conn, request.version, end, answered).await;
    }

    fn has_been_here(&self, request: &Request) -> bool {
        let own = self.control.identity.id.as_str();
        let mut hops = request.headers.all(VIA);
        hops.any(|id| id == own) || request.headers.all(VIA).count() >= MAX_HOPS
    }

    /// This relay's word on the client, which the primary verifies.
    fn mark(&self, conn: &Conn, request: &Request) -> Option<String> {
        let client = conn.origin(request, self).address;
        let (method, target) = (request.method.as_str(), request.relative());
        self.control.client_mark(client, method, target)
    }

    fn pace(&self, request: &Request) -> Pace {
        match is_endless(request) {
            true if request.path() != FEED => self.source_pace(),
            endless => Pace {
                idle: PROGRESS,
                total: (!endless).then_some(TOTAL),
            },
        }
    }

    fn source_pace(&self) -> Pace {
        let timeout = self.config.load().source_timeout;
        Pace {
            idle: timeout.max(PROGRESS) + AFTER_PRIMARY,
            total: None,
        }
    }

    /// A connection to the primary.
    async fn to_primary(&self) -> Option<Stream> {
        let origin = self.control.origin()?;
        let connected = tokio::time::timeout(CONNECT, self.connect(&origin)).await;
        connected.ok()?.ok()
    }

    async fn connect(&self, url: &Url) -> std::io::Result<Stream> {
        let port = url.port_or_known_default().unwrap_or(80);
        let tls = url.scheme() == "https";
        self.connector
            .connect(url.host_str().unwrap_or_default(), port, tls)
            .await
    }

    async fn no_primary(&self, conn: Conn, version: Version) {
        refuse("origin");
        let origin = self.control.origin();
        let place = origin.map_or_else(|| "unknown".into(), |url| shown(&url));
        let text =
            format!("this relay cannot reach its primary: send the source to {place} instead");
        conn.answer(&plain(version, 502, &text)).await;
    }
}

/// A connection's place while its request is carried. It is given back once the primary has taken what has no end.
struct Held(Mutex<Option<Place>>);

impl Held {
    fn of(conn: &mut Conn) -> Self {
        conn.is_at(State::Answer);
        let place = conn.place.take();
        if let Some(place) = &place {
            // The exchange has deadlines of its own.
            place.answer_within(None);
        }
        Self(Mutex::new(place))
    }

    fn give_back(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    fn into_inner(self) -> Option<Place> {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says what the client has not heard yet, and ends its connection. The primary's has ended already.
async fn finish(mut conn: Conn, version: Version, end: End, answered: bool) {
    // What came behind the request is none.
    conn.buffer = BytesMut::new();
    let (reason, status, text) = match end {
        End::Done => return conn.answer(b"").await,
        End::Gone | End::Shutdown => return,
        End::Cut => ("carried_cut", 502, "the primary closed before it answered"),
        End::Late => ("carried_late", 504, "the primary did not answer in time"),
        End::BadBody => ("carried_framing", 400, "the body's chunks are malformed"),
        End::BadAnswer => ("carried_answer", 502, "the primary's answer is no HTTP"),
    };
    refuse(reason);
    if !answered {
        conn.answer(&plain(version, status, text)).await;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_must_be_is_carried() {
        for path in [
            "/admin/metadata",
            "/admin.cgi",
            "/cluster/v1/join",
            "/cluster/v1/beat",
            "/cluster/v1/feed",
        ] {
            assert!(is_the_primarys(path), "{path}");
        }
        for path in [
            "/cluster/v1/stream/live.mp3",
            "/cluster/v1/listeners",
            "/cluster/v1/kick",
            "/cluster/v1/",
            "/cluster/v2/beat",
            "/cluster/v1/beat/x",
            "/admin/metadata/",
            "/admin/killsource",
            "/metrics",
            "/api/v1/drain",
        ] {
            assert!(!is_the_primarys(path), "{path}");
        }
    }
}
