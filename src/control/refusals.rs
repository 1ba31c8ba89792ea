//! Sources and nodes that were turned away: each client and mount is told at once and then at growing intervals, with a count,
//! in the log, as an event and in `status`.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Control;
use crate::base::address::block_of;
use crate::base::ids::MountId;
use crate::wire::message::{Happening, NodeName};

/// Clients that are remembered; beyond, the one that was refused the longest ago gives way.
const MAX_ROWS: usize = 1_024;

/// First pause between two lines about one client. Each further one doubles, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(60);
/// See [`FIRST_PAUSE`].
const LONGEST_PAUSE: Duration = Duration::from_secs(3_600);

/// A client that was not refused for this long is forgotten.
const QUIET: Duration = Duration::from_secs(900);

/// Lines about all clients together in [`WINDOW`].
const MOST_LINES: u32 = 20;
/// See [`MOST_LINES`].
const WINDOW: Duration = Duration::from_secs(60);

/// Kind of a refused client, and its name for itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Refused {
    /// A source of this mount.
    Source(MountId),
    /// A node that wanted to join, by the name that it gave itself.
    Join(Option<NodeName>),
}

/// Refusals of one client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub what: Refused,
    pub address: IpAddr,
    /// Why, the last time.
    pub why: String,
    /// All of them.
    pub count: u64,
    /// Refusals that no line has told.
    untold: u64,
    pub last: Instant,
    /// Earliest time of the next line.
    due: Instant,
    pause: Duration,
}

/// Rules and memory; time comes in as an argument.
#[derive(Debug, Default)]
struct Memory {
    rows: HashMap<(Refused, IpAddr), Row>,
    window: Option<Instant>,
    lines: u32,
}

impl Memory {
    /// Counts a refusal; returns its row where a line is due now.
    fn count(&mut self, what: Refused, address: IpAddr, why: &str, now: Instant) -> Option<Row> {
        let key = (what.clone(), block_of(address));
        if self.rows.len() >= MAX_ROWS && !self.rows.contains_key(&key) {
            let oldest = self.rows.iter().min_by_key(|(_, row)| row.last);
            let oldest = oldest.map(|(key, _)| key.clone());
            oldest.and_then(|key| self.rows.remove(&key));
        }
        let row = self.rows.entry(key.clone()).or_insert_with(|| Row {
            what,
            address,
            why: String::new(),
            count: 0,
            untold: 0,
            last: now,
            due: now,
            pause: FIRST_PAUSE,
        });
        row.address = address;
        why.clone_into(&mut row.why);
        row.count = row.count.saturating_add(1);
        row.untold = row.untold.saturating_add(1);
        row.last = now;
        self.tell(&key, now)
    }

    /// The rows whose refusals since their last line are to be told now. Forgets who stays away.
    fn due(&mut self, now: Instant) -> Vec<Row> {
        let keys: Vec<_> = self.rows.keys().cloned().collect();
        let told = keys.iter().filter_map(|key| self.tell(key, now)).collect();
        self.rows
            .retain(|_, row| row.untold > 0 || now.saturating_duration_since(row.last) < QUIET);
        told
    }

    fn tell(&mut self, key: &(Refused, IpAddr), now: Instant) -> Option<Row> {
        let row = self.rows.get_mut(key)?;
        if row.untold == 0 || now < row.due {
            return None;
        }
        let begun = *self.window.get_or_insert(now);
        if now.saturating_duration_since(begun) >= WINDOW {
            (self.window, self.lines) = (Some(now), 0);
        }
        if self.lines >= MOST_LINES {
            return None;
        }
        self.lines += 1;
        row.untold = 0;
        row.due = now.checked_add(row.pause).unwrap_or(now);
        row.pause = row.pause.saturating_mul(2).min(LONGEST_PAUSE);
        Some(row.clone())
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Refusals(Mutex<Memory>);

impl Refusals {
    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The clients that were refused within the last quarter of an hour, the last one first.
    pub fn recent(&self) -> Vec<Row> {
        let mut rows: Vec<Row> = self.lock().rows.values().cloned().collect();
        rows.sort_by_key(|row| std::cmp::Reverse(row.last));
        rows
    }
}

impl Control {
    /// A source was turned away: `why` says the cause and the next thing to do, never a credential.
    pub fn source_refused(&self, mount: &MountId, address: IpAddr, why: &str) {
        self.count_refusal(Refused::Source(mount.clone()), address, why);
    }

    /// A node was not taken in.
    pub fn join_refused(&self, who: Option<NodeName>, address: IpAddr, why: &str) {
        self.count_refusal(Refused::Join(who), address, why);
    }

    fn count_refusal(&self, what: Refused, address: IpAddr, why: &str) {
        let now = Instant::now();
        let row = self.refusals.lock().count(what, address, why, now);
        row.into_iter().for_each(|row| self.tell_refusal(row));
    }

    /// Tells what became due. To be called once a second.
    pub(super) fn tell_refusals(&self, now: Instant) {
        let rows = self.refusals.lock().due(now);
        rows.into_iter().for_each(|row| self.tell_refusal(row));
    }

    fn tell_refusal(&self, row: Row) {
        let Row {
            what,
            address,
            why,
            count,
            ..
        } = row;
        match what {
            Refused::Source(mount) => {
                tracing::warn!(%mount, peer = %address, count, error = why, "source refused");
                self.remember(Happening::SourceRefused {
                    mount,
                    address,
                    why,
                    count,
                });
            }
            Refused::Join(who) => {
                let node = who.as_ref().map(tracing::field::display);
                tracing::warn!(node, peer = %address, count, error = why, "join refused");
                self.remember(Happening::JoinRefused {
                    address,
                    who,
                    why,
                    count,
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source() -> Refused {
        Refused::Source("/live.mp3".parse().unwrap())
    }

    fn address(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    #[test]
    fn a_day_of_refusals_is_a_few_lines_with_the_whole_count() {
        let (start, mut memory) = (Instant::now(), Memory::default());
        let (mut lines, mut last) = (0, 0);
        for second in 0..86_400 {
            let now = start + Duration::from_secs(second);
            let told = memory.count(source(), address(1), "wrong password", now);
            for row in told.into_iter().chain(memory.due(now)) {
                (lines, last) = (lines + 1, row.count);
            }
        }
        assert!((20..40).contains(&lines), "{lines} lines");
        assert!(last > 80_000, "{last}");
    }

    #[test]
    fn the_first_is_told_at_once_and_the_rest_when_the_pause_is_over() {
        let (start, mut memory) = (Instant::now(), Memory::default());
        let first = memory.count(source(), address(1), "x", start);
        assert_eq!(first.unwrap().count, 1);
        assert_eq!(memory.count(source(), address(1), "x", start), None);
        // Another mount, another address and another kind have a line of their own.
        assert!(memory.count(source(), address(2), "x", start).is_some());
        let join = Refused::Join(Some("relay-1".parse().unwrap()));
        assert!(memory.count(join, address(1), "x", start).is_some());
        assert_eq!(memory.due(start + FIRST_PAUSE / 2), []);
        let later = memory.due(start + FIRST_PAUSE);
        assert_eq!(later.len(), 1);
        assert_eq!(later[0].count, 2);
        assert_eq!(memory.due(start + FIRST_PAUSE * 10), []);
        memory.due(start + FIRST_PAUSE + QUIET);
        assert!(memory.rows.is_empty());
    }

    #[test]
    fn many_clients_have_a_bound_together_and_none_is_lost() {
        let (start, mut memory) = (Instant::now(), Memory::default());
        let told = (0..=255).filter(|last| {
            let told = memory.count(source(), address(*last), "x", start);
            told.is_some()
        });
        assert_eq!(told.count(), MOST_LINES as usize);
        assert_eq!(memory.due(start + WINDOW).len(), MOST_LINES as usize);
        for number in 0..2 * MAX_ROWS as u32 {
            let address = IpAddr::from(number.to_be_bytes());
            memory.count(source(), address, "x", start);
        }
        assert_eq!(memory.rows.len(), MAX_ROWS);
    }
}
