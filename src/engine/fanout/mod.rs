//! The fan-out: listeners in shards, one thread each, one vectored non-blocking send per listener per tick.
//!
//! Must never: lock across a send, allocate for a listener on the hot path, wait for anything but readiness
//! and the clock, or know what a request is. Above it: `engine`, which hands sockets over.

mod cursor;
mod entry;
mod plan;
mod shard;
mod wheel;

use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use mio::Waker;
use std::sync::{Mutex, PoisonError};

use super::Busy;
use super::mount::Mount;
use super::ring::Burst;
use crate::telemetry::Session;
pub use entry::{STATE_VERSION, State};
use shard::Shard;

/// The fan-out's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Shards, 0 for one a core.
    pub threads: usize,
    /// The tick of an idle shard (default 100 ms).
    pub min_delay: Duration,
    /// The tick of a full one (default 1 s).
    pub max_delay: Duration,
    /// A listener whose socket took no byte for this long is closed (default 30 s).
    pub stall: Duration,
}

/// A listener on its way into a shard.
pub struct Listener {
    /// The client.
    pub socket: TcpStream,
    /// What it listens to.
    pub mount: Arc<Mount>,
    /// The answer's head, whole.
    pub head: Bytes,
    /// Audio bytes between metadata blocks; 0 where the client asked for none, and for Ogg.
    pub metaint: u32,
    /// Its place in the count.
    pub session: Session,
    /// When its connection was accepted.
    pub accepted: Instant,
    /// When its session ends at the latest.
    pub ends_at: Option<Instant>,
}

/// What a shard is told.
enum Command {
    Attach(Box<Listener>, Burst),
    Reconfigure(Config),
    Sweep,
    /// Report the listeners' states.
    States(SyncSender<Vec<State>>),
    Stop,
}

/// Newcomers that may wait for one shard.
const INBOX: usize = 16 * 1024;

struct Handle {
    inbox: SyncSender<Command>,
    waker: Arc<Waker>,
    listeners: Arc<AtomicUsize>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// All shards of a node.
pub(super) struct Shards {
    handles: Vec<Handle>,
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
        let handles = (0..count)
            .map(|number| start_one(number, config))
            .collect::<Result<_, _>>()?;
        Ok(Self { handles })
    }

    /// Gives a listener to the shard that holds the fewest.
    pub fn attach(&self, listener: Listener, burst: Burst) -> Result<(), Busy> {
        let least = self
            .handles
            .iter()
            .min_by_key(|h| h.listeners.load(Ordering::Relaxed))
            .ok_or(Busy)?;
        least.listeners.fetch_add(1, Ordering::Relaxed);
        let sent = least
            .inbox
            .try_send(Command::Attach(Box::new(listener), burst));
        if sent.is_err() {
            least.listeners.fetch_sub(1, Ordering::Relaxed);
            return Err(Busy);
        }
        wake(least);
        Ok(())
    }

    /// Takes new settings (the number of threads stays).
    pub fn reconfigure(&self, config: &Config) {
        self.tell(|| Command::Reconfigure(config.clone()));
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

fn wake(handle: &Handle) {
    if let Err(error) = handle.waker.wake() {
        tracing::error!(%error, "cannot wake a fan-out shard");
    }
}

fn start_one(number: usize, config: &Config) -> std::io::Result<Handle> {
    let (inbox, commands) = sync_channel(INBOX);
    let listeners = Arc::new(AtomicUsize::new(0));
    let (shard, waker) = Shard::new(config.clone(), commands, Arc::clone(&listeners))?;
    let thread = std::thread::Builder::new()
        .name(format!("fanout-{number}"))
        .spawn(move || shard.run())?;
    Ok(Handle {
        inbox,
        waker,
        listeners,
        thread: Mutex::new(Some(thread)),
    })
}
