//! A listener of an engine that is not ours: its session here, its stream there, and the bytes from there to here.
//!
//! Backpressure is the sockets' own: while the client takes nothing, nothing is read from the engine, and who falls
//! too far behind is dropped there. A client that has said all it has to say (it closed its sending side) listens on.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::watch;

use crate::balancer::location::without_token;
use crate::base::ids::MountId;
use crate::base::wall::unix_millis;
use crate::edge::Edge;
use crate::edge::connection::Conn;
use crate::edge::health::CORS;
use crate::edge::serve::Served;
use crate::engine::{HALF_CLOSED, Mount};
use crate::outside::{Audio, Guest, Outside, Refused, State};
use crate::telemetry::{Class, EndReason, Session, refuse};
use crate::wire::head::Request;
use crate::wire::response::{Answer, GUARDS};

/// How long a newcomer waits for an engine that starts, or for a mount that begins.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long the look at the engine's mounts may take for somebody who asks for one that is not known.
const LOOK: Duration = Duration::from_secs(2);

/// Read from the engine at once: all of a connection that is held here.
const READ: usize = 16 * 1024;

/// Seconds after which one whom the engine refused may ask again.
const RETRY: u32 = 5;

/// Headers of the engine that reach the listener; all others are between it and us, or are ours to say.
fn is_carried(name: &str) -> bool {
    name.starts_with("icy-")
        || name.starts_with("ice-")
        || matches!(
            name,
            "content-type" | "cache-control" | "expires" | "pragma"
        )
}

/// What ends a stream besides its own end.
struct Limits {
    sweeps: watch::Receiver<u64>,
    ends_at: Option<tokio::time::Instant>,
    stall: Duration,
}

impl Edge {
    /// Waits a moment for a mount that the engine may have and that is not known here yet.
    pub(in crate::edge) async fn fetch(&self, outside: &Outside, id: &MountId) {
        let engine = &self.control.engine;
        let here = || self.control.stands_for(id).is_some() || is_here(engine.mount(id));
        if here() || outside.status().state == State::Down {
            return;
        }
        let (mut mounts, mut looks) = (engine.watch(), outside.watch_statistics());
        looks.mark_unchanged();
        outside.look_soon();
        let starting = outside.status().state == State::Starting;
        let deadline = tokio::time::Instant::now() + if starting { PATIENCE } else { LOOK };
        let arrives = async {
            if looks.changed().await.is_err() {
                return;
            }
            let known = |id: &MountId| outside.statistics().mounts.iter().any(|m| m.mount == *id);
            while known(id) && !here() {
                if mounts.changed().await.is_err() {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout_at(deadline, arrives).await;
    }

    /// Audio from the engine, for somebody who is served here.
    pub(in crate::edge) async fn pass(
        &self,
        outside: &Arc<Outside>,
        mut conn: Conn,
        request: &Request,
        id: &MountId,
        served: Served,
    ) {
        let stand_in = self.control.stands_for(id);
        let heard = stand_in.as_ref().unwrap_or(id);
        let Some(mount) = self.control.engine.mount(heard) else {
            return conn.answer(&self.no_mount(request, id)).await;
        };
        let opened = match self.open(request, id, &mount, &served, conn.accepted) {
            Ok(opened) => opened,
            Err(answer) => return conn.answer(&answer).await,
        };
        conn.is_admitted();
        // `listener.stall` is the deadline of what is written from here on.
        conn.stream.release();
        let (session, ends_at) = opened.into_session();
        // Where the engine has the mount itself, its own fallbacks are its own affair.
        let known = outside.statistics();
        let asked = known.mounts.iter().any(|own| own.mount == *id);
        let path = outside.path_of(if asked { id } else { heard });
        let audio = match self.begin(outside, request, &path, &served).await {
            Ok(audio) => audio,
            Err(refused) => {
                session.finish(EndReason::Ended);
                return conn.answer(&self.refused(request, id, &refused)).await;
            }
        };
        let limits = Limits {
            sweeps: self.control.engine.watch_sweeps(),
            ends_at: ends_at.map(Into::into),
            stall: self.config.load().stall,
        };
        let head = self.engine_head(request, served.reason, &audio);
        self.relay(conn, head, audio, session, limits).await;
    }

    async fn begin(
        &self,
        outside: &Outside,
        request: &Request,
        path: &str,
        served: &Served,
    ) -> Result<Audio, Refused> {
        let down = || Refused {
            status: 503,
            text: format!("the audio engine is down: {}", outside.status().why),
        };
        let place = outside.place_within(PATIENCE).await.ok_or_else(down)?;
        let relative = without_token(request.relative());
        let query = relative.split_once('?').map_or("", |(_, query)| query);
        let header = |name| request.headers.get(name);
        let mut guest = Guest::new(path, query, served.address);
        guest.agent = header("user-agent").unwrap_or_default();
        guest.referer = header("referer").unwrap_or_default();
        guest.metadata = header("icy-metadata").is_some_and(|value| value.trim() == "1");
        // A foreign relay logs in at us, not there.
        guest.login = header("authorization").filter(|_| served.class != Class::Relay);
        outside.listen(&place, &guest).await
    }

    /// What the engine said to one whom it does not take, in our words where they are better.
    fn refused(&self, request: &Request, id: &MountId, refused: &Refused) -> Vec<u8> {
        match refused.status {
            404 => self.no_mount(request, id),
            401 => {
                refuse("engine");
                Answer::new(request.version, 401)
                    .at(unix_millis())
                    .lines(CORS)
                    .header("WWW-Authenticate", "Basic realm=\"listeners\"")
                    .lines(GUARDS)
                    .body("text/plain; charset=utf-8", format!("{}\n", refused.text))
            }
            _ => {
                tracing::debug!(mount = %id, why = refused.text, "no stream from the engine");
                refuse("engine");
                self.busy(request, RETRY, "engine")
            }
        }
    }

    fn engine_head(&self, request: &Request, reason: &'static str, audio: &Audio) -> Vec<u8> {
        let headers = audio.response.headers.iter();
        let carried = headers.filter(|(name, _)| is_carried(&name.to_ascii_lowercase()));
        Answer::new(request.version, 200)
            .at(unix_millis())
            .header("Server", concat!("relayctl/", env!("CARGO_PKG_VERSION")))
            .headers(carried)
            .lines(CORS)
            .header("X-Relayctl-Node", self.control.identity.name.as_str())
            .header("X-Relayctl-Reason", reason)
            .stream_head()
    }

    /// From there to here, until one of both ends.
    async fn relay(
        &self,
        mut conn: Conn,
        head: Vec<u8>,
        mut audio: Audio,
        session: Session,
        mut limits: Limits,
    ) {
        let mut out = head;
        let mut heard = BytesMut::from(audio.rest.as_slice());
        let mut first = true;
        let end = loop {
            if audio.decoder.push(&heard, &mut out).is_err() {
                break EndReason::Ended;
            }
            heard.clear();
            if let Some(end) = self.write(&mut conn, &out, &session, &mut limits).await {
                break end;
            }
            if std::mem::take(&mut first) {
                metrics::histogram!("relayctl_first_byte_seconds").record(conn.accepted.elapsed());
            }
            out.clear();
            if audio.decoder.is_done() {
                break EndReason::Ended;
            }
            if let Some(end) = self
                .read(&mut conn, &mut audio, &mut heard, &session, &mut limits)
                .await
            {
                break end;
            }
        };
        if end == EndReason::Stalled {
            session.counters().add_stalls(1);
        }
        session.finish(end);
        // A clean end for who hears it; nobody waits long for one who does not.
        let _ = tokio::time::timeout(Duration::from_secs(1), conn.stream.shutdown()).await;
    }

    /// Writes all of `out`; an end where there is one.
    async fn write(
        &self,
        conn: &mut Conn,
        out: &[u8],
        session: &Session,
        limits: &mut Limits,
    ) -> Option<EndReason> {
        let mut rest = out;
        while !rest.is_empty() {
            let stalled = tokio::time::Instant::now() + limits.stall;
            tokio::select! {
                written = conn.stream.write(rest) => match written {
                    Ok(count @ 1..) => {
                        session.sent(u64::try_from(count).unwrap_or(u64::MAX));
                        rest = rest.get(count..).unwrap_or_default();
                    }
                    _ => return Some(EndReason::Left),
                },
                () = tokio::time::sleep_until(stalled) => return Some(EndReason::Stalled),
                end = self.told_to_end(session, limits) => return Some(end),
            }
        }
        // What lies within TLS must not wait for more.
        conn.stream.flush().await.err().map(|_| EndReason::Left)
    }

    /// Reads more from the engine; an end where there is one.
    async fn read(
        &self,
        conn: &mut Conn,
        audio: &mut Audio,
        heard: &mut BytesMut,
        session: &Session,
        limits: &mut Limits,
    ) -> Option<EndReason> {
        heard.reserve(READ);
        let mut listens_only = false;
        loop {
            // What the client still says is nobody's; it is read to notice that it went.
            conn.buffer.clear();
            conn.buffer.reserve(512);
            tokio::select! {
                read = audio.stream.read_buf(heard) => return match read {
                    Ok(1..) => None,
                    Ok(0) | Err(_) => Some(EndReason::Ended),
                },
                said = conn.stream.read_buf(&mut conn.buffer), if !listens_only => match said {
                    Ok(1..) => {}
                    Ok(0) => listens_only = true,
                    Err(_) => return Some(EndReason::Left),
                },
                () = tokio::time::sleep(HALF_CLOSED), if listens_only => {
                    return Some(EndReason::Left);
                }
                end = self.told_to_end(session, limits) => return Some(end),
            }
        }
    }

    /// Returns when the session has to end, whatever its sockets do.
    async fn told_to_end(&self, session: &Session, limits: &mut Limits) -> EndReason {
        loop {
            if let Some(end) = session.record().ending() {
                return end;
            }
            let over = async {
                match limits.ends_at {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.shutdown.cancelled() => return EndReason::Shutdown,
                () = over => return EndReason::Duration,
                swept = limits.sweeps.changed() => if swept.is_err() {
                    return EndReason::Shutdown;
                },
            }
        }
    }
}

fn is_here(mount: Option<Arc<Mount>>) -> bool {
    mount.is_some_and(|mount| mount.is_playable())
}
