//! The rules of the gate, pure: which connections count to whom, and which one goes when there are too many.
//!
//! A connection is a *stranger* until a credential of its own was accepted. Strangers are bounded all together and,
//! once they are counted to it, by client address (`base::address::block_of`). Idle ones go before busy ones, the
//! oldest first. Listeners that wait in line for a place are bounded by a number of their own and count to no address,
//! since a storm of honest players behind one address stands there. Connections with a credential are bounded by that
//! credential and never give way to strangers.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use crate::base::address::block_of;

/// Strangers of one address that are counted to it.
pub const MAX_PER_ADDRESS: usize = 64;

/// Connections that one credential may hold at once: feeds, streams and beats of a node, or an operator's tools.
pub const MAX_PER_CREDENTIAL: usize = 1024;

/// Bytes of unfinished bodies that may be held at once.
pub const MAX_PENDING_BYTES: usize = 32 * 1024 * 1024;

/// Strangers that keep their descriptors when there are none left.
pub const KEPT: usize = 16;

/// Phase of a connection; the label `state` of `relayctl_connections`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The request's head is not whole yet.
    Head,
    /// A TLS handshake.
    Tls,
    /// A body is awaited or read.
    Body,
    /// An answer is made or written.
    Answer,
    /// An answer without an end is written: events, a feed, a stream between nodes.
    Stream,
    /// A listener waits in line for a place.
    Waiting,
    /// Kept alive, with no request of its own.
    Idle,
    /// Answered for good; what the client still sends is read for a moment.
    Closing,
}

impl State {
    /// All states, in the order of their numbers.
    pub const ALL: [Self; 8] = [
        Self::Head,
        Self::Tls,
        Self::Body,
        Self::Answer,
        Self::Stream,
        Self::Waiting,
        Self::Idle,
        Self::Closing,
    ];

    /// The label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Head => "head",
            Self::Tls => "tls",
            Self::Body => "body",
            Self::Answer => "answer",
            Self::Stream => "stream",
            Self::Waiting => "waiting",
            Self::Idle => "idle",
            Self::Closing => "closing",
        }
    }

    fn is_busy(self) -> bool {
        !matches!(self, Self::Idle | Self::Closing)
    }

    /// Reasons in `relayctl_refusals_total` for a connection in this state that gives way: among all, and among
    /// those of its address.
    fn reasons(self) -> (&'static str, &'static str) {
        match self {
            Self::Head | Self::Tls => ("heads", "heads_per_address"),
            _ => ("connections", "connections_per_address"),
        }
    }
}

/// Account that a connection counts to besides the total.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Owner {
    Nobody,
    /// A block of addresses.
    Address(IpAddr),
    /// A hash of a credential that was accepted.
    Credential(u64),
}

/// Place in the order of eviction: idle before busy, then by age.
type Rank = (bool, u64);

struct Row<T> {
    state: State,
    owner: Owner,
    /// The address that it will count to, or counts to.
    client: Option<IpAddr>,
    /// The connection has lasted longer than the grace.
    past_grace: bool,
    rank: Rank,
    /// Unfinished body: its order among all, and the bytes that have come.
    body: Option<(u64, usize)>,
    handle: T,
}

/// A connection that has to go, and the reason that counts it.
#[derive(Debug, PartialEq, Eq)]
pub struct Evicted<T> {
    /// Handle that the table was given with the connection.
    pub handle: T,
    /// Value of the label `reason` that `relayctl_refusals_total` counts this eviction under.
    pub reason: &'static str,
}

/// All connections that have a place. `T` is how the caller reaches one.
pub struct Table<T> {
    next: u64,
    rows: HashMap<u64, Row<T>>,
    /// Strangers that wait for no place, by their rank.
    strangers: BTreeMap<Rank, u64>,
    waiting: BTreeMap<Rank, u64>,
    owners: HashMap<Owner, BTreeMap<Rank, u64>>,
    /// Unfinished bodies, oldest first.
    bodies: BTreeMap<u64, u64>,
    pending_bytes: usize,
    states: [usize; State::ALL.len()],
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self {
            next: 0,
            rows: HashMap::new(),
            strangers: BTreeMap::new(),
            waiting: BTreeMap::new(),
            owners: HashMap::new(),
            bodies: BTreeMap::new(),
            pending_bytes: 0,
            states: [0; State::ALL.len()],
        }
    }
}

impl<T: Clone> Table<T> {
    /// Takes a connection in; its number. `client` is the address that it counts to once it has outlasted its grace,
    /// or none where that is no client's own.
    pub fn enter(&mut self, state: State, client: Option<IpAddr>, handle: T) -> u64 {
        let number = self.fresh();
        let row = Row {
            state,
            owner: Owner::Nobody,
            client: client.map(block_of),
            past_grace: false,
            rank: (state.is_busy(), number),
            body: None,
            handle,
        };
        self.insert(number, row);
        number
    }

    /// The oldest goes where there are more strangers than `room`, or more in line than `line`.
    pub fn trim(&mut self, room: usize, line: usize) -> Option<Evicted<T>> {
        if self.waiting.len() > line {
            let number = *self.waiting.first_key_value()?.1;
            return self.evict(number, "waiting");
        }
        if self.strangers.len() > room {
            let number = *self.strangers.first_key_value()?.1;
            let reason = self.rows.get(&number)?.state.reasons().0;
            return self.evict(number, reason);
        }
        None
    }

    /// The stranger that goes first, for a caller that needs its descriptor. The youngest [`KEPT`] stay: whoever was let in
    /// a moment ago is about to be answered.
    pub fn evict_first(&mut self, reason: &'static str) -> Option<Evicted<T>> {
        if self.strangers.len() <= KEPT {
            return None;
        }
        let number = *self.strangers.first_key_value()?.1;
        self.evict(number, reason)
    }

    /// A connection is at something else now. One that has been idle is the youngest of the busy ones then, and the other
    /// way round; else it stays as old as it was, however many requests it sends in one piece.
    pub fn set_state(&mut self, number: u64, state: State) {
        if self.rows.get(&number).is_none_or(|row| row.state == state) {
            return;
        }
        let Some(mut row) = self.remove(number) else {
            return;
        };
        if row.state.is_busy() != state.is_busy() {
            row.rank = (state.is_busy(), self.fresh());
        }
        row.state = state;
        self.insert(number, row);
    }

    /// The client is another one than its socket says, or one that nobody tells.
    pub fn set_client(&mut self, number: u64, client: Option<IpAddr>) -> Option<Evicted<T>> {
        let client = client.map(block_of);
        if self.rows.get(&number)?.client == client {
            return None;
        }
        let mut row = self.remove(number)?;
        row.client = client;
        self.insert(number, row);
        self.trim_address(client)
    }

    /// A connection has outlasted its grace and counts to its address from now on.
    pub fn end_grace(&mut self, number: u64) -> Option<Evicted<T>> {
        let mut row = self.remove(number)?;
        row.past_grace = true;
        let client = row.client;
        self.insert(number, row);
        self.trim_address(client)
    }

    /// A credential was accepted; from now on the connection counts to that alone.
    pub fn vouch(&mut self, number: u64, credential: u64) -> Option<Evicted<T>> {
        let owner = Owner::Credential(credential);
        if self.rows.get(&number)?.owner == owner {
            return None;
        }
        let mut row = self.remove(number)?;
        row.owner = owner;
        self.insert(number, row);
        let own = self.owners.get(&owner)?;
        let first = *own.first_key_value()?.1;
        (own.len() > MAX_PER_CREDENTIAL).then(|| self.evict(first, "connections_per_credential"))?
    }

    /// More bytes of an unfinished body. Above [`MAX_PENDING_BYTES`] the oldest of such bodies is given up: its bytes
    /// count no more, and its connection may still be answered.
    pub fn add_bytes(&mut self, number: u64, bytes: usize) -> Option<Evicted<T>> {
        let fresh = self.fresh();
        let row = self.rows.get_mut(&number)?;
        let (began, before) = row.body.unwrap_or((fresh, 0));
        row.body = Some((began, before.saturating_add(bytes)));
        self.pending_bytes = self.pending_bytes.saturating_add(bytes);
        self.bodies.insert(began, number);
        if self.pending_bytes <= MAX_PENDING_BYTES {
            return None;
        }
        let oldest = *self.bodies.first_key_value()?.1;
        self.end_body(oldest);
        Some(Evicted {
            handle: self.rows.get(&oldest)?.handle.clone(),
            reason: "pending_bytes",
        })
    }

    /// A body is whole, or given up.
    pub fn end_body(&mut self, number: u64) {
        let body = self.rows.get_mut(&number).and_then(|row| row.body.take());
        if let Some((began, bytes)) = body {
            self.pending_bytes = self.pending_bytes.saturating_sub(bytes);
            self.bodies.remove(&began);
        }
    }

    /// Lets a connection go.
    pub fn leave(&mut self, number: u64) {
        self.end_body(number);
        self.remove(number);
    }

    /// Strangers that wait for no place.
    pub fn strangers(&self) -> usize {
        self.strangers.len()
    }

    /// Bytes of unfinished bodies.
    pub fn pending_bytes(&self) -> usize {
        self.pending_bytes
    }

    /// How many are in each state.
    pub fn states(&self) -> impl Iterator<Item = (State, usize)> {
        State::ALL.into_iter().zip(self.states)
    }

    fn fresh(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn trim_address(&mut self, client: Option<IpAddr>) -> Option<Evicted<T>> {
        let own = self.owners.get(&Owner::Address(client?))?;
        if own.len() <= MAX_PER_ADDRESS {
            return None;
        }
        let number = *own.first_key_value()?.1;
        let reason = self.rows.get(&number)?.state.reasons().1;
        self.evict(number, reason)
    }

    fn evict(&mut self, number: u64, reason: &'static str) -> Option<Evicted<T>> {
        self.end_body(number);
        let row = self.remove(number)?;
        Some(Evicted {
            handle: row.handle,
            reason,
        })
    }

    /// Into the row's indexes; its owner follows from what is known of it.
    fn insert(&mut self, number: u64, mut row: Row<T>) {
        let in_line = row.state == State::Waiting;
        if !matches!(row.owner, Owner::Credential(_)) {
            let counted = row.client.filter(|_| row.past_grace && !in_line);
            row.owner = counted.map_or(Owner::Nobody, Owner::Address);
            let order = if in_line {
                &mut self.waiting
            } else {
                &mut self.strangers
            };
            order.insert(row.rank, number);
        }
        if row.owner != Owner::Nobody {
            let own = self.owners.entry(row.owner).or_default();
            own.insert(row.rank, number);
        }
        if let Some(count) = self.states.get_mut(row.state as usize) {
            *count += 1;
        }
        self.rows.insert(number, row);
    }

    fn remove(&mut self, number: u64) -> Option<Row<T>> {
        let row = self.rows.remove(&number)?;
        self.strangers.remove(&row.rank);
        self.waiting.remove(&row.rank);
        if let Some(own) = self.owners.get_mut(&row.owner) {
            own.remove(&row.rank);
            if own.is_empty() {
                self.owners.remove(&row.owner);
            }
        }
        if let Some(count) = self.states.get_mut(row.state as usize) {
            *count = count.saturating_sub(1);
        }
        Some(row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    /// The handle and the reason of one that goes.
    fn gone(evicted: Option<Evicted<u32>>) -> Option<(u32, &'static str)> {
        evicted.map(|one| (one.handle, one.reason))
    }

    /// Enters one that has outlasted its grace; who goes for it.
    fn old(table: &mut Table<u32>, state: State, client: &str, handle: u32) -> (u64, Option<u32>) {
        let number = table.enter(state, address(client), handle);
        let evicted = table.end_grace(number);
        (number, evicted.map(|one| one.handle))
    }

    #[test]
    fn one_address_has_sixty_four_whatever_they_are_at() {
        for state in [
            State::Head,
            State::Tls,
            State::Body,
            State::Answer,
            State::Stream,
        ] {
            let mut table = Table::default();
            for handle in 0..64 {
                assert_eq!(old(&mut table, state, "192.0.2.1", handle).1, None);
            }
            assert_eq!(
                old(&mut table, state, "192.0.2.1", 64).1,
                Some(0),
                "{state:?}"
            );
            assert_eq!(old(&mut table, state, "192.0.2.2", 65).1, None);
        }
    }

    #[test]
    fn all_addresses_of_one_ipv6_network_are_one() {
        let mut table = Table::default();
        for handle in 0..64 {
            let client = format!("2001:db8:0:1::{handle:x}");
            assert_eq!(old(&mut table, State::Body, &client, handle).1, None);
        }
        assert_eq!(old(&mut table, State::Body, "2001:db8:0:2::1", 100).1, None);
        assert_eq!(
            old(&mut table, State::Body, "2001:db8:0:1:ffff::1", 101).1,
            Some(0)
        );
    }

    #[test]
    fn within_the_grace_nobody_counts_to_an_address() {
        let mut table = Table::default();
        let numbers: Vec<u64> = (0..1000)
            .map(|handle| table.enter(State::Head, address("192.0.2.1"), handle))
            .collect();
        assert_eq!(gone(table.trim(1000, 10)), None);
        assert_eq!(gone(table.trim(999, 10)), Some((0, "heads")));
        let late: Vec<_> = numbers[1..].iter().map(|n| table.end_grace(*n)).collect();
        assert_eq!(late.iter().flatten().count(), 999 - 64);
        assert_eq!(table.strangers(), 64);
    }

    #[test]
    fn idle_ones_go_first_and_then_the_oldest() {
        let mut table = Table::default();
        let first = table.enter(State::Answer, None, 1);
        table.enter(State::Body, None, 2);
        let idle = table.enter(State::Answer, None, 3);
        table.set_state(idle, State::Idle);
        assert_eq!(gone(table.trim(2, 10)), Some((3, "connections")));
        // Another request makes it the youngest.
        table.set_state(first, State::Idle);
        table.set_state(first, State::Head);
        table.set_state(first, State::Answer);
        // The youngest are about to be answered, and stay.
        for handle in 100..100 + KEPT as u32 {
            table.enter(State::Head, None, handle);
        }
        assert_eq!(
            gone(table.evict_first("descriptors")),
            Some((2, "descriptors"))
        );
        assert_eq!(
            gone(table.evict_first("descriptors")),
            Some((1, "descriptors"))
        );
        assert_eq!(gone(table.evict_first("descriptors")), None);
    }

    #[test]
    fn a_credential_is_bounded_by_itself_and_gives_way_to_no_stranger() {
        let mut table = Table::default();
        let feed = old(&mut table, State::Stream, "192.0.2.1", 7).0;
        assert_eq!(gone(table.vouch(feed, 99)), None);
        for handle in 100..200 {
            old(&mut table, State::Head, "192.0.2.1", handle);
        }
        assert_eq!(table.strangers(), 64);
        while let Some(evicted) = table.trim(0, 0) {
            assert_ne!(evicted.handle, 7);
        }
        for handle in 0..1023 {
            let number = table.enter(State::Stream, address("192.0.2.1"), 1000 + handle);
            assert_eq!(gone(table.vouch(number, 99)), None);
        }
        let more = table.enter(State::Stream, None, 1);
        let expected = Some((7, "connections_per_credential"));
        assert_eq!(gone(table.vouch(more, 99)), expected);
        assert_eq!(gone(table.vouch(more, 99)), None);
    }

    #[test]
    fn who_waits_in_line_counts_to_no_address_and_is_bounded_by_the_line() {
        let mut table = Table::default();
        for handle in 0..1000 {
            assert_eq!(old(&mut table, State::Waiting, "192.0.2.1", handle).1, None);
        }
        assert_eq!(table.strangers(), 0);
        assert_eq!(gone(table.trim(0, 1000)), None);
        assert_eq!(gone(table.trim(0, 999)), Some((0, "waiting")));
    }

    #[test]
    fn a_trusted_proxy_has_no_bound_and_the_client_that_it_names_has() {
        let mut table = Table::default();
        for handle in 0..200 {
            let number = table.enter(State::Head, None, handle);
            assert_eq!(gone(table.end_grace(number)), None);
            let evicted = table.set_client(number, address("198.51.100.1"));
            let expected = (handle >= 64).then(|| (handle - 64, "heads_per_address"));
            assert_eq!(gone(evicted), expected);
        }
    }

    #[test]
    fn the_oldest_body_gives_way_to_the_budget_and_its_connection_stays() {
        let mut table = Table::default();
        let old = table.enter(State::Body, None, 1);
        let new = table.enter(State::Body, None, 2);
        assert_eq!(gone(table.add_bytes(old, MAX_PENDING_BYTES / 2)), None);
        assert_eq!(gone(table.add_bytes(new, MAX_PENDING_BYTES / 2)), None);
        assert_eq!(gone(table.add_bytes(new, 1)), Some((1, "pending_bytes")));
        assert_eq!(table.pending_bytes(), MAX_PENDING_BYTES / 2 + 1);
        assert_eq!(table.strangers(), 2);
        table.leave(new);
        assert_eq!((table.pending_bytes(), table.bodies.len()), (0, 0));
        // One body that is larger than the budget goes by itself.
        assert_eq!(
            gone(table.add_bytes(old, usize::MAX)),
            Some((1, "pending_bytes"))
        );
        assert_eq!(table.pending_bytes(), 0);
    }

    #[test]
    fn nothing_is_left_of_those_who_leave() {
        let mut table = Table::default();
        for (handle, state) in State::ALL.into_iter().enumerate() {
            let number = old(&mut table, state, "192.0.2.1", handle as u32).0;
            table.add_bytes(number, 10);
            if handle % 2 == 0 {
                table.vouch(number, 5);
            }
            assert!(
                table
                    .states()
                    .any(|(one, count)| one == state && count == 1)
            );
            table.leave(number);
        }
        assert!(table.rows.is_empty() && table.owners.is_empty() && table.bodies.is_empty());
        assert!(table.strangers.is_empty() && table.waiting.is_empty());
        assert!(table.states().all(|(_, count)| count == 0));
        assert_eq!(table.pending_bytes(), 0);
    }
}
