//! What happened, last of all: a bounded list with numbers that rise. A relay's own events reach its primary in
//! beats, so that the primary's list is the cluster's.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::watch;

use super::moves::Moves;
use super::{Control, Role};
use crate::base::ids::{Epoch, MountId, NodeId};
use crate::base::wall::unix_millis;
use crate::cluster::snapshot::State;
use crate::cluster::table::Effect;
use crate::engine::MountState;
use crate::telemetry::panics;
use crate::wire::message::{Beat, EventReport, Happening, MAX_EVENTS, NodeName};

/// Events that are remembered.
pub const MAX_REMEMBERED: usize = 2_000;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Rises by one with each, within this process.
    pub seq: u64,
    /// By the clock of the node where it happened.
    pub unix_millis: u64,
    /// The node that says so.
    pub node: NodeName,
    /// What.
    pub what: Happening,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Events {
    inner: Mutex<Inner>,
    newest: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Inner {
    ring: VecDeque<Arc<Event>>,
    next: u64,
    /// On a relay: what the primary has heard.
    reported: u64,
    /// On a primary: the last event heard of each node's process.
    heard: HashMap<NodeId, (u64, u64)>,
    /// What the mounts were when they were looked at last.
    mounts: HashMap<MountId, (MountState, Epoch)>,
    /// Newcomers sent on since the last look, by reason.
    reflected: HashMap<&'static str, u64>,
    /// Listeners who went to fallbacks and came back.
    moves: Moves,
}

impl Default for Events {
    fn default() -> Self {
        Self {
            inner: Mutex::default(),
            newest: watch::Sender::new(0),
        }
    }
}

impl Events {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, node: NodeName, unix_millis: u64, what: Happening) {
        let seq = self.lock().push(node, unix_millis, what);
        self.newest.send_replace(seq);
    }
}

impl Inner {
    fn push(&mut self, node: NodeName, unix_millis: u64, what: Happening) -> u64 {
        if self.ring.len() >= MAX_REMEMBERED {
            self.ring.pop_front();
        }
        self.next += 1;
        self.ring.push_back(Arc::new(Event {
            seq: self.next,
            unix_millis,
            node,
            what,
        }));
        self.next
    }

    fn after(&self, seq: u64) -> impl Iterator<Item = &Arc<Event>> {
        let from = self.ring.partition_point(|event| event.seq <= seq);
        self.ring.iter().skip(from)
    }

    /// True for an event that was not heard before.
    fn is_news(&mut self, id: &NodeId, incarnation: u64, seq: u64) -> bool {
        let last = self.heard.entry(id.clone()).or_default();
        let news = (incarnation, seq) > *last;
        if news {
            *last = (incarnation, seq);
        }
        news
    }
}

impl Control {
    /// Something happened on this node: it is logged, counted and remembered, and a relay's primary hears of it.
    pub fn happened(&self, what: Happening) {
        let what = what.bounded();
        tracing::info!(event = ?what, "event");
        self.remember(what);
    }

    /// Notes a happening that has its own line in the log.
    pub fn remember(&self, what: Happening) {
        let what = what.bounded();
        if let Some(counter) = what.counter() {
            metrics::counter!(counter).increment(1);
        }
        self.events
            .push(self.identity.name.clone(), unix_millis(), what);
    }

    /// What is remembered after `seq`, the oldest first. A number of another process of this node, which is above
    /// all of this one's, gives all.
    pub fn events_after(&self, seq: u64) -> Vec<Arc<Event>> {
        let inner = self.events.lock();
        let seq = if seq > inner.next { 0 } else { seq };
        inner.after(seq).cloned().collect()
    }

    /// The number of the newest event, and when there is a newer one.
    pub fn watch_events(&self) -> watch::Receiver<u64> {
        self.events.newest.subscribe()
    }

    /// What the primary has not heard yet, for the next beat.
    pub fn unreported(&self) -> Vec<EventReport> {
        let inner = self.events.lock();
        let report = |event: &Arc<Event>| EventReport {
            seq: event.seq,
            unix_millis: event.unix_millis,
            what: event.what.clone(),
        };
        inner
            .after(inner.reported)
            .take(MAX_EVENTS)
            .map(report)
            .collect()
    }

    /// The primary has heard all up to `seq`.
    pub fn reported(&self, seq: u64) {
        let mut inner = self.events.lock();
        inner.reported = inner.reported.max(seq);
    }

    /// A relay's beat: what happened there.
    pub(super) fn hear_events(&self, beat: &Beat) {
        let mut failovers = 0_u64;
        for report in &beat.events {
            let news = self
                .events
                .lock()
                .is_news(&beat.id, beat.incarnation, report.seq);
            if news && report.what != Happening::Unknown {
                match &report.what {
                    // Of all mounts at once, where their parent goes.
                    Happening::Failover { .. } => failovers += 1,
                    what => tracing::info!(node = %beat.name, event = ?what, "event"),
                }
                let what = report.what.clone();
                self.events
                    .push(beat.name.clone(), report.unix_millis, what);
            }
        }
        if failovers > 0 {
            tracing::info!(node = %beat.name, mounts = failovers, "pulls go on at other parents");
        }
    }

    /// What the table's effects say of nodes.
    pub(super) fn tell_effect(&self, effect: &Effect) {
        match effect {
            Effect::Changed {
                id, name, to, why, ..
            } => {
                let who = name.clone();
                match to {
                    State::Ready => self.happened(Happening::Ready { who }),
                    State::Suspect | State::Unreachable => {
                        self.happened(Happening::Suspected {
                            who,
                            why: why.clone(),
                        });
                    }
                    State::Dead => {
                        let snapshot = self.snapshot();
                        let node = snapshot.find(id);
                        let why = node.and_then(|node| self.trouble_of(node, Instant::now()));
                        self.happened(Happening::Died { who, why });
                    }
                    State::Joining | State::Draining => {}
                }
            }
            Effect::Gone { id, name } => {
                self.events.lock().heard.remove(id);
                self.happened(Happening::Left { who: name.clone() });
            }
            Effect::Panic(on) => self.happened(Happening::Panic { on: *on }),
            _ => {}
        }
    }

    /// A newcomer was sent on by a relay that could not take it.
    pub(super) fn reflected(&self, reason: &'static str) {
        metrics::counter!("relayctl_reflections_total", "reason" => reason).increment(1);
        *self.events.lock().reflected.entry(reason).or_default() += 1;
    }

    /// Looks at what nobody reports: mounts that came, went or began anew, and the newcomers sent on and listeners
    /// moved since the last look. To be called a few times a second.
    pub(super) fn watch_what_happens(&self, every_second: bool) {
        if self.identity.role == Role::Primary {
            for what in self.mount_changes() {
                self.happened(what);
            }
        }
        for trouble in self.engine.troubles() {
            let (mount, why) = (trouble.mount, trouble.why.to_string());
            self.happened(Happening::SourceUnplayable { mount, why });
        }
        if !every_second {
            return;
        }
        let reflected = std::mem::take(&mut self.events.lock().reflected);
        for (reason, count) in reflected {
            self.happened(Happening::Reflected {
                count,
                reason: reason.to_owned(),
            });
        }
        for what in self.moves() {
            self.happened(what);
        }
        for broken in panics::take() {
            let why = format!("{}: {}", broken.task, broken.message);
            self.happened(Happening::Panicked { why });
        }
    }

    /// Who was moved to a fallback, or came back.
    fn moves(&self) -> Vec<Happening> {
        let mut told = Vec::new();
        for (mount, counters) in self.telemetry.mounts() {
            let heard = self.engine.stand_in(&mount).map(|to| to.id.clone());
            // They may be back already.
            let to = heard.or_else(|| self.engine.fallbacks(&mount).into_iter().next());
            let (away, back) = (counters.fallback_moves(), counters.fallback_returns());
            let moves = &mut self.events.lock().moves;
            told.extend(moves.look(&mount, to.as_ref(), away, back));
        }
        told
    }

    fn mount_changes(&self) -> Vec<Happening> {
        let now: HashMap<MountId, (MountState, Epoch)> = self
            .engine
            .mounts()
            .iter()
            .map(|mount| (mount.id.clone(), (mount.state(), mount.ring().epoch())))
            .collect();
        let mut inner = self.events.lock();
        let before = std::mem::replace(&mut inner.mounts, now.clone());
        drop(inner);
        changes(&before, &now)
    }
}

/// What differs between two looks at the mounts.
fn changes(
    before: &HashMap<MountId, (MountState, Epoch)>,
    now: &HashMap<MountId, (MountState, Epoch)>,
) -> Vec<Happening> {
    let mut happenings = Vec::new();
    for (mount, (state, epoch)) in now {
        let was = before.get(mount);
        let mount = mount.clone();
        if let Some((_, from)) = was
            && from != epoch
            && *from != Epoch(0)
        {
            happenings.push(Happening::EpochChanged {
                mount: mount.clone(),
                from: *from,
                to: *epoch,
            });
        }
        match (was.map(|(state, _)| *state), *state) {
            (Some(MountState::Live), MountState::Live) => {}
            (_, MountState::Live) => happenings.push(Happening::SourceUp { mount }),
            (Some(MountState::Live), MountState::Held) => {
                happenings.push(Happening::SourceLost { mount });
            }
            _ => {}
        }
    }
    let ended = before.keys().filter(|mount| !now.contains_key(*mount));
    happenings.extend(ended.map(|mount| Happening::SourceEnded {
        mount: mount.clone(),
    }));
    happenings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> NodeName {
        text.parse().unwrap()
    }

    #[test]
    fn numbers_rise_and_the_list_is_bounded() {
        let events = Events::default();
        for _ in 0..MAX_REMEMBERED + 10 {
            events.push(name("a"), 1, Happening::Panic { on: true });
        }
        let inner = events.lock();
        assert_eq!(inner.ring.len(), MAX_REMEMBERED);
        assert_eq!(inner.ring.front().unwrap().seq, 11);
        let last = MAX_REMEMBERED as u64 + 10;
        assert_eq!(*events.newest.borrow(), last);
        assert_eq!(inner.after(last - 2).count(), 2);
        assert_eq!(inner.after(last).count(), 0);
        assert_eq!(inner.after(0).count(), MAX_REMEMBERED);
    }

    #[test]
    fn a_beat_that_comes_twice_tells_nothing_twice() {
        let mut inner = Inner::default();
        assert!(inner.is_news(&name("a"), 5, 1));
        assert!(inner.is_news(&name("a"), 5, 2));
        assert!(!inner.is_news(&name("a"), 5, 2));
        assert!(!inner.is_news(&name("a"), 4, 9));
        assert!(inner.is_news(&name("a"), 6, 1), "a new process begins at 1");
        assert!(inner.is_news(&name("b"), 1, 1));
    }

    #[test]
    fn a_source_comes_goes_and_begins_anew() {
        let mount: MountId = "/live.mp3".parse().unwrap();
        let look = |state, epoch| HashMap::from([(mount.clone(), (state, Epoch(epoch)))]);
        let none = HashMap::new();
        let kinds = |before: &_, now: &_| -> Vec<String> {
            let told = changes(before, now).into_iter();
            told.map(|what| {
                let json = serde_json::to_value(what).unwrap();
                json["kind"].as_str().unwrap().to_owned()
            })
            .collect()
        };
        use MountState::{Held, Live};
        assert_eq!(kinds(&none, &look(Live, 1)), ["source_up"]);
        assert_eq!(kinds(&look(Live, 1), &look(Live, 1)), [""; 0]);
        assert_eq!(kinds(&look(Live, 1), &look(Held, 1)), ["source_lost"]);
        assert_eq!(kinds(&look(Held, 1), &look(Live, 1)), ["source_up"]);
        assert_eq!(
            kinds(&look(Held, 1), &look(Live, 2)),
            ["epoch_changed", "source_up"]
        );
        assert_eq!(kinds(&look(Held, 1), &none), ["source_ended"]);
    }
}
