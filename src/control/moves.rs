//! Listeners who were moved to a fallback, or came back: told once for each mount and move. Pure.
//!
//! They leave one after the other, each at its next frame edge; so a move is told when a look finds no more of them,
//! or after a few looks where they never cease.

use std::collections::HashMap;

use crate::base::ids::MountId;
use crate::wire::message::Happening;

/// Looks after which a move is told although more listeners follow.
const LONGEST: u32 = 5;

/// Mounts that are remembered.
const KEPT: usize = 4096;

/// What was counted at the last look, and what was told.
#[derive(Debug, Default)]
pub(super) struct Moves {
    seen: HashMap<MountId, Seen>,
}

#[derive(Debug)]
struct Seen {
    away: Tally,
    back: Tally,
}

#[derive(Debug)]
struct Tally {
    last: u64,
    told: u64,
    looks: u32,
}

impl Tally {
    fn new(count: u64) -> Self {
        Self {
            last: count,
            told: count,
            looks: 0,
        }
    }

    /// How many moved, once that is to be told.
    fn look(&mut self, count: u64) -> Option<u64> {
        // The counters of a mount that was forgotten begin anew.
        self.told = self.told.min(count);
        let pending = count.saturating_sub(self.told);
        let settled = count == std::mem::replace(&mut self.last, count);
        self.looks = if pending == 0 { 0 } else { self.looks + 1 };
        if pending == 0 || (!settled && self.looks < LONGEST) {
            return None;
        }
        (self.told, self.looks) = (count, 0);
        Some(pending)
    }
}

impl Moves {
    /// What is to be told of `mount`, whose listeners hear `to` while it is away, after `away` moves to a fallback and
    /// `back` from one. What was counted before the first look is not told.
    pub(super) fn look(
        &mut self,
        mount: &MountId,
        to: Option<&MountId>,
        away: u64,
        back: u64,
    ) -> impl Iterator<Item = Happening> + use<> {
        if self.seen.len() >= KEPT && !self.seen.contains_key(mount) {
            self.seen.clear();
        }
        let seen = self.seen.entry(mount.clone()).or_insert_with(|| Seen {
            away: Tally::new(away),
            back: Tally::new(back),
        });
        let gone = seen.away.look(away).zip(to);
        let gone = gone.map(|(listeners, to)| Happening::FallbackMoved {
            mount: mount.clone(),
            to: to.clone(),
            listeners,
        });
        let returned = seen.back.look(back).map(|listeners| {
            let mount = mount.clone();
            Happening::FallbackReturned { mount, listeners }
        });
        gone.into_iter().chain(returned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(path: &str) -> MountId {
        path.parse().unwrap()
    }

    #[test]
    fn one_word_for_each_move_with_all_its_listeners() {
        let (own, other) = (id("/a"), id("/b"));
        let mut moves = Moves::default();
        let mut look =
            |away, back| -> Vec<Happening> { moves.look(&own, Some(&other), away, back).collect() };
        let moved = |listeners| Happening::FallbackMoved {
            mount: id("/a"),
            to: id("/b"),
            listeners,
        };
        let returned = |listeners| Happening::FallbackReturned {
            mount: id("/a"),
            listeners,
        };
        assert_eq!(look(7, 0), [], "counted before");
        assert_eq!(look(9, 0), []);
        assert_eq!(look(10, 0), []);
        assert_eq!(look(10, 0), [moved(3)]);
        assert_eq!(look(10, 0), []);
        assert_eq!(look(10, 2), []);
        assert_eq!(look(10, 2), [returned(2)]);
        assert_eq!(look(11, 3), []);
        assert_eq!(look(11, 3), [moved(1), returned(1)]);
        // More of them at every look.
        let told: Vec<Happening> = (12..22).flat_map(|away| look(away, 3)).collect();
        assert_eq!(told, [moved(5), moved(5)]);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut moves = Moves::default();
        for n in 0..=KEPT {
            assert_eq!(moves.look(&id(&format!("/{n}")), None, 5, 5).count(), 0);
        }
        assert!(moves.seen.len() <= KEPT);
    }
}
