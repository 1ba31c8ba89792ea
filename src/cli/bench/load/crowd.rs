//! All listeners of one load process.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::{Events, Interest, Poll, Token, Waker};
use rustls::ClientConfig;
use slab::Slab;

use super::client::{Client, Visit};
use super::link::trusting;
use super::orders::{Order, Setup, Tally};
use crate::cli::bench::audio::Audio;
use crate::cli::bench::clock::now_micros;

const WAKE: Token = Token(usize::MAX);

/// Read at once; more than a burst.
const BUFFER: usize = 128 * 1024;

/// The longest wait.
const IDLE: Duration = Duration::from_millis(500);

/// Connects of one turn, so that reading is not put off.
const A_TURN: u64 = 64;

/// How long it lies down between two turns. Who waits for readiness is woken by the next send, and on one machine the
/// sender pays for that, as no server does whose listeners are behind a network.
const REST: Duration = Duration::from_millis(5);

/// It does so once nobody has come for this long, since a first byte is waited for awake.
const CALM: Duration = Duration::from_secs(1);

/// Something that happens so many times a second: once in each of as many spans, at another place in it each time. At even
/// steps it would meet whatever the server does at even steps always or never.
struct Pace {
    began: Instant,
    per_second: f64,
    /// Where the first one lies in its span; another in each process, so that they take turns.
    phase: u32,
    done: u64,
    /// `u64::MAX` is for ever.
    wanted: u64,
}

impl Pace {
    fn new(per_second: f64, phase: u32, wanted: u64) -> Self {
        Self {
            began: Instant::now(),
            per_second,
            phase,
            done: 0,
            wanted,
        }
    }

    /// How often it is to happen now.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    fn due(&self) -> u64 {
        let passed = self.began.elapsed();
        // Those of the spans that are over, and maybe the one of this span.
        let over = (passed.as_secs_f64() * self.per_second) as u64;
        let due = over + u64::from(passed >= self.moment(over));
        due.min(self.wanted).saturating_sub(self.done).min(A_TURN)
    }

    /// When it happens for the time `number`, counted from 0; never where it happens never. Multiples of the golden ratio:
    /// all places in turn.
    #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)]
    fn moment(&self, number: u64) -> Duration {
        let golden = self.phase.wrapping_add(number as u32);
        let place = f64::from(golden.wrapping_mul(0x9E37_79B9)) / 2_f64.powi(32);
        let seconds = (number as f64 + place) / self.per_second;
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }

    fn until_next(&self) -> Option<Duration> {
        let next = (self.done < self.wanted).then(|| self.moment(self.done))?;
        Some(next.saturating_sub(self.began.elapsed()))
    }
}

/// See the module.
pub(super) struct Crowd {
    setup: Setup,
    audio: Option<Audio>,
    tls: Option<Arc<ClientConfig>>,
    poll: Poll,
    events: Events,
    clients: Slab<Client>,
    buffer: Vec<u8>,
    next_number: u32,
    joining: Option<(Pace, bool)>,
    churn: Option<Pace>,
    /// When somebody connected last.
    connected: Instant,
    /// Where the search for the next one to leave goes on.
    leaver: usize,
    tally: Tally,
}

impl Crowd {
    /// Nobody yet.
    ///
    /// # Errors
    /// Where the certificate that listeners are to trust is none.
    pub fn new(setup: Setup) -> anyhow::Result<(Self, Waker)> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKE)?;
        let crowd = Self {
            audio: setup.kbit.and_then(Audio::new),
            tls: setup.trust.as_deref().map(trusting).transpose()?,
            setup,
            poll,
            events: Events::with_capacity(4096),
            clients: Slab::new(),
            buffer: vec![0; BUFFER],
            next_number: 0,
            joining: None,
            churn: None,
            connected: Instant::now(),
            leaver: 0,
            tally: Tally::default(),
        };
        Ok((crowd, waker))
    }

    /// Waits for something to happen, and handles it.
    pub fn turn(&mut self) -> io::Result<()> {
        if self.connected.elapsed() >= CALM {
            std::thread::sleep(REST);
        }
        let paces = [
            self.joining.as_ref().map(|(pace, _)| pace),
            self.churn.as_ref(),
        ];
        let next = paces.into_iter().flatten().filter_map(Pace::until_next);
        let timeout = next.min().unwrap_or(IDLE).min(IDLE);
        let mut events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        let polled = self.poll.poll(&mut events, Some(timeout));
        if let Err(error) = polled
            && error.kind() != io::ErrorKind::Interrupted
        {
            return Err(error);
        }
        let now = now_micros();
        for event in &events {
            if event.token() != WAKE {
                self.on_event(event, now);
            }
        }
        self.events = events;
        self.join_due();
        self.churn_due();
        Ok(())
    }

    /// Does as it is told.
    pub fn obey(&mut self, order: &Order) {
        match *order {
            Order::Join {
                count,
                per_second,
                deaf,
            } => {
                let pace = Pace::new(per_second, self.setup.first_address, count.into());
                self.joining = Some((pace, deaf));
            }
            Order::Leave => {
                self.joining = None;
                self.churn = None;
                self.clients.clear();
            }
            Order::StopReading(count) => self.stop_reading(count as usize),
            Order::Churn(per_second) => {
                let phase = self.setup.first_address;
                self.churn = (per_second > 0.0).then(|| Pace::new(per_second, phase, u64::MAX));
            }
            Order::Reset => {
                self.tally = Tally::default();
                let now = now_micros();
                for (_, client) in &mut self.clients {
                    client.forget(now);
                }
            }
            Order::Report => {}
        }
    }

    /// What was counted, with those that are silent just now.
    pub fn report(&self) -> Tally {
        let mut tally = self.tally.clone();
        let now = now_micros();
        let due = self
            .joining
            .as_ref()
            .map_or(0, |(pace, _)| pace.wanted - pace.done);
        tally.waiting = due;
        for (_, client) in self.clients.iter().filter(|(_, client)| !client.deaf) {
            if client.plays() {
                tally.playing += 1;
                tally.checked += u64::from(client.is_checked());
                tally.stalls += u64::from(client.is_stalled(now));
            } else {
                tally.waiting += 1;
            }
        }
        tally
    }

    fn on_event(&mut self, event: &Event, now: u64) {
        let Token(key) = event.token();
        let Some(client) = self.clients.get_mut(key) else {
            return;
        };
        if event.is_writable() {
            let visit = client.ask();
            if !matches!(visit, Visit::Stay) {
                return self.after(key, visit);
            }
        }
        let Some(client) = self.clients.get_mut(key).filter(|client| !client.deaf) else {
            return;
        };
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            let visit = client.read(self.audio.as_ref(), &mut self.buffer, now, &mut self.tally);
            self.after(key, visit);
        }
    }

    fn after(&mut self, key: usize, visit: Visit) {
        match visit {
            Visit::Stay | Visit::Started => {}
            Visit::Follow(server, path) => {
                let Some(client) = self.clients.try_remove(key) else {
                    return;
                };
                if !server.ip().is_loopback() && !self.setup.any_address {
                    return self.fail(format!("redirected to {server}, which is not loopback"));
                }
                self.tally.redirected += 1;
                match client.follow(&self.setup, server, &path, self.tls.as_ref()) {
                    Ok(client) => self.insert(client),
                    Err(error) => self.fail(error.to_string()),
                }
            }
            Visit::Gone(reason) => {
                let played = self.clients.try_remove(key).is_some_and(|c| c.plays());
                if played {
                    self.tally.lost += 1;
                } else {
                    self.fail(reason);
                }
            }
        }
    }

    fn fail(&mut self, reason: String) {
        self.tally.failed += 1;
        self.tally.first_failure.get_or_insert(reason);
    }

    fn join_due(&mut self) {
        let Some((pace, deaf)) = &mut self.joining else {
            return;
        };
        let (due, deaf) = (pace.due(), *deaf);
        pace.done += due;
        if pace.done >= pace.wanted {
            self.joining = None;
        }
        for _ in 0..due {
            self.connect(deaf);
        }
    }

    fn churn_due(&mut self) {
        let Some(pace) = &mut self.churn else { return };
        let due = pace.due();
        pace.done += due;
        for _ in 0..due {
            // In turn, so that everybody stays about as long.
            let places = self.clients.capacity().max(1);
            let found = (0..places)
                .map(|step| (self.leaver + step) % places)
                .find(|key| self.clients.get(*key).is_some_and(Client::plays));
            if let Some(key) = found {
                self.clients.remove(key);
                self.leaver = key + 1;
            }
            self.connect(false);
        }
    }

    fn connect(&mut self, deaf: bool) {
        let number = self.next_number;
        self.next_number = self.next_number.wrapping_add(1);
        let servers = &self.setup.servers;
        let turn = number as usize % servers.len().max(1);
        let Some(server) = servers.get(turn).copied() else {
            return self.fail("no server was named".into());
        };
        match self.begin(number, server) {
            Ok(mut client) => {
                client.deaf = deaf;
                self.insert(client);
            }
            Err(error) => self.fail(format!("cannot connect: {error}")),
        }
    }

    fn begin(&self, number: u32, server: SocketAddr) -> io::Result<Client> {
        Client::connect(
            &self.setup,
            number,
            server,
            &self.setup.path,
            self.tls.as_ref(),
            now_micros(),
        )
    }

    fn insert(&mut self, client: Client) {
        self.connected = Instant::now();
        let key = self.clients.insert(client);
        let Some(client) = self.clients.get_mut(key) else {
            return;
        };
        // On loopback it is connected already; else the event comes.
        let visit = client.ask();
        let interest = Interest::READABLE | Interest::WRITABLE;
        let registry = self.poll.registry();
        match registry.register(&mut client.link.socket, Token(key), interest) {
            Ok(()) => self.after(key, visit),
            Err(error) => {
                self.clients.remove(key);
                self.fail(error.to_string());
            }
        }
    }

    fn stop_reading(&mut self, count: usize) {
        let registry = self.poll.registry();
        let playing = self.clients.iter_mut().map(|(_, client)| client);
        for client in playing.filter(|c| c.plays() && !c.deaf).take(count) {
            client.deaf = true;
            // One that is not watched any more makes no event; that is all that is asked.
            let _ = registry.deregister(&mut client.link.socket);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_comes_in_each_span_and_nobody_at_no_rate() {
        let pace = Pace::new(200.0, 7, 1_000);
        let moments: Vec<Duration> = (0..1_000).map(|number| pace.moment(number)).collect();
        for (number, moment) in (0..).zip(&moments) {
            let span = Duration::from_millis(5) * number;
            assert!(*moment >= span && *moment < span + Duration::from_millis(5));
        }
        // They meet each tenth of what comes every 20 ms alike.
        for tenth in 0..10 {
            let met = moments
                .iter()
                .map(|moment| moment.as_micros() % 20_000 / 2_000);
            let met = met.filter(|place| *place == tenth).count();
            assert!(met.abs_diff(100) < 10, "{tenth}: {met}");
        }
        let never = Pace::new(0.0, 0, 0);
        assert_eq!((never.moment(0), never.due()), (Duration::MAX, 0));
        assert_eq!(never.until_next(), None);
    }
}
