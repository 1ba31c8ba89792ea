//! A source by `PUT` or `SOURCE`: who it is, its answer, and its body into the engine.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::Edge;
use super::connection::{Conn, plain};
use super::described::{carried_headers, content_type};
use super::login::WRONG_PASSWORD;
use super::pump::SourceEnd;
use crate::base::ids::MountId;
use crate::base::wall::unix_millis;
use crate::control::{Denied, Permit, Role};
use crate::engine::{Intake, Offer, OpenError};
use crate::outside::{self, Outside};
use crate::telemetry::refuse;
use crate::throttle::Door;
use crate::wire::basic::Credentials;
use crate::wire::body::{BodyDecoder, Framing};
use crate::wire::head::{Method, Request, Version};
use crate::wire::response::Answer;

impl Edge {
    /// Takes a source; the connection comes back where the client may ask again.
    pub(super) async fn source(
        self: &Arc<Self>,
        conn: Conn,
        request: Request,
        mount: MountId,
    ) -> Option<Conn> {
        if self.control.identity.role == Role::Relay {
            // Who shows nothing is told so here, and keeps the connection on which it asks again (libshout does).
            if request.headers.get("authorization").is_none() {
                return self.deny(conn, &request, Denied::Missing).await;
            }
            self.carry(conn, request).await;
            return None;
        }
        let framing = match Framing::of_request(&request) {
            Ok(framing) => framing,
            Err(error) => {
                refuse("source_framing");
                conn.answer(&plain(request.version, error.status(), &error.to_string()))
                    .await;
                return None;
            }
        };
        if let Some(outside) = &self.control.outside {
            return self
                .feed_outside(outside, conn, request, framing, mount)
                .await;
        }
        if let Err(denied) = self.knows_source(&conn, &request, &mount) {
            return self.deny(conn, &request, denied).await;
        }
        let offer = self.offer(&conn, &request, &mount);
        match self.control.engine.open_source(&mount, offer) {
            Ok(intake) => self.feed(conn, request, framing, intake).await,
            Err(error) => {
                let (status, reason) = open_error(&error);
                refuse(reason);
                let origin = conn.origin(&request, self).address;
                self.control
                    .source_refused(&mount, origin, &error.to_string());
                conn.answer(&plain(request.version, status, &error.to_string()))
                    .await;
            }
        }
        None
    }

    /// The same for an engine that is not ours: an attached one judges the password itself.
    async fn feed_outside(
        &self,
        outside: &Arc<Outside>,
        mut conn: Conn,
        request: Request,
        framing: Framing,
        mount: MountId,
    ) -> Option<Conn> {
        let Credentials::Basic(basic) = Credentials::of(&request.headers) else {
            return self.deny(conn, &request, Denied::Missing).await;
        };
        let known = if outside.is_attached() {
            let remote = self.remote(&request, conn.client.ip());
            let login = basic.encode();
            let permit = self
                .control
                .knock(Door::Source, remote, &mount.to_string(), &login);
            permit.map(Some)
        } else {
            self.knows_source(&conn, &request, &mount).map(|()| None)
        };
        let permit = match known {
            Ok(permit) => permit,
            Err(denied) => return self.deny(conn, &request, denied).await,
        };
        let asked = self.offer(&conn, &request, &mount);
        let offer = outside::Offer {
            content_type: asked.content_type,
            headers: asked.headers,
            agent: asked.agent,
            password: basic.password,
            metaint: metaint(&request),
            mount,
        };
        let taken = match self.take(outside, &offer).await {
            Ok(taken) => {
                permit.into_iter().for_each(Permit::right);
                taken
            }
            Err(refused) if refused.status == 401 => {
                permit.into_iter().for_each(Permit::wrong);
                let origin = conn.origin(&request, self).address;
                self.control
                    .source_refused(&offer.mount, origin, WRONG_PASSWORD);
                return self.deny(conn, &request, Denied::Wrong).await;
            }
            Err(refused) => {
                let origin = conn.origin(&request, self).address;
                self.control
                    .source_refused(&offer.mount, origin, &refused.text);
                conn.answer(&plain(request.version, refused.status, &refused.text))
                    .await;
                return None;
            }
        };
        let framed = framing != Framing::UntilClose;
        conn.is_admitted();
        welcome(&mut conn, &request, framed).await.ok()?;
        let decoder = BodyDecoder::new(framing);
        let end = self.give(outside, &mut conn, decoder, taken).await;
        if framed || end != SourceEnd::Done {
            let (status, text) = end.answer();
            conn.answer(&plain(request.version, status, &text)).await;
        }
        None
    }

    fn offer(&self, conn: &Conn, request: &Request, mount: &MountId) -> Offer {
        Offer {
            content_type: content_type(request.headers.get("content-type"), mount),
            headers: carried_headers(&request.headers),
            address: conn.origin(request, self).address,
            agent: request.headers.get("user-agent").unwrap_or("").to_owned(),
            stale: self.stale(),
        }
    }

    /// How long a running source must have been silent to be replaced.
    pub(super) fn stale(&self) -> Duration {
        let config = self.config.load();
        if config.takeover {
            Duration::ZERO
        } else {
            config.source_stale
        }
    }

    async fn feed(&self, mut conn: Conn, request: Request, framing: Framing, intake: Intake) {
        let framed = framing != Framing::UntilClose;
        conn.is_admitted();
        if welcome(&mut conn, &request, framed).await.is_err() {
            return;
        }
        let metaint = metaint(&request);
        let end = self
            .pump(&mut conn, BodyDecoder::new(framing), metaint, intake)
            .await;
        if framed || end != SourceEnd::Done {
            let (status, text) = end.answer();
            // Without framing the answer was given at the start; what is said now is for the log of an
            // encoder that still reads.
            conn.answer(&plain(request.version, status, &text)).await;
        }
    }
}

/// Audio bytes between the titles that a source sends inside.
fn metaint(request: &Request) -> Option<u32> {
    let text = request.headers.get("icy-metaint")?;
    text.trim().parse().ok()
}

/// The first answer: 100 where it was asked for; 200 at once where the body has no end of its own, as
/// Icecast 2.4 does and old encoders wait for. A framed body gets its 200 at its end (RFC 9110, 15.3).
async fn welcome(conn: &mut Conn, request: &Request, framed: bool) -> io::Result<()> {
    let mut bytes = Vec::new();
    if request.expects_continue() {
        bytes.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
    }
    if !framed {
        let version = if request.method == Method::Source {
            Version::Http10
        } else {
            request.version
        };
        bytes.extend(Answer::new(version, 200).at(unix_millis()).empty());
    }
    conn.say(&bytes).await
}

/// Status and counter of a refusal.
pub(super) fn open_error(error: &OpenError) -> (u16, &'static str) {
    match error {
        OpenError::Unsupported(_) => (415, "source_type"),
        OpenError::InUse { .. } => (403, "source_in_use"),
        OpenError::TooMany(_) => (503, "sources"),
    }
}
