//! One listener of the load: a socket that asks, then a check of what comes.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};

use mio::net::TcpStream;
use socket2::{Domain, Protocol, Socket, Type};

use super::orders::{Setup, Tally};
use crate::cli::bench::audio::{Audio, Checker, Flaws};

/// Longest answer head.
const MAX_HEAD: usize = 16 * 1024;

/// A pause longer than this is a stall.
pub(super) const STALL_MICROS: u64 = 2_000_000;

/// Loopback addresses that listeners come from: 127.1.0.0 to 127.239.255.255, in turn.
const ADDRESSES: u32 = 239 << 16;

/// Where the audio is.
enum Phase {
    /// Not connected yet, or the request is not sent.
    Asking { request: Vec<u8> },
    /// The answer's head, as far as it came.
    Head(Vec<u8>),
    /// Audio.
    Playing(Titles),
}

/// Takes titles out.
#[derive(Clone, Copy)]
struct Titles {
    /// 0 where there are none.
    every: usize,
    /// Audio bytes until the next length byte.
    audio: usize,
    /// Bytes left of a block.
    block: usize,
}

/// See the module.
pub(super) struct Client {
    pub socket: TcpStream,
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
        now: u64,
    ) -> io::Result<Self> {
        let socket = Socket::new(
            Domain::for_address(server),
            Type::STREAM.nonblocking(),
            Some(Protocol::TCP),
        )?;
        if !setup.any_address {
            let place = setup
                .first_address
                .wrapping_add(number.wrapping_mul(setup.stride));
            let address = u32::from(Ipv4Addr::new(127, 1, 0, 0)) + place % ADDRESSES;
            socket.bind(&SocketAddr::from((Ipv4Addr::from(address), 0)).into())?;
        }
        match socket.connect(&server.into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(IN_PROGRESS) => {}
            Err(error) => return Err(error),
        }
        let checked = setup.kbit.is_some() && number.is_multiple_of(setup.check_one_in.max(1));
        Ok(Self {
            socket: TcpStream::from_std(socket.into()),
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
    pub fn follow(self, setup: &Setup, server: SocketAddr, path: &str) -> io::Result<Self> {
        if self.followed >= 5 {
            return Err(io::Error::other("more than five redirects"));
        }
        let next = Self::connect(setup, self.number, server, path, self.began)?;
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
            return Visit::Stay;
        };
        match self.socket.write(request) {
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
            let count = match self.socket.read(buffer) {
                Ok(0) => return Visit::Gone("closed by the server".into()),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Visit::Gone(error.to_string()),
            };
            tally.reads += 1;
            let bytes = buffer.get(..count).unwrap_or_default();
            let whole = count < buffer.len();
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
        let mut titles = Titles {
            every,
            audio: every,
            block: 0,
        };
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

/// What the system says of a connect that goes on.
const IN_PROGRESS: i32 = rustix::io::Errno::INPROGRESS.raw_os_error();

impl Titles {
    /// The next run of audio in `bytes`, which moves on; `None` at its end.
    fn next<'a>(&mut self, bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
        if self.every == 0 {
            return (!bytes.is_empty()).then(|| std::mem::take(bytes));
        }
        loop {
            if self.block > 0 {
                let (skipped, rest) = bytes.split_at(self.block.min(bytes.len()));
                self.block -= skipped.len();
                *bytes = rest;
            }
            if bytes.is_empty() {
                return None;
            }
            if self.audio > 0 {
                let (part, rest) = bytes.split_at(self.audio.min(bytes.len()));
                self.audio -= part.len();
                *bytes = rest;
                return Some(part);
            }
            let (length, rest) = bytes.split_first()?;
            self.block = usize::from(*length) * 16;
            self.audio = self.every;
            *bytes = rest;
        }
    }
}

fn request(setup: &Setup, number: u32, server: SocketAddr, path: &str) -> Vec<u8> {
    let who = number % setup.agents.max(1);
    let mut text =
        format!("GET {path} HTTP/1.1\r\nHost: {server}\r\nUser-Agent: relayctl-bench/{who}\r\n");
    if setup.agents > 1 {
        text.push_str(&format!(
            "Referer: http://page-{who}.example.org/player\r\n"
        ));
    }
    if setup.metadata {
        text.push_str("Icy-MetaData: 1\r\n");
    }
    text.push_str("Accept: */*\r\n\r\n");
    text.into_bytes()
}

/// A header's value.
fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().skip(1).find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.trim().eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// Address and path of `http://ADDRESS:PORT/path`.
fn place(url: &str) -> Option<(SocketAddr, String)> {
    let rest = url.strip_prefix("http://")?;
    let (authority, path) = rest.split_once('/')?;
    Some((authority.parse().ok()?, format!("/{path}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::icy;

    #[test]
    fn titles_are_taken_out_wherever_the_bytes_are_cut() {
        let audio: Vec<u8> = (0..250_u8).collect();
        let mut wire = Vec::new();
        for (round, part) in audio.chunks(100).enumerate() {
            wire.extend_from_slice(part);
            if part.len() == 100 {
                let block = icy::encode_title(&format!("title {round}"), None);
                wire.extend_from_slice(&block);
            }
        }
        for cut in 0..wire.len() {
            let mut titles = Titles {
                every: 100,
                audio: 100,
                block: 0,
            };
            let mut got = Vec::new();
            for mut piece in [&wire[..cut], &wire[cut..]] {
                while let Some(part) = titles.next(&mut piece) {
                    got.extend_from_slice(part);
                }
            }
            assert_eq!(got, audio, "cut at {cut}");
        }
    }

    #[test]
    fn heads_are_read() {
        let head = "HTTP/1.0 302 Found\r\nLocation: http://127.0.0.1:8001/a?rt=1\r\nicy-metaint:16000\r\n\r\n";
        assert_eq!(field(head, "ICY-MetaInt"), Some("16000"));
        let (server, path) = field(head, "location").and_then(place).unwrap();
        assert_eq!((server.port(), path.as_str()), (8001, "/a?rt=1"));
        assert!(place("https://x/").is_none());
    }
}
