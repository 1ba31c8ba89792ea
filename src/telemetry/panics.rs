//! Panics: which of them end the process, and which one connection.
//!
//! Every thread and task begins here, as one of [`Vital`] or as [`guarded`]; `tests/layers.rs` looks for others. A panic
//! in a vital one ends the process with exit code 1, so that whatever started it starts it anew: a node that accepts
//! nobody, or beats no more, helps nobody by running. A panic in the task of one connection ends that connection, is
//! counted (`relayctl_panics_total`), and becomes an event.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::watch;

/// Name of the series.
pub(crate) const PANICS: &str = "relayctl_panics_total";

/// Longest time from a vital panic to the end of the process, where the rest of it does not come to an end by itself.
const LAST: Duration = Duration::from_secs(5);

/// Panics of connections that wait to become events; what is more is counted only.
const MAX_WAITING: usize = 64;

/// Lines about panics of connections in a minute.
const LINES: u64 = 10;

/// Threads and tasks that a node cannot live without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vital {
    /// Accepts connections and answers heads, a thread for each port.
    Front,
    /// Sends to listeners, a thread for each processor.
    Shard,
    /// Writes the small files of the data directory.
    Disk,
    /// Writes the access log.
    AccessLog,
    /// Looks at everything a few times a second: drains, limits, the table, liveness.
    Tick,
    /// Opens a port and waits for its thread.
    Port,
    /// Serves the node's own socket.
    Socket,
    /// A relay as a member: it joins, beats and follows the feed.
    Member,
    /// A relay's list of pulls.
    Pulls,
    /// Fetches the URLs of relays.
    Probes,
    /// Starts an external engine, and starts it again.
    Supervisor,
    /// Watches an external engine.
    Engine,
    /// Listens to an external engine's mounts.
    Taps,
    /// Tells systemd that the node lives.
    Watchdog,
    /// Looks for a certificate that runs out.
    Certificate,
    /// Keeps the rendered files.
    Keeper,
    /// Listens for silence.
    Silence,
    /// Turns foreign pulls on and off.
    Demand,
    /// Tells Kubernetes which pod to take away first.
    Costs,
    /// Signals of the system.
    Signals,
}

impl Vital {
    /// The word in log lines.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Front => "front",
            Self::Shard => "shard",
            Self::Disk => "disk",
            Self::AccessLog => "access_log",
            Self::Tick => "tick",
            Self::Port => "port",
            Self::Socket => "socket",
            Self::Member => "member",
            Self::Pulls => "pulls",
            Self::Probes => "probes",
            Self::Supervisor => "supervisor",
            Self::Engine => "engine",
            Self::Taps => "taps",
            Self::Watchdog => "watchdog",
            Self::Certificate => "certificate",
            Self::Keeper => "keeper",
            Self::Silence => "silence",
            Self::Demand => "demand",
            Self::Costs => "costs",
            Self::Signals => "signals",
        }
    }
}

/// A panic of a connection's task, for an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// The kind of task: a label of `relayctl_panics_total`.
    pub task: &'static str,
    /// Message and place of the panic.
    pub message: String,
}

/// Why the process has to end.
static FATAL: LazyLock<watch::Sender<Option<String>>> = LazyLock::new(|| watch::Sender::new(None));

/// True where this process is a node, and ends by a vital panic.
static IS_NODE: AtomicBool = AtomicBool::new(false);

static WAITING: Mutex<Vec<Broken>> = Mutex::new(Vec::new());

/// Lines written since the last call of [`take`] that began a minute.
static WRITTEN: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// The code that runs is watched by this module, which says what its panic means.
    static WATCHED: Cell<bool> = const { Cell::new(false) };
    static SAID: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Makes this process a node: panics go to the log, and a vital one ends it.
pub fn watch_process() -> watch::Receiver<Option<String>> {
    IS_NODE.store(true, Ordering::Relaxed);
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if WATCHED.get() {
            SAID.set(Some(message_of(info)));
        } else {
            tracing::error!(
                thread = thread_name(),
                message = message_of(info),
                "panicked"
            );
            before(info);
        }
    }));
    FATAL.subscribe()
}

/// Begins a thread that a node cannot live without.
///
/// # Errors
/// Where the system gives no thread.
pub fn thread(
    part: Vital,
    name: impl Into<String>,
    body: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name(name.into())
        .spawn(move || {
            if let Err(message) = watched(body) {
                end(part, &message);
            }
        })
}

/// A task that a node cannot live without; to be spawned.
pub async fn vital(part: Vital, task: impl Future<Output = ()>) {
    if let Err(message) = watched_task(task).await {
        end(part, &message);
    }
}

/// The task of one connection, or of one thing of many: none where it panicked, which is counted under `task`.
pub async fn guarded<T>(task: &'static str, body: impl Future<Output = T>) -> Option<T> {
    match watched_task(body).await {
        Ok(value) => Some(value),
        Err(message) => {
            note(task, message);
            None
        }
    }
}

/// Ends the process, since a part of it that it cannot live without has ended: at once where the node is still able to,
/// and in any case within five seconds.
pub fn end(part: Vital, why: &str) {
    let part = part.as_str();
    tracing::error!(
        part,
        thread = thread_name(),
        why,
        "this node cannot live without a part that panicked, and ends"
    );
    FATAL.send_replace(Some(format!("the part `{part}` panicked: {why}")));
    if !IS_NODE.load(Ordering::Relaxed) {
        return;
    }
    let last = std::thread::Builder::new().name("last".into()).spawn(|| {
        std::thread::sleep(LAST);
        std::process::exit(1);
    });
    if last.is_err() {
        std::process::exit(1);
    }
}

/// Panics of connections since the last call, for events. To be called about once a second.
pub fn take() -> Vec<Broken> {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    if CALLS.fetch_add(1, Ordering::Relaxed).is_multiple_of(60) {
        WRITTEN.store(0, Ordering::Relaxed);
    }
    std::mem::take(&mut *WAITING.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Panics where `RCTL_DRILL` is this word, for the tests of this module; nothing in a release.
#[inline]
pub fn drill(word: &str) {
    #[cfg(debug_assertions)]
    {
        static WANTED: LazyLock<Option<String>> =
            LazyLock::new(|| std::env::var("RCTL_DRILL").ok());
        assert!(WANTED.as_deref() != Some(word), "drill of `{word}`");
    }
    let _ = word;
}

fn note(task: &'static str, message: String) {
    metrics::counter!(PANICS, "reason" => task).increment(1);
    if WRITTEN.fetch_add(1, Ordering::Relaxed) < LINES {
        tracing::error!(task, message, "a bug: what one connection met ended it");
    }
    let mut waiting = WAITING.lock().unwrap_or_else(PoisonError::into_inner);
    if waiting.len() < MAX_WAITING {
        waiting.push(Broken { task, message });
    }
}

fn watched<T>(body: impl FnOnce() -> T) -> Result<T, String> {
    let before = WATCHED.replace(true);
    let outcome = catch_unwind(AssertUnwindSafe(body));
    WATCHED.set(before);
    outcome.map_err(|payload| SAID.take().unwrap_or_else(|| text_of(&*payload)))
}

async fn watched_task<T>(task: impl Future<Output = T>) -> Result<T, String> {
    let mut task = pin!(task);
    poll_fn(|context| match watched(|| task.as_mut().poll(context)) {
        Ok(poll) => poll.map(Ok),
        Err(message) => std::task::Poll::Ready(Err(message)),
    })
    .await
}

fn message_of(info: &PanicHookInfo<'_>) -> String {
    let text = text_of(info.payload());
    match info.location() {
        Some(at) => format!("{text} ({}:{})", at.file(), at.line()),
        None => text,
    }
}

/// Message of a panic, cut, since it may hold text that a stranger sent.
fn text_of(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("no text").chars().take(200).collect()
}

fn thread_name() -> String {
    std::thread::current()
        .name()
        .unwrap_or("unnamed")
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_that_panics_ends_alone_and_is_noted() {
        let fine = guarded("connection", async { 7 }).await;
        assert_eq!(fine, Some(7));
        let broken = guarded("connection", async {
            tokio::task::yield_now().await;
            assert_eq!(1, 2, "of a stranger");
        });
        assert_eq!(broken.await, None);
        let noted = take();
        assert_eq!(noted.len(), 1);
        assert_eq!(noted[0].task, "connection");
        assert!(noted[0].message.contains("of a stranger"), "{noted:?}");
        assert_eq!(take(), []);
        // However many there are, what waits is bounded.
        for _ in 0..1_000 {
            assert!(
                guarded("connection", async { panic!("again") })
                    .await
                    .is_none()
            );
        }
        assert_eq!(take().len(), MAX_WAITING);
        assert_eq!(*FATAL.borrow(), None);
    }

    #[tokio::test]
    async fn a_vital_part_that_panics_is_fatal() {
        let mut fatal = FATAL.subscribe();
        vital(Vital::Tick, async {}).await;
        thread(Vital::Shard, "fine", || {}).unwrap().join().unwrap();
        assert_eq!(*fatal.borrow(), None);
        vital(Vital::Tick, async { panic!("no tick") }).await;
        let said = fatal.wait_for(Option::is_some).await.unwrap().clone();
        assert_eq!(said.unwrap(), "the part `tick` panicked: no tick");
        let shard = thread(Vital::Shard, "fanout-0", || panic!("no shard")).unwrap();
        shard.join().unwrap();
        let said = FATAL.borrow().clone().unwrap();
        assert_eq!(said, "the part `shard` panicked: no shard");
    }
}
