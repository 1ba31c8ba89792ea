//! The counters of the hot path: plain atomics, read when Prometheus asks.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::audience::{Audience, Others, Share};

/// What is counted for one mount on this node.
#[derive(Debug, Default)]
pub struct MountCounters {
    listeners: AtomicU64,
    /// Those who listen at an attached server without this node.
    elsewhere: AtomicU64,
    /// On a primary: what the other nodes report.
    others: Mutex<Others>,
    /// Addresses of the listeners here, when they were counted last.
    unique: AtomicU64,
    /// Milliseconds of the node's uptime at which the listeners of now came, added up.
    began_millis: AtomicU64,
    peak: AtomicU64,
    sessions: AtomicU64,
    sent_bytes: AtomicU64,
    sends: AtomicU64,
    received_bytes: AtomicU64,
    skipped_bytes: AtomicU64,
    gap_bytes: AtomicU64,
    gap_micros: AtomicU64,
    slow_jumps: AtomicU64,
    slow_closes: AtomicU64,
    stalls: AtomicU64,
    fallback_moves: AtomicU64,
    fallback_returns: AtomicU64,
}

macro_rules! counter {
    ($($(#[$doc:meta])* $field:ident, $add:ident;)*) => {
        $(
            $(#[$doc])*
            pub fn $field(&self) -> u64 {
                self.$field.load(Ordering::Relaxed)
            }

            #[doc = concat!("Adds to [`Self::", stringify!($field), "`].")]
            pub fn $add(&self, amount: u64) {
                self.$field.fetch_add(amount, Ordering::Relaxed);
            }
        )*
    };
}

impl MountCounters {
    counter! {
        /// Bytes handed to listeners' sockets: heads, audio and metadata.
        sent_bytes, add_sent;
        /// Sends that took those bytes: each is one system call.
        sends, add_sends;
        /// Bytes taken from the source or the parent.
        received_bytes, add_received;
        /// Bytes of the source that were no whole frame.
        skipped_bytes, add_skipped;
        /// Bytes that were lost between this node and its parent.
        gap_bytes, add_gap;
        /// The same in microseconds of playing time.
        gap_micros, add_gap_micros;
        /// Listeners that fell out of the ring and jumped.
        slow_jumps, add_slow_jumps;
        /// Listeners closed because they fell out of the ring again.
        slow_closes, add_slow_closes;
        /// Listeners closed because their socket took nothing for too long.
        stalls, add_stalls;
        /// Listeners that went on at the mount's fallback.
        fallback_moves, add_fallback_moves;
        /// Listeners that came back from a fallback.
        fallback_returns, add_fallback_returns;
    }

    /// Listeners now.
    pub fn listeners(&self) -> u64 {
        let own = self.listeners.load(Ordering::Relaxed);
        own.saturating_add(self.elsewhere.load(Ordering::Relaxed))
    }

    /// Sets how many listen at an attached server without this node.
    pub fn set_elsewhere(&self, listeners: u64) {
        self.elsewhere.store(listeners, Ordering::Relaxed);
    }

    /// Numbers of this node, `uptime_millis` after its start.
    pub fn share(&self, uptime_millis: u64) -> Share {
        let here = self.listeners.load(Ordering::Relaxed);
        let began = self.began_millis.load(Ordering::Relaxed);
        Share {
            listeners: self.listeners(),
            unique_listeners: self.unique.load(Ordering::Relaxed).min(here),
            listened_seconds: here.saturating_mul(uptime_millis).saturating_sub(began) / 1000,
            sessions: self.sessions(),
            sent_bytes: self.sent_bytes(),
            slow_listeners: self.slow_jumps() + self.slow_closes(),
        }
    }

    /// The numbers that the public is told: on a primary those of all nodes.
    pub fn audience(&self, uptime_millis: u64) -> Audience {
        let others = *self.lock_others();
        let share = self.share(uptime_millis).plus(others.share);
        Audience {
            share,
            peak: self.peak().max(others.peak).max(share.listeners),
        }
    }

    /// Takes what the other nodes report.
    pub fn set_others(&self, others: Others) {
        *self.lock_others() = others;
    }

    fn lock_others(&self) -> std::sync::MutexGuard<'_, Others> {
        self.others.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_unique(&self, addresses: u64) {
        self.unique.store(addresses, Ordering::Relaxed);
    }

    /// Most listeners at once on this node since the process began.
    pub fn peak(&self) -> u64 {
        self.peak.load(Ordering::Relaxed)
    }

    /// Listener sessions opened since the process began.
    pub fn sessions(&self) -> u64 {
        self.sessions.load(Ordering::Relaxed)
    }

    pub(super) fn enter(&self, uptime_millis: u64) {
        self.began_millis
            .fetch_add(uptime_millis, Ordering::Relaxed);
        let now = self.listeners.fetch_add(1, Ordering::Relaxed) + 1;
        self.peak.fetch_max(now, Ordering::Relaxed);
        self.sessions.fetch_add(1, Ordering::Relaxed);
    }

    /// A listener goes who came at `uptime_millis`.
    pub(super) fn leave(&self, uptime_millis: u64) {
        self.began_millis
            .fetch_sub(uptime_millis, Ordering::Relaxed);
        self.listeners.fetch_sub(1, Ordering::Relaxed);
    }
}
