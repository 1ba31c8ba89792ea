//! The fan-out: listeners in shards, one thread each, one vectored non-blocking send per listener per tick.
//!
//! Must never: lock across a send, allocate for a listener on the hot path, wait for anything but readiness
//! and the clock, or know what a request is. Above it: `engine`, which hands sockets over.

//!
//! A newcomer goes `shards` (which one) → `shard::arrive` → `shard::visit`, where everybody's turns are: `cursor`
//! (where it stands; `detour`: on which mount) → `plan` (what it gets) → `batch` → `backend` (how that reaches the kernel). When its next
//! turn is, `pace` and `wheel` know.

mod backend;
mod batch;
mod cursor;
mod deadlines;
mod detour;
mod entry;
mod pace;
mod plan;
mod shard;
mod shards;
mod socket;
mod tls;
mod views;
mod wheel;

use std::net::TcpStream;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustls::ServerConnection;

use super::detours::Signpost;
use super::mount::Mount;
use super::ring::Burst;
use crate::base::ids::MountId;
use crate::telemetry::Session;
pub use backend::{Choice, Kind};
pub use entry::{STATE_VERSION, State};
pub(super) use shards::Shards;

/// A client that has closed its writing side listens on for as long as it gets something; nothing tells it from one that is
/// gone where nothing was sent for this long.
pub const HALF_CLOSED: Duration = Duration::from_secs(10);

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
    /// How sends reach the kernel; chosen once, at the start.
    pub backend: Choice,
}

/// State of a client's writing side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Input {
    /// Open: more may come.
    Open,
    /// Closed: nothing more comes, and the client may hear on.
    Closed,
    /// The client is gone, or says what no listener says.
    Gone,
}

/// How the fan-out runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Shards that send in each way; all the same but where one of them had to change.
    pub shards: Vec<(Kind, usize)>,
    /// Which way was chosen.
    pub backend: Kind,
    /// Why.
    pub reason: String,
}

/// A listener on its way into a shard.
pub struct Listener {
    /// The client.
    pub socket: TcpStream,
    /// Its session where it speaks TLS, the handshake done.
    pub tls: Option<Box<ServerConnection>>,
    /// What it asked for, and comes back to.
    pub asked: MountId,
    /// What it listens to: that, or its fallback.
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
    /// A newcomer, its signpost, its weight in the shard's load, and what it is given at once.
    Attach(Box<Listener>, Arc<Signpost>, u64, Burst),
    /// Signposts have turned.
    Follow,
    Reconfigure(Config),
    Sweep,
    /// Report the listeners' states.
    States(SyncSender<Vec<State>>),
    Stop,
}
