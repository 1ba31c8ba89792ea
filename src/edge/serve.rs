//! A listener: the decision, and whoever carries it out.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Edge;
use super::answers::redirect;
use super::connection::Conn;
use super::health::CORS;
use crate::base::ids::MountId;
use crate::base::wall::unix_millis;
use crate::control::{Place, Verdict, Visitor};
use crate::engine::{Listener, Mount, MountState};
use crate::telemetry::{Class, Opening, refuse};
use crate::wire::basic::Credentials;
use crate::wire::head::{Method, Request, Version};
use crate::wire::response::Answer;

/// How long a newcomer waits for a place in a join bucket.
const PATIENCE: Duration = Duration::from_secs(5);

/// With the primary gone nobody vouches for a node but its own answer, within this time.
const VOUCH: Duration = Duration::from_millis(300);

/// The parameter that carries our token.
pub(super) const TOKEN: &str = "rt";

impl Edge {
    /// Answers a listener: audio, another node, or why not.
    pub(super) async fn listen(self: &Arc<Self>, conn: Conn, request: Request, mount: MountId) {
        let origin = conn.origin(&request, self);
        let class = self.classify(&request);
        if request.method == Method::Head {
            return self.head(conn, &request, &mount, origin.https).await;
        }
        let mut visitor = visitor(&request, &mount, origin.address, origin.https, class);
        match self.place(&mut visitor).await {
            Verdict::Serve { reason } => {
                self.serve(conn, &request, &mount, origin.address, class, reason)
                    .await
            }
            Verdict::Redirect {
                location,
                name,
                reason,
                ..
            } => {
                conn.answer(&redirect(&request, &location, &name, reason))
                    .await;
            }
            Verdict::NoMount => self.no_mount(conn, &request, &mount).await,
            Verdict::Refuse {
                retry_after,
                reason,
            } => {
                refuse(reason);
                conn.answer(&self.busy(&request, retry_after, reason)).await;
            }
        }
    }

    /// The mount once it plays: at once where it does, within [`PATIENCE`] where it has to be fetched first or
    /// has only just begun.
    async fn playable(&self, id: &MountId) -> Option<Arc<Mount>> {
        let engine = &self.control.engine;
        let mut changes = engine.watch();
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let demanded = self.control.demand(id);
        loop {
            let mount = engine.mount(id);
            if let Some(mount) = mount.as_ref().filter(|mount| mount.is_playable()) {
                return Some(Arc::clone(mount));
            }
            let fed = mount.is_some_and(|mount| mount.state() == MountState::Live);
            if !demanded && !fed {
                return None;
            }
            tokio::time::timeout_at(deadline, changes.changed())
                .await
                .ok()?
                .ok()?;
        }
    }

    /// Asks until there is an answer; those who must wait do so in the order they came.
    async fn place(&self, visitor: &mut Visitor) -> Verdict {
        loop {
            let verdict = self.place_in_turn(visitor).await;
            let Verdict::Redirect {
                node,
                location,
                check_first: true,
                ..
            } = &verdict
            else {
                return verdict;
            };
            if answers(location).await {
                return verdict;
            }
            visitor.avoid.push(node.clone());
        }
    }

    async fn place_in_turn(&self, visitor: &Visitor) -> Verdict {
        let started = Instant::now();
        let first = self.control.place(visitor, Duration::ZERO, started);
        metrics::histogram!("relayctl_pick_seconds").record(started.elapsed());
        let Place::Wait { .. } = first else {
            return first.verdict();
        };
        let Ok(_waiting) = self.queue.try_acquire() else {
            return first.verdict();
        };
        let deadline = tokio::time::Instant::from_std(started + PATIENCE);
        let Ok(mut turn) = tokio::time::timeout_at(deadline, self.turn.lock()).await else {
            return first.verdict();
        };
        *turn += 1;
        loop {
            let now = Instant::now();
            match self
                .control
                .place(visitor, now.saturating_duration_since(started), now)
            {
                Place::Wait { until } if tokio::time::Instant::from_std(until) <= deadline => {
                    tokio::time::sleep_until(until.into()).await;
                }
                placed => return placed.verdict(),
            }
        }
    }

    async fn serve(
        self: &Arc<Self>,
        conn: Conn,
        request: &Request,
        id: &MountId,
        address: IpAddr,
        class: Class,
        reason: &'static str,
    ) {
        let Some(mount) = self.playable(id).await else {
            return self.no_mount(conn, request, id).await;
        };
        let settings = self.mount_config(id);
        if settings
            .max_listeners
            .is_some_and(|most| mount.counters.listeners() >= most)
        {
            refuse("mount_full");
            return conn.answer(&self.busy(request, 30, "mount-full")).await;
        }
        let metaint = self.metaint(request, &mount);
        let head = self.audio_head(request, &mount, metaint, reason);
        let most = self.control.config().max_listeners;
        let opening = opening(request, id, address, class);
        let Some(session) = self.control.telemetry.open_within(opening, most) else {
            refuse("full");
            return conn.answer(&self.busy(request, 10, "full")).await;
        };
        if let Some(key) = request.headers.get("x-playback-session-id")
            && self.playbacks.supersede(key, session.record())
        {
            self.control.engine.sweep();
        }
        let accepted = conn.accepted;
        let socket = match conn.stream.into_std() {
            Ok(socket) => socket,
            Err(error) => return tracing::warn!(%error, "a listener's socket is unusable"),
        };
        let ends_at = settings
            .max_listener_duration
            .map(|longest| Instant::now() + longest);
        let listener = Listener {
            socket,
            mount,
            head: head.into(),
            metaint,
            session,
            accepted,
            ends_at,
        };
        if self.control.engine.listen(listener).is_err() {
            refuse("shard_full");
        }
    }

    async fn head(&self, conn: Conn, request: &Request, id: &MountId, https: bool) {
        let visitor = visitor(request, id, conn.client.ip(), https, Class::Listener);
        match self
            .control
            .place(&visitor, Duration::ZERO, Instant::now())
            .verdict()
        {
            Verdict::Redirect {
                location,
                name,
                reason,
                ..
            } => {
                conn.answer(&redirect(request, &location, &name, reason))
                    .await;
            }
            _ => match self
                .control
                .engine
                .mount(id)
                .filter(|mount| mount.is_playable())
            {
                Some(mount) => {
                    let head =
                        self.audio_head(request, &mount, self.metaint(request, &mount), "head");
                    conn.answer(&head).await;
                }
                None => self.no_mount(conn, request, id).await,
            },
        }
    }

    async fn no_mount(&self, conn: Conn, request: &Request, id: &MountId) {
        refuse("unknown_mount");
        let text = format!("no source on {id}: see / for what is on air");
        let answer = Answer::new(request.version, 404)
            .at(unix_millis())
            .headers(CORS);
        let answer = answer.header("Cache-Control", "no-store");
        let answer = answer.header("X-Relayctl-Node", self.control.identity.name.as_str());
        let answer = if request.method == Method::Head {
            answer.head_only()
        } else {
            answer
        };
        conn.answer(&answer.body("text/plain; charset=utf-8", format!("{text}\n")))
            .await;
    }

    /// A probe shows its token; a foreign relay logs in; everybody else listens.
    fn classify(&self, request: &Request) -> Class {
        if let Credentials::Basic(basic) = Credentials::of(&request.headers)
            && basic.user == "relay"
            && self
                .control
                .relay_password()
                .matches(basic.password.reveal())
        {
            return Class::Relay;
        }
        if self.control.is_probe(request.query_value(TOKEN).as_deref()) {
            Class::Probe
        } else {
            Class::Listener
        }
    }
}

fn visitor(
    request: &Request,
    mount: &MountId,
    address: IpAddr,
    https: bool,
    class: Class,
) -> Visitor {
    Visitor {
        mount: mount.clone(),
        target: request.target.clone(),
        address,
        https,
        agent: request.headers.get("user-agent").unwrap_or("").to_owned(),
        session: request
            .headers
            .get("x-playback-session-id")
            .map(str::to_owned),
        reserves: request.method == Method::Get && class == Class::Listener,
        class,
        avoid: Vec::new(),
    }
}

/// True if somebody takes a connection at a URL within [`VOUCH`].
async fn answers(location: &str) -> bool {
    let Ok(url) = url::Url::parse(location) else {
        return false;
    };
    let Some(host) = url.host_str() else {
        return false;
    };
    let port = url.port_or_known_default().unwrap_or(80);
    let host = host.trim_matches(['[', ']']);
    let connecting = tokio::net::TcpStream::connect((host, port));
    matches!(tokio::time::timeout(VOUCH, connecting).await, Ok(Ok(_)))
}

fn opening(request: &Request, mount: &MountId, address: IpAddr, class: Class) -> Opening {
    let header = |name| request.headers.get(name).unwrap_or("").to_owned();
    let query = request.query_without(TOKEN);
    let query = if query.is_empty() {
        query
    } else {
        format!("?{query}")
    };
    let version = match request.version {
        Version::Http10 => "HTTP/1.0",
        Version::Http11 => "HTTP/1.1",
        Version::Ice10 => "ICE/1.0",
    };
    Opening {
        mount: mount.clone(),
        address,
        user_agent: header("user-agent"),
        referer: header("referer"),
        request: format!("{} {}{query} {version}", request.method, request.path()),
        class,
    }
}
