//! The bare loop: one thread, one buffer, a wheel of cohorts and a cursor for each listener, one send each, plain or by io_uring.
//! What no server that sends the same bytes in the same sizes can undercut.
//!
//! `uring` sends a cohort in few calls. It knows nothing else: no title, no session, no limit, no readiness of a listener. Only for the bench.

#[cfg(target_os = "linux")]
mod uring;

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

use super::process::end_with_stdin;
use crate::app::limits::prepare_descriptors;
use crate::cli::{Outcome, print};

/// Audio that is kept; a power of two.
const RING: usize = 1 << 22;

/// The first bytes of the ring stand behind its end once more, so that every send is one piece.
const MIRROR: usize = 256 * 1024;

/// What a newcomer gets.
const BURST: u64 = 64 * 1024;

/// Between two cohorts, as between two slots of our own wheel.
const SLOT: Duration = Duration::from_millis(20);

const ACCEPT: Token = Token(usize::MAX);
const SOURCE: Token = Token(usize::MAX - 1);

/// Longest request.
const MAX_REQUEST: usize = 8 * 1024;

struct Listener {
    socket: TcpStream,
    /// The next byte.
    cursor: u64,
}

struct Loop {
    ring: Vec<u8>,
    end: u64,
    cohorts: Vec<Vec<Listener>>,
    /// The cohort that is next, and when.
    next: usize,
    next_at: Instant,
    /// Where the next newcomer goes.
    place: usize,
    asking: Slab<(TcpStream, Vec<u8>)>,
    source: Option<TcpStream>,
    sends: u64,
    sent: u64,
    #[cfg(target_os = "linux")]
    uring: Option<uring::Uring>,
}

/// Runs until standard input ends.
pub(super) fn run() -> Outcome {
    prepare_descriptors();
    let first = std::io::stdin()
        .lines()
        .next()
        .context("no tick on standard input")??;
    let (tick, backend) = first.trim().split_once(' ').context("no backend")?;
    let tick = Duration::from_micros(tick.parse()?);
    let mut listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0).into())?;
    print::text(&format!("{}\n", listener.local_addr()?))?;
    end_with_stdin();
    let mut poll = Poll::new()?;
    poll.registry()
        .register(&mut listener, ACCEPT, Interest::READABLE)?;
    let mut it = Loop::new(tick, backend == "io_uring")?;
    let mut events = Events::with_capacity(1024);
    loop {
        let wait = it.next_at.saturating_duration_since(Instant::now());
        match poll.poll(&mut events, Some(wait)) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error.into()),
            _ => {}
        }
        for event in &events {
            match event.token() {
                ACCEPT => it.accept(&listener, &poll),
                SOURCE => it.take_audio(),
                Token(key) => it.asked(key, &poll),
            }
        }
        it.send_due();
    }
}

impl Loop {
    fn new(tick: Duration, by_uring: bool) -> io::Result<Self> {
        #[cfg(not(target_os = "linux"))]
        let _ = by_uring;
        let cohorts = (tick.as_secs_f64() / SLOT.as_secs_f64()).round();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let cohorts = (cohorts as usize).clamp(1, 10_000);
        Ok(Self {
            ring: vec![0; RING + MIRROR],
            end: 0,
            cohorts: (0..cohorts).map(|_| Vec::new()).collect(),
            next: 0,
            next_at: Instant::now(),
            place: 0,
            asking: Slab::new(),
            source: None,
            sends: 0,
            sent: 0,
            #[cfg(target_os = "linux")]
            uring: by_uring.then(uring::Uring::new).transpose()?,
        })
    }

    fn accept(&mut self, listener: &TcpListener, poll: &Poll) {
        while let Ok((mut socket, _)) = listener.accept() {
            let _ = socket.set_nodelay(true);
            let place = self.asking.vacant_entry();
            let token = Token(place.key());
            let watched = poll
                .registry()
                .register(&mut socket, token, Interest::READABLE);
            if watched.is_ok() {
                place.insert((socket, Vec::new()));
            }
        }
    }

    /// A request came, or more of one.
    fn asked(&mut self, key: usize, poll: &Poll) {
        let Some((socket, request)) = self.asking.get_mut(key) else {
            return;
        };
        let mut buffer = [0; 4096];
        let end = loop {
            // A source sends on at once: no more is read here than the head takes.
            if let Some(end) = request.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            match socket.read(&mut buffer) {
                Ok(count) if count > 0 && request.len() < MAX_REQUEST => {
                    request.extend_from_slice(buffer.get(..count).unwrap_or_default());
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                _ => {
                    self.asking.remove(key);
                    return;
                }
            }
        };
        let (mut socket, request) = self.asking.remove(key);
        let _ = poll.registry().deregister(&mut socket);
        if request.starts_with(b"SOURCE ") {
            let watched = poll
                .registry()
                .register(&mut socket, SOURCE, Interest::READABLE);
            if watched.is_ok() {
                self.append(request.get(end..).unwrap_or_default());
                self.source = Some(socket);
                self.take_audio();
            }
        } else if request.starts_with(b"GET /admin/") {
            let _ = write!(socket, "HTTP/1.0 200 OK\r\n\r\n");
        } else if request.starts_with(b"GET /metrics ") {
            let page = self.metrics();
            let _ = write!(socket, "HTTP/1.0 200 OK\r\n\r\n{page}");
        } else {
            self.welcome(socket);
        }
    }

    /// Under our own names, so that they are read alike.
    fn metrics(&self) -> String {
        #[cfg(target_os = "linux")]
        let rings = u8::from(self.uring.is_some());
        #[cfg(not(target_os = "linux"))]
        let rings = 0;
        format!(
            "relayctl_sends_total {}\nrelayctl_sent_bytes_total {}\n\
             relayctl_fanout_backend{{backend=\"io_uring\"}} {rings}\n",
            self.sends, self.sent
        )
    }

    fn welcome(&mut self, mut socket: TcpStream) {
        let head = b"HTTP/1.0 200 OK\r\nContent-Type: audio/mpeg\r\n\r\n";
        if !matches!(socket.write(head), Ok(count) if count == head.len()) {
            return;
        }
        let mut listener = Listener {
            socket,
            cursor: self.end.saturating_sub(BURST),
        };
        self.send(&mut listener);
        self.place = (self.place + 1) % self.cohorts.len().max(1);
        if let Some(cohort) = self.cohorts.get_mut(self.place) {
            cohort.push(listener);
        }
    }

    fn take_audio(&mut self) {
        let Some(mut source) = self.source.take() else {
            return;
        };
        let mut buffer = [0; 16 * 1024];
        loop {
            match source.read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => self.append(buffer.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
        self.source = Some(source);
    }

    fn append(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let at = place(self.end);
            let (part, rest) = bytes.split_at(bytes.len().min(RING - at));
            if let Some(room) = self.ring.get_mut(at..at + part.len()) {
                room.copy_from_slice(part);
            }
            if at < MIRROR {
                let count = part.len().min(MIRROR - at);
                let again = self.ring.get_mut(RING + at..RING + at + count);
                if let (Some(room), Some(part)) = (again, part.get(..count)) {
                    room.copy_from_slice(part);
                }
            }
            self.end += part.len() as u64;
            bytes = rest;
        }
    }

    /// Serves each cohort whose time has come.
    fn send_due(&mut self) {
        while self.next_at <= Instant::now() {
            let Some(cohort) = self.cohorts.get_mut(self.next) else {
                return;
            };
            let mut cohort = std::mem::take(cohort);
            self.send_cohort(&mut cohort);
            if let Some(place) = self.cohorts.get_mut(self.next) {
                *place = cohort;
            }
            self.next = (self.next + 1) % self.cohorts.len().max(1);
            self.next_at += SLOT;
        }
    }

    #[cfg(target_os = "linux")]
    fn send_cohort(&mut self, cohort: &mut Vec<Listener>) {
        let Some(mut uring) = self.uring.take() else {
            return cohort.retain_mut(|listener| self.send(listener));
        };
        let jobs = cohort.iter().map(|listener| uring::Job {
            socket: &listener.socket,
            bytes: self.waiting(listener.cursor),
            result: Ok(0),
        });
        let mut jobs: Vec<uring::Job<'_>> = jobs.collect();
        uring.send(&mut jobs);
        let results: Vec<io::Result<usize>> = jobs.into_iter().map(|job| job.result).collect();
        let mut results = results.into_iter();
        cohort.retain_mut(|listener| {
            let result = results.next();
            result.is_some_and(|result| self.after(listener, result))
        });
        self.uring = Some(uring);
    }

    #[cfg(not(target_os = "linux"))]
    fn send_cohort(&mut self, cohort: &mut Vec<Listener>) {
        cohort.retain_mut(|listener| self.send(listener));
    }

    /// One send of all that a listener has not had; false if it has gone.
    fn send(&mut self, listener: &mut Listener) -> bool {
        let result = listener.socket.write(self.waiting(listener.cursor));
        self.after(listener, result)
    }

    /// What a listener has not had; empty for one that is further behind than the ring is long.
    fn waiting(&self, cursor: u64) -> &[u8] {
        let waiting = usize::try_from(self.end - cursor).unwrap_or(usize::MAX);
        let at = place(cursor);
        self.ring
            .get(at..at + waiting.min(MIRROR))
            .filter(|_| waiting < RING)
            .unwrap_or_default()
    }

    /// Moves a cursor; false if the listener has gone.
    fn after(&mut self, listener: &mut Listener, result: io::Result<usize>) -> bool {
        self.sends += 1;
        match result {
            Ok(count) => {
                listener.cursor += count as u64;
                self.sent += count as u64;
                count > 0 || listener.cursor == self.end
            }
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        }
    }
}

/// Where a byte lies in the ring.
fn place(offset: u64) -> usize {
    usize::try_from(offset % RING as u64).unwrap_or(0)
}
