//! A round: first everybody is heard, then everybody is answered, then the answers leave.
//!
//! Hearing and sending are the system's work, deciding is ours, and neither fits the processor's nearest cache together
//! with the other: taken in turns for each request, each is fetched again for each. And the one who asked is woken by
//! the first answer and still awake when the next ones come; with a decision between two answers it would be woken for
//! each, and the sender pays for that.

use std::io::{self, ErrorKind, Read};
use std::time::Instant;

use super::guest::{Guest, Waits};
use super::reply::Next;
use super::{Front, READ};

/// Those who are heard together at most: the first of them waits for the decisions of all.
const MOST_AT_ONCE: usize = 64;

/// What all of them say together, at most; players say a few hundred bytes.
const ROOM: usize = 64 * 1024;

/// Who was heard and not answered yet.
#[derive(Default)]
pub(super) struct Inbox {
    /// Each guest, and where what it said ends in `bytes`.
    guests: Vec<(Guest, usize)>,
    bytes: Box<[u8]>,
    used: usize,
}

impl Inbox {
    pub fn new() -> Self {
        Self {
            guests: Vec::with_capacity(MOST_AT_ONCE),
            bytes: vec![0; ROOM].into_boxed_slice(),
            used: 0,
        }
    }

    /// Reads once. Gives the guest back where it has nothing to say yet, and drops it where it never will.
    fn hear(&mut self, mut guest: Guest, now: Instant) -> Option<Guest> {
        let end = self.bytes.len().min(self.used + READ);
        let room = self.bytes.get_mut(self.used..end).unwrap_or_default();
        match read(&mut guest, room) {
            // Nothing, or no more than a check's connect and close, which may be a reset.
            Ok(0) => None,
            Ok(count) => {
                if guest.waits == Waits::Next {
                    guest.since = now;
                }
                self.used += count;
                self.guests.push((guest, self.used));
                None
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock && !guest.hung_up => Some(guest),
            Err(_) => None,
        }
    }

    /// So many were heard that they should be answered now.
    fn is_full(&self) -> bool {
        self.guests.len() >= MOST_AT_ONCE || self.used + READ > self.bytes.len()
    }
}

fn read(guest: &mut Guest, room: &mut [u8]) -> io::Result<usize> {
    loop {
        match guest.stream.read(room) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// Answers that have not left yet.
#[derive(Default)]
pub(super) struct Outbox {
    /// Each guest, where its answer ends in `bytes`, and whether the connection is kept.
    guests: Vec<(Guest, usize, bool)>,
    bytes: Vec<u8>,
}

impl Outbox {
    pub fn put(&mut self, guest: Guest, answer: &[u8], keep: bool) {
        self.bytes.extend_from_slice(answer);
        self.guests.push((guest, self.bytes.len(), keep));
    }

    /// How many wait for their answer to leave.
    pub fn len(&self) -> usize {
        self.guests.len()
    }
}

impl Front {
    /// Hears one; who has not asked anything yet waits on.
    pub(super) fn hear(&mut self, guest: Guest, now: Instant) {
        if let Some(silent) = self.inbox.hear(guest, now) {
            self.seat(silent);
        }
        if self.inbox.is_full() {
            self.answer_all(now);
        }
    }

    /// Does what those ask who were heard.
    pub(super) fn answer_all(&mut self, now: Instant) {
        let mut inbox = std::mem::take(&mut self.inbox);
        let mut begin = 0;
        for (guest, end) in inbox.guests.drain(..) {
            let heard = inbox.bytes.get(begin..end).unwrap_or_default();
            begin = end;
            if let Some(guest) = self.reply(guest, heard, now) {
                self.seat(guest);
            }
        }
        inbox.used = 0;
        self.inbox = inbox;
        self.send_out(now);
    }

    /// Sends what was answered.
    fn send_out(&mut self, now: Instant) {
        let mut outbox = std::mem::take(&mut self.outbox);
        let mut begin = 0;
        for (guest, end, keep) in outbox.guests.drain(..) {
            let bytes = outbox.bytes.get(begin..end).unwrap_or_default();
            begin = end;
            if let Next::Keep(mut guest) = self.send(guest, bytes, keep, !keep) {
                guest.waits = Waits::Next;
                guest.since = now;
                self.seat(guest);
            }
        }
        outbox.bytes.clear();
        self.outbox = outbox;
    }
}
