//! What operators want of nodes: drain, resume, reflect. Kept in the data directory, told to a relay in the answers
//! to its beats, and carried out where the listeners are.

use std::sync::{MutexGuard, PoisonError, atomic::Ordering};
use std::time::{Duration, Instant};

use super::disk::{SaveError, Saving};
use super::drain::{By, Drains, Progress, Turned};
use super::{Control, Role};
use crate::base::ids::NodeId;
use crate::cluster::snapshot::{NodeView, State};
use crate::cluster::table::Event;
use crate::telemetry::EndReason;
use crate::wire::message::{BeatAnswer, DrainOrder, Happening, NodeState, Reflect};

/// Why an order is not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// No such node.
    #[error("no node `{0}` is known here")]
    Unknown(String),
    /// This node is a relay, and the order is about another one.
    #[error("`{0}` is another node than this relay")]
    NotHere(String),
    /// It is carried out, and is not on the disk.
    #[error("the order holds until this node restarts: {0}")]
    Unsaved(SaveError),
}

/// Outcome of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held<T> {
    /// The outcome.
    pub outcome: T,
    /// True if it holds after a restart as well; false where the data directory is read-only.
    pub is_kept: bool,
}

impl<T> Held<T> {
    /// Waits for the disk, which knows a change of it or what was there before.
    async fn when(outcome: T, is_change: bool, saving: Saving) -> Result<Self, OrderError> {
        let is_kept = match saving.on_disk().await {
            Ok(()) => true,
            Err(SaveError::ReadOnly { .. }) => !is_change,
            Err(error) => return Err(OrderError::Unsaved(error)),
        };
        Ok(Self { outcome, is_kept })
    }
}

impl Control {
    /// A node takes nobody new, until [`Self::resume`]. Its listeners are left until they go, or closed in random
    /// order evenly over `spread`. A second order replaces the first. Waits until the order is on the disk.
    ///
    /// # Errors
    /// Where there is no such node, it is another one and this is a relay, or the order is not kept.
    pub async fn drain(
        &self,
        node: &str,
        spread: Option<Duration>,
    ) -> Result<Held<Progress>, OrderError> {
        let (progress, saving) = {
            let _turn = self.order();
            let (id, name) = self.ordered(node)?;
            let listeners = self.listeners_of(&id);
            let order = self.order_now(spread, listeners);
            let mut drains = self.drains();
            drains.orders.drains.insert(id.clone(), order);
            let saving = self.save_orders(&drains);
            drop(drains);
            self.step(Event::Drain(id));
            self.happened(Happening::DrainBegan {
                who: name,
                by: By::Operator.as_str().into(),
                listeners,
                spread_seconds: spread.map(|spread| spread.as_secs()),
            });
            self.settle_drain();
            let progress = Progress::of(&order, listeners, self.cluster_millis());
            (progress, saving)
        };
        Held::when(progress, true, saving).await
    }

    /// A node takes newcomers again, whoever drained it. True if it was drained. Waits until the disk says so too.
    ///
    /// # Errors
    /// As [`Self::drain`].
    pub async fn resume(&self, node: &str) -> Result<Held<bool>, OrderError> {
        let (known, is_kept, saving) = {
            let _turn = self.order();
            let (id, name) = self.ordered(node)?;
            let own = id == self.identity.id;
            let mut drains = self.drains();
            let is_kept = drains.orders.drains.remove(&id).is_some();
            let saving = match is_kept {
                true => self.save_orders(&drains),
                false => self.newest_orders(),
            };
            let mut known = is_kept;
            if own {
                known |= drains.local.take().is_some() | drains.told.take().is_some();
            } else {
                let snapshot = self.snapshot();
                let view = snapshot.find(&id);
                let says_so = view.is_some_and(|view| view.state == State::Draining);
                known |= says_so;
                // One that is not heard now may have been drained on its own machine: it is told at its return.
                if says_so || view.is_some_and(|view| view.draining) {
                    drains.resuming.insert(id.clone());
                }
            }
            drop(drains);
            self.step(Event::Resume(id));
            if known {
                self.happened(Happening::Resumed { who: name });
            }
            self.settle_drain();
            (known, is_kept, saving)
        };
        Held::when(known, is_kept, saving).await
    }

    /// Whoever is on this machine drains this node; it ends with the process.
    pub fn drain_here(&self, spread: Option<Duration>) -> Progress {
        let listeners = self.telemetry.listeners();
        let mut drains = self.drains();
        let order = match drains.local {
            // Asked again without a time, it goes on as it was.
            Some(before) if spread.is_none() => before,
            _ => self.order_now(spread, listeners),
        };
        let fresh = drains.local.replace(order).is_none();
        drop(drains);
        if fresh {
            self.tell_begin(By::Local, &order);
        }
        self.settle_drain();
        Progress::of(&order, listeners, self.cluster_millis())
    }

    /// The process goes down: its listeners are closed evenly over what is left of `grace`, which began with a drain
    /// from this machine if there is one. Returns what is left.
    pub fn drain_to_end(&self, grace: Duration) -> Duration {
        let mut drains = self.drains();
        let began = drains.local.map(|order| order.since_unix_millis);
        let passed = began.map_or(0, |began| self.cluster_millis().saturating_sub(began));
        let left = grace.saturating_sub(Duration::from_millis(passed));
        let order = self.order_now(Some(left), self.telemetry.listeners());
        drains.shutdown = Some(order);
        drop(drains);
        self.tell_begin(By::Shutdown, &order);
        self.settle_drain();
        left
    }

    /// Whether a node sends newcomers on: always, only when it is full, or over any limit. Waits for the disk.
    ///
    /// # Errors
    /// As [`Self::drain`].
    pub async fn reflect(&self, node: &str, reflect: Reflect) -> Result<Held<()>, OrderError> {
        let saving = {
            let _turn = self.order();
            let (id, _) = self.ordered(node)?;
            let own = id == self.identity.id;
            let mut drains = self.drains();
            match reflect {
                Reflect::Auto => drains.orders.reflects.remove(&id),
                forced => drains.orders.reflects.insert(id, forced),
            };
            let saving = self.save_orders(&drains);
            drop(drains);
            if own {
                self.overload.force(reflect);
            }
            saving
        };
        Held::when((), true, saving).await
    }

    /// Whether this node, or on a primary any node, was told to send newcomers on.
    pub fn reflect_of(&self, id: &NodeId) -> Reflect {
        let drains = self.drains();
        drains.orders.reflects.get(id).copied().unwrap_or_default()
    }

    /// How far a node's drain is, as far as this node knows.
    pub fn drain_progress(&self, node: &NodeView) -> Option<Progress> {
        let drains = self.drains();
        let order = if node.id == self.identity.id {
            drains.current().map(|(_, order)| order)
        } else {
            drains.orders.drains.get(&node.id).copied()
        };
        order.map(|order| Progress::of(&order, node.listeners, self.cluster_millis()))
    }

    /// How far this node's own drain is, and who wants it.
    pub fn own_drain(&self) -> Option<(By, Progress)> {
        let (by, order) = self.drains().current()?;
        let left = self.telemetry.listeners();
        Some((by, Progress::of(&order, left, self.cluster_millis())))
    }

    /// True while the node takes nobody new.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// A relay does as the answer to its beat says.
    pub fn obey(&self, answer: &BeatAnswer) {
        let turn = self.order();
        let mut drains = self.drains();
        drains.told = answer.drain;
        if answer.resume {
            drains.local = None;
            if drains.orders.drains.remove(&self.identity.id).is_some() {
                self.save_orders(&drains).later();
            }
        }
        drop(drains);
        self.settle_drain();
        drop(turn);
        let own = self.reflect_of(&self.identity.id);
        self.overload.force(match answer.reflect {
            Reflect::Auto => own,
            forced => forced,
        });
    }

    /// What the answer to a node's beat orders.
    pub(super) fn orders_for(
        &self,
        id: &NodeId,
        says: NodeState,
    ) -> (Option<DrainOrder>, bool, Reflect) {
        let mut drains = self.drains();
        if says == NodeState::Ready {
            drains.resuming.remove(id);
        }
        (
            drains.orders.drains.get(id).copied(),
            drains.resuming.contains(id),
            drains.orders.reflects.get(id).copied().unwrap_or_default(),
        )
    }

    /// Lets go of those whose time has come. To be called a few times a second.
    pub(super) fn tick_drain(&self, now: Instant) {
        if !self.is_draining() {
            return;
        }
        let left = self.telemetry.listeners();
        let mut drains = self.drains();
        let excess = drains.excess(left, now);
        let done = drains.is_done_now(left);
        drop(drains);
        if excess > 0 {
            self.close_some(excess);
        }
        if done {
            self.happened(Happening::DrainDone {
                who: self.identity.name.clone(),
            });
        }
    }

    /// So many listeners in random order.
    fn close_some(&self, count: u64) {
        let mut sessions: Vec<_> = self
            .telemetry
            .sessions()
            .into_iter()
            .map(|session| (rand::random::<u64>(), session))
            .collect();
        sessions.sort_by_key(|(drawn, _)| *drawn);
        let leaving = sessions
            .iter()
            .filter(|(_, s)| s.ending().is_some())
            .count() as u64;
        let staying = sessions.iter().filter(|(_, s)| s.ending().is_none());
        let count = usize::try_from(count.saturating_sub(leaving)).unwrap_or(usize::MAX);
        for (_, session) in staying.take(count) {
            session.end(EndReason::Drained);
        }
        self.engine.sweep();
    }

    /// The conclusion from what is wanted, at every change of it.
    pub(super) fn settle_drain(&self) {
        let (now, listeners) = (Instant::now(), self.telemetry.listeners());
        let mut drains = self.drains();
        let turned = drains.settle(&self.identity.id, listeners, now, self.cluster_millis());
        let draining = drains.current().is_some();
        drop(drains);
        if turned != Turned::Same {
            self.draining.store(draining, Ordering::Relaxed);
            self.nudge.send_modify(|turn| *turn += 1);
        }
    }

    /// Moves when there is something that the primary should hear at once.
    pub fn watch_nudges(&self) -> tokio::sync::watch::Receiver<u64> {
        self.nudge.subscribe()
    }

    fn tell_begin(&self, by: By, order: &DrainOrder) {
        self.happened(Happening::DrainBegan {
            who: self.identity.name.clone(),
            by: by.as_str().into(),
            listeners: order.listeners,
            spread_seconds: order.spread_millis.map(|millis| millis / 1_000),
        });
    }

    fn order_now(&self, spread: Option<Duration>, listeners: u64) -> DrainOrder {
        DrainOrder {
            since_unix_millis: self.cluster_millis(),
            spread_millis: spread
                .map(|spread| u64::try_from(spread.as_millis()).unwrap_or(u64::MAX)),
            listeners,
        }
    }

    fn listeners_of(&self, id: &NodeId) -> u64 {
        if *id == self.identity.id {
            return self.telemetry.listeners();
        }
        self.snapshot().find(id).map_or(0, |view| view.listeners)
    }

    /// The node that an order names.
    fn ordered(&self, node: &str) -> Result<(NodeId, NodeId), OrderError> {
        let own = &self.identity;
        if node == own.id.as_str() || node == own.name.as_str() {
            return Ok((own.id.clone(), own.name.clone()));
        }
        let snapshot = self.snapshot();
        let Some(view) = snapshot.named(node) else {
            return Err(OrderError::Unknown(node.to_owned()));
        };
        if own.role == Role::Relay {
            return Err(OrderError::NotHere(node.to_owned()));
        }
        Ok((view.id.clone(), view.name.clone()))
    }

    pub(super) fn order(&self) -> MutexGuard<'_, ()> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn drains(&self) -> MutexGuard<'_, Drains> {
        self.drains.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
