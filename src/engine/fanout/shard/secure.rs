//! What differs for a listener that speaks TLS: its sends go through its session, whatever the backend.

use std::io::IoSlice;

use super::super::batch::{Job, Sent};
use super::super::plan::MAX_SLICES;
use super::super::tls::Flow;
use super::super::wheel::Ticket;
use super::{Moment, Shard};
use crate::telemetry::EndReason;

impl Shard {
    /// Writes what was sealed before; true where all of it is gone and more may be laid out.
    pub(super) fn flush_sealed(&mut self, ticket: Ticket, now: Moment) -> bool {
        let Some(entry) = self.entries.get_mut(ticket.0) else {
            return false;
        };
        let Some(place) = entry.tls else {
            return true;
        };
        match self.sessions.flush(place, &entry.socket) {
            Flow::Clear => true,
            Flow::Full { moved } => {
                entry.blocked = true;
                if moved {
                    entry.progress = now.millis;
                }
                self.watch(ticket);
                false
            }
            Flow::Gone => {
                self.close(ticket.0, EndReason::Left);
                false
            }
        }
    }

    /// Seals and sends what was laid out.
    pub(super) fn send_sealed(&mut self, mut job: Job, now: Moment, again: &mut Vec<Ticket>) {
        let entry = self.entries.get(job.key);
        let view = self.views.get(job.view);
        if let (Some(entry), Some(view)) = (entry, view)
            && let Some(place) = entry.tls
        {
            let mut slices = [IoSlice::new(&[]); MAX_SLICES + 2];
            let count = job.plan.slices(view.chain(), &mut slices);
            let slices = slices.get_mut(..count).unwrap_or(&mut []);
            job.result = match self.sessions.send(place, &entry.socket, slices) {
                (taken, Flow::Clear) => Sent::Took(taken),
                (0, Flow::Full { .. }) => Sent::Full,
                (taken, Flow::Full { .. }) => Sent::TookAndFull(taken),
                (_, Flow::Gone) => Sent::Gone,
            };
        }
        self.conclude(&job, now, again);
        self.batch.recycle(job);
    }
}
