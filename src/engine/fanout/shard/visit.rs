//! A listener's turn: lay out what it has not had, send it, draw the conclusions, give it its next turn.

use super::super::backend::Sources;
use super::super::batch::{Job, Sent};
use super::super::cursor::settle;
use super::super::pace::next_slot;
use super::super::wheel::Ticket;
use super::{Moment, Shard};
use crate::telemetry::EndReason;

/// Sends for one listener in one visit, when each was taken whole.
const SENDS_A_VISIT: usize = 4;

/// Those who are due are served in handfuls while others come. A slot of a full shard takes some milliseconds, and a newcomer
/// would wait for the end of it: the thread that accepts for the core, which many kernels give nobody else during a system
/// call, and then the listener for its burst. Measured at 200 joins a second: one in fifty waits 2.1 ms in one go, 0.5 in these.
pub(super) const HANDFUL: usize = 16;

/// Nobody came for so many milliseconds: all who are due go in one call again, which costs 1 to 3 % less.
const CALM: u64 = 1_000;

/// What comes after a send.
enum Next {
    /// Its next turn.
    Turn,
    /// More waits: send again now.
    Again,
    /// The socket is full.
    Blocked,
    /// It goes.
    Close(EndReason),
}

impl Shard {
    /// Serves those whose turn it is, until somebody wants in.
    pub(super) fn visit_due(&mut self, now: Moment) {
        self.wheel.take_due(now.at, &mut self.due);
        let mut visited = std::mem::take(&mut self.visited);
        while !self.due.is_empty() {
            let handful = self.at_once(self.due.len(), now);
            visited.extend(self.due.drain(..handful));
            self.serve(&mut visited, now);
            if self.gauge.is_woken() {
                break;
            }
        }
        self.visited = visited;
    }

    /// How many of so many are served without a look around.
    fn at_once(&self, most: usize, now: Moment) -> usize {
        if now.millis.saturating_sub(self.came) < CALM {
            most.min(HANDFUL)
        } else {
            most
        }
    }

    /// Serves `tickets`, none of which is in the wheel or still due, and puts those that stay and are not blocked back.
    pub(super) fn serve(&mut self, tickets: &mut Vec<Ticket>, now: Moment) {
        let mut again = std::mem::take(&mut self.again);
        let batch = self.at_once(self.backend.batch(), now);
        for _ in 0..SENDS_A_VISIT {
            if tickets.is_empty() {
                break;
            }
            for ticket in tickets.drain(..) {
                self.lay_out(ticket, now, &mut again);
                if self.batch.jobs.len() >= batch {
                    self.flush(now, &mut again);
                }
            }
            self.flush(now, &mut again);
            std::mem::swap(tickets, &mut again);
        }
        // Who took all that and still has more waiting leaves the others a slot.
        for ticket in tickets.drain(..) {
            self.wheel.put(ticket, now.slot + 1);
        }
        self.again = again;
    }

    /// Adds a job for a listener, or gives it its next turn where nothing waits for it.
    fn lay_out(&mut self, ticket: Ticket, now: Moment, again: &mut Vec<Ticket>) {
        let (key, generation) = ticket;
        let Some(entry) = self.entries.get_mut(key) else {
            return;
        };
        if entry.generation != generation || entry.blocked {
            return;
        }
        if entry.tls.is_some() && !self.flush_sealed(ticket, now) {
            return;
        }
        let Some(entry) = self.entries.get_mut(key) else {
            return;
        };
        let place = match settle(entry, &mut self.views, now.millis) {
            Ok(place) => place,
            Err(reason) => return self.close(key, reason),
        };
        let Some(view) = self.views.get(place) else {
            return;
        };
        let mut job = self.batch.draft();
        job.plan.lay_out(entry, view.chain());
        (job.key, job.view) = (key, place);
        if job.plan.total() > 0 {
            if entry.tls.is_some() {
                return self.send_sealed(job, now, again);
            }
            self.batch.jobs.push(job);
            return;
        }
        entry.progress = now.millis;
        let slot = next_slot(key, now.slot, view.turn(entry, &self.pace));
        self.wheel.put(ticket, slot);
        self.batch.recycle(job);
    }

    /// Sends what was laid out.
    fn flush(&mut self, now: Moment, again: &mut Vec<Ticket>) {
        if self.batch.jobs.is_empty() {
            return;
        }
        let sources = Sources {
            entries: &self.entries,
            views: &self.views,
        };
        if !self.backend.send(&sources, &mut self.batch.jobs) {
            self.gauge.set_kind(self.backend.kind());
        }
        let mut jobs = std::mem::take(&mut self.batch.jobs);
        for job in jobs.drain(..) {
            self.conclude(&job, now, again);
            self.batch.recycle(job);
        }
        self.batch.jobs = jobs;
    }

    pub(super) fn conclude(&mut self, job: &Job, now: Moment, again: &mut Vec<Ticket>) {
        let next = self.account(job, now);
        let Some(entry) = self.entries.get_mut(job.key) else {
            return;
        };
        let ticket = (job.key, entry.generation);
        match next {
            Next::Close(reason) => self.close(job.key, reason),
            Next::Again => again.push(ticket),
            Next::Blocked => {
                entry.blocked = true;
                self.watch(ticket);
            }
            Next::Turn => {
                let turn = self
                    .views
                    .get(job.view)
                    .map_or(1, |view| view.turn(entry, &self.pace));
                self.wheel.put(ticket, next_slot(job.key, now.slot, turn));
            }
        }
    }

    /// Moves the cursor and counts.
    fn account(&mut self, job: &Job, now: Moment) -> Next {
        let (taken, full) = match job.result {
            Sent::Took(taken) => (taken, taken < job.plan.total()),
            Sent::TookAndFull(taken) => (taken, true),
            Sent::Full => return Next::Blocked,
            Sent::Again => return Next::Again,
            Sent::Gone => return Next::Close(EndReason::Left),
        };
        let Some(entry) = self.entries.get_mut(job.key) else {
            return Next::Close(EndReason::Left);
        };
        entry.record.add_sent(taken as u64);
        entry.progress = now.millis;
        job.plan.advance(entry, taken);
        if let Some(view) = self.views.get_mut(job.view) {
            view.sent(taken as u64);
        }
        if full {
            Next::Blocked
        } else if job.plan.is_cut() {
            Next::Again
        } else {
            Next::Turn
        }
    }
}
