//! The door: accepting, and what happens when the descriptors run out.
//!
//! Then the connections that are only kept alive give theirs first, after them the oldest strangers of the gate. Where
//! there are none of either, a few descriptors that are kept back let everybody in for a moment, one after the other: a
//! health check is answered as ever, metrics are served, all others are told to come again. So the backlog is worked
//! off and nobody stands before a port that is full.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::time::{Duration, Instant};

use mio::net::TcpListener;

use super::Front;
use super::guest::{Guest, Waits};
use crate::edge::gate::State;
use crate::telemetry::refuse;

/// Connections accepted before those that wait here have their turn.
const ACCEPTS_A_TURN: usize = 256;

/// Pause after an accept that failed for want of descriptors: tasks close what was evicted meanwhile.
const PAUSE: Duration = Duration::from_millis(2);

/// Strangers evicted at once for their descriptors.
const EVICTED_A_TURN: usize = 64;

/// Those that were evicted have this long to close before others are.
const CLOSING: Duration = Duration::from_millis(50);

/// Descriptors that are kept back.
const SPARE: usize = 16;

/// Without a failure for this long the want is over.
const EPISODE: Duration = Duration::from_secs(10);

/// See the module.
pub(super) struct Door {
    listener: TcpListener,
    /// Somebody may stand there.
    pub knocked: bool,
    /// Descriptors kept back, so that connections can still be told that there are none.
    spare: Vec<File>,
    closed_until: Option<Instant>,
    /// Until when no more strangers are evicted.
    evicting_until: Option<Instant>,
    /// The last failure for want of descriptors.
    troubled: Option<Instant>,
    /// The socket is no listener any more.
    broken: bool,
}

impl Door {
    pub fn new(listener: TcpListener) -> Self {
        let mut door = Self {
            listener,
            knocked: true,
            spare: Vec::with_capacity(SPARE),
            closed_until: None,
            evicting_until: None,
            troubled: None,
            broken: false,
        };
        door.restore();
        door
    }

    /// When it must be looked at without being called; `None` for only then.
    pub fn looks_again(&self, now: Instant) -> Option<Instant> {
        self.knocked.then(|| self.closed_until.unwrap_or(now))
    }

    /// True while descriptors were wanting a moment ago.
    pub fn is_troubled(&self) -> bool {
        self.troubled.is_some()
    }

    /// True where nobody can be accepted any more.
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// Those who were told have gone: their descriptors are spare ones again.
    pub fn restore(&mut self) {
        while self.spare.len() < SPARE
            && let Some(spare) = spare_descriptor()
        {
            self.spare.push(spare);
        }
    }

    /// Says when the want is over.
    pub fn settle(&mut self, now: Instant) {
        self.restore();
        let calm = |at: Instant| now.saturating_duration_since(at) >= EPISODE;
        if self.troubled.is_some_and(calm) {
            self.troubled = None;
            tracing::info!("there are descriptors for connections again");
        }
    }

    fn is_open(&mut self, now: Instant) -> bool {
        if self.closed_until.is_some_and(|until| now < until) {
            return false;
        }
        self.closed_until = None;
        self.knocked && !self.broken
    }
}

impl Front {
    /// Takes in who stands at the door; how many.
    pub(super) fn accept(&mut self, now: Instant) -> usize {
        if !self.door.is_open(now) {
            return 0;
        }
        for taken in 0..ACCEPTS_A_TURN {
            match self.door.listener.accept() {
                Ok((stream, peer)) => {
                    self.door.evicting_until = None;
                    self.edge.control.telemetry.connections.add_accepted();
                    self.hear(Guest::new(stream, peer, Waits::First, now), now);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.door.knocked = false;
                    return taken;
                }
                Err(error) if is_exhausted(&error) => {
                    self.exhausted(&error, now);
                    return taken;
                }
                Err(error) if is_broken(&error) => {
                    tracing::error!(%error, "the data port is closed: no connection is accepted any more");
                    self.door.broken = true;
                    self.door.knocked = false;
                    return taken;
                }
                // The client went between its SYN and our accept.
                Err(error) => tracing::debug!(%error, "accept"),
            }
        }
        ACCEPTS_A_TURN
    }

    /// No descriptor: those who are merely kept alive give theirs, else the oldest strangers, else whoever comes is told.
    fn exhausted(&mut self, error: &io::Error, now: Instant) {
        if self.door.troubled.replace(now).is_none() {
            tracing::error!(%error, "no descriptor left for a connection, the oldest that are no listeners are closed: raise the limit (`ulimit -n`) or lower `max_listeners`");
        }
        // Some of those who were heard may be about to go.
        self.answer_all(now);
        if !self.guests.take_idle(&self.edge.gate).is_empty() {
            return;
        }
        self.door.closed_until = Some(now + PAUSE);
        let closing = self.door.evicting_until.is_some_and(|until| now < until);
        if !closing && self.edge.gate.evict(EVICTED_A_TURN) > 0 {
            self.door.evicting_until = Some(now + CLOSING);
            return;
        }
        self.turn_away(now);
    }

    /// Lets everybody in who stands at the door, by the spare descriptors, and out again.
    fn turn_away(&mut self, now: Instant) {
        for _ in 0..ACCEPTS_A_TURN {
            if self.door.spare.is_empty() {
                self.answer_all(now);
                if self.door.spare.is_empty() {
                    drop(self.guests.oldest_farewell(&self.edge.gate));
                    self.door.restore();
                }
            }
            drop(self.door.spare.pop());
            let Ok((stream, peer)) = self.door.listener.accept() else {
                break;
            };
            refuse("descriptors");
            // With this one the spare descriptor goes, and comes back.
            self.hear(Guest::new(stream, peer, Waits::Farewell, now), now);
        }
        self.answer_all(now);
        self.door.restore();
    }

    /// The node lives, so a health check is answered as one, and metrics are served; a listener sees that it must try
    /// elsewhere.
    pub(super) fn bid_farewell(&mut self, mut guest: Guest, heard: &[u8]) {
        if heard.starts_with(b"GET /metrics ") {
            return self.hand(guest, heard, State::Answer);
        }
        let is_health = heard.windows(8).any(|w| w == b" /health");
        let answer: &[u8] = if is_health {
            b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\nContent-Length: 15\r\nConnection: close\r\n\r\n{\"status\":\"ok\"}"
        } else {
            b"HTTP/1.0 503 Service Unavailable\r\nRetry-After: 10\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        };
        // A fresh socket takes this much at once.
        let _ = guest.stream.write(answer);
        drop(guest);
        self.door.restore();
    }
}

/// The descriptor is no listening socket: it will never accept again (accept(2)).
fn is_broken(error: &io::Error) -> bool {
    use rustix::io::Errno;
    [Errno::BADF, Errno::INVAL, Errno::NOTSOCK, Errno::OPNOTSUPP]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

fn is_exhausted(error: &io::Error) -> bool {
    use rustix::io::Errno;
    [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

fn spare_descriptor() -> Option<File> {
    File::open("/dev/null").ok()
}
