//! The table of nodes: events and time in, effects out, nothing else.
//!
//! `event` names what goes in and out, `admit` says who may be in, `row` is one node, `review` draws the conclusions that need all of
//! them. The primary owns the one table; relays have a copy (`cluster::copy`).
//!
//! Must never: read a clock, open a socket, or remember what a node can report again. Neighbours:
//! `cluster::liveness`, `cluster::snapshot`.

mod admit;
mod event;
mod reach;
mod review;
mod row;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

pub use event::{Effect, Event, Probe, Refusal, refusal};

use super::liveness::Pace;
use super::snapshot::Snapshot;
use crate::base::ids::NodeId;
use crate::wire::message::{NodeRow, WEIGHTS};
use row::Row;

/// Most nodes in one table.
pub const MAX_NODES: usize = 5_000;

/// Departures that are remembered, for readers of the feed and against late beats.
const MAX_DEPARTED: usize = 1_024;

/// How the table judges.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Of beats, suspicion and death.
    pub pace: Pace,
    /// A dead row stays for this long.
    pub forget: Duration,
    /// Between two probes of a public URL; `None` trusts every URL.
    pub probe_every: Option<Duration>,
    /// Time between two events beyond which the judge itself was away.
    pub clock_jump: Duration,
    /// Most nodes in the table.
    pub max_nodes: usize,
    /// Heaviest weight that a relay gets, whatever it says of itself; 1 to 1000.
    pub max_weight: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            pace: Pace::default(),
            forget: Duration::from_secs(600),
            probe_every: Some(Duration::from_secs(5)),
            clock_jump: Duration::from_secs(2),
            max_nodes: MAX_NODES,
            max_weight: WEIGHTS.2,
        }
    }
}

/// What the readers of the feed have to hear.
#[derive(Debug, Clone, PartialEq)]
pub struct Changes {
    /// To ask from next time.
    pub version: u64,
    /// These rows are all.
    pub complete: bool,
    /// As in the snapshot.
    pub panic: bool,
    /// New and changed rows.
    pub nodes: Vec<NodeRow>,
    /// Rows that are no more.
    pub gone: Vec<NodeId>,
}

struct Departed {
    version: u64,
    id: NodeId,
    /// Set where the process itself said goodbye.
    incarnation: Option<u64>,
}

/// The table.
pub struct Table {
    config: Config,
    rows: BTreeMap<NodeId, Row>,
    drains: BTreeSet<NodeId>,
    departed: VecDeque<Departed>,
    /// Departures up to this version are forgotten.
    horizon: u64,
    version: u64,
    panic: bool,
    last_step: Option<Instant>,
}

impl Table {
    /// An empty table with the drains that the operator left behind.
    pub fn new(config: Config, drains: BTreeSet<NodeId>) -> Self {
        Self {
            config,
            rows: BTreeMap::new(),
            drains,
            departed: VecDeque::new(),
            horizon: 0,
            version: 1,
            panic: false,
            last_step: None,
        }
    }

    /// Judges differently from now on.
    pub fn set_config(&mut self, config: Config) {
        self.config = config;
    }

    /// How long a dead row stays.
    pub fn forgets_after(&self) -> Duration {
        self.config.forget
    }

    /// Takes one event. Never blocks, never fails; refusals are among the effects.
    pub fn step(&mut self, now: Instant, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.watch_clock(now, &mut effects);
        match event {
            Event::Joined { request, seen } => {
                let id = request.id.clone();
                let result = self.join(request, seen, now, &mut effects);
                effects.push(answer(id, result));
            }
            Event::Beat {
                beat,
                seen,
                connection,
            } => {
                let id = beat.id.clone();
                let result = self.beat(beat, seen, connection, now, &mut effects);
                effects.push(answer(id, result));
            }
            Event::Own(beat) => self.own(beat, now),
            Event::ConnectionLost { id, connection } => {
                self.connection_lost(&id, connection, &mut effects);
            }
            Event::Probed { id, url, outcome } => {
                if let Some(row) = self.rows.get_mut(&id) {
                    if row.probed(&url, outcome, now, &self.config) {
                        effects.push(Effect::Secure {
                            name: row.view.name.clone(),
                            url,
                            usable: row.view.public_urls.https.is_some(),
                            why: row.view.trouble.clone(),
                        });
                    }
                    self.touch(&id, now);
                }
            }
            Event::Leave(id) => self.remove(&id, true, &mut effects),
            Event::Forget(id) => self.remove(&id, false, &mut effects),
            Event::Drain(id) => {
                if self.drains.insert(id) {
                    effects.push(Effect::DrainsChanged);
                }
            }
            Event::Resume(id) => {
                if self.drains.remove(&id) {
                    effects.push(Effect::DrainsChanged);
                }
            }
            Event::Tick => self.tick(now, &mut effects),
        }
        self.review(now, &mut effects);
        effects
    }

    /// Rises with every change that others have to hear.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// What everybody else reads. Rows that did not change are shared, not copied.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            version: self.version,
            nodes: self.rows.values().map(|row| row.view.clone()).collect(),
            panic: self.panic,
        }
    }

    /// The rows that changed after `since`; all for 0, or where that is too long ago.
    pub fn changes_since(&self, since: u64, now: Instant) -> Changes {
        let complete = since == 0 || since > self.version || since < self.horizon;
        let rows = self.rows.values();
        let rows = rows.filter(|row| complete || row.changed > since);
        let gone = self.departed.iter();
        let gone =
            gone.filter(|d| !complete && d.version > since && !self.rows.contains_key(&d.id));
        Changes {
            version: self.version,
            complete,
            panic: self.panic,
            nodes: rows.map(|row| row.view.to_row(now)).collect(),
            gone: gone.map(|d| d.id.clone()).collect(),
        }
    }

    /// True if the operator drains this node.
    pub fn is_drained(&self, id: &NodeId) -> bool {
        self.drains.contains(id)
    }

    /// The operator's drains, to be kept.
    pub fn drains(&self) -> &BTreeSet<NodeId> {
        &self.drains
    }

    fn watch_clock(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let before = self.last_step.replace(now).unwrap_or(now);
        let gap = now.saturating_duration_since(before);
        if gap > self.config.clock_jump {
            for row in self.rows.values_mut() {
                row.life.forgive(now);
            }
            effects.push(Effect::ClockJumped(gap));
        }
    }

    fn connection_lost(&mut self, id: &NodeId, connection: u64, effects: &mut Vec<Effect>) {
        let Some(row) = self.rows.get_mut(id) else {
            return;
        };
        if row.connection != connection || !row.is_relay() {
            return;
        }
        row.life.lost(&self.config.pace);
        if let (Some(url), Some(_)) = (row.view.public_urls.first(), self.config.probe_every) {
            effects.push(Effect::Probe {
                id: id.clone(),
                url: url.to_owned(),
                urgent: true,
            });
        }
    }

    fn tick(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let mut buried = Vec::new();
        for (id, row) in &mut self.rows {
            if row.is_relay() {
                row.life.tick(now, &self.config.pace);
            }
            let died = row.died.map(|at| now.saturating_duration_since(at));
            if died.is_some_and(|since| since >= self.config.forget) {
                buried.push(id.clone());
            }
        }
        for id in buried {
            self.remove(&id, false, effects);
        }
        let ids: Vec<NodeId> = self.rows.keys().cloned().collect();
        for id in ids {
            self.probe(&id, now, false, effects);
        }
    }

    fn probe(&mut self, id: &NodeId, now: Instant, urgent: bool, effects: &mut Vec<Effect>) {
        let Some(every) = self.config.probe_every else {
            return;
        };
        let Some(row) = self.rows.get_mut(id).filter(|row| row.is_relay()) else {
            return;
        };
        for url in row.probes_due(now, every) {
            let id = id.clone();
            effects.push(Effect::Probe { id, url, urgent });
        }
    }

    fn remove(&mut self, id: &NodeId, said_goodbye: bool, effects: &mut Vec<Effect>) {
        let Some(row) = self.rows.remove(id) else {
            return;
        };
        self.version = self.version.saturating_add(1);
        if self.departed.len() >= MAX_DEPARTED {
            self.horizon = self.departed.pop_front().map_or(0, |d| d.version);
        }
        self.departed.push_back(Departed {
            version: self.version,
            id: id.clone(),
            incarnation: said_goodbye.then_some(row.view.incarnation),
        });
        effects.push(Effect::Gone {
            id: id.clone(),
            name: row.view.name.clone(),
        });
    }

    /// Others have to hear of this row.
    fn touch(&mut self, id: &NodeId, now: Instant) {
        self.version = self.version.saturating_add(1);
        if let Some(row) = self.rows.get_mut(id) {
            row.told(self.version, now);
        }
    }
}

fn answer(id: NodeId, result: Result<(), Refusal>) -> Effect {
    match result {
        Ok(()) => Effect::Accepted(id),
        Err(refusal) => Effect::Refused(id, refusal),
    }
}
