//! Newcomers: a socket becomes an entry, and has its burst in the same round.

use std::sync::Arc;

use mio::{Interest, Token};

use super::super::Listener;
use super::super::detour;
use super::super::entry::{Entry, NEXT_EDGE, Phase, Side};
use super::super::socket;
use super::super::tls::Place;
use super::{Moment, Newcomer, Shard, millis};
use crate::engine::detours::Signpost;
use crate::engine::ring::Burst;
use crate::telemetry::panics::drill;
use crate::telemetry::{EndReason, log_limit};

impl Shard {
    /// Takes a listener in; what it gets at once is sent by [`Self::greet`].
    pub(super) fn attach(
        &mut self,
        mut listener: Listener,
        home: Arc<Signpost>,
        weight: u64,
        burst: Burst,
        now: Moment,
    ) -> Option<Newcomer> {
        drill("shard");
        if let Err(error) = socket::prepare(&listener.socket) {
            log_limit::unusable(&error);
            self.gauge.remove(weight);
            return None;
        }
        let (accepted, ends_at) = (listener.accepted, listener.ends_at);
        let tls = listener
            .tls
            .take()
            .map(|session| self.sessions.add(session));
        self.came = now.millis;
        self.generation = self.generation.wrapping_add(1);
        let mut entry = self.entry_of(listener, tls, home, burst, weight, now);
        // The signpost may have turned while it was on its way here.
        detour::look_up(&mut entry);
        let key = self.entries.insert(entry);
        let ticket = (key, self.generation);
        let interest = Interest::READABLE | Interest::WRITABLE;
        let entry = self.entries.get_mut(key)?;
        let registry = self.poll.registry();
        if let Err(error) = registry.register(&mut entry.socket, Token(key), interest) {
            log_limit::unusable(&error);
            self.close(key, EndReason::Left);
            return None;
        }
        if let Some(end) = ends_at {
            let left = end.saturating_duration_since(now.at);
            // Both parts were cut to whole milliseconds; looked at early it would be forgotten.
            let over = now.millis.saturating_add(millis(left) + 2);
            self.deadlines.put(ticket, over);
        }
        Some((ticket, accepted))
    }

    fn entry_of(
        &self,
        listener: Listener,
        tls: Option<Place>,
        home: Arc<Signpost>,
        burst: Burst,
        weight: u64,
        now: Moment,
    ) -> Entry {
        let ring = listener.mount.ring();
        let (offset, ahead) = ring.burst_start(burst);
        Entry {
            socket: mio::net::TcpStream::from_std(listener.socket),
            generation: self.generation,
            ring,
            offset,
            title_seen: 0,
            metaint: listener.metaint,
            until_meta: listener.metaint,
            prefix_sent: 0,
            meta_sent: 0,
            phase: Phase::Head,
            blocked: false,
            watched: false,
            leaving: false,
            lead: u32::try_from(ahead.as_millis()).unwrap_or(u32::MAX),
            progress: now.millis,
            tls,
            record: Arc::clone(listener.session.record()),
            side: Box::new(Side {
                head: listener.head,
                mount: listener.mount,
                home,
                leave_at: NEXT_EDGE,
                session: listener.session,
                ends_at: listener.ends_at,
                weight,
                jumped: 0,
                half_closed: None,
            }),
        }
    }

    /// The first send of each newcomer, now and not at its first turn.
    pub(super) fn greet(&mut self, fresh: &mut Vec<Newcomer>, now: Moment) {
        if fresh.is_empty() {
            return;
        }
        let mut tickets = std::mem::take(&mut self.visited);
        tickets.extend(fresh.iter().map(|(ticket, _)| *ticket));
        self.serve(&mut tickets, now);
        self.visited = tickets;
        for (ticket, accepted) in fresh.drain(..) {
            if self.holds(ticket) {
                metrics::histogram!("relayctl_first_byte_seconds").record(accepted.elapsed());
            }
        }
    }
}
