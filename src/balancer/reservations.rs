//! Redirects in flight: each counts as a listener of its relay until the relay says that it came, or it is
//! too late.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use slab::Slab;

use super::hash::Table;
use super::lately::Lately;
use crate::base::ids::NodeId;

/// A listener that has not come by then does not come.
pub const TTL: Duration = Duration::from_secs(10);

/// Players ask twice, once to look and once to play; within this the second is the first. A third is somebody else:
/// behind one address and one agent there may be a crowd, and each of its members but one takes a place.
pub const AGAIN: Duration = Duration::from_secs(2);

/// A node that confirms nothing has counted a listener in a report that is this much younger.
pub const SETTLED: Duration = Duration::from_secs(1);

/// Most reservations at once; the oldest is given up first.
pub const MAX_OPEN: usize = 100_000;

/// How much of the no-show rate is its newest event.
const NO_SHOW_SHARE: f64 = 0.1;

/// One redirect in flight.
#[derive(Debug, Clone)]
pub struct Reservation {
    /// Where the tally of the node stands that it leads to.
    pub(super) tally: usize,
    /// When it was made.
    pub issued: Instant,
    /// Unix seconds, as in its token.
    pub expires: u32,
    /// Hops, as in its token.
    pub hops: u8,
    /// Who asked for which mount, hashed.
    pub client: u64,
    /// Who asked, hashed.
    pub listener: u64,
    /// The address block of who asked, hashed; none for one that is not counted.
    pub block: Option<u64>,
    /// Bits a second that it will take.
    pub bits: u64,
    /// The node confirms by token; else its reports tell by their age.
    pub confirms: bool,
}

/// What is in flight to one node, and how often nobody came.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Tally {
    /// Reservations.
    pub reserved: u64,
    /// Bits a second that they will take.
    pub bits: u64,
    /// Moving share of reservations that nobody came for, 0 to 1.
    pub no_show: f64,
    /// Reservations that ended one way or the other.
    pub ended: u64,
}

impl Tally {
    fn ended(&mut self, came: bool) {
        let event = if came { 0.0 } else { 1.0 };
        self.no_show += (event - self.no_show) * NO_SHOW_SHARE;
        self.ended = self.ended.saturating_add(1);
    }
}

/// All of them.
#[derive(Debug)]
pub struct Reservations {
    /// In the order of their sequences, which have no gaps: a place is empty where one was closed, the first one
    /// never. The tally of each stays as long as it does.
    line: VecDeque<Option<Reservation>>,
    /// Sequence of the first in the line.
    first: u64,
    open: usize,
    /// What each client reserved last.
    again: Lately,
    /// Clients that were taken for one that comes again, and when; those of the last [`AGAIN`].
    found: Table<u64, Instant>,
    /// Reservations of each address block.
    blocks: Table<u64, u32>,
    places: Table<NodeId, usize>,
    tallies: Slab<(NodeId, Tally)>,
    closed: u64,
}

/// Places in the line, those of closed reservations among them.
const MAX_LINE: usize = 4 * MAX_OPEN;

impl Reservations {
    /// `incarnation` is the unix milliseconds of the process' start: sequences of two processes differ.
    pub fn new(incarnation: u64) -> Self {
        Self {
            line: VecDeque::new(),
            first: (incarnation << 20) | 1,
            open: 0,
            again: Lately::default(),
            found: Table::default(),
            blocks: Table::default(),
            places: Table::default(),
            tallies: Slab::new(),
            closed: 0,
        }
    }

    /// How many have ended.
    pub(super) fn closed(&self) -> u64 {
        self.closed
    }

    /// In flight to `node`.
    pub fn tally(&self, node: &NodeId) -> Tally {
        let place = self.places.get(node);
        place.map_or_else(Tally::default, |place| self.tally_at(*place))
    }

    /// Where a node's tally stands, until the node is dropped.
    pub(super) fn place(&mut self, node: &NodeId) -> usize {
        if let Some(place) = self.places.get(node) {
            return *place;
        }
        let place = self.tallies.insert((node.clone(), Tally::default()));
        self.places.insert(node.clone(), place);
        place
    }

    /// In flight to the node whose tally stands there.
    pub(super) fn tally_at(&self, place: usize) -> Tally {
        let known = self.tallies.get(place);
        known.map_or_else(Tally::default, |(_, tally)| *tally)
    }

    /// How many are in flight.
    pub fn len(&self) -> usize {
        self.open
    }

    /// How many of that address block are in flight.
    pub fn held_by(&self, block: u64) -> u64 {
        self.blocks.get(&block).copied().map_or(0, u64::from)
    }

    /// True if none is.
    pub fn is_empty(&self) -> bool {
        self.open == 0
    }

    /// Makes one; its sequence goes into the token.
    pub fn reserve(&mut self, reservation: Reservation) -> u64 {
        if self.open >= MAX_OPEN || self.line.len() >= MAX_LINE {
            self.give_up_oldest();
        }
        let sequence = self.next_sequence();
        if let Some((_, tally)) = self.tallies.get_mut(reservation.tally) {
            tally.reserved = tally.reserved.saturating_add(1);
            tally.bits = tally.bits.saturating_add(reservation.bits);
        }
        if let Some(block) = reservation.block {
            let held = self.blocks.entry(block).or_default();
            *held = held.saturating_add(1);
        }
        if !self.was_found(reservation.client, reservation.issued) {
            self.again.put(reservation.client, sequence);
        }
        self.line.push_back(Some(reservation));
        self.open = self.open.saturating_add(1);
        sequence
    }

    /// The reservation that this client made a moment ago, and the node that it leads to. It is found once, and no
    /// other one of the same client for as long.
    pub fn find_again(&mut self, client: u64, now: Instant) -> Option<(u64, NodeId, Reservation)> {
        let newest = self.next_sequence().wrapping_sub(1);
        let sequence = self.again.take(client, newest)?;
        let found = self.get(sequence).filter(|one| one.client == client)?;
        let young = now.saturating_duration_since(found.issued) < AGAIN;
        if !young {
            return None;
        }
        let (node, _) = self.tallies.get(found.tally)?;
        let found = (sequence, node.clone(), found.clone());
        // Only makers of reservations get in here: no more than those of two seconds.
        self.found.insert(client, now);
        Some(found)
    }

    fn was_found(&self, client: u64, now: Instant) -> bool {
        let at = self.found.get(&client);
        at.is_some_and(|at| now.saturating_duration_since(*at) < AGAIN)
    }

    /// `node` says that these came. Those of other nodes it has no say in. Returns who asked.
    pub fn confirm(&mut self, node: &NodeId, sequences: &[u64]) -> Vec<u64> {
        let mut listeners = Vec::new();
        let Some(place) = self.places.get(node).copied() else {
            return listeners;
        };
        for sequence in sequences {
            let is_its_own = self.get(*sequence).is_some_and(|r| r.tally == place);
            if let Some(reservation) = is_its_own.then(|| self.close(*sequence)).flatten() {
                listeners.push(reservation.listener);
                self.ended(&reservation, true);
            }
        }
        listeners
    }

    /// `reported` gives the moment of a node's last report, for nodes that do not confirm: what is older
    /// than it by a second is in its counts.
    pub fn settle(&mut self, reported: impl Fn(&NodeId) -> Option<Instant>) {
        let all = self.tallies.iter();
        let reports: Table<usize, Instant> = all
            .filter_map(|(place, (node, _))| Some((place, reported(node)?)))
            .collect();
        let is_settled = |r: &Reservation| {
            let at = reports.get(&r.tally);
            !r.confirms && at.is_some_and(|at| at.checked_duration_since(r.issued) >= Some(SETTLED))
        };
        self.close_all(is_settled);
    }

    /// Gives up those nobody came for.
    pub fn expire(&mut self, now: Instant) {
        self.found
            .retain(|_, at| now.saturating_duration_since(*at) < AGAIN);
        let is_over = |r: &Reservation| now.saturating_duration_since(r.issued) >= TTL;
        while self
            .line
            .front()
            .and_then(Option::as_ref)
            .is_some_and(is_over)
        {
            self.give_up_oldest();
        }
    }

    /// The node is dead: nobody arrives there any more.
    pub fn drop_node(&mut self, node: &NodeId) {
        if let Some(place) = self.places.remove(node) {
            self.close_all(|r| r.tally == place);
            self.tallies.try_remove(place);
        }
    }

    fn next_sequence(&self) -> u64 {
        self.first.wrapping_add(self.line.len() as u64)
    }

    fn get(&self, sequence: u64) -> Option<&Reservation> {
        self.line.get(self.place_in_line(sequence)?)?.as_ref()
    }

    fn place_in_line(&self, sequence: u64) -> Option<usize> {
        usize::try_from(sequence.checked_sub(self.first)?).ok()
    }

    fn close_all(&mut self, wanted: impl Fn(&Reservation) -> bool) {
        let places = (self.first..).zip(&self.line);
        let ours = places.filter(|(_, place)| place.as_ref().is_some_and(&wanted));
        let ours: Vec<u64> = ours.map(|(sequence, _)| sequence).collect();
        for sequence in ours {
            self.close(sequence);
        }
    }

    fn give_up_oldest(&mut self) {
        let closed = self.close(self.first);
        if let Some(reservation) = closed.filter(|reservation| reservation.confirms) {
            self.ended(&reservation, false);
        }
    }

    fn ended(&mut self, reservation: &Reservation, came: bool) {
        if let Some((_, tally)) = self.tallies.get_mut(reservation.tally) {
            tally.ended(came);
        }
    }

    fn leave_block(&mut self, block: u64) {
        if let Some(held) = self.blocks.get_mut(&block) {
            *held = held.saturating_sub(1);
            if *held == 0 {
                self.blocks.remove(&block);
            }
        }
    }

    fn close(&mut self, sequence: u64) -> Option<Reservation> {
        let place = self.place_in_line(sequence)?;
        let reservation = self.line.get_mut(place)?.take()?;
        self.open = self.open.saturating_sub(1);
        self.closed = self.closed.wrapping_add(1);
        while let Some(None) = self.line.front() {
            self.line.pop_front();
            self.first = self.first.wrapping_add(1);
        }
        if let Some(block) = reservation.block {
            self.leave_block(block);
        }
        if let Some((_, tally)) = self.tallies.get_mut(reservation.tally) {
            tally.reserved = tally.reserved.saturating_sub(1);
            tally.bits = tally.bits.saturating_sub(reservation.bits);
        }
        Some(reservation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(all: &mut Reservations, node: &str, client: u64, issued: Instant) -> Reservation {
        Reservation {
            tally: all.place(&node.parse().unwrap()),
            issued,
            expires: 0,
            hops: 1,
            client,
            listener: client,
            block: Some(client % 2),
            bits: 128_000,
            confirms: true,
        }
    }

    fn reserve(all: &mut Reservations, node: &str, client: u64, issued: Instant) -> u64 {
        let one = to(all, node, client, issued);
        all.reserve(one)
    }

    fn reserved(all: &Reservations, node: &str) -> u64 {
        all.tally(&node.parse().unwrap()).reserved
    }

    #[test]
    fn they_count_until_confirmed_by_their_own_relay() {
        let now = Instant::now();
        let mut all = Reservations::new(1_000);
        let first = reserve(&mut all, "a", 1, now);
        let second = reserve(&mut all, "a", 2, now);
        assert_eq!((reserved(&all, "a"), second - first), (2, 1));
        let stranger: NodeId = "b".parse().unwrap();
        assert!(all.confirm(&stranger, &[first, second]).is_empty());
        let own: NodeId = "a".parse().unwrap();
        assert_eq!(all.confirm(&own, &[first, first, 99]), [1]);
        assert_eq!(reserved(&all, "a"), 1);
        assert_eq!((all.held_by(1), all.held_by(0)), (0, 1));
        assert_eq!(all.blocks.len(), 1);
        assert_eq!(all.tally(&own).bits, 128_000);
    }

    #[test]
    fn they_expire_and_no_shows_are_told() {
        let now = Instant::now();
        let mut all = Reservations::new(1_000);
        for client in 0..20 {
            reserve(&mut all, "a", client, now);
        }
        all.expire(now + Duration::from_millis(9_999));
        assert_eq!(reserved(&all, "a"), 20);
        all.expire(now + TTL);
        let tally = all.tally(&"a".parse().unwrap());
        assert_eq!((tally.reserved, tally.bits, tally.ended), (0, 0, 20));
        assert!(tally.no_show > 0.8, "{tally:?}");
        assert!(all.line.is_empty());
    }

    #[test]
    fn found_again_once_and_not_for_long() {
        let now = Instant::now();
        let mut all = Reservations::new(1_000);
        let first = reserve(&mut all, "a", 7, now);
        let soon = now + Duration::from_millis(1_900);
        assert_eq!(all.find_again(7, soon).map(|(s, ..)| s), Some(first));
        assert!(all.find_again(7, soon).is_none());
        reserve(&mut all, "a", 8, now);
        assert!(all.find_again(8, now + AGAIN).is_none());
        let third = reserve(&mut all, "a", 9, now);
        all.confirm(&"a".parse().unwrap(), &[third]);
        assert!(all.find_again(9, now).is_none());
    }

    /// A hundred behind one address, with one agent: one of them in two seconds is taken for a player that looks
    /// before it plays.
    #[test]
    fn a_crowd_is_no_player_that_comes_again() {
        let start = Instant::now();
        let mut all = Reservations::new(1_000);
        let mut found = Vec::new();
        for n in 0..100_u64 {
            let now = start + Duration::from_millis(n * 50);
            match all.find_again(7, now) {
                Some(_) => found.push(n),
                None => {
                    let sequence = reserve(&mut all, "a", 7, now);
                    // Half of them are confirmed at once: that makes no difference.
                    if n % 2 == 0 && n > 0 {
                        all.confirm(&"a".parse().unwrap(), &[sequence]);
                    }
                }
            }
            all.expire(now);
        }
        assert!((2..=3).contains(&found.len()), "{found:?}");
        assert!(
            found.windows(2).all(|pair| pair[1] - pair[0] >= 40),
            "{found:?}"
        );
        all.expire(start + Duration::from_secs(60));
        assert!(all.found.is_empty());
    }

    #[test]
    fn a_node_that_confirms_nothing_settles_by_age() {
        let now = Instant::now();
        let mut all = Reservations::new(1_000);
        for (client, after) in [(1, 0), (2, 500)] {
            let issued = now + Duration::from_millis(after);
            let one = to(&mut all, "a", client, issued);
            all.reserve(Reservation {
                confirms: false,
                ..one
            });
        }
        let node: NodeId = "a".parse().unwrap();
        all.settle(|_| Some(now + Duration::from_millis(999)));
        assert_eq!(reserved(&all, "a"), 2);
        all.settle(|_| Some(now + Duration::from_millis(1_000)));
        all.settle(|_| None);
        assert_eq!(reserved(&all, "a"), 1);
        all.expire(now + Duration::from_secs(60));
        assert_eq!(all.tally(&node), Tally::default(), "no no-show");
    }

    #[test]
    fn the_table_is_bounded() {
        let now = Instant::now();
        let mut all = Reservations::new(1_000);
        for client in 0..MAX_OPEN as u64 + 5 {
            reserve(&mut all, "a", client, now);
        }
        assert_eq!((all.len(), all.line.len()), (MAX_OPEN, MAX_OPEN));
        assert_eq!(reserved(&all, "a"), MAX_OPEN as u64);
        all.drop_node(&"a".parse().unwrap());
        assert!(all.is_empty() && all.line.is_empty());
        // The line is bounded too, where the oldest of all stays and those behind it come and go.
        let stays = reserve(&mut all, "a", 1, now);
        let own: NodeId = "b".parse().unwrap();
        for client in 0..MAX_LINE as u64 + 5 {
            let sequence = reserve(&mut all, "b", client, now);
            all.confirm(&own, &[sequence]);
        }
        assert!(all.line.len() <= MAX_LINE && all.get(stays).is_none());
    }
}
