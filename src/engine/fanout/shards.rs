//! All shards of a node: how many, who gets a newcomer, and what they are told.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use mio::Waker;

use super::backend::{Chosen, Kind};
use super::pace::weight;
use super::shard::Shard;
use super::{Command, Config, Listener, Report, State};
use crate::engine::Busy;
use crate::engine::detours::Signpost;
use crate::engine::ring::Burst;
use crate::telemetry::panics::{self, Vital};

/// Newcomers that may wait for one shard.
const INBOX: usize = 16 * 1024;

/// What a shard carries, seen from outside.
#[derive(Debug, Default)]
pub(super) struct Gauge {
    /// The listeners by what each costs, see [`weight`].
    load: AtomicU64,
    /// It sends many at once.
    batches: AtomicBool,
    /// It was woken and has not looked at its inbox since.
    woken: AtomicBool,
}

impl Gauge {
    fn add(&self, weight: u64) {
        self.load.fetch_add(weight, Ordering::Relaxed);
    }

    /// A listener of `weight` went.
    pub fn remove(&self, weight: u64) {
        self.load.fetch_sub(weight, Ordering::Relaxed);
    }

    /// Its sends reach the kernel this way from now on.
    pub fn set_kind(&self, kind: Kind) {
        self.batches.store(kind == Kind::IoUring, Ordering::Relaxed);
    }

    fn kind(&self) -> Kind {
        if self.batches.load(Ordering::Relaxed) {
            Kind::IoUring
        } else {
            Kind::Plain
        }
    }

    /// Somebody sent something. True where the shard is to be woken for it.
    pub fn knock(&self) -> bool {
        !self.woken.swap(true, Ordering::SeqCst)
    }

    /// Something waits in the inbox that the shard has not looked at.
    pub fn is_woken(&self) -> bool {
        self.woken.load(Ordering::Relaxed)
    }

    /// The shard is about to look at its inbox: who sends after this wakes it again.
    pub fn look(&self) {
        self.woken.store(false, Ordering::SeqCst);
    }
}

struct Handle {
    inbox: SyncSender<Command>,
    waker: Arc<Waker>,
    gauge: Arc<Gauge>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// See the module.
pub(in crate::engine) struct Shards {
    handles: Vec<Handle>,
    chosen: Chosen,
}

impl Shards {
    /// Starts the threads.
    pub fn start(config: &Config) -> std::io::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let count = if config.threads == 0 {
            cores
        } else {
            config.threads
        };
        let chosen = Chosen::by(config.backend);
        let (backend, reason) = (chosen.kind.as_str(), chosen.reason.as_str());
        tracing::info!(shards = count, backend, reason, "the fan-out starts");
        let handles = (0..count)
            .map(|number| start_one(number, config, chosen.kind))
            .collect::<Result<_, _>>()?;
        Ok(Self { handles, chosen })
    }

    /// Gives a listener to the shard with the least load.
    pub fn attach(
        &self,
        listener: Listener,
        home: Arc<Signpost>,
        burst: Burst,
    ) -> Result<(), Busy> {
        let clear = weight(listener.mount.bitrate());
        // Measured at 3 kB a send: sealing costs about half of what sending does.
        let weight = match listener.tls {
            None => clear,
            Some(_) => clear + clear / 2,
        };
        let least = least(&self.handles).ok_or(Busy)?;
        least.gauge.add(weight);
        let command = Command::Attach(Box::new(listener), home, weight, burst);
        if least.inbox.try_send(command).is_err() {
            least.gauge.remove(weight);
            return Err(Busy);
        }
        wake(least);
        Ok(())
    }

    /// How it runs.
    pub fn report(&self) -> Report {
        let count = |kind| {
            let kinds = self.handles.iter().map(|handle| handle.gauge.kind());
            (kind, kinds.filter(|other| *other == kind).count())
        };
        Report {
            shards: Kind::ALL.map(count).to_vec(),
            backend: self.chosen.kind,
            reason: self.chosen.reason.clone(),
        }
    }

    /// Takes new settings (the number of threads and the way to the kernel stay).
    pub fn reconfigure(&self, config: &Config) {
        self.tell(|| Command::Reconfigure(config.clone()));
    }

    /// Sends listeners to where their signposts point.
    pub fn follow_signposts(&self) {
        self.tell(|| Command::Follow);
    }

    /// Closes the kicked.
    pub fn sweep(&self) {
        self.tell(|| Command::Sweep);
    }

    /// Every listener's state: what a process that takes the sockets over would need.
    pub fn states(&self) -> Vec<State> {
        let (report, states) = sync_channel(self.handles.len());
        self.tell(|| Command::States(report.clone()));
        drop(report);
        states.iter().flatten().collect()
    }

    /// Closes everybody and ends the threads.
    pub fn stop(&self) {
        self.tell(|| Command::Stop);
        for handle in &self.handles {
            let thread = handle
                .thread
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
            if thread.is_some_and(|thread| thread.join().is_err()) {
                tracing::error!("a fan-out shard panicked");
            }
        }
    }

    fn tell(&self, command: impl Fn() -> Command) {
        for handle in &self.handles {
            // A shard whose inbox is gone has ended already.
            let _ = handle.inbox.send(command());
            wake(handle);
        }
    }
}

fn least(handles: &[Handle]) -> Option<&Handle> {
    handles
        .iter()
        .min_by_key(|handle| handle.gauge.load.load(Ordering::Relaxed))
}

/// One wake-up is enough for all that is sent before the shard looks.
fn wake(handle: &Handle) {
    if handle.gauge.knock()
        && let Err(error) = handle.waker.wake()
    {
        tracing::error!(%error, "cannot wake a fan-out shard");
    }
}

fn start_one(number: usize, config: &Config, kind: Kind) -> std::io::Result<Handle> {
    let (inbox, commands) = sync_channel(INBOX);
    let gauge = Arc::new(Gauge::default());
    // Until the thread has seen that it cannot.
    gauge.set_kind(kind);
    let (shard, waker) = Shard::new(config.clone(), commands, Arc::clone(&gauge))?;
    let thread = panics::thread(Vital::Shard, format!("fanout-{number}"), move || {
        shard.run(kind)
    })?;
    Ok(Handle {
        inbox,
        waker,
        gauge,
        thread: Mutex::new(Some(thread)),
    })
}
