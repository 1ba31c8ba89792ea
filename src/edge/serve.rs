//! A listener: the decision, and what carries it out, as far as nobody has to wait.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustls::ServerConnection;

use super::answers::redirect;
use super::login::too_many;
use super::{Edge, MAX_WAITING};
use crate::balancer::location::without_token;
use crate::base::ids::MountId;
use crate::base::reach::Reach;
use crate::control::{ADDRESS_FULL, Denied, PROBE, Place, Verdict, Visitor};
use crate::engine::{Listener, Mount};
use crate::telemetry::{Class, Opening, Protocol, Session, refuse};
use crate::throttle::Door;
use crate::wire::basic::Credentials;
use crate::wire::forwarded::{self, ClientOrigin};
use crate::wire::head::{Method, Request, Version};

/// Seconds after which one whom a limit kept out may ask again.
const RETRY: u32 = 10;

/// The address had its new listeners for now, in a word.
const ADDRESS_RATE: &str = "address-rate";

/// The parameter that carries our token.
pub(super) const TOKEN: &str = "rt";

/// Somebody is served here.
#[derive(Debug, Clone, Copy)]
pub(super) struct Served {
    /// Its address, as far as trusted proxies tell.
    pub address: IpAddr,
    /// Who it is.
    pub class: Class,
    /// Why here.
    pub reason: &'static str,
}

/// What a listener's request comes to.
pub(super) enum Settled {
    /// No audio.
    Answer {
        /// The whole answer.
        bytes: Vec<u8>,
        /// It says that another request may follow.
        keep: bool,
    },
    /// Audio from here.
    Serve(Served),
    /// Whoever asks has to wait first; nothing is decided yet. The buffer comes back.
    Later(Vec<u8>),
}

/// A listener's session that is open, and all that the fan-out needs but the socket.
pub(super) struct Opened {
    asked: MountId,
    mount: Arc<Mount>,
    head: Bytes,
    metaint: u32,
    session: Session,
    accepted: Instant,
    ends_at: Option<Instant>,
}

impl Opened {
    /// The session and when it has to end, for who carries the bytes himself.
    pub(super) fn into_session(self) -> (Session, Option<Instant>) {
        (self.session, self.ends_at)
    }
}

impl Edge {
    /// What is to be done for a listener (or its HEAD) without waiting. The answer is made in `buffer`; `keep`:
    /// another request may follow.
    pub(super) fn settle(
        &self,
        request: &Request,
        mount: &MountId,
        client: IpAddr,
        keep: bool,
        buffer: Vec<u8>,
        now: Instant,
    ) -> Settled {
        // An engine that is not ours is reached by a task.
        if self.control.outside.is_some() && request.method != Method::Head {
            return Settled::Later(buffer);
        }
        // Those who need no task speak in clear.
        let origin = self.origin(request, client, false);
        if request.method == Method::Head {
            let bytes = self.head(request, mount, origin);
            return Settled::Answer { bytes, keep: false };
        }
        let class = match self.classify(request, mount, client) {
            Ok(class) => class,
            Err(seconds) => {
                let bytes = too_many(request, seconds);
                return Settled::Answer { bytes, keep: false };
            }
        };
        if self.control.vouches_for_nobody(now) {
            return Settled::Later(buffer);
        }
        let mut visitor = visitor(request, mount, origin, class);
        let verdict = match self.ask(&mut visitor, now) {
            Place::Now(verdict) => verdict,
            Place::Wait { .. } => return Settled::Later(buffer),
        };
        match verdict {
            Verdict::Serve { reason } => Settled::Serve(Served {
                address: origin.address,
                class,
                reason,
            }),
            verdict => {
                let keep = keep && matches!(verdict, Verdict::Redirect { .. });
                let bytes = self.say(buffer, request, mount, &verdict, keep);
                Settled::Answer { bytes, keep }
            }
        }
    }

    /// A verdict in words, unless it is audio.
    pub(super) fn say(
        &self,
        buffer: Vec<u8>,
        request: &Request,
        id: &MountId,
        verdict: &Verdict,
        keep: bool,
    ) -> Vec<u8> {
        match verdict {
            Verdict::Redirect {
                location,
                name,
                reason,
                ..
            } => redirect(buffer, request, location, name.as_str(), reason, keep),
            Verdict::Overflow { location, reason } => {
                let name = self.control.identity.name.as_str();
                redirect(buffer, request, location, name, reason, keep)
            }
            Verdict::Refuse {
                retry_after,
                reason,
            } => {
                refuse(reason);
                self.busy(request, *retry_after, reason)
            }
            Verdict::NoMount | Verdict::Serve { .. } => self.no_mount(request, id),
        }
    }

    /// Asks once; who comes while others wait in line gets behind them.
    pub(super) fn ask(&self, visitor: &mut Visitor<'_>, now: Instant) -> Place {
        visitor.behind = self.queue.available_permits() < MAX_WAITING;
        // `now` is when a whole handful of requests came.
        let begun = Instant::now();
        let placed = self.control.place(visitor, Duration::ZERO, now);
        visitor.behind = false;
        self.pick_seconds.record(begun.elapsed());
        placed
    }

    /// The mount, if it plays now; where its source is lost, the fallback that plays instead.
    pub(super) fn playing(&self, id: &MountId) -> Option<Arc<Mount>> {
        let stand_in = self.control.stands_for(id);
        let id = stand_in.as_ref().unwrap_or(id);
        self.control.demand(id);
        let mount = self.control.engine.mount(id);
        mount.filter(|mount| mount.is_playable())
    }

    /// Opens the session of a listener who asked for `id` and hears `mount`, or says why not. It is counted on `id`,
    /// whatever it hears.
    ///
    /// # Errors
    /// The answer, where a limit is reached.
    pub(super) fn open(
        &self,
        request: &Request,
        id: &MountId,
        mount: &Arc<Mount>,
        served: &Served,
        accepted: Instant,
    ) -> Result<Opened, Vec<u8>> {
        let settings = self.mount_config(id);
        let token = request.query_value(TOKEN);
        let is_probe = served.class == Class::Probe;
        if is_probe
            && !self
                .control
                .take_probe(id, token.as_deref(), Instant::now())
        {
            refuse("probe");
            return Err(self.busy(request, RETRY, "probe"));
        }
        let longest = settings.max_listener_duration.into_iter();
        let longest = longest.chain(is_probe.then_some(PROBE)).min();
        let target = without_token(request.relative());
        let opening = opening(request, id, &target, served);
        let of_address = self.knock(&opening).map_err(|wait| {
            refuse(ADDRESS_RATE);
            self.too_many(request, wait, ADDRESS_RATE)
        })?;
        let most = settings.max_listeners;
        let admitted = self.control.admit(&opening, mount, most, of_address);
        let session = admitted.map_err(|limit| {
            refuse(limit);
            match limit {
                ADDRESS_FULL => self.too_many(request, RETRY, limit),
                _ => self.busy(request, RETRY, limit),
            }
        })?;
        if let Some(key) = request.headers.get("x-playback-session-id")
            && self.playbacks.supersede(key, session.record())
        {
            self.control.engine.sweep();
        }
        let metaint = self.metaint(request, mount);
        // Boxed, so that it takes no more than its length while it waits to be sent.
        let head = self.audio_head(request, mount, metaint, served.reason);
        Ok(Opened {
            asked: id.clone(),
            mount: Arc::clone(mount),
            head: head.into_boxed_slice().into(),
            metaint,
            session,
            accepted,
            ends_at: longest.map(|longest| Instant::now() + longest),
        })
    }

    /// Takes a token of the address for a new listener, and gives the most listeners that it may have.
    ///
    /// # Errors
    /// The seconds until there is a token.
    fn knock(&self, opening: &Opening<'_>) -> Result<Option<u64>, u32> {
        let config = self.config.load();
        let (limits, address) = (&config.of_address, opening.address);
        // What a trusted proxy does not name a client for is the proxy's own: it speaks for many.
        let is_one = opening.class == Class::Listener
            && !config
                .trusted_proxies
                .iter()
                .any(|net| net.contains(&address));
        if !is_one {
            return Ok(None);
        }
        let admitted = self.arrivals.admit(address, limits, Instant::now());
        admitted.map_err(|wait| u32::try_from(wait.as_secs() + 1).unwrap_or(u32::MAX))?;
        Ok(limits.listeners)
    }

    /// Gives a listener to the fan-out.
    pub(super) fn seat(
        &self,
        socket: std::net::TcpStream,
        tls: Option<Box<ServerConnection>>,
        opened: Opened,
    ) {
        let listener = Listener {
            socket,
            tls,
            asked: opened.asked,
            mount: opened.mount,
            head: opened.head,
            metaint: opened.metaint,
            session: opened.session,
            accepted: opened.accepted,
            ends_at: opened.ends_at,
        };
        if self.control.engine.listen(listener).is_err() {
            refuse("shard_full");
        }
    }

    pub(super) fn head(&self, request: &Request, id: &MountId, origin: ClientOrigin) -> Vec<u8> {
        let visitor = visitor(request, id, origin, Class::Listener);
        let placed = self
            .control
            .place(&visitor, Duration::ZERO, Instant::now())
            .verdict();
        if matches!(placed, Verdict::Redirect { .. } | Verdict::Overflow { .. }) {
            return self.say(Vec::new(), request, id, &placed, false);
        }
        match self.playing(id) {
            Some(mount) => self.audio_head(request, &mount, self.metaint(request, &mount), "head"),
            None => self.no_mount(request, id),
        }
    }

    /// Finds out what a request for audio is: a probe shows its token, a foreign relay logs in, anything else is a
    /// listener, also with a wrong password.
    ///
    /// # Errors
    /// Seconds after which a client that failed too often may log in again.
    pub(super) fn classify(
        &self,
        request: &Request,
        mount: &MountId,
        client: IpAddr,
    ) -> Result<Class, u64> {
        if let Credentials::Basic(basic) = Credentials::of(&request.headers)
            && basic.user == "relay"
        {
            match self.logs_in(request, client, basic.password.reveal()) {
                Ok(()) => return Ok(Class::Relay),
                Err(Denied::Delayed(seconds)) => return Err(seconds),
                Err(Denied::Missing | Denied::Wrong) => {}
            }
        }
        let token = request.query_value(TOKEN);
        let probes = self.control.is_probe(mount, token.as_deref());
        Ok(if probes {
            Class::Probe
        } else {
            Class::Listener
        })
    }

    fn logs_in(&self, request: &Request, client: IpAddr, password: &str) -> Result<(), Denied> {
        let remote = self.remote(request, client);
        let permit = self.control.knock(Door::Relay, remote, "relay", password)?;
        let right = self.control.is_relay_password(&permit, password);
        permit.judge(right.then_some(()))
    }
}

pub(super) fn visitor<'a>(
    request: &'a Request,
    mount: &'a MountId,
    origin: ClientOrigin,
    class: Class,
) -> Visitor<'a> {
    Visitor {
        mount,
        target: &request.target,
        address: origin.address,
        from: circle(request, origin.address),
        https: origin.https,
        agent: request.headers.get("user-agent").unwrap_or(""),
        session: request.headers.get("x-playback-session-id"),
        reserves: request.method == Method::Get && class == Class::Listener,
        class,
        behind: false,
        avoid: Vec::new(),
    }
}

/// The circle that a listener is in. What a proxy in between claims counts where it is wider, trusted or not: its own
/// address says nothing of who is behind it.
fn circle(request: &Request, address: IpAddr) -> Reach {
    let claimed = forwarded::claimed(&request.headers).map(Reach::of_address);
    let own = Reach::of_address(address);
    claimed.map_or(own, |claimed| claimed.max(own))
}

fn opening<'a>(
    request: &'a Request,
    mount: &'a MountId,
    target: &'a str,
    served: &Served,
) -> Opening<'a> {
    let header = |name| request.headers.get(name).unwrap_or("");
    Opening {
        mount,
        address: served.address,
        user_agent: header("user-agent"),
        referer: header("referer"),
        target,
        protocol: match request.version {
            Version::Http10 => Protocol::Http10,
            Version::Http11 => Protocol::Http11,
            Version::Ice10 => Protocol::Ice10,
        },
        class: served.class,
    }
}
