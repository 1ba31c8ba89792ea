//! The small files of the data directory: one thread writes them, so that no task and no tick ever waits for a disk.
//!
//! The newest state of a file wins, changes that come together are one write, and whoever made a change can wait until
//! a state that contains it is on the disk. A write that fails is tried again every second until it succeeds.

mod queue;

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::watch;

use crate::telemetry::panics::{self, Vital};

use queue::{Next, Queue, Verdict};

/// Keeps a small file in the data directory; the error is a sentence.
pub type Store = Box<dyn Fn(&str, &[u8]) -> Result<(), String> + Send + Sync>;

/// Longest wait of a request for the disk.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why a change is not on the disk.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SaveError {
    /// The write failed; it is tried again.
    #[error("`{file}` cannot be written to the data directory: {why}")]
    Failed {
        /// Name in the data directory.
        file: &'static str,
        /// The system's reason.
        why: String,
    },
    /// The disk has not answered; the write goes on.
    #[error("`{file}` is not on the disk after 5 s: the data directory does not answer")]
    Slow {
        /// Name in the data directory.
        file: &'static str,
    },
    /// Nothing is ever written there.
    #[error("`{file}` is not kept: the data directory is read-only")]
    ReadOnly {
        /// Name in the data directory.
        file: &'static str,
    },
}

/// See the module.
#[derive(Default)]
pub(super) struct Disk {
    shared: Option<Arc<Shared>>,
}

struct Shared {
    store: Store,
    queue: Mutex<Queue>,
    work: Condvar,
    /// Moves after every write.
    turns: watch::Sender<u64>,
}

/// A change on its way to the disk. Dropped, it goes on by itself.
#[must_use = "a change that nobody waits for is said with `later`"]
pub(super) struct Saving {
    shared: Option<Arc<Shared>>,
    file: &'static str,
    asked: Result<queue::Ticket, String>,
}

impl Disk {
    /// Writes by `store`; without one nothing is kept.
    pub fn new(store: Option<Store>) -> Self {
        let shared = |store| Shared {
            store,
            queue: Mutex::default(),
            work: Condvar::new(),
            turns: watch::Sender::new(0),
        };
        Self {
            shared: store.map(shared).map(Arc::new),
        }
    }

    /// True where states are kept at all.
    pub fn is_writable(&self) -> bool {
        self.shared.is_some()
    }

    /// Takes the newest state of `file`. To be called under the lock of that state: the order of the calls is the
    /// order of the states.
    pub fn save(&self, file: &'static str, state: &impl Serialize) -> Saving {
        match serde_json::to_vec_pretty(state) {
            Ok(content) => self.save_bytes(file, content),
            Err(error) => Saving {
                shared: self.shared.clone(),
                file,
                asked: Err(error.to_string()),
            },
        }
    }

    /// As [`Self::save`], of bytes.
    pub fn save_bytes(&self, file: &'static str, content: Vec<u8>) -> Saving {
        let asked = match &self.shared {
            None => Err(String::new()),
            Some(shared) => shared.ask(|queue| queue.put(file, content)),
        };
        Saving {
            shared: self.shared.clone(),
            file,
            asked,
        }
    }

    /// The newest state of `file`, whoever made it; on the disk already if nothing changed since.
    pub fn newest(&self, file: &'static str) -> Saving {
        let asked = match &self.shared {
            None => Err(String::new()),
            Some(shared) => shared.ask(|queue| queue.newest(file)),
        };
        Saving {
            shared: self.shared.clone(),
            file,
            asked,
        }
    }

    /// Waits for what is under way, five seconds at most; for the end of the process.
    pub async fn settle(&self) {
        let Some(shared) = &self.shared else { return };
        let files = shared.lock().unsaved();
        let saving = files.into_iter().map(|file| self.newest(file).on_disk());
        for saved in futures_util::future::join_all(saving).await {
            if let Err(error) = saved {
                tracing::error!(%error, "a change is lost with this process");
            }
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Some(shared) = &self.shared {
            shared.lock().close();
            shared.work.notify_one();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask(
        self: &Arc<Self>,
        change: impl FnOnce(&mut Queue) -> queue::Ticket,
    ) -> Result<queue::Ticket, String> {
        let mut queue = self.lock();
        let ticket = change(&mut queue);
        if queue.wants_writer() {
            let shared = Arc::clone(self);
            panics::thread(Vital::Disk, "disk", move || shared.run())
                .map_err(|error| format!("no thread to write it: {error}"))?;
            queue.has_writer();
        }
        drop(queue);
        self.work.notify_one();
        Ok(ticket)
    }

    /// Writes until the owner has gone.
    fn run(&self) {
        let mut queue = self.lock();
        loop {
            match queue.next(Instant::now()) {
                Next::Write(job) => {
                    drop(queue);
                    panics::drill("disk");
                    let outcome = (self.store)(job.file, &job.content);
                    if outcome.is_err() {
                        metrics::counter!("relayctl_state_write_failures_total").increment(1);
                    }
                    queue = self.lock();
                    say(job.file, queue.written(&job, outcome, Instant::now()));
                    self.turns.send_modify(|turn| *turn = turn.wrapping_add(1));
                }
                Next::Wait(None) => {
                    queue = self
                        .work
                        .wait(queue)
                        .unwrap_or_else(PoisonError::into_inner);
                }
                Next::Wait(Some(time)) => {
                    let waited = self.work.wait_timeout(queue, time);
                    queue = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
                Next::End => return,
            }
        }
    }
}

fn say(file: &str, verdict: Verdict) {
    match verdict {
        Verdict::Unremarkable => {}
        Verdict::Fails(why) => {
            tracing::error!(
                file,
                why,
                "the data directory is not written; it is tried every second"
            );
        }
        Verdict::Recovered => tracing::info!(file, "the data directory is written again"),
    }
}

impl Saving {
    /// Waits until the change is on the disk.
    ///
    /// # Errors
    /// Where the write failed, the disk does not answer, or nothing is ever written. The change holds in memory.
    pub async fn on_disk(self) -> Result<(), SaveError> {
        let file = self.file;
        let Some(shared) = self.shared else {
            return Err(SaveError::ReadOnly { file });
        };
        let ticket = self.asked.map_err(|why| SaveError::Failed { file, why })?;
        let mut turns = shared.turns.subscribe();
        let waiting = async {
            loop {
                let outcome = shared.lock().outcome(file, ticket);
                if let Some(outcome) = outcome {
                    return outcome.map_err(|why| SaveError::Failed { file, why });
                }
                // The sender lives as long as `shared`.
                let _ = turns.changed().await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, waiting).await;
        waited.unwrap_or(Err(SaveError::Slow { file }))
    }

    /// Nobody waits: it is tried until it succeeds.
    pub fn later(self) {}
}

#[cfg(test)]
mod tests;
