//! What every pull of this node is doing, for those who report it or serve on.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::gathered::{Gathered, News};
use crate::base::ids::{Epoch, MountId};

/// Failovers that wait to be taken.
const MAX_FAILOVERS: usize = 256;

/// One pull that is connected.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PullState {
    /// The parent's node id, as the caller named it.
    pub parent: String,
    /// The ids of the nodes from the origin to the parent.
    pub path: Vec<String>,
    /// The parent's numbering; 0 while it has no audio yet.
    pub epoch: Epoch,
    /// The parent's next offset, as it said last.
    pub live_edge: u64,
    /// How long the parent has had nothing new, as it said last.
    pub starved: Duration,
    /// How late the newest bytes are, against the quickest ones that came by this pull.
    pub lag: Duration,
}

/// How a mount's bytes come here: what the children of this node are told.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Route {
    /// The ids of the nodes from the origin to the parent; empty at the origin.
    pub path: Vec<String>,
    /// The origin has said that the mount is over.
    pub over: bool,
}

/// A mount that is pulled has no parent now: it cannot be passed on, for nobody knows by which way it will
/// come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this node has no parent for the mount now")]
pub struct NotFed;

/// A pull that went on at another node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failover {
    /// The mount.
    pub mount: MountId,
    /// The node that was left.
    pub from: String,
    /// The node that took its place.
    pub to: String,
    /// Why it was left.
    pub why: String,
    /// From the last word of the one to the first of the other.
    pub took: Duration,
    /// Bytes that the other had no more.
    pub lost_bytes: u64,
    /// When, in milliseconds since 1970.
    pub unix_millis: u64,
}

#[derive(Debug)]
struct Entry {
    state: Option<PullState>,
    route: watch::Sender<Route>,
}

#[derive(Debug, Default)]
struct Inner {
    pulls: RwLock<HashMap<MountId, Entry>>,
    failovers: Mutex<VecDeque<Failover>>,
    /// Moves with every change of a parent.
    changed: watch::Sender<u64>,
    /// News of parents.
    gathered: Gathered,
}

/// All pulls of a node, by mount. Cheap to clone; clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Pulls(Arc<Inner>);

impl Pulls {
    /// The pull of `mount`, if it is connected.
    pub fn state(&self, mount: &MountId) -> Option<PullState> {
        self.read(|map| map.get(mount)?.state.clone())
    }

    /// What [`super::stream::frames`] is to be given for `mount`, and told when it changes.
    ///
    /// # Errors
    /// Where the mount is pulled and has no parent now.
    pub fn route(&self, mount: &MountId) -> Result<watch::Receiver<Route>, NotFed> {
        self.read(|map| match map.get(mount) {
            None => Ok(watch::channel(Route::default()).1),
            Some(entry) if entry.state.is_some() => Ok(entry.route.subscribe()),
            Some(_) => Err(NotFed),
        })
    }

    /// All that are connected.
    pub fn all(&self) -> Vec<(MountId, PullState)> {
        self.read(|map| {
            let connected = map.iter();
            connected
                .filter_map(|(id, entry)| Some((id.clone(), entry.state.clone()?)))
                .collect()
        })
    }

    /// Says something of `mount` and `parent`, together with what other mounts have to say of that parent.
    pub(super) fn say(&self, news: News, parent: &str, mount: &MountId, text: &str) {
        self.0
            .gathered
            .add(news, parent, mount, text, Instant::now());
    }

    /// Says what was gathered of parents. To be called a few times a second.
    pub fn flush_lines(&self, now: Instant) {
        self.0.gathered.flush(now);
    }

    /// Moves whenever a pull gets or loses its parent.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.0.changed.subscribe()
    }

    /// The failovers since they were taken last, oldest first.
    pub fn take_failovers(&self) -> Vec<Failover> {
        let kept = self.0.failovers.lock();
        kept.unwrap_or_else(PoisonError::into_inner)
            .drain(..)
            .collect()
    }

    pub(super) fn note(&self, failover: Failover) {
        let mut kept = self
            .0
            .failovers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MAX_FAILOVERS {
            kept.pop_front();
        }
        let text = format!(
            "pulling from `{}`, no more from `{}`: {}",
            failover.to, failover.from, failover.why
        );
        self.say(News::Failover, &failover.from, &failover.mount, &text);
        kept.push_back(failover);
        drop(kept);
        self.announce();
    }

    /// A pull of `mount` begins; until its guard is gone the mount is no origin's.
    pub(super) fn begin(&self, mount: &MountId) -> RunGuard {
        let route = watch::Sender::new(Route::default());
        self.write(|map| map.insert(mount.clone(), Entry { state: None, route }));
        RunGuard {
            pulls: self.clone(),
            mount: mount.clone(),
        }
    }

    /// A connection's own entry, gone when the guard is.
    pub(super) fn enter(&self, mount: &MountId, state: PullState) -> PullGuard {
        let guard = PullGuard {
            pulls: self.clone(),
            mount: mount.clone(),
        };
        self.write(|map| {
            let entry = map.entry(mount.clone()).or_insert_with(|| Entry {
                state: None,
                route: watch::Sender::new(Route::default()),
            });
            entry.state = Some(PullState::default());
        });
        guard.update(|entry| *entry = state);
        self.announce();
        guard
    }

    fn announce(&self) {
        self.0.changed.send_modify(|turn| *turn += 1);
    }

    fn read<T>(&self, look: impl FnOnce(&HashMap<MountId, Entry>) -> T) -> T {
        look(&self.0.pulls.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<T>(&self, change: impl FnOnce(&mut HashMap<MountId, Entry>) -> T) -> T {
        change(&mut self.0.pulls.write().unwrap_or_else(PoisonError::into_inner))
    }
}

/// See [`Pulls::begin`].
#[derive(Debug)]
pub(super) struct RunGuard {
    pulls: Pulls,
    mount: MountId,
}

impl RunGuard {
    /// The origin has ended the mount: children are told that nobody has it.
    pub(super) fn over(&self) {
        self.pulls.write(|map| {
            if let Some(entry) = map.get(&self.mount) {
                entry.route.send_modify(|route| route.over = true);
            }
        });
    }
}

impl Drop for RunGuard {
    fn drop(&mut self) {
        self.pulls.write(|map| map.remove(&self.mount));
        self.pulls.announce();
    }
}

/// See [`Pulls::enter`].
#[derive(Debug)]
pub(super) struct PullGuard {
    pulls: Pulls,
    mount: MountId,
}

impl PullGuard {
    pub(super) fn update(&self, change: impl FnOnce(&mut PullState)) {
        self.pulls.write(|map| {
            let Some(entry) = map.get_mut(&self.mount) else {
                return;
            };
            let Some(state) = &mut entry.state else {
                return;
            };
            change(state);
            entry.route.send_if_modified(|route| {
                let moved = route.path != state.path;
                if moved {
                    route.path.clone_from(&state.path);
                }
                moved
            });
        });
    }
}

impl Drop for PullGuard {
    fn drop(&mut self) {
        self.pulls.write(|map| {
            if let Some(entry) = map.get_mut(&self.mount) {
                entry.state = None;
            }
        });
        self.pulls.announce();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_live_as_long_as_their_guards_and_children_hear_of_a_new_way() {
        let pulls = Pulls::default();
        let mount = MountId::new("/live").unwrap();
        assert_eq!(pulls.route(&mount).unwrap().borrow().path.len(), 0);
        let run = pulls.begin(&mount);
        assert_eq!(pulls.route(&mount).err(), Some(NotFed));
        let guard = pulls.enter(
            &mount,
            PullState {
                parent: "p".into(),
                path: vec!["o".into(), "p".into()],
                ..PullState::default()
            },
        );
        let mut route = pulls.route(&mount).unwrap();
        assert_eq!(route.borrow_and_update().path, ["o", "p"]);
        guard.update(|state| state.live_edge = 7);
        assert!(!route.has_changed().unwrap());
        guard.update(|state| state.path = vec!["q".into()]);
        assert!(route.has_changed().unwrap());
        assert_eq!(pulls.clone().state(&mount).unwrap().live_edge, 7);
        drop(guard);
        assert_eq!((pulls.state(&mount), pulls.all().len()), (None, 0));
        run.over();
        assert!(route.borrow_and_update().over);
        drop(run);
        assert!(pulls.route(&mount).is_ok());
    }
}
