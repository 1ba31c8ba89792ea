//! One shard: a thread, its readiness queue, its clock, and the listeners that were dealt to it.
//!
//! Must never: wait for anything but readiness and the clock, lock across a send, or look at a listener whose
//! socket is full before it is writable or its stall is over. Its parts: `arrive` (newcomers), `visit` (their
//! turns), `leave` (events and ends), `secure` (what differs where a listener speaks TLS).

mod arrive;
mod leave;
mod secure;
#[cfg(test)]
mod tests;
mod visit;

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token, Waker};
use slab::Slab;

use super::backend::{Backend, Kind};
use super::batch::Batch;
use super::deadlines::Deadlines;
use super::detour;
use super::entry::Entry;
use super::pace::{Pace, paced};
use super::shards::Gauge;
use super::tls::Sessions;
use super::views::Views;
use super::wheel::{Ticket, Wheel};
use super::{Command, Config};
use crate::telemetry::EndReason;
use visit::HANDFUL;

/// The waker's token; listeners use their place in the slab.
const WAKE: Token = Token(usize::MAX);

/// Commands taken in one round; no more than a handful where the last one left somebody whose turn had come, so that
/// a storm of newcomers leaves those at least as many visits.
const COMMANDS_A_ROUND: usize = 512;

/// How often the shard looks at how busy it was.
const LOOK: Duration = Duration::from_millis(250);

/// See the module.
pub(super) struct Shard {
    config: Config,
    poll: Poll,
    commands: Receiver<Command>,
    gauge: Arc<Gauge>,
    backend: Backend,
    entries: Slab<Entry>,
    /// Of those that speak TLS.
    sessions: Sessions,
    wheel: Wheel,
    deadlines: Deadlines,
    views: Views,
    batch: Batch,
    pace: Pace,
    start: Instant,
    generation: u32,
    /// When somebody came last, in milliseconds of the shard's clock.
    came: u64,
    /// Whose turn has come and who has not had it.
    due: VecDeque<Ticket>,
    /// Reused lists: who is visited now, who has more to send than one send carries, who is new.
    visited: Vec<Ticket>,
    again: Vec<Ticket>,
    fresh: Vec<Newcomer>,
}

/// The clock, read once a round.
#[derive(Debug, Clone, Copy)]
struct Moment {
    at: Instant,
    /// Of the shard's clock, one more than it says, since 0 means "never" in an entry.
    millis: u64,
    slot: u64,
}

/// Who came in this round, and when its connection was accepted.
type Newcomer = (Ticket, Instant);

/// What the inbox held.
enum Inbox {
    Empty,
    More,
    Stop,
}

impl Shard {
    pub fn new(
        config: Config,
        commands: Receiver<Command>,
        gauge: Arc<Gauge>,
    ) -> io::Result<(Self, Arc<Waker>)> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKE)?);
        let start = Instant::now();
        let shard = Self {
            pace: Pace::new(config.min_delay, config.max_delay),
            config,
            poll,
            commands,
            gauge,
            backend: Backend::Plain,
            entries: Slab::new(),
            sessions: Sessions::default(),
            wheel: Wheel::new(start),
            deadlines: Deadlines::default(),
            views: Views::default(),
            batch: Batch::default(),
            start,
            generation: 0,
            came: 0,
            due: VecDeque::new(),
            visited: Vec::new(),
            again: Vec::new(),
            fresh: Vec::new(),
        };
        Ok((shard, waker))
    }

    /// Runs until told to stop; its sends reach the kernel by `kind`, if this thread may.
    pub fn run(mut self, kind: Kind) {
        self.backend = Backend::open(kind);
        self.gauge.set_kind(self.backend.kind());
        let mut events = Events::with_capacity(1024);
        let mut idle_from = Instant::now();
        let mut looked = idle_from;
        let mut worked = Duration::ZERO;
        let mut inbox = Inbox::Empty;
        loop {
            let timeout = if matches!(inbox, Inbox::More) || !self.due.is_empty() {
                Some(Duration::ZERO)
            } else {
                self.until_next(idle_from)
            };
            match self.poll.poll(&mut events, timeout) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => {
                    tracing::error!(%error, "a fan-out shard lost its readiness queue");
                    return;
                }
            }
            let now = self.moment(Instant::now());
            self.on_events(&events, now);
            inbox = self.take_commands(now);
            if matches!(inbox, Inbox::Stop) {
                self.close_all();
                return;
            }
            self.visit_due(now);
            self.close_overdue(now);
            self.views.end();
            idle_from = Instant::now();
            worked += idle_from.saturating_duration_since(now.at);
            let span = idle_from.saturating_duration_since(looked);
            if span >= LOOK {
                self.pace.worked(worked, span);
                (looked, worked) = (idle_from, Duration::ZERO);
            }
            self.pace
                .follow(paced(self.entries.len(), self.sessions.len()));
        }
    }

    fn take_commands(&mut self, now: Moment) -> Inbox {
        self.gauge.look();
        let mut fresh = std::mem::take(&mut self.fresh);
        let mut outcome = Inbox::More;
        let most = if self.due.is_empty() {
            COMMANDS_A_ROUND
        } else {
            HANDFUL
        };
        for _ in 0..most {
            match self.commands.try_recv() {
                Ok(Command::Attach(listener, home, weight, burst)) => {
                    fresh.extend(self.attach(*listener, home, weight, burst, now));
                }
                Ok(Command::Follow) => self.follow_signposts(),
                Ok(Command::Reconfigure(config)) => self.reconfigure(config),
                Ok(Command::Sweep) => self.sweep(),
                Ok(Command::States(report)) => {
                    let states = self.entries.iter().map(|(_, entry)| entry.state());
                    // Whoever asked may have gone.
                    let _ = report.send(states.collect());
                }
                Ok(Command::Stop) | Err(TryRecvError::Disconnected) => {
                    outcome = Inbox::Stop;
                    break;
                }
                Err(TryRecvError::Empty) => {
                    outcome = Inbox::Empty;
                    break;
                }
            }
        }
        if matches!(outcome, Inbox::More) {
            // As if it had come just now: who is due does not go before what is left.
            self.gauge.knock();
        }
        self.greet(&mut fresh, now);
        self.fresh = fresh;
        outcome
    }

    fn reconfigure(&mut self, config: Config) {
        self.pace.set_bounds(config.min_delay, config.max_delay);
        self.config = config;
    }

    fn follow_signposts(&mut self) {
        for (_, entry) in &mut self.entries {
            detour::look_up(entry);
        }
    }

    fn close_all(&mut self) {
        let keys: Vec<usize> = self.entries.iter().map(|(key, _)| key).collect();
        for key in keys {
            self.close(key, EndReason::Shutdown);
        }
    }

    /// How long the shard may wait, as of `now`; `None` for ever.
    fn until_next(&self, now: Instant) -> Option<Duration> {
        let turn = self.wheel.until_next(now);
        let deadline = self.deadlines.next().map(|millis| {
            let at = self.start + Duration::from_millis(millis);
            at.saturating_duration_since(now)
        });
        match (turn, deadline) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        }
    }

    fn moment(&self, at: Instant) -> Moment {
        let millis = at.saturating_duration_since(self.start).as_millis() + 1;
        Moment {
            at,
            millis: u64::try_from(millis).unwrap_or(u64::MAX),
            slot: self.wheel.slot_of(at),
        }
    }

    /// True if the ticket still means a listener that is here.
    fn holds(&self, (key, generation): Ticket) -> bool {
        let entry = self.entries.get(key);
        entry.is_some_and(|entry| entry.generation == generation)
    }
}

/// Whole milliseconds.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
