//! Places of all connections that are neither listeners nor sources: bounded by number, by client address, by
//! credential and in the bytes of their unfinished bodies (`table` has the rules).
//!
//! A connection takes its [`Place`] when it leaves the thread that accepts and keeps it until it ends or becomes a
//! listener or a source. One that must go is told by its [`Signal`]; [`hold`] then drops its task, and with it the
//! descriptor.
//!
//! Must never: be locked by the thread that accepts for a request that it answers itself.

mod table;

use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::task::AtomicWaker;
use tokio::sync::Notify;

use super::MAX_WAITING;
pub use table::State;
use table::{Evicted, Table};

/// Strangers at most, however many descriptors there are.
pub const MAX_STRANGERS: usize = 4096;

/// Strangers that are let in however few descriptors there are: within those that listeners never get.
pub const MIN_STRANGERS: usize = 64;

/// A connection that lasts no longer is not counted to its address: hundreds of honest players behind one address may
/// come in one moment.
pub const GRACE: Duration = Duration::from_millis(500);

/// How long a head may take, and a TLS handshake.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// All places.
pub struct Gate {
    table: Mutex<Table<Arc<Signal>>>,
    /// Strangers in the table, to be read without the lock.
    strangers: AtomicUsize,
    /// Those without a byte yet in the thread that accepts, each for [`GRACE`] at most: they count among all, but to no
    /// address.
    front: AtomicUsize,
    /// Strangers that there may be now.
    room: AtomicUsize,
    hasher: RandomState,
    /// Zero of the deadlines in [`Signal`].
    epoch: Instant,
}

/// How the gate and a connection's tasks tell each other what happens to it.
#[derive(Default)]
pub struct Signal {
    evicted: Notify,
    /// See [`Fault`].
    fault: AtomicU8,
    body: AtomicWaker,
    /// Milliseconds of the gate's clock by which the answer must have been taken; 0 for no such moment.
    answer_by: AtomicU64,
}

/// Why a request's body was not read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The body was given up for the budget of bytes.
    Budget = 1,
    /// The body came too slowly.
    Slow = 2,
    /// The body is longer than any message.
    Long = 3,
}

impl Signal {
    /// Notes why the body is given up, and wakes who reads it.
    pub fn fail(&self, fault: Fault) {
        self.fault.store(fault as u8, Ordering::Release);
        self.body.wake();
    }

    /// Why the body was given up, if it was.
    pub fn fault(&self) -> Option<Fault> {
        match self.fault.load(Ordering::Acquire) {
            1 => Some(Fault::Budget),
            2 => Some(Fault::Slow),
            3 => Some(Fault::Long),
            _ => None,
        }
    }

    /// Reads the fault, and registers the task to be woken by the next one.
    pub fn poll_fault(&self, cx: &std::task::Context<'_>) -> Option<Fault> {
        self.body.register(cx.waker());
        self.fault()
    }
}

/// A connection's place; dropping it gives the place back.
pub struct Place(Arc<Seat>);

/// State shared by a [`Place`] and the handles that act for it.
pub struct Seat {
    gate: Arc<Gate>,
    number: u64,
    signal: Arc<Signal>,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            table: Mutex::default(),
            strangers: AtomicUsize::new(0),
            front: AtomicUsize::new(0),
            room: AtomicUsize::new(MAX_STRANGERS),
            hasher: RandomState::new(),
            epoch: Instant::now(),
        }
    }
}

impl Gate {
    /// Takes a place; the oldest stranger gives up its own if there are too many. `client` is the address that it counts
    /// to after [`GRACE`], or none where that is no client's own.
    pub fn enter(self: &Arc<Self>, state: State, client: Option<IpAddr>) -> Place {
        let signal = Arc::new(Signal::default());
        let number = self.change(|table| {
            let number = table.enter(state, client, Arc::clone(&signal));
            (number, self.trimmed(table))
        });
        Place(Arc::new(Seat {
            gate: Arc::clone(self),
            number,
            signal,
        }))
    }

    /// Strangers that there may be from now on.
    pub fn set_room(&self, room: usize) {
        self.room.store(room, Ordering::Relaxed);
    }

    /// One more at the front.
    pub fn enter_front(&self) {
        self.front.fetch_add(1, Ordering::Relaxed);
    }

    /// One less.
    pub fn leave_front(&self) {
        self.front.fetch_sub(1, Ordering::Relaxed);
    }

    /// True where there are more than may be: the oldest at the front has to take a place here.
    pub fn is_crowded(&self) -> bool {
        let front = self.front.load(Ordering::Relaxed);
        let strangers = self.strangers.load(Ordering::Relaxed);
        front > 0 && front + strangers > self.room.load(Ordering::Relaxed)
    }

    /// Ends up to `most` strangers for their descriptors; how many. Their tasks close them in a moment.
    pub fn evict(&self, most: usize) -> usize {
        self.change(|table| {
            let gone: Vec<_> = (0..most)
                .map_while(|_| table.evict_first("descriptors"))
                .collect();
            (gone.len(), gone)
        })
    }

    /// Publishes how many connections there are in each state, and the bytes of unfinished bodies; `idle` more are kept
    /// alive by the thread that accepts.
    pub fn publish(&self, idle: usize) {
        let table = self.lock();
        let pending = table.pending_bytes();
        let states: Vec<_> = table.states().collect();
        drop(table);
        let front = self.front.load(Ordering::Relaxed);
        for (state, count) in states {
            let more = match state {
                State::Idle => idle,
                State::Head => front,
                _ => 0,
            };
            let count = u32::try_from(count + more).unwrap_or(u32::MAX);
            metrics::gauge!("relayctl_connections", "state" => state.as_str()).set(count);
        }
        let pending = u32::try_from(pending).unwrap_or(u32::MAX);
        metrics::gauge!("relayctl_pending_bytes").set(pending);
    }

    /// Whoever has to go for there to be room.
    fn trimmed(&self, table: &mut Table<Arc<Signal>>) -> Vec<Evicted<Arc<Signal>>> {
        let front = self.front.load(Ordering::Relaxed);
        let room = self.room.load(Ordering::Relaxed).saturating_sub(front);
        std::iter::from_fn(|| table.trim(room, MAX_WAITING)).collect()
    }

    /// Works on the table, and tells those who lost their place by it.
    fn change<R, I>(&self, work: impl FnOnce(&mut Table<Arc<Signal>>) -> (R, I)) -> R
    where
        I: IntoIterator<Item = Evicted<Arc<Signal>>>,
    {
        let (result, evicted) = {
            let mut table = self.lock();
            let done = work(&mut table);
            self.strangers.store(table.strangers(), Ordering::Relaxed);
            done
        };
        for one in evicted {
            crate::telemetry::refuse(one.reason);
            one.handle.evicted.notify_one();
        }
        result
    }

    fn lock(&self) -> MutexGuard<'_, Table<Arc<Signal>>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// For those who act on the place while the connection has it.
    pub fn seat(&self) -> Arc<Seat> {
        Arc::clone(&self.0)
    }

    /// The connection is at something else now.
    pub fn set_state(&self, state: State) {
        self.0.set_state(state);
    }

    /// The client that the head names, or none where nobody tells.
    pub fn set_client(&self, client: Option<IpAddr>) {
        let number = self.0.number;
        self.0
            .gate
            .change(|table| ((), table.set_client(number, client)));
    }

    /// Counts the connection to its accepted credential.
    pub fn vouch(&self, credential: &[u8]) {
        self.0.vouch(credential);
    }

    /// The answer must have been taken within this time from now; none sets no such end.
    pub fn answer_within(&self, time: Option<Duration>) {
        self.0.answer_within(time);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let number = self.0.number;
        self.0.gate.change(|table| {
            table.leave(number);
            ((), None)
        });
    }
}

impl Seat {
    /// The connection is at something else now.
    pub fn set_state(&self, state: State) {
        self.gate.change(|table| {
            table.set_state(self.number, state);
            ((), None)
        });
    }

    /// The connection's signal.
    pub fn signal(&self) -> &Arc<Signal> {
        &self.signal
    }

    /// A credential was accepted: the connection counts to that from now on, and to no address.
    pub fn vouch(&self, credential: &[u8]) {
        let hash = self.gate.hasher.hash_one(credential);
        self.gate
            .change(|table| ((), table.vouch(self.number, hash)));
    }

    /// More bytes of an unfinished body are held.
    pub fn add_bytes(&self, bytes: usize) {
        let over = self
            .gate
            .change(|table| (table.add_bytes(self.number, bytes), None));
        if let Some(over) = over {
            crate::telemetry::refuse(over.reason);
            over.handle.fail(Fault::Budget);
        }
    }

    /// The body is whole, or given up.
    pub fn end_body(&self) {
        self.gate.change(|table| {
            table.end_body(self.number);
            ((), None)
        });
    }

    /// The answer must have been taken within this time from now; none sets no such end.
    pub fn answer_within(&self, time: Option<Duration>) {
        let by = time.map_or(0, |time| millis(self.gate.epoch.elapsed() + time).max(1));
        self.signal.answer_by.store(by, Ordering::Relaxed);
    }

    /// Deadline by which the client must have taken the answer.
    pub fn answer_by(&self) -> Option<Instant> {
        match self.signal.answer_by.load(Ordering::Relaxed) {
            0 => None,
            by => Some(self.gate.epoch + Duration::from_millis(by)),
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Runs the task of a connection that has a place since `since`, until it ends or has to give way. After [`GRACE`] the
/// connection counts to its address.
pub async fn hold(seat: Arc<Seat>, since: Instant, task: impl Future<Output = ()>) {
    tokio::pin!(task);
    let grace = tokio::time::sleep_until((since + GRACE).into());
    tokio::pin!(grace);
    let mut within_grace = true;
    loop {
        tokio::select! {
            biased;
            () = seat.signal.evicted.notified() => return,
            () = task.as_mut() => return,
            () = grace.as_mut(), if within_grace => {
                within_grace = false;
                seat.gate.change(|table| ((), table.end_grace(seat.number)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_is_evicted_loses_its_task() {
        let gate = Arc::new(Gate::default());
        gate.set_room(1);
        let first = gate.enter(State::Head, None);
        let (seat, kept) = (first.seat(), Arc::new(()));
        let within = Arc::clone(&kept);
        let task = tokio::spawn(hold(seat, Instant::now(), async move {
            let _held = (first, within);
            std::future::pending::<()>().await;
        }));
        let second = gate.enter(State::Head, None);
        task.await.unwrap();
        assert_eq!(Arc::strong_count(&kept), 1);
        assert_eq!(gate.lock().strangers(), 1);
        drop(second);
        assert_eq!(gate.lock().strangers(), 0);
    }

    #[test]
    fn those_at_the_front_count_among_all() {
        let gate = Arc::new(Gate::default());
        for _ in 0..MAX_STRANGERS {
            gate.enter_front();
        }
        assert!(!gate.is_crowded());
        let first = gate.enter(State::Head, None);
        assert_eq!(gate.lock().strangers(), 0, "it went at once");
        drop(first);
        gate.enter_front();
        assert!(gate.is_crowded());
        gate.leave_front();
        gate.leave_front();
        let _second = gate.enter(State::Head, None);
        assert_eq!(gate.lock().strangers(), 1);
    }

    #[test]
    fn descriptors_are_given_by_strangers_alone() {
        let gate = Arc::new(Gate::default());
        let places: Vec<Place> = (0..5 + table::KEPT)
            .map(|_| gate.enter(State::Body, None))
            .collect();
        places[0].vouch(b"a node");
        assert_eq!(gate.evict(3), 3);
        assert_eq!(gate.evict(3), 1);
        assert_eq!(gate.evict(3), 0);
    }

    #[test]
    fn a_body_over_the_budget_is_told() {
        let gate = Arc::new(Gate::default());
        let place = gate.enter(State::Body, None);
        place.seat().add_bytes(table::MAX_PENDING_BYTES);
        assert_eq!(place.seat().signal().fault(), None);
        place.seat().add_bytes(1);
        assert_eq!(place.seat().signal().fault(), Some(Fault::Budget));
    }
}
