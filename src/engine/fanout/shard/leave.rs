//! Events of sockets, and every end of a listener.

use std::io::{ErrorKind, Read};

use mio::event::Event;
use mio::{Events, Token};

use super::super::entry::HalfClosed;
use super::super::wheel::Ticket;
use super::super::{HALF_CLOSED, Input};
use super::{Moment, Shard, WAKE, millis};
use crate::telemetry::EndReason;

impl Shard {
    /// Hang-ups end their listener at once; sockets that are writable again are served.
    pub(super) fn on_events(&mut self, events: &Events, now: Moment) {
        let mut writable = std::mem::take(&mut self.visited);
        for event in events {
            if event.token() != WAKE {
                writable.extend(self.on_event(event, now));
            }
        }
        self.serve(&mut writable, now);
        self.visited = writable;
    }

    fn on_event(&mut self, event: &Event, now: Moment) -> Option<Ticket> {
        let Token(key) = event.token();
        let gone = event.is_error() || event.is_write_closed();
        let heard = if gone {
            Input::Gone
        } else if event.is_readable() || event.is_read_closed() {
            self.discard_input(key)
        } else {
            Input::Open
        };
        match heard {
            Input::Open => {}
            Input::Closed => self.half_close(key, now),
            Input::Gone => {
                self.close(key, EndReason::Left);
                return None;
            }
        }
        let entry = self.entries.get_mut(key)?;
        if !event.is_writable() || !entry.blocked {
            return None;
        }
        entry.blocked = false;
        Some((key, entry.generation))
    }

    /// Throws away what a listener says.
    fn discard_input(&mut self, key: usize) -> Input {
        let Some(entry) = self.entries.get_mut(key) else {
            return Input::Open;
        };
        match entry.tls {
            None => discard_input(&mut entry.socket),
            Some(place) => self.sessions.discard_input(place, &entry.socket),
        }
    }

    /// Notes that a listener has closed its writing side. It may have gone: the next send tells, or that there is none.
    fn half_close(&mut self, key: usize, now: Moment) {
        let patience = self.patience();
        if let Some(entry) = self.entries.get_mut(key)
            && entry.side.half_closed.is_none()
        {
            let look_at = now.millis.saturating_add(patience);
            let sent = entry.record.sent_bytes();
            entry.side.half_closed = Some(HalfClosed { look_at, sent });
            self.deadlines.put((key, entry.generation), look_at);
        }
    }

    /// Ends one that has closed its writing side and got nothing since the last look, or sets the next look. True where it
    /// was time to look.
    fn look_at_half_closed(&mut self, ticket: Ticket, now: Moment) -> bool {
        let patience = self.patience();
        let Some(entry) = self.entries.get_mut(ticket.0) else {
            return false;
        };
        let Some(half_closed) = &mut entry.side.half_closed else {
            return false;
        };
        if now.millis < half_closed.look_at {
            return false;
        }
        let sent = entry.record.sent_bytes();
        // Bytes are on the way to one that is blocked: they find out, or its stall ends it.
        if sent == half_closed.sent && !entry.blocked {
            self.close(ticket.0, EndReason::Left);
            return true;
        }
        let look_at = now.millis.saturating_add(patience);
        *half_closed = HalfClosed { look_at, sent };
        self.deadlines.put(ticket, look_at);
        true
    }

    /// Milliseconds without a byte after which one that has closed its writing side is gone: a few turns at least.
    fn patience(&self) -> u64 {
        millis(HALF_CLOSED.max(self.config.max_delay.saturating_mul(2)))
    }

    /// Ends those whose deadline is over: stalled ones, and sessions that lasted as long as they may.
    pub(super) fn close_overdue(&mut self, now: Moment) {
        let entries = &self.entries;
        self.deadlines.tidy(entries.len(), |(key, generation)| {
            entries.get(key).is_some_and(|e| e.generation == generation)
        });
        while let Some(ticket) = self.deadlines.take(now.millis) {
            if !self.holds(ticket) {
                continue;
            }
            let Some(entry) = self.entries.get(ticket.0) else {
                continue;
            };
            if entry.side.ends_at.is_some_and(|end| now.at >= end) {
                self.close(ticket.0, EndReason::Duration);
                continue;
            }
            if self.look_at_half_closed(ticket, now) {
                continue;
            }
            let Some(entry) = self.entries.get_mut(ticket.0) else {
                continue;
            };
            entry.watched = false;
            if !entry.blocked {
                continue;
            }
            let stall = millis(self.config.stall);
            if now.millis.saturating_sub(entry.progress) >= stall {
                self.close(ticket.0, EndReason::Stalled);
            } else {
                self.watch(ticket);
            }
        }
    }

    /// Sets a deadline for the stall of a listener that is blocked.
    pub(super) fn watch(&mut self, ticket: Ticket) {
        let Some(entry) = self.entries.get_mut(ticket.0) else {
            return;
        };
        if !entry.watched {
            entry.watched = true;
            let stall = millis(self.config.stall);
            self.deadlines
                .put(ticket, entry.progress.saturating_add(stall));
        }
    }

    /// Ends those whose end was asked for.
    pub(super) fn sweep(&mut self) {
        let ending: Vec<(usize, EndReason)> = self
            .entries
            .iter()
            .filter_map(|(key, entry)| Some((key, entry.record.ending()?)))
            .collect();
        for (key, reason) in ending {
            self.close(key, reason);
        }
    }

    pub(super) fn close(&mut self, key: usize, reason: EndReason) {
        let Some(mut entry) = self.entries.try_remove(key) else {
            return;
        };
        let _ = self.poll.registry().deregister(&mut entry.socket);
        if let Some(place) = entry.tls {
            self.sessions.close(place, &entry.socket);
        }
        self.gauge.remove(entry.side.weight);
        let counters = entry.side.session.counters();
        match reason {
            EndReason::Stalled => counters.add_stalls(1),
            EndReason::Slow => counters.add_slow_closes(1),
            _ => {}
        }
        entry.side.session.finish(reason);
    }
}

/// Throws away what a listener sends.
fn discard_input(socket: &mut mio::net::TcpStream) -> Input {
    let mut sink = [0_u8; 1024];
    for _ in 0..64 {
        match socket.read(&mut sink) {
            Ok(0) => return Input::Closed,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Input::Open,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return Input::Gone,
        }
    }
    // Who sends that much is no listener.
    Input::Gone
}
