//! What is counted, logged and listed. Others count and open sessions here; this room asks nobody anything.
//!
//! Must never: decide, block a caller, or keep a listener's name in a metric. Neighbours: everything above.

pub mod access;
pub mod counters;
pub mod export;
pub mod log;
pub mod log_limit;
pub mod session;
mod texts;

use std::borrow::Borrow;
use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Instant;

use crate::base::ids::{ListenerId, MountId};
use crate::base::wall::unix_millis;
pub use counters::MountCounters;
pub use session::{Class, EndReason, Opening, Protocol, Session, SessionRecord};
use texts::Texts;

/// Below this the list of sessions keeps its room.
const SMALL: usize = 1024;

/// Where finished sessions are reported to.
pub type SessionSink = Box<dyn Fn(&SessionRecord, EndReason) + Send + Sync>;

/// A session that is found by its number, which it holds itself.
struct ById(Arc<SessionRecord>);

impl Borrow<ListenerId> for ById {
    fn borrow(&self) -> &ListenerId {
        &self.0.id
    }
}

impl Hash for ById {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.id.hash(state);
    }
}

impl PartialEq for ById {
    fn eq(&self, other: &Self) -> bool {
        self.0.id == other.0.id
    }
}

impl Eq for ById {}

/// Everything a node knows about itself. One for a process, handed to everyone.
pub struct Telemetry {
    /// When the process began, in milliseconds since 1970.
    pub started_unix_millis: u64,
    /// When the process began.
    pub started: Instant,
    mounts: RwLock<HashMap<MountId, Arc<MountCounters>>>,
    sessions: Mutex<HashSet<ById>>,
    open_listeners: AtomicU64,
    next_session: AtomicU64,
    texts: Texts,
    sink: SessionSink,
}

impl Telemetry {
    /// A fresh start; `sink` sees every finished session once.
    pub fn new(sink: SessionSink) -> Arc<Self> {
        Arc::new(Self {
            started_unix_millis: unix_millis(),
            started: Instant::now(),
            mounts: RwLock::default(),
            sessions: Mutex::default(),
            open_listeners: AtomicU64::new(0),
            next_session: AtomicU64::new(1),
            texts: Texts::default(),
            sink,
        })
    }

    /// The counters of `mount`, made when first asked for. They outlive the mount, so that totals never
    /// fall.
    pub fn mount(&self, mount: &MountId) -> Arc<MountCounters> {
        if let Some(found) = self
            .mounts
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(mount)
        {
            return Arc::clone(found);
        }
        let mut mounts = self.mounts.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(mounts.entry(mount.clone()).or_default())
    }

    /// All mounts that ever counted something.
    pub fn mounts(&self) -> Vec<(MountId, Arc<MountCounters>)> {
        let mounts = self.mounts.read().unwrap_or_else(PoisonError::into_inner);
        mounts
            .iter()
            .map(|(id, counters)| (id.clone(), Arc::clone(counters)))
            .collect()
    }

    fn uptime_millis(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Listeners now, on all mounts.
    pub fn listeners(&self) -> u64 {
        self.open_listeners.load(Ordering::Relaxed)
    }

    /// Opens a session, if it is a listener's only while fewer than `most` are open: exact, however many come
    /// at once. It is counted from here until the guard is dropped.
    pub fn open_within(self: &Arc<Self>, opening: &Opening<'_>, most: u64) -> Option<Session> {
        if opening.class != Class::Listener {
            return Some(self.open(opening));
        }
        let below = |open: u64| (open < most).then_some(open + 1);
        self.open_listeners
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, below)
            .ok()?;
        Some(self.enter(opening))
    }

    /// Opens a session without a limit.
    pub fn open(self: &Arc<Self>, opening: &Opening<'_>) -> Session {
        if opening.class == Class::Listener {
            self.open_listeners.fetch_add(1, Ordering::Relaxed);
        }
        self.enter(opening)
    }

    fn enter(self: &Arc<Self>, opening: &Opening<'_>) -> Session {
        let id = ListenerId(self.next_session.fetch_add(1, Ordering::Relaxed));
        let counters = self.mount(opening.mount);
        let record = SessionRecord::new(id, opening, Arc::clone(&counters), Arc::clone(self));
        let record = Arc::new(record);
        if record.class == Class::Listener {
            counters.enter();
            self.lock_sessions().insert(ById(Arc::clone(&record)));
        }
        Session::new(record)
    }

    /// The listeners now, in no order.
    pub fn sessions(&self) -> Vec<Arc<SessionRecord>> {
        let sessions = self.lock_sessions();
        sessions.iter().map(|one| Arc::clone(&one.0)).collect()
    }

    /// One listener.
    pub fn session(&self, id: ListenerId) -> Option<Arc<SessionRecord>> {
        let sessions = self.lock_sessions();
        sessions.get(&id).map(|one| Arc::clone(&one.0))
    }

    fn close(&self, record: &SessionRecord, reason: EndReason) {
        if record.class == Class::Listener {
            self.open_listeners.fetch_sub(1, Ordering::Relaxed);
        }
        let mut sessions = self.lock_sessions();
        sessions.remove(&record.id);
        if sessions.capacity() > SMALL && sessions.len() * 4 < sessions.capacity() {
            sessions.shrink_to(SMALL);
        }
        drop(sessions);
        (self.sink)(record, reason);
        for text in record.texts() {
            self.texts.release(text);
        }
    }

    fn lock_sessions(&self) -> MutexGuard<'_, HashSet<ById>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts an answer that was no audio, by its reason: `relayctl_refusals_total{reason}`.
pub fn refuse(reason: &'static str) {
    metrics::counter!(export::REFUSALS, "reason" => reason).increment(1);
}
