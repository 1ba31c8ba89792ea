//! What follows for each row from all rows: who is marked, who stays in the pool for want of others, and
//! whether the fault is rather ours.
//!
//! Panic is judged by those who live: fewer than half of the relays that are up or suspected can be reached. The dead
//! have left the pool for good and are no sign of our own blindness: ten seconds of silence, or a refused port, are
//! their own. So half of the relays really dead is a panic only until they are known to be.

use std::sync::Arc;
use std::time::Instant;

use super::Table;
use super::event::Effect;
use super::row::Row;
use crate::base::ids::NodeId;
use crate::cluster::snapshot::State;

impl Table {
    /// Brings every row's state up to date. Runs after each event.
    pub(super) fn review(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        self.bury(now);
        let states = self.judge();
        let mut changes = Vec::new();
        for (id, state) in states {
            let Some(row) = self.rows.get_mut(&id) else {
                continue;
            };
            let suspected = row.admitted && row.life.is_live() && !row.is_reachable();
            let before = row.view.state;
            let is_new = row.changed == 0;
            if before != state || row.view.suspected != suspected {
                let view = Arc::make_mut(&mut row.view);
                view.state = state;
                view.suspected = suspected;
            } else if !is_new {
                continue;
            }
            changes.push(id.clone());
            if before != state || is_new {
                effects.push(Effect::Changed {
                    id,
                    name: row.view.name.clone(),
                    from: (!is_new).then_some(before),
                    to: state,
                    why: row.view.trouble.clone(),
                });
            }
        }
        for id in changes {
            self.touch(&id, now);
        }
        self.review_panic(effects);
    }

    /// The dead lose their load at once, and after `forget` their row.
    fn bury(&mut self, now: Instant) {
        for row in self.rows.values_mut() {
            if row.life.is_live() {
                row.set_died(None);
                // Who has been in the pool is missed there; who never was is only late.
                row.admitted |= row.is_reachable();
            } else if row.died.is_none() {
                row.set_died(Some(now));
                row.clear_load();
            }
        }
    }

    /// Each row's state. Suspects and soft ejections together stay within max(1, a third) of the members;
    /// what is beyond stays in the pool, for a judge who suspects everybody is likely wrong himself.
    fn judge(&self) -> Vec<(NodeId, State)> {
        let mut states = Vec::with_capacity(self.rows.len());
        let mut marked = Vec::new();
        let mut members = 0_usize;
        for (id, row) in &self.rows {
            let state = row.natural_state(self.drains.contains(id));
            let is_member =
                row.is_relay() && row.admitted && !matches!(state, State::Dead | State::Draining);
            members = members.saturating_add(usize::from(is_member));
            if is_member && matches!(state, State::Suspect | State::Unreachable) {
                // Who is marked already stays marked; then the longest silent goes first.
                let was = matches!(row.view.state, State::Suspect | State::Unreachable);
                marked.push((!was, row.life.last_beat(), states.len()));
            }
            states.push((id.clone(), state));
        }
        marked.sort();
        for (_, _, at) in marked.into_iter().skip((members / 3).max(1)) {
            if let Some((_, state)) = states.get_mut(at) {
                *state = State::Ready;
            }
        }
        states
    }

    fn review_panic(&mut self, effects: &mut Vec<Effect>) {
        let missed = |row: &Row| {
            row.is_relay()
                && row.admitted
                && !matches!(row.view.state, State::Draining | State::Dead)
        };
        let known = self.rows.iter().filter(|(_, row)| missed(row));
        let (all, reachable) = known.fold((0_usize, 0_usize), |(all, reachable), (_, row)| {
            let one = usize::from(row.is_reachable());
            (all.saturating_add(1), one.saturating_add(reachable))
        });
        let panic = reachable.saturating_mul(2) < all;
        if panic != self.panic {
            self.panic = panic;
            self.version = self.version.saturating_add(1);
            effects.push(Effect::Panic(panic));
        }
    }
}
