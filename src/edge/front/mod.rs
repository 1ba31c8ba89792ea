//! The front: the thread that accepts, and answers at once whatever can be answered at once.
//!
//! After a node dies thousands come back within a second. So a connection whose request is whole in the first
//! read costs no task and no allocation of its own: this thread accepts it, reads into its one buffer, parses
//! into its one request, asks `control` where the listener goes, and
//!
//! - writes a redirect, a refusal, a health answer or the page with one send from a buffer that all share, and keeps
//!   the connection for the next request or closes it,
//! - or gives the socket of a listener who is served here to the fan-out,
//! - or hands the connection, with the bytes read so far, to a tokio task (`edge::connection`): heads that are
//!   not whole, sources, TLS, PROXY headers, the API, a listener who must wait for a place or a mount.
//!
//! `door` accepts and knows what to do when the descriptors run out, `guest` is a connection that waits here
//! for its first or its next request and who leaves when, `round` hears a handful and then answers it, `reply` does
//! what one request asks, `rest` lets requests gather in a storm, `slice` gives it a core before a shard that works there. What is true of a request (`edge::route`,
//! `edge::serve`, `edge::answers`, `edge::health`) is asked there, as the tasks do: there is one set of rules and two
//! who carry them out.
//!
//! Bounded: a connection without a byte stays [`GRACE`](super::gate::GRACE) and counts among the strangers of the gate;
//! one that is kept alive stays [`IDLE`] and answers [`MAX_REQUESTS`]; there are no more of those than
//! [`Edge::idle_room`], which leaves the descriptors to listeners, and no more than [`MAX_IDLE_PER_ADDRESS`] of one
//! address. A connection that goes to a task has a place in the gate from then on.
//!
//! Must never: block for longer than `rest` says, hold a lock across a send, or decide by itself.

mod door;
mod guest;
mod pulse;
mod reply;
mod rest;
mod round;
mod slice;

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token, Waker};
use tokio::runtime::Handle;

use super::Edge;
use super::connection::{Conn, Kind};
use super::gate::{State, hold};
use crate::base::ids::MountId;
use crate::telemetry::panics::drill;
use crate::telemetry::{log_limit, refuse};
use crate::wire::head::{Method, Request, Version};
use door::Door;
use guest::{Guest, Guests, Waits};
use pulse::Pulse;
pub(crate) use reply::send;
use rest::Rest;
use round::{Inbox, Outbox};

/// A connection that is kept alive is closed when nothing comes for this long.
pub(super) const IDLE: Duration = Duration::from_secs(5);

/// Requests that one connection may ask.
pub(super) const MAX_REQUESTS: u32 = 1000;

/// Connections kept alive at once, however many descriptors there are.
pub(super) const MAX_IDLE: usize = 4096;

/// Connections kept alive at once of one client address, of those older than the grace.
const MAX_IDLE_PER_ADDRESS: usize = 512;

/// What is read at once: a head that is longer than this takes the long way.
const READ: usize = 8 * 1024;

/// How often those who wait are looked at.
const SWEEP: Duration = Duration::from_millis(100);

/// Connections that tasks may give back before they are taken.
const RETURNS: usize = 1024;

const KNOCK: Token = Token(usize::MAX - 1);
const WAKE: Token = Token(usize::MAX);

/// See the module. One for each port.
pub(super) struct Front {
    edge: Arc<Edge>,
    kind: Kind,
    runtime: Handle,
    poll: Poll,
    door: Door,
    guests: Guests,
    returned: Receiver<Guest>,
    pulse: Arc<Pulse>,
    swept: Instant,
    inbox: Inbox,
    /// What was asked last.
    request: Request,
    /// What was answered last.
    answer: Vec<u8>,
    outbox: Outbox,
    /// The path and the mount that were asked for last: in a storm all ask for the same.
    known: Option<(String, MountId)>,
}

/// How others reach the thread.
#[derive(Clone)]
pub(super) struct Bell {
    waker: Arc<Waker>,
    returns: SyncSender<Guest>,
    pulse: Arc<Pulse>,
}

impl Bell {
    /// The thread looks up: whether the node goes down, whether somebody was given back.
    pub fn ring(&self) {
        if let Err(error) = self.waker.wake() {
            tracing::error!(%error, "cannot wake the thread that accepts");
        }
    }

    /// Returns once the thread has gone round after this call: it accepts, and answers what it has heard. No connection is
    /// needed for the question, so that it is answered however many stand before the port.
    pub async fn answers(&self) {
        let asked = self.pulse.ask();
        self.ring();
        self.pulse.answered(asked).await;
    }

    /// Gives a connection back that waits for its next request; it is closed where too many are.
    pub fn give_back(&self, conn: Conn) {
        if let Some(guest) = Guest::back(conn)
            && self.returns.try_send(guest).is_ok()
        {
            self.ring();
        }
    }
}

impl Front {
    /// A front behind `listener`. To be called within the runtime that is to carry its tasks.
    ///
    /// # Errors
    /// Where the system gives no readiness queue.
    pub fn new(
        edge: Arc<Edge>,
        listener: std::net::TcpListener,
        kind: Kind,
    ) -> io::Result<(Self, Bell)> {
        let poll = Poll::new()?;
        let mut listener = TcpListener::from_std(listener);
        poll.registry()
            .register(&mut listener, KNOCK, Interest::READABLE)?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKE)?);
        let (returns, returned) = sync_channel(RETURNS);
        let pulse = Arc::new(Pulse::default());
        let front = Self {
            edge,
            kind,
            runtime: Handle::current(),
            poll,
            door: Door::new(listener),
            guests: Guests::default(),
            returned,
            pulse: Arc::clone(&pulse),
            swept: Instant::now(),
            inbox: Inbox::new(),
            request: Request::new(Method::Get, "/", Version::Http11),
            answer: Vec::new(),
            outbox: Outbox::default(),
            known: None,
        };
        let bell = Bell {
            waker,
            returns,
            pulse,
        };
        Ok((front, bell))
    }

    /// Runs until the node goes down.
    pub fn run(mut self) {
        slice::shorten();
        let mut events = Events::with_capacity(1024);
        let mut rest = Rest::new(Instant::now());
        loop {
            match self.poll.poll(&mut events, self.patience(Instant::now())) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => {
                    tracing::error!(%error, "the thread that accepts lost its readiness queue");
                    return;
                }
            }
            if self.edge.shutdown.is_cancelled() {
                return;
            }
            let now = Instant::now();
            let heard = self.round(&events, now);
            if now.saturating_duration_since(self.swept) >= SWEEP {
                self.sweep(now);
            }
            if let Some(rest) = rest.after(heard, now) {
                std::thread::sleep(rest);
            }
        }
    }

    /// Does what has come; how many it heard.
    fn round(&mut self, events: &Events, now: Instant) -> usize {
        let mut heard = 0;
        for event in events {
            match event.token() {
                KNOCK => self.door.knocked = true,
                WAKE => self.take_back(now),
                Token(key) => {
                    heard += 1;
                    self.on_ready(key, event, now);
                }
            }
        }
        drill("front");
        heard += self.accept(now);
        self.answer_all(now);
        if !self.door.is_broken() {
            self.pulse.beat();
        }
        heard
    }

    /// How long nothing can happen without an event.
    fn patience(&self, now: Instant) -> Option<Duration> {
        if let Some(until) = self.door.looks_again(now) {
            return Some(until.saturating_duration_since(now));
        }
        let next = self.swept + SWEEP;
        let waits = !self.guests.is_empty() || self.door.is_troubled();
        waits.then(|| next.saturating_duration_since(now))
    }

    fn on_ready(&mut self, key: usize, event: &Event, now: Instant) {
        // It may have gone by the same round of events.
        let Some(mut guest) = self.guests.take(key, &self.edge.gate) else {
            return;
        };
        guest.hung_up |= event.is_read_closed() || event.is_error();
        self.hear(guest, now);
    }

    fn seat(&mut self, guest: Guest) {
        let seated = self
            .guests
            .seat(guest, self.poll.registry(), &self.edge.gate);
        if let Err(error) = seated {
            log_limit::unusable(&error);
        }
        // Oldest out first: it goes where the unfinished heads are bounded.
        while self.edge.gate.is_crowded() {
            let Some(oldest) = self.guests.oldest_unheard(&self.edge.gate) else {
                return;
            };
            self.hand(oldest, &[], State::Head);
        }
    }

    fn take_back(&mut self, now: Instant) {
        while let Ok(mut guest) = self.returned.try_recv() {
            guest.since = now;
            if self.guests.idle() < self.edge.idle_room() {
                self.seat(guest);
            }
        }
    }

    fn sweep(&mut self, now: Instant) {
        self.swept = now;
        self.door.settle(now);
        for guest in self.guests.overdue(now, &self.edge.gate) {
            match guest.waits {
                Waits::First => self.hand(guest, &[], State::Head),
                Waits::Next => {}
                Waits::Farewell => {
                    drop(guest);
                    self.door.restore();
                }
            }
        }
        let edge = Arc::clone(&self.edge);
        let is_exempt = |address| edge.is_trusted(address);
        let crowd = self
            .guests
            .take_crowd(now, MAX_IDLE_PER_ADDRESS, &edge.gate, is_exempt);
        for _ in crowd {
            refuse("idle_per_address");
        }
        edge.gate.set_room(edge.stranger_room());
        if self.kind == Kind::Data {
            edge.gate.publish(self.guests.idle());
        }
    }

    /// Gives a connection and what was read of it to a task; `state` is what it is at.
    fn hand(&mut self, guest: Guest, bytes: &[u8], state: State) {
        let (edge, kind) = (Arc::clone(&self.edge), self.kind);
        self.begin(guest, bytes, state, async move |conn| {
            edge.connection(conn, kind).await;
        });
    }

    /// Takes a connection out of here into a task of its own, which ends where the connection has to give way.
    fn begin<F>(
        &mut self,
        guest: Guest,
        bytes: &[u8],
        state: State,
        task: impl FnOnce(Conn) -> F + Send + 'static,
    ) where
        F: Future<Output = ()> + Send,
    {
        let trusted = self.edge.is_trusted(guest.peer.ip());
        let known = guest.client != guest.peer || !trusted;
        let place = self
            .edge
            .gate
            .enter(state, known.then(|| guest.client.ip()));
        let leaving = guest.leave(bytes, self.poll.registry(), place);
        let leaving = match leaving {
            Ok(leaving) => leaving,
            Err(error) => return log_limit::unusable(&error),
        };
        let (seat, since) = leaving.seat();
        let task = async move {
            if let Some(conn) = leaving.adopt() {
                task(conn).await;
            }
        };
        self.edge
            .tasks
            .spawn_on(hold(seat, since, task), &self.runtime);
    }
}
