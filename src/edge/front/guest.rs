//! Connections that wait at the front: for their first request, for their next one, or for a last word.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream as StdStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use super::IDLE;
use crate::balancer::hash::Table;
use crate::base::address::block_of;
use crate::edge::connection::Conn;
use crate::edge::gate::{GRACE, Gate, Place, Seat};
use crate::edge::paced::Paced;
use crate::edge::stream::Stream;
use crate::edge::upgrade::Link;
use crate::telemetry::log_limit;

/// How long one that is accepted by the spare descriptor may take to ask.
const FAREWELL: Duration = Duration::from_millis(100);

/// What a guest waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waits {
    /// Its first request.
    First,
    /// Another request.
    Next,
    /// To be told that there are no descriptors.
    Farewell,
}

impl Waits {
    fn longest(self) -> Duration {
        match self {
            Self::First => GRACE,
            Self::Next => IDLE,
            Self::Farewell => FAREWELL,
        }
    }
}

/// One of them.
pub(super) struct Guest {
    pub stream: TcpStream,
    /// Who connected, by the socket.
    pub peer: SocketAddr,
    /// Who connected, by the PROXY protocol.
    pub client: SocketAddr,
    pub waits: Waits,
    /// Since when.
    pub since: Instant,
    /// Requests that were answered.
    pub answered: u32,
    /// It has closed its side.
    pub hung_up: bool,
    /// The readiness queue knows it.
    watched: bool,
    generation: u32,
}

/// A guest on its way to a task.
pub(super) struct Leaving {
    stream: StdStream,
    buffer: BytesMut,
    peer: SocketAddr,
    client: SocketAddr,
    since: Instant,
    answered: u32,
    place: Place,
}

impl Guest {
    /// A connection that was accepted just now.
    pub fn new(stream: TcpStream, peer: SocketAddr, waits: Waits, now: Instant) -> Self {
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        Self {
            stream,
            peer,
            client: peer,
            waits,
            since: now,
            answered: 0,
            hung_up: false,
            watched: false,
            generation: 0,
        }
    }

    /// A connection that a task gives back.
    pub fn back(conn: Conn) -> Option<Self> {
        let (stream, None) = conn.stream.into_std().ok()? else {
            return None;
        };
        Some(Self {
            stream: TcpStream::from_std(stream),
            peer: conn.peer,
            client: conn.client,
            waits: Waits::Next,
            since: conn.accepted,
            answered: conn.answered,
            hung_up: false,
            watched: false,
            generation: 0,
        })
    }

    /// How its requests come: TLS goes to a task.
    pub fn link(&self) -> Link {
        Link {
            peer: self.peer.ip(),
            client: self.client.ip(),
            tls: false,
        }
    }

    /// Its descriptor, under which the readiness queue knows it for as long as it lives: a place of our own would be
    /// another one after each answer, and that is a system call.
    fn key(&self) -> usize {
        usize::try_from(self.stream.as_raw_fd()).unwrap_or(usize::MAX)
    }

    /// The socket alone, no more watched here.
    pub fn into_socket(mut self, registry: &Registry) -> io::Result<StdStream> {
        if self.watched {
            registry.deregister(&mut self.stream)?;
        }
        Ok(self.stream.into())
    }

    /// The way to a task, with what was read and a place among those that are neither listeners nor sources.
    pub fn leave(self, bytes: &[u8], registry: &Registry, place: Place) -> io::Result<Leaving> {
        let (peer, client, since) = (self.peer, self.client, self.since);
        let answered = self.answered;
        Ok(Leaving {
            place,
            stream: self.into_socket(registry)?,
            buffer: BytesMut::from(bytes),
            peer,
            client,
            since,
            answered,
        })
    }
}

impl Leaving {
    /// How others reach it, and since when it is there.
    pub fn seat(&self) -> (Arc<Seat>, Instant) {
        (self.place.seat(), self.since)
    }

    /// What the task works with. To be called within it.
    pub fn adopt(self) -> Option<Conn> {
        let stream = tokio::net::TcpStream::from_std(self.stream)
            .inspect_err(log_limit::unusable)
            .ok()?;
        // What is answered in two pieces must not wait for an acknowledgement in between.
        let _ = stream.set_nodelay(true);
        Some(Conn {
            stream: Stream::Plain(Paced::new(stream, self.place.seat())),
            buffer: self.buffer,
            peer: self.peer,
            client: self.client,
            accepted: self.since,
            answered: self.answered,
            place: Some(self.place),
        })
    }
}

/// All of them.
#[derive(Default)]
pub(super) struct Guests {
    /// By descriptor.
    seats: Table<usize, Guest>,
    /// Those without a byte yet, oldest first; who left by itself is skipped.
    unheard: VecDeque<(usize, u32)>,
    unheard_count: usize,
    idle: usize,
    generation: u32,
}

impl Guests {
    /// True where nobody waits.
    pub fn is_empty(&self) -> bool {
        self.seats.is_empty()
    }

    /// How many are kept alive.
    pub fn idle(&self) -> usize {
        self.idle
    }

    /// Takes a guest in.
    ///
    /// # Errors
    /// Where the system does not watch it; the guest is closed then.
    pub fn seat(&mut self, mut guest: Guest, registry: &Registry, gate: &Gate) -> io::Result<()> {
        let key = guest.key();
        if !guest.watched {
            registry.register(&mut guest.stream, Token(key), Interest::READABLE)?;
            guest.watched = true;
        }
        match guest.waits {
            Waits::First => {
                self.generation = self.generation.wrapping_add(1);
                guest.generation = self.generation;
                self.unheard.push_back((key, self.generation));
                self.unheard_count += 1;
                gate.enter_front();
            }
            Waits::Next => self.idle += 1,
            Waits::Farewell => {}
        }
        self.seats.insert(key, guest);
        if self.unheard.len() > 2 * self.unheard_count + 64 {
            let seats = &self.seats;
            self.unheard.retain(|place| is_unheard(seats, *place));
        }
        Ok(())
    }

    /// The guest of a descriptor, which waits no more then.
    pub fn take(&mut self, key: usize, gate: &Gate) -> Option<Guest> {
        let guest = self.seats.remove(&key)?;
        match guest.waits {
            Waits::First => {
                self.unheard_count -= 1;
                gate.leave_front();
            }
            Waits::Next => self.idle -= 1,
            Waits::Farewell => {}
        }
        Some(guest)
    }

    /// Takes the one out that has waited longest without a byte.
    pub fn oldest_unheard(&mut self, gate: &Gate) -> Option<Guest> {
        while let Some((key, generation)) = self.unheard.pop_front() {
            if is_unheard(&self.seats, (key, generation)) {
                return self.take(key, gate);
            }
        }
        None
    }

    /// Takes those out who have waited long enough.
    pub fn overdue(&mut self, now: Instant, gate: &Gate) -> Vec<Guest> {
        let is_overdue =
            |guest: &Guest| now.saturating_duration_since(guest.since) >= guest.waits.longest();
        self.take_all(gate, is_overdue)
    }

    /// Takes the oldest of those out who are kept alive for longer than [`GRACE`] and more than `most` of one address.
    /// `is_exempt` says which addresses are proxies, and count to nobody.
    pub fn take_crowd(
        &mut self,
        now: Instant,
        most: usize,
        gate: &Gate,
        is_exempt: impl Fn(IpAddr) -> bool,
    ) -> Vec<Guest> {
        if self.idle <= most {
            return Vec::new();
        }
        let mut blocks: HashMap<IpAddr, Vec<(Instant, usize)>> = HashMap::new();
        for (key, guest) in self.seats.iter() {
            let lasts = now.saturating_duration_since(guest.since) >= GRACE;
            if guest.waits == Waits::Next && lasts {
                let block = blocks.entry(block_of(guest.client.ip())).or_default();
                block.push((guest.since, *key));
            }
        }
        blocks.retain(|address, own| own.len() > most && !is_exempt(*address));
        let mut keys = Vec::new();
        for mut own in blocks.into_values() {
            own.sort_unstable();
            let over = own.len().saturating_sub(most);
            keys.extend(own.into_iter().take(over).map(|(_, key)| key));
        }
        keys.into_iter()
            .filter_map(|key| self.take(key, gate))
            .collect()
    }

    /// Takes the one out that has waited longest to be told that there are no descriptors.
    pub fn oldest_farewell(&mut self, gate: &Gate) -> Option<Guest> {
        let all = self.seats.iter();
        let told = all.filter(|(_, guest)| guest.waits == Waits::Farewell);
        let key = told
            .min_by_key(|(_, guest)| guest.since)
            .map(|(key, _)| *key)?;
        self.take(key, gate)
    }

    /// Takes those out who are only kept alive.
    pub fn take_idle(&mut self, gate: &Gate) -> Vec<Guest> {
        self.take_all(gate, |guest| guest.waits == Waits::Next)
    }

    fn take_all(&mut self, gate: &Gate, wanted: impl Fn(&Guest) -> bool) -> Vec<Guest> {
        let all = self.seats.iter().filter(|(_, guest)| wanted(guest));
        let keys: Vec<usize> = all.map(|(key, _)| *key).collect();
        keys.into_iter()
            .filter_map(|key| self.take(key, gate))
            .collect()
    }
}

fn is_unheard(seats: &Table<usize, Guest>, (key, generation): (usize, u32)) -> bool {
    seats
        .get(&key)
        .is_some_and(|guest| guest.waits == Waits::First && guest.generation == generation)
}
