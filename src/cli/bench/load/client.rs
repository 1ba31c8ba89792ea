//! One listener of the load: a socket that asks, then a check of what comes.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ClientConfig;

use super::link::Link;
use super::orders::{Setup, Tally};
use super::request::{field, place, request};
use super::titles::Titles;
use crate::cli::bench::audio::{Audio, Checker, Flaws};

/// Longest answer head.
const MAX_HEAD: usize = 16 * 1024;

/// A pause longer than this is a stall.
pub(super) const STALL_MICROS: u64 = 2_000_000;

/// Where the audio is.
enum Phase {
    /// Not connected yet, or the request is not sent.
    Asking { request: Vec<u8> },
    /// The answer's head, as far as it came.
    Head(Vec<u8>),
    /// Audio.
    Playing(Titles),
}

/// See the module.
pub(super) struct Client {
    pub link: Link,
    number: u32,
    phase: Phase,
    checker: Option<Checker>,
    began: u64,
    last: u64,
    followed: u8,
    /// It sends its request and never reads.
    pub deaf: bool,
}

/// How a visit left it.
pub(super) enum Visit {
    /// It goes on.
    Stay,
    /// Its first byte of audio came.
    Started,
    /// It is to ask there instead.
    Follow(SocketAddr, String),
    /// The server closed it, or said no.
    Gone(String),
}

impl Client {
    /// Begins to connect.
    ///
    /// # Errors
    /// As sockets do.
    pub fn connect(
        setup: &Setup,
        number: u32,
        server: SocketAddr,
        path: &str,
        tls: Option<&Arc<ClientConfig>>,
        now: u64,
    ) -> io::Result<Self> {
        let place = setup
            .first_address
            .wrapping_add(number.wrapping_mul(setup.stride));
        let from = (!setup.any_address).then_some(place);
        let checked = setup.kbit.is_some() && number.is_multiple_of(setup.check_one_in.max(1));
        Ok(Self {
            link: Link::connect(server, from, tls)?,
            number,
            phase: Phase::Asking {
                request: request(setup, number, server, path),
            },
            checker: checked.then(Checker::default),
            began: now,
            last: 0,
            followed: 0,
            deaf: false,
        })
    }

    /// The same listener at the place that it was sent to.
    ///
    /// # Errors
    /// As [`Client::connect`], and after five redirects.
    pub fn follow(
        self,
        setup: &Setup,
        server: SocketAddr,
        path: &str,
        tls: Option<&Arc<ClientConfig>>,
    ) -> io::Result<Self> {
        if self.followed >= 5 {
            return Err(io::Error::other("more than five redirects"));
        }
        let next = Self::connect(setup, self.number, server, path, tls, self.began)?;
        Ok(Self {
            followed: self.followed + 1,
            deaf: self.deaf,
            ..next
        })
    }

    /// True once it hears audio.
    pub fn plays(&self) -> bool {
        self.last > 0
    }

    /// True if its bytes are checked.
    pub fn is_checked(&self) -> bool {
        self.checker.is_some()
    }

    /// True if it has waited too long for its next byte.
    pub fn is_stalled(&self, now: u64) -> bool {
        self.plays() && !self.deaf && now.saturating_sub(self.last) > STALL_MICROS
    }

    /// Begins to count its pauses anew.
    pub fn forget(&mut self, now: u64) {
        if self.plays() {
            self.last = self.last.max(now.saturating_sub(STALL_MICROS));
        }
    }

    /// Sends what is left of the request.
    pub fn ask(&mut self) -> Visit {
        let Phase::Asking { request } = &mut self.phase else {
            return match self.link.flush() {
                Ok(()) => Visit::Stay,
                Err(error) => Visit::Gone(error.to_string()),
            };
        };
        match self.link.write(request) {
            Ok(count) if count == request.len() => self.phase = Phase::Head(Vec::new()),
            Ok(count) => drop(request.drain(..count)),
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::NotConnected
                ) => {}
            Err(error) => return Visit::Gone(format!("cannot connect: {error}")),
        }
        Visit::Stay
    }

    /// Reads all that is there.
    pub fn read(
        &mut self,
        audio: Option<&Audio>,
        buffer: &mut [u8],
        now: u64,
        tally: &mut Tally,
    ) -> Visit {
        let mut started = false;
        loop {
            let count = match self.link.read(buffer) {
                Ok(0) => return Visit::Gone("closed by the server".into()),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Visit::Gone(error.to_string()),
            };
            tally.reads += 1;
            let bytes = buffer.get(..count).unwrap_or_default();
            let whole = self.link.reads_all() && count < buffer.len();
            match self.take(audio, bytes, now, tally) {
                Visit::Stay => {}
                Visit::Started => started = true,
                other => return other,
            }
            // A read that did not fill the buffer took all; the next bytes come with their own event.
            if whole {
                break;
            }
        }
        if started { Visit::Started } else { Visit::Stay }
    }

    fn take(&mut self, audio: Option<&Audio>, bytes: &[u8], now: u64, tally: &mut Tally) -> Visit {
        match &mut self.phase {
            Phase::Asking { .. } => Visit::Stay,
            Phase::Playing(titles) => {
                let mut titles = *titles;
                self.hear(audio, bytes, &mut titles, now, tally);
                self.phase = Phase::Playing(titles);
                Visit::Stay
            }
            Phase::Head(head) => {
                head.extend_from_slice(bytes);
                let end = head.windows(4).position(|four| four == b"\r\n\r\n");
                let Some(end) = end else {
                    return if head.len() > MAX_HEAD {
                        Visit::Gone("an answer's head without an end".into())
                    } else {
                        Visit::Stay
                    };
                };
                let rest = head.split_off(end + 4);
                let head = std::mem::take(head);
                self.answered(audio, &String::from_utf8_lossy(&head), &rest, now, tally)
            }
        }
    }

    fn answered(
        &mut self,
        audio: Option<&Audio>,
        head: &str,
        rest: &[u8],
        now: u64,
        tally: &mut Tally,
    ) -> Visit {
        let status = head.split(' ').nth(1).unwrap_or_default();
        if matches!(status, "301" | "302" | "307" | "308") {
            return match field(head, "location").and_then(place) {
                Some((server, path)) => Visit::Follow(server, path),
                None => Visit::Gone("redirected to a place that is no http://ADDRESS:PORT".into()),
            };
        }
        if status != "200" {
            let line = head.lines().next().unwrap_or_default();
            return Visit::Gone(format!("the server answers `{line}`"));
        }
        let every = field(head, "icy-metaint").and_then(|text| text.parse().ok());
        let every = every.unwrap_or(0);
        let mut titles = Titles::new(every);
        if !rest.is_empty() {
            self.hear(audio, rest, &mut titles, now, tally);
        }
        self.phase = Phase::Playing(titles);
        if self.last > 0 {
            Visit::Started
        } else {
            Visit::Stay
        }
    }

    /// Audio came, with titles between it.
    fn hear(
        &mut self,
        audio: Option<&Audio>,
        mut bytes: &[u8],
        titles: &mut Titles,
        now: u64,
        tally: &mut Tally,
    ) {
        tally.bytes += bytes.len() as u64;
        if self.last == 0 {
            tally.first_byte.add(now.saturating_sub(self.began), 1);
        } else if now.saturating_sub(self.last) > STALL_MICROS {
            tally.stalls += 1;
        }
        self.last = now;
        let (Some(checker), Some(audio)) = (&mut self.checker, audio) else {
            return;
        };
        let mut flaws = Flaws::default();
        let began = self.began;
        while let Some(part) = titles.next(&mut bytes) {
            checker.feed(audio, part, &mut flaws, |sent| {
                if sent > began {
                    tally.delay.add(now.saturating_sub(sent), 1);
                }
            });
        }
        tally.count(flaws);
    }
}
