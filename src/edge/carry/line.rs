//! Shoutcast v1 through a relay. A v1 source begins with its password alone, which has no place for the client's
//! address, so the relay puts one head in front: `POST /cluster/v1/line`, with its mark. Behind it stands what the source
//! says, from its password line on.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::AsyncWriteExt as _;

use super::exchange::{self, End};
use super::{Edge, Held, head};
use crate::control::{CLIENT, Role};
use crate::edge::connection::Conn;
use crate::edge::gate::HEAD_TIMEOUT;
use crate::telemetry::refuse;
use crate::wire::body::Framing;
use crate::wire::head::{Method, Request, Version};
use crate::wire::sniff;

/// Where a relay says it.
const LINE: &str = "/cluster/v1/line";

/// Longest password line that is waited for, in bytes.
const MAX_LINE: usize = 512;

/// True for a v1 source that a relay carried here.
pub(in crate::edge) fn is_line(request: &Request) -> bool {
    request.method == Method::Post && request.path() == LINE
}

impl Edge {
    /// Carries a Shoutcast v1 source to the primary.
    pub(in crate::edge) async fn carry_line(&self, conn: Conn, line: &str) {
        let request = Request::new(Method::Post, LINE, Version::Http10);
        self.carry_line_of(conn, line, &request).await;
    }

    /// The same for one that came here by `request` of another relay, or directly.
    async fn carry_line_of(&self, mut conn: Conn, line: &str, request: &Request) {
        if self.has_been_here(request) {
            refuse("loop");
            return conn
                .answer(b"this relay and its primary point at each other\r\n")
                .await;
        }
        let mark = self.mark(&conn, request);
        let own = self.control.identity.id.as_str();
        let mut first = head::request(request, Framing::UntilClose, mark.as_deref(), own);
        first.extend_from_slice(line.as_bytes());
        first.extend_from_slice(b"\r\n");
        let Some(mut primary) = self.to_primary().await else {
            refuse("origin");
            return conn
                .answer(b"this relay cannot reach its primary\r\n")
                .await;
        };
        let (pace, place) = (self.source_pace(), Held::of(&mut conn));
        let Conn { stream, buffer, .. } = &mut conn;
        let running = async {
            if primary.write_all(&first).await.is_err() {
                return End::Cut;
            }
            exchange::raw(stream, buffer, primary, pace, &|| place.give_back()).await
        };
        let end = tokio::select! {
            () = self.shutdown.cancelled() => End::Shutdown,
            end = running => end,
        };
        conn.place = place.into_inner();
        match end {
            End::Done => conn.answer(b"").await,
            End::Late => refuse("carried_late"),
            End::Cut => refuse("carried_cut"),
            _ => {}
        }
    }

    /// Takes a v1 source that a relay carried here; its client is who the relay's mark says.
    pub(in crate::edge) async fn line(self: &Arc<Self>, mut conn: Conn, request: Request) {
        let Some(line) = password(&mut conn).await else {
            refuse("half_head");
            return;
        };
        match self.control.identity.role {
            Role::Relay => self.carry_line_of(conn, &line, &request).await,
            Role::Primary => {
                Box::pin(Arc::clone(self).shoutcast(conn, &line)).await;
            }
        }
    }

    /// Notes whom the last relay's mark names, where it is a member's. Any other carried request stays the relay's own.
    pub(in crate::edge) fn note_carried_client(&self, conn: &mut Conn, request: &Request) {
        if self.control.identity.role != Role::Primary || request.headers.get(CLIENT).is_none() {
            return;
        }
        let marks: Vec<&str> = request.headers.all(CLIENT).collect();
        let (method, target) = (request.method.as_str(), request.relative());
        let told = self
            .control
            .carried_client(marks.into_iter(), method, target);
        match told {
            Some(client) => conn.client = SocketAddr::new(client, conn.client.port()),
            None => refuse("client_mark"),
        }
    }
}

/// The password line behind the head.
async fn password(conn: &mut Conn) -> Option<String> {
    let deadline = tokio::time::Instant::now() + HEAD_TIMEOUT;
    loop {
        if let Some((line, used)) = sniff::password_line(&conn.buffer) {
            let _ = conn.buffer.split_to(used.min(conn.buffer.len()));
            return Some(line);
        }
        if conn.buffer.len() > MAX_LINE {
            return None;
        }
        let more = tokio::time::timeout_at(deadline, conn.fill()).await.ok()?;
        if !more.ok()? {
            return None;
        }
    }
}
