//! What is counted, logged and listed. Others count and open sessions here; this room asks nobody anything.
//!
//! Must never: decide, block a caller, or keep a listener's name in a metric. Neighbours: everything above.

pub mod access;
mod audience;
mod connections;
pub mod counters;
pub mod export;
pub mod log;
pub mod log_limit;
pub mod panics;
pub mod session;
mod texts;
mod unblocked;

use std::borrow::Borrow;
use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Instant;

use crate::base::address::block_of;
use crate::base::ids::{ListenerId, MountId};
use crate::base::wall::unix_millis;
pub use audience::{Audience, Others, Share};
pub use connections::Connections;
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

/// The listeners that are here.
#[derive(Default)]
struct Sessions {
    all: HashSet<ById>,
    /// How many there are of each address block.
    blocks: HashMap<IpAddr, u64>,
}

impl Sessions {
    /// Counts a listener of the block of `address`, where fewer than `most` are here.
    fn take_place(&mut self, address: IpAddr, most: u64) -> bool {
        let count = self.blocks.entry(block_of(address)).or_default();
        // At least one, so that no empty entry stays.
        let has_room = *count < most.max(1);
        *count += u64::from(has_room);
        has_room
    }

    fn remove(&mut self, id: ListenerId) {
        self.all.remove(&id);
        if self.all.capacity() > SMALL && self.all.len() * 4 < self.all.capacity() {
            self.all.shrink_to(SMALL);
        }
    }

    fn give_up_place(&mut self, address: IpAddr) {
        let block = block_of(address);
        let Some(count) = self.blocks.get_mut(&block) else {
            return;
        };
        *count = count.saturating_sub(1);
        if *count == 0 {
            self.blocks.remove(&block);
        }
        if self.blocks.capacity() > SMALL && self.blocks.len() * 4 < self.blocks.capacity() {
            self.blocks.shrink_to(SMALL);
        }
    }
}

/// Totals of the mounts that are forgotten, so that sums over the node do not fall.
#[derive(Debug, Default)]
struct Forgotten {
    sent_bytes: AtomicU64,
    received_bytes: AtomicU64,
}

impl Forgotten {
    fn add(&self, counters: &MountCounters) {
        self.sent_bytes
            .fetch_add(counters.sent_bytes(), Ordering::Relaxed);
        self.received_bytes
            .fetch_add(counters.received_bytes(), Ordering::Relaxed);
    }
}

/// Why a listener has no session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoRoom {
    /// As many as the node takes are here.
    Node,
    /// As many as one address block may have are here.
    Address,
}

/// Most listeners that a session is opened within.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Most {
    /// Of the node.
    pub node: u64,
    /// Of one address block; none is no limit.
    pub address: Option<u64>,
}

/// Everything a node knows about itself. One for a process, handed to everyone.
pub struct Telemetry {
    /// When the process began, in milliseconds since 1970.
    pub started_unix_millis: u64,
    /// When the process began.
    pub started: Instant,
    /// Connections, requests and sources.
    pub connections: Connections,
    mounts: RwLock<HashMap<MountId, Arc<MountCounters>>>,
    sessions: Mutex<Sessions>,
    open_listeners: AtomicU64,
    /// Listener sessions opened since the process began.
    listener_connections: AtomicU64,
    /// Totals of the mounts that are forgotten.
    forgotten: Forgotten,
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
            connections: Connections::default(),
            mounts: RwLock::default(),
            sessions: Mutex::default(),
            open_listeners: AtomicU64::new(0),
            listener_connections: AtomicU64::new(0),
            forgotten: Forgotten::default(),
            next_session: AtomicU64::new(1),
            texts: Texts::default(),
            sink,
        })
    }

    /// The counters of `mount`, made when first asked for. They outlive the mount until [`Self::forget`] takes them,
    /// so that totals do not fall from one source to the next.
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

    /// Lets go of the counters of `mount` where nobody holds them any more: no mount and no session.
    pub fn forget(&self, mount: &MountId) -> bool {
        let mut mounts = self.mounts.write().unwrap_or_else(PoisonError::into_inner);
        // Under the lock nobody else can come by another handle.
        let Some(counters) = mounts
            .get(mount)
            .filter(|known| Arc::strong_count(known) == 1)
        else {
            return false;
        };
        self.forgotten.add(counters);
        mounts.remove(mount);
        if mounts.capacity() > SMALL && mounts.len() * 4 < mounts.capacity() {
            mounts.shrink_to(SMALL);
        }
        true
    }

    /// Bytes handed to listeners since the process began, by mounts that are forgotten too.
    pub fn sent_bytes(&self) -> u64 {
        let now = self.sum(MountCounters::sent_bytes);
        now + self.forgotten.sent_bytes.load(Ordering::Relaxed)
    }

    /// Bytes taken from sources and parents since the process began, by mounts that are forgotten too.
    pub fn received_bytes(&self) -> u64 {
        let now = self.sum(MountCounters::received_bytes);
        now + self.forgotten.received_bytes.load(Ordering::Relaxed)
    }

    fn sum(&self, of: impl Fn(&MountCounters) -> u64) -> u64 {
        let mounts = self.mounts.read().unwrap_or_else(PoisonError::into_inner);
        mounts.values().map(|counters| of(counters)).sum()
    }

    /// Numbers of a mount at this node.
    pub fn share(&self, counters: &MountCounters) -> Share {
        counters.share(self.uptime_millis())
    }

    /// The numbers of a mount that the public is told: on a primary those of all nodes.
    pub fn audience(&self, counters: &MountCounters) -> Audience {
        counters.audience(self.uptime_millis())
    }

    /// Listener sessions opened since the process began.
    pub fn listener_connections(&self) -> u64 {
        self.listener_connections.load(Ordering::Relaxed)
    }

    /// Counts the addresses that listen to each mount; to be called about once a second.
    pub fn count_addresses(&self) {
        let mut addresses: HashMap<MountId, HashSet<IpAddr>> = HashMap::new();
        for session in self.sessions() {
            if let Some(known) = addresses.get_mut(&session.mount) {
                known.insert(session.address);
            } else {
                addresses.insert(session.mount.clone(), HashSet::from([session.address]));
            }
        }
        for (mount, counters) in self.mounts() {
            let known = addresses.get(&mount).map_or(0, HashSet::len);
            counters.set_unique(known as u64);
        }
    }

    /// All mounts that count something and are not forgotten.
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
    ///
    /// # Errors
    /// The limit that is reached.
    pub fn open_within(
        self: &Arc<Self>,
        opening: &Opening<'_>,
        most: Most,
    ) -> Result<Session, NoRoom> {
        if opening.class != Class::Listener {
            return Ok(self.open(opening));
        }
        let below = |open: u64| (open < most.node).then_some(open + 1);
        self.open_listeners
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, below)
            .map_err(|_| NoRoom::Node)?;
        self.enter(opening, most.address).inspect_err(|_| {
            self.open_listeners.fetch_sub(1, Ordering::Relaxed);
        })
    }

    /// Opens a session without a limit.
    pub fn open(self: &Arc<Self>, opening: &Opening<'_>) -> Session {
        if opening.class == Class::Listener {
            self.open_listeners.fetch_add(1, Ordering::Relaxed);
            self.lock_sessions().take_place(opening.address, u64::MAX);
        }
        self.session_of(opening)
    }

    fn enter(
        self: &Arc<Self>,
        opening: &Opening<'_>,
        most: Option<u64>,
    ) -> Result<Session, NoRoom> {
        let most = most.unwrap_or(u64::MAX);
        let taken = self.lock_sessions().take_place(opening.address, most);
        if taken {
            Ok(self.session_of(opening))
        } else {
            Err(NoRoom::Address)
        }
    }

    /// The session of one whose place is counted.
    fn session_of(self: &Arc<Self>, opening: &Opening<'_>) -> Session {
        let id = ListenerId(self.next_session.fetch_add(1, Ordering::Relaxed));
        let counters = self.mount(opening.mount);
        let record = SessionRecord::new(id, opening, Arc::clone(&counters), Arc::clone(self));
        let record = Arc::new(record);
        if record.class == Class::Listener {
            counters.enter(record.started_millis);
            self.listener_connections.fetch_add(1, Ordering::Relaxed);
            self.lock_sessions().all.insert(ById(Arc::clone(&record)));
        }
        Session::new(record)
    }

    /// The listeners now, in no order.
    pub fn sessions(&self) -> Vec<Arc<SessionRecord>> {
        let sessions = self.lock_sessions();
        sessions.all.iter().map(|one| Arc::clone(&one.0)).collect()
    }

    /// One listener.
    pub fn session(&self, id: ListenerId) -> Option<Arc<SessionRecord>> {
        let sessions = self.lock_sessions();
        sessions.all.get(&id).map(|one| Arc::clone(&one.0))
    }

    fn close(&self, record: &SessionRecord, reason: EndReason) {
        if record.class == Class::Listener {
            self.open_listeners.fetch_sub(1, Ordering::Relaxed);
        }
        let mut sessions = self.lock_sessions();
        if record.class == Class::Listener {
            sessions.give_up_place(record.address);
        }
        sessions.remove(record.id);
        drop(sessions);
        (self.sink)(record, reason);
        for text in record.texts() {
            self.texts.release(text);
        }
    }

    fn lock_sessions(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts an answer that was no audio, by its reason: `relayctl_refusals_total{reason}`.
pub fn refuse(reason: &'static str) {
    metrics::counter!(export::REFUSALS, "reason" => reason).increment(1);
}
