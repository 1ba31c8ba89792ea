//! The door: accepting, and what happens when the descriptors run out.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::time::{Duration, Instant};

use mio::net::TcpListener;

use super::Front;
use super::guest::{Guest, Waits};
use crate::telemetry::refuse;

/// Connections accepted before those that wait here have their turn.
const ACCEPTS_A_TURN: usize = 256;

/// Pause after an accept that failed for want of descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// Without a failure for this long the want is over.
const EPISODE: Duration = Duration::from_secs(10);

/// See the module.
pub(super) struct Door {
    listener: TcpListener,
    /// Somebody may stand there.
    pub knocked: bool,
    /// A descriptor kept back, so that one connection can still be told that there is none.
    spare: Option<File>,
    closed_until: Option<Instant>,
    /// The last failure for want of descriptors.
    troubled: Option<Instant>,
}

impl Door {
    pub fn new(listener: TcpListener) -> Self {
        Self {
            listener,
            knocked: true,
            spare: spare_descriptor(),
            closed_until: None,
            troubled: None,
        }
    }

    /// When it must be looked at without being called; `None` for only then.
    pub fn looks_again(&self, now: Instant) -> Option<Instant> {
        self.knocked.then(|| self.closed_until.unwrap_or(now))
    }

    /// True while descriptors were wanting a moment ago.
    pub fn is_troubled(&self) -> bool {
        self.troubled.is_some()
    }

    /// The one who was told has gone: its descriptor is the spare one again.
    pub fn restore(&mut self) {
        if self.spare.is_none() {
            self.spare = spare_descriptor();
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
        self.knocked
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
                // The client went between its SYN and our accept.
                Err(error) => tracing::debug!(%error, "accept"),
            }
        }
        ACCEPTS_A_TURN
    }

    /// No descriptor: those who are merely kept alive give theirs, else one is told and accepting pauses.
    fn exhausted(&mut self, error: &io::Error, now: Instant) {
        if self.door.troubled.replace(now).is_none() {
            tracing::error!(%error, "no descriptor left for a connection, accepting pauses: raise the limit (`ulimit -n`) or lower `max_listeners`");
        }
        // Some of those who were heard may be about to go.
        self.answer_all(now);
        if !self.guests.take_idle(&self.edge.gate).is_empty() {
            return;
        }
        refuse("descriptors");
        self.door.closed_until = Some(now + PAUSE);
        drop(self.door.spare.take());
        if let Ok((stream, peer)) = self.door.listener.accept() {
            // With this one the spare descriptor goes, and comes back.
            self.hear(Guest::new(stream, peer, Waits::Farewell, now), now);
        } else {
            self.door.restore();
        }
    }

    /// The node lives, so a health check is answered as one; a listener sees that it must try elsewhere.
    pub(super) fn bid_farewell(&mut self, mut guest: Guest, heard: &[u8]) {
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

fn is_exhausted(error: &io::Error) -> bool {
    use rustix::io::Errno;
    [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

fn spare_descriptor() -> Option<File> {
    File::open("/dev/null").ok()
}
