//! The rings as they are in this tick: read once for all listeners of a ring, and held until the tick is over.
//!
//! A view's chain keeps every segment alive that a send of this tick reads, whatever the writer does meanwhile.

use std::collections::HashMap;
use std::sync::Arc;

use super::entry::Entry;
use super::pace::Pace;
use crate::engine::mount::Mount;
use crate::engine::ring::{Chain, Ring, Standing};

/// One ring in one tick.
pub(super) struct View {
    ring: Arc<Ring>,
    mount: Arc<Mount>,
    chain: Arc<Chain>,
    /// Bits a second, 0 where unknown.
    bitrate: u64,
    /// Bytes that sockets took in this tick, told to the mount at its end.
    sent: u64,
    /// Sends that took them.
    sends: u64,
}

impl View {
    fn of(entry: &Entry) -> Self {
        Self {
            ring: Arc::clone(&entry.ring),
            mount: Arc::clone(&entry.side.mount),
            chain: entry.ring.pinned(),
            bitrate: entry.side.mount.bitrate(),
            sent: 0,
            sends: 0,
        }
    }

    /// The bytes.
    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// How a listener at `offset` stands in this tick.
    pub fn standing(&self, offset: u64) -> Standing {
        self.chain.standing(offset)
    }

    /// Counts bytes that a socket took in one send.
    pub fn sent(&mut self, bytes: u64) {
        self.sent += bytes;
        self.sends += 1;
    }

    /// The slots until the next turn of `entry`.
    pub fn turn(&self, entry: &Entry, pace: &Pace) -> u32 {
        pace.turn(self.bitrate, entry.lead)
    }
}

/// The views of this tick.
#[derive(Default)]
pub(super) struct Views {
    all: Vec<View>,
    /// Where the view of a ring stands, by the ring's address, which its view keeps from being reused.
    places: HashMap<usize, usize>,
    last: usize,
}

impl Views {
    /// The place of the view of the ring that `entry` reads; made where there is none yet.
    pub fn place_of(&mut self, entry: &Entry) -> usize {
        let same = |view: &View| Arc::ptr_eq(&view.ring, &entry.ring);
        if self.all.get(self.last).is_some_and(same) {
            return self.last;
        }
        let address = Arc::as_ptr(&entry.ring) as usize;
        let all = &mut self.all;
        self.last = *self.places.entry(address).or_insert_with(|| {
            all.push(View::of(entry));
            all.len() - 1
        });
        self.last
    }

    /// The place of a newer view of the same ring. The older one stays: sends were laid out by it.
    pub fn renew(&mut self, entry: &Entry) -> usize {
        self.all.push(View::of(entry));
        self.last = self.all.len() - 1;
        let address = Arc::as_ptr(&entry.ring) as usize;
        self.places.insert(address, self.last);
        self.last
    }

    /// A view.
    pub fn get(&self, place: usize) -> Option<&View> {
        self.all.get(place)
    }

    /// The same to be changed.
    pub fn get_mut(&mut self, place: usize) -> Option<&mut View> {
        self.all.get_mut(place)
    }

    /// The tick is over: counts are told, rings are let go.
    pub fn end(&mut self) {
        for view in self.all.drain(..) {
            if view.sent > 0 {
                view.mount.counters.add_sent(view.sent);
                view.mount.counters.add_sends(view.sends);
            }
        }
        self.places.clear();
        self.last = 0;
    }
}
