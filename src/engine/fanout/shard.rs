//! One shard: its listeners, its readiness queue, its clock.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::{Events, Interest, Poll, Token, Waker};
use slab::Slab;

use super::cursor::settle;
use super::entry::{Entry, Phase, Side};
use super::plan::{MAX_SLICES, Plan};
use super::wheel::{Ticket, Wheel};
use super::{Command, Config, Listener};
use crate::engine::ring::Burst;
use crate::telemetry::EndReason;

/// The waker's token; listeners use their place in the slab.
const WAKE: Token = Token(usize::MAX);

/// A listener is due at the latest when this much waits for it: ten segments, what a connection may send at
/// once after a pause.
const DUE_BYTES: u64 = 14 * 1024;

/// Listeners added lengthen the tick by this much each: the sends a second stay level from the floor to the
/// ceiling (500 listeners at 100 ms, 5,000 at 1 s).
const DELAY_PER_LISTENER: Duration = Duration::from_micros(200);

/// Sends for one listener in one visit, when each was taken whole.
const SENDS_A_VISIT: usize = 4;

/// See the module.
pub(super) struct Shard {
    config: Config,
    poll: Poll,
    commands: Receiver<Command>,
    count: Arc<AtomicUsize>,
    entries: Slab<Entry>,
    wheel: Wheel,
    plan: Plan,
    start: Instant,
    generation: u32,
    due: Vec<Ticket>,
}

/// How a visit left a listener.
enum Outcome {
    Stay,
    Close(EndReason),
}

impl Shard {
    pub fn new(
        config: Config,
        commands: Receiver<Command>,
        count: Arc<AtomicUsize>,
    ) -> io::Result<(Self, Arc<Waker>)> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKE)?);
        let start = Instant::now();
        let shard = Self {
            config,
            poll,
            commands,
            count,
            entries: Slab::new(),
            wheel: Wheel::new(start),
            plan: Plan::default(),
            start,
            generation: 0,
            due: Vec::new(),
        };
        Ok((shard, waker))
    }

    /// Runs until told to stop.
    pub fn run(mut self) {
        let mut events = Events::with_capacity(1024);
        loop {
            let timeout = self.wheel.until_next(Instant::now());
            match self.poll.poll(&mut events, timeout) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => {
                    tracing::error!(%error, "a fan-out shard lost its readiness queue");
                    return;
                }
            }
            let now = Instant::now();
            for event in &events {
                if event.token() != WAKE {
                    self.on_event(event, now);
                }
            }
            if self.take_commands(now).is_err() {
                self.close_all();
                return;
            }
            self.visit_due(now);
        }
    }

    fn take_commands(&mut self, now: Instant) -> Result<(), ()> {
        loop {
            match self.commands.try_recv() {
                Ok(Command::Attach(listener, burst)) => self.attach(*listener, burst, now),
                Ok(Command::Reconfigure(config)) => self.config = config,
                Ok(Command::Sweep) => self.sweep(),
                Ok(Command::States(report)) => {
                    let states = self
                        .entries
                        .iter()
                        .map(|(_, entry)| entry.state())
                        .collect();
                    // Whoever asked may have gone.
                    let _ = report.send(states);
                }
                Ok(Command::Stop) | Err(TryRecvError::Disconnected) => return Err(()),
                Err(TryRecvError::Empty) => return Ok(()),
            }
        }
    }

    fn attach(&mut self, listener: Listener, burst: Burst, now: Instant) {
        let Listener {
            socket,
            mount,
            head,
            metaint,
            session,
            accepted,
            ends_at,
        } = listener;
        let _ = socket.set_nodelay(true);
        if let Err(error) = socket.set_nonblocking(true) {
            tracing::warn!(%error, "a listener's socket is unusable");
            self.count.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        let ring = mount.ring();
        let (offset, ahead) = ring.burst_start(burst);
        self.generation = self.generation.wrapping_add(1);
        let entry = Entry {
            socket: mio::net::TcpStream::from_std(socket),
            generation: self.generation,
            ring,
            offset,
            title_seen: 0,
            metaint,
            until_meta: metaint,
            prefix_sent: 0,
            meta_sent: 0,
            phase: Phase::Head,
            blocked: false,
            thin: ahead < self.config.max_delay * 4,
            progress: self.millis(now),
            jumped: 0,
            side: Box::new(Side {
                head,
                mount,
                session,
                ends_at,
            }),
        };
        let key = self.entries.insert(entry);
        let interest = Interest::READABLE | Interest::WRITABLE;
        let registered = self.entries.get_mut(key).map(|entry| {
            self.poll
                .registry()
                .register(&mut entry.socket, Token(key), interest)
        });
        if let Some(Err(error)) = registered {
            tracing::warn!(%error, "cannot watch a listener's socket");
            self.close(key, EndReason::Left);
            return;
        }
        self.visit(key, now);
        if let Some(entry) = self.entries.get(key) {
            metrics::histogram!("relayctl_first_byte_seconds").record(accepted.elapsed());
            // Newcomers of one moment are spread over the tick, so that the load stays flat.
            let share = (key as u32 % 16) + 1;
            let delay = self.delay_of(entry) * share / 16;
            self.wheel.put((key, entry.generation), now, delay);
        }
    }

    fn on_event(&mut self, event: &Event, now: Instant) {
        let Token(key) = event.token();
        let Some(entry) = self.entries.get_mut(key) else {
            return;
        };
        if event.is_error() || event.is_read_closed() || event.is_write_closed() {
            self.close(key, EndReason::Left);
            return;
        }
        if event.is_readable() && !discard_input(&mut entry.socket) {
            self.close(key, EndReason::Left);
            return;
        }
        if event.is_writable() && entry.blocked {
            entry.blocked = false;
            self.visit(key, now);
        }
    }

    fn visit_due(&mut self, now: Instant) {
        let mut due = std::mem::take(&mut self.due);
        self.wheel.take_due(now, &mut due);
        for (key, generation) in due.drain(..) {
            if self
                .entries
                .get(key)
                .is_some_and(|entry| entry.generation == generation)
            {
                self.visit(key, now);
            }
            if let Some(entry) = self
                .entries
                .get(key)
                .filter(|entry| entry.generation == generation)
            {
                let delay = self.delay_of(entry);
                self.wheel.put((key, generation), now, delay);
            }
        }
        self.due = due;
    }

    /// The tick that applies to a listener now.
    fn delay_of(&self, entry: &Entry) -> Duration {
        let floor = self.config.min_delay;
        if entry.thin {
            return floor;
        }
        let listeners = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
        let full = DELAY_PER_LISTENER
            .saturating_mul(listeners)
            .min(self.config.max_delay);
        let bytes_a_second = entry.side.mount.bitrate() / 8;
        let by_bytes = match bytes_a_second {
            0 => self.config.max_delay,
            rate => Duration::from_millis(DUE_BYTES * 1000 / rate),
        };
        full.min(by_bytes).max(floor)
    }

    fn visit(&mut self, key: usize, now: Instant) {
        let outcome = self.serve(key, now);
        if let Outcome::Close(reason) = outcome {
            self.close(key, reason);
        }
    }

    fn serve(&mut self, key: usize, now: Instant) -> Outcome {
        let millis = self.millis(now);
        let Some(entry) = self.entries.get_mut(key) else {
            return Outcome::Stay;
        };
        if entry.side.ends_at.is_some_and(|end| now >= end) {
            return Outcome::Close(EndReason::Duration);
        }
        if entry.blocked {
            let stalled =
                u128::from(millis.saturating_sub(entry.progress)) >= self.config.stall.as_millis();
            return if stalled {
                Outcome::Close(EndReason::Stalled)
            } else {
                Outcome::Stay
            };
        }
        for _ in 0..SENDS_A_VISIT {
            if let Some(reason) = settle(entry, millis) {
                return Outcome::Close(reason);
            }
            let chain = entry.ring.chain();
            self.plan.lay_out(entry, &chain);
            if self.plan.total() == 0 {
                entry.progress = millis;
                return Outcome::Stay;
            }
            let mut slices = [IoSlice::new(&[]); MAX_SLICES + 2];
            let count = self.plan.slices(&chain, &mut slices);
            let sent = loop {
                match entry
                    .socket
                    .write_vectored(slices.get(..count).unwrap_or(&[]))
                {
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    other => break other,
                }
            };
            match sent {
                Ok(0) => return Outcome::Close(EndReason::Left),
                Ok(taken) => {
                    entry.side.session.sent(taken as u64);
                    entry.progress = millis;
                    self.plan.advance(entry, taken);
                    entry.blocked = taken < self.plan.total();
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => entry.blocked = true,
                Err(_) => return Outcome::Close(EndReason::Left),
            }
            if entry.blocked {
                return Outcome::Stay;
            }
        }
        Outcome::Stay
    }

    fn sweep(&mut self) {
        let kicked: Vec<usize> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.side.session.record().is_kicked())
            .map(|(key, _)| key)
            .collect();
        for key in kicked {
            self.close(key, EndReason::Kicked);
        }
    }

    fn close(&mut self, key: usize, reason: EndReason) {
        let Some(mut entry) = self.entries.try_remove(key) else {
            return;
        };
        let _ = self.poll.registry().deregister(&mut entry.socket);
        self.count.fetch_sub(1, Ordering::Relaxed);
        let counters = entry.side.session.counters();
        match reason {
            EndReason::Stalled => counters.add_stalls(1),
            EndReason::Slow => counters.add_slow_closes(1),
            _ => {}
        }
        entry.side.session.finish(reason);
    }

    fn close_all(&mut self) {
        let keys: Vec<usize> = self.entries.iter().map(|(key, _)| key).collect();
        for key in keys {
            self.close(key, EndReason::Shutdown);
        }
    }

    fn millis(&self, now: Instant) -> u32 {
        // One more than the clock, since 0 means "never" in an entry.
        u32::try_from(now.saturating_duration_since(self.start).as_millis() + 1).unwrap_or(u32::MAX)
    }
}

/// Throws away what a listener sends; false if it sends too much or has gone.
fn discard_input(socket: &mut mio::net::TcpStream) -> bool {
    let mut sink = [0_u8; 1024];
    for _ in 0..64 {
        match socket.read(&mut sink) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return false,
        }
    }
    false
}
