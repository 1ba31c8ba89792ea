//! Events of sockets, and every end of a listener.

use std::io::{ErrorKind, Read};

use mio::event::Event;
use mio::{Events, Token};

use super::super::wheel::Ticket;
use super::{Moment, Shard, WAKE, millis};
use crate::telemetry::EndReason;

impl Shard {
    /// Hang-ups end their listener at once; sockets that are writable again are served.
    pub(super) fn on_events(&mut self, events: &Events, now: Moment) {
        let mut writable = std::mem::take(&mut self.visited);
        for event in events {
            if event.token() != WAKE {
                writable.extend(self.on_event(event));
            }
        }
        self.serve(&mut writable, now);
        self.visited = writable;
    }

    fn on_event(&mut self, event: &Event) -> Option<Ticket> {
        let Token(key) = event.token();
        let entry = self.entries.get_mut(key)?;
        let gone = event.is_error() || event.is_read_closed() || event.is_write_closed();
        let listens = match entry.tls {
            _ if gone => false,
            _ if !event.is_readable() => true,
            None => discard_input(&mut entry.socket),
            Some(place) => self.sessions.discard_input(place, &entry.socket),
        };
        if !listens {
            self.close(key, EndReason::Left);
            return None;
        }
        if !event.is_writable() || !entry.blocked {
            return None;
        }
        entry.blocked = false;
        Some((key, entry.generation))
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
            let Some(entry) = self.entries.get_mut(ticket.0) else {
                continue;
            };
            if entry.side.ends_at.is_some_and(|end| now.at >= end) {
                self.close(ticket.0, EndReason::Duration);
                continue;
            }
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
