//! The process that asks for redirects: at a given rate, each as somebody else, and never follows one.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use serde::{Deserialize, Serialize};
use slab::Slab;
use socket2::{Domain, Protocol, Socket, Type};

use super::arrivals::Arrivals;
use crate::app::limits::prepare_descriptors;
use crate::cli::bench::clock::now_micros;
use crate::cli::bench::histogram::Histogram;
use crate::cli::{Exit, Outcome};

/// Source addresses that are taken in turn, from 127.1.0.0 on.
const ADDRESSES: u32 = 239 << 16;

/// Longest answer.
const MAX_ANSWER: usize = 16 * 1024;

/// Asked and not answered at most; what is due beyond it is late.
const MOST_OPEN: usize = 4_000;

/// Between two looks at what is due and what has come.
const STEP: Duration = Duration::from_micros(100);

/// The first line that a driver reads.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::cli::bench) struct Setup {
    /// Whom to ask.
    pub server: SocketAddr,
    /// For what.
    pub path: String,
    /// Requests a second, see [`super::arrivals`]; 0 is as fast as they are answered.
    pub per_second: f64,
    /// Connections that are kept; 0 makes one for each request.
    pub kept: u32,
}

/// What is asked of it, one word a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::cli::bench) enum Order {
    /// Begin to count anew.
    Reset,
    /// Answer with a [`Tally`].
    Report,
}

/// What it counted since the last reset.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(in crate::cli::bench) struct Tally {
    /// Answers by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Connections that failed or were cut.
    pub errors: u64,
    /// Connections that were to be kept and that the server closed with its answer.
    pub not_kept: u64,
    /// Requests that were due and not sent, because too many waited.
    pub late: u64,
    /// Different places that redirects led to.
    pub places: BTreeMap<String, u64>,
    /// From connect or request to the end of the answer's head, in microseconds.
    pub wait: Histogram,
}

struct Connection {
    socket: TcpStream,
    request: Vec<u8>,
    sent: usize,
    answer: Vec<u8>,
    began: u64,
}

struct Driver {
    setup: Setup,
    poll: Poll,
    open: Slab<Connection>,
    /// Kept connections that wait for their next request.
    idle: Vec<usize>,
    busy: usize,
    number: u32,
    begin: Instant,
    /// `None` asks as fast as it is answered.
    arrivals: Option<Arrivals>,
    asked: u64,
    tally: Tally,
}

/// Runs until standard input ends.
pub(in crate::cli::bench) fn run() -> Outcome {
    prepare_descriptors();
    let first = std::io::stdin().lines().next();
    let first = first.context("no setup on standard input")??;
    let mut driver = Driver::new(serde_json::from_str(&first)?)?;
    let orders = listen();
    let mut answers = std::io::stdout().lock();
    let mut events = Events::with_capacity(4096);
    loop {
        driver.turn(&mut events)?;
        match orders.try_recv() {
            Ok(Order::Reset) => driver.tally = Tally::default(),
            Ok(Order::Report) => {
                serde_json::to_writer(&mut answers, &driver.tally)?;
                answers.write_all(b"\n")?;
                answers.flush()?;
            }
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => return Ok(Exit::Fine),
        }
    }
}

fn listen() -> Receiver<Order> {
    let (sender, orders) = sync_channel(16);
    std::thread::spawn(move || {
        for line in std::io::stdin().lines() {
            let order = line.ok().and_then(|line| serde_json::from_str(&line).ok());
            let Some(order) = order else { return };
            if sender.send(order).is_err() {
                return;
            }
        }
    });
    orders
}

impl Driver {
    fn new(setup: Setup) -> io::Result<Self> {
        Ok(Self {
            arrivals: (setup.per_second > 0.0).then(|| Arrivals::new(setup.per_second)),
            setup,
            poll: Poll::new()?,
            open: Slab::new(),
            idle: Vec::new(),
            busy: 0,
            number: 0,
            begin: Instant::now(),
            asked: 0,
            tally: Tally::default(),
        })
    }

    /// At a given rate it sleeps for a step: so every server is asked at the same moments, whenever it answers, and none pays
    /// for waking the one who asks, which on one machine falls to who sends.
    fn turn(&mut self, events: &mut Events) -> io::Result<()> {
        let mut patience = STEP;
        if self.arrivals.is_some() {
            std::thread::sleep(STEP);
            patience = Duration::ZERO;
        }
        if let Err(error) = self.poll.poll(events, Some(patience))
            && error.kind() != ErrorKind::Interrupted
        {
            return Err(error);
        }
        for event in &*events {
            let Token(key) = event.token();
            if self.open.contains(key) {
                self.go_on(key);
            }
        }
        self.ask_due();
        Ok(())
    }

    fn ask_due(&mut self) {
        let free_run = self.arrivals.is_none();
        let due = match &mut self.arrivals {
            Some(arrivals) => arrivals.due(self.begin.elapsed()),
            None => u64::MAX,
        };
        let most = match self.setup.kept {
            0 if free_run => 64,
            0 => MOST_OPEN,
            kept => kept as usize,
        };
        while self.asked < due && self.busy < most {
            self.asked += 1;
            if let Err(error) = self.ask() {
                self.tally.errors += 1;
                if error.kind() == ErrorKind::AddrNotAvailable {
                    break;
                }
            }
        }
        if !free_run && self.asked < due {
            self.tally.late += due - self.asked;
            self.asked = due;
        }
    }

    /// One request, on a kept connection where there is one.
    fn ask(&mut self) -> io::Result<()> {
        self.number = self.number.wrapping_add(1);
        let request = self.request();
        let now = now_micros();
        while let Some(key) = self.idle.pop() {
            if let Some(connection) = self.open.get_mut(key) {
                connection.request = request;
                connection.sent = 0;
                connection.answer.clear();
                connection.began = now;
                self.busy += 1;
                self.go_on(key);
                return Ok(());
            }
        }
        let socket = Socket::new(
            Domain::IPV4,
            Type::STREAM.nonblocking(),
            Some(Protocol::TCP),
        )?;
        let address = u32::from(Ipv4Addr::new(127, 1, 0, 0)) + self.number % ADDRESSES;
        socket.bind(&SocketAddr::from((Ipv4Addr::from(address), 0)).into())?;
        match socket.connect(&self.setup.server.into()) {
            Err(error)
                if error.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error()) =>
            {
                return Err(error);
            }
            _ => {}
        }
        let mut socket = TcpStream::from_std(socket.into());
        let _ = socket.set_nodelay(true);
        let place = self.open.vacant_entry();
        let key = place.key();
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll
            .registry()
            .register(&mut socket, Token(key), interest)?;
        place.insert(Connection {
            socket,
            request,
            sent: 0,
            answer: Vec::new(),
            began: now,
        });
        self.busy += 1;
        self.go_on(key);
        Ok(())
    }

    /// An agent of its own each time, so that nobody is taken for one who asks again.
    fn request(&self) -> Vec<u8> {
        let Setup {
            server, path, kept, ..
        } = &self.setup;
        let number = self.number;
        let last = if *kept == 0 {
            "Connection: close\r\n"
        } else {
            ""
        };
        format!(
            "GET {path} HTTP/1.1\r\nHost: {server}\r\nUser-Agent: relayctl-bench/{number}\r\nAccept: */*\r\n{last}\r\n"
        )
        .into_bytes()
    }

    fn go_on(&mut self, key: usize) {
        let Some(connection) = self.open.get_mut(key) else {
            return;
        };
        if connection.request.is_empty() {
            // Idle: it can only have been closed.
            return self.drop_idle(key);
        }
        let kept = self.setup.kept > 0;
        match connection.step(kept) {
            Ok(None) => {}
            Ok(Some(status)) => {
                self.tally
                    .wait
                    .add(now_micros().saturating_sub(connection.began), 1);
                *self.tally.statuses.entry(status).or_default() += 1;
                let place = connection.place();
                let kept_by_both = kept && !connection.ends();
                connection.request.clear();
                if let Some(place) = place
                    && (self.tally.places.len() < 100 || self.tally.places.contains_key(&place))
                {
                    *self.tally.places.entry(place).or_default() += 1;
                }
                self.busy -= 1;
                if kept_by_both {
                    self.idle.push(key);
                } else {
                    self.tally.not_kept += u64::from(kept);
                    self.open.remove(key);
                }
            }
            Err(_) => {
                self.open.remove(key);
                self.busy -= 1;
                self.tally.errors += 1;
            }
        }
    }

    fn drop_idle(&mut self, key: usize) {
        let closed = self.open.get_mut(key).is_some_and(|connection| {
            let mut byte = [0; 1];
            !matches!(connection.socket.read(&mut byte), Err(error) if error.kind() == ErrorKind::WouldBlock)
        });
        if closed {
            self.open.remove(key);
            self.idle.retain(|idle| *idle != key);
        }
    }
}

impl Connection {
    /// Sends what is left, reads what is there; the status once the answer is whole.
    fn step(&mut self, kept: bool) -> io::Result<Option<u16>> {
        while self.sent < self.request.len() {
            let rest = self.request.get(self.sent..).unwrap_or_default();
            match self.socket.write(rest) {
                Ok(count) => self.sent += count,
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::WouldBlock | ErrorKind::NotConnected
                    ) =>
                {
                    return Ok(None);
                }
                Err(error) => return Err(error),
            }
        }
        let mut buffer = [0; 4096];
        loop {
            match self.socket.read(&mut buffer) {
                Ok(0) if !kept => return self.status().map(Some),
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    self.answer
                        .extend_from_slice(buffer.get(..count).unwrap_or_default());
                    if self.answer.len() > MAX_ANSWER {
                        return Err(ErrorKind::InvalidData.into());
                    }
                    if kept && self.is_whole() {
                        return self.status().map(Some);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn head(&self) -> Option<(&str, usize)> {
        let end = self
            .answer
            .windows(4)
            .position(|four| four == b"\r\n\r\n")?;
        let head = std::str::from_utf8(self.answer.get(..end)?).ok()?;
        Some((head, self.answer.len() - end - 4))
    }

    fn is_whole(&self) -> bool {
        self.head().is_some_and(|(head, body)| {
            let length = field(head, "content-length").and_then(|text| text.parse().ok());
            body >= length.unwrap_or(0)
        })
    }

    /// True if the server says that this was its last answer.
    fn ends(&self) -> bool {
        self.head().is_none_or(|(head, _)| {
            let said = field(head, "connection");
            said.map_or(head.starts_with("HTTP/1.0"), |said| {
                said.eq_ignore_ascii_case("close")
            })
        })
    }

    fn status(&self) -> io::Result<u16> {
        let status = self
            .head()
            .and_then(|(head, _)| head.split(' ').nth(1)?.parse().ok());
        status.ok_or_else(|| ErrorKind::InvalidData.into())
    }

    /// Host and port that it is sent to.
    fn place(&self) -> Option<String> {
        let (head, _) = self.head()?;
        let location = field(head, "location")?;
        Some(location.split('/').nth(2)?.to_owned())
    }
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().skip(1).find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}
