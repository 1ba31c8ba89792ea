//! A listener's session as a guard: opened once, closed exactly once, however it ends.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::{MountCounters, Telemetry};
use crate::base::ids::{ListenerId, MountId};
use crate::base::wall::unix_millis;

/// Longest agent or referer kept, in bytes.
pub const MAX_TEXT: usize = 256;

/// Who is at the other end. Only listeners count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// A person's player.
    Listener,
    /// A foreign server that relays us, logged in as `relay`.
    Relay,
    /// A probe of ours.
    Probe,
}

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    /// The client went.
    Left,
    /// The stream ended.
    Ended,
    /// The next stream needs another decoder.
    Changed,
    /// The socket took no byte for `listener.stall`.
    Stalled,
    /// It fell out of the ring for the second time within ten minutes.
    Slow,
    /// An operator closed it.
    Kicked,
    /// The mount's longest duration was reached.
    Duration,
    /// The same playback session came again.
    Superseded,
    /// The node went down.
    Shutdown,
    /// The node is being emptied.
    Drained,
}

impl EndReason {
    /// The word in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Ended => "ended",
            Self::Changed => "changed",
            Self::Stalled => "stalled",
            Self::Slow => "slow",
            Self::Kicked => "kicked",
            Self::Duration => "duration",
            Self::Superseded => "superseded",
            Self::Shutdown => "shutdown",
            Self::Drained => "drained",
        }
    }
}

/// Ends that are asked for from outside.
const ENDINGS: [EndReason; 3] = [EndReason::Kicked, EndReason::Superseded, EndReason::Drained];

/// What is known of a session when it opens.
#[derive(Debug, Clone)]
pub struct Opening {
    /// What it listens to.
    pub mount: MountId,
    /// The client's address (behind trusted proxies: the one they name).
    pub address: IpAddr,
    /// `User-Agent`.
    pub user_agent: String,
    /// `Referer`.
    pub referer: String,
    /// `GET /live.mp3 HTTP/1.1`, without credentials and without our token.
    pub request: String,
    /// Who it is.
    pub class: Class,
}

/// A session's record: apart from the hot entry, shared with `get listeners`.
#[derive(Debug)]
pub struct SessionRecord {
    /// Its number on this node.
    pub id: ListenerId,
    /// What it listens to.
    pub mount: MountId,
    /// The client's address.
    pub address: IpAddr,
    /// `User-Agent`, cut at 256 bytes.
    pub user_agent: Box<str>,
    /// `Referer`, cut at 256 bytes.
    pub referer: Box<str>,
    /// The request line.
    pub request: Box<str>,
    /// Who it is.
    pub class: Class,
    /// When it began, in milliseconds since 1970.
    pub started_unix_millis: u64,
    started: Instant,
    sent_bytes: AtomicU64,
    /// What somebody asked its end for: 0 is nobody, else the place in [`ENDINGS`] and one.
    ending: AtomicU8,
}

impl SessionRecord {
    pub(super) fn new(id: ListenerId, opening: Opening) -> Self {
        Self {
            id,
            mount: opening.mount,
            address: opening.address,
            user_agent: cut(&opening.user_agent),
            referer: cut(&opening.referer),
            request: cut(&opening.request),
            class: opening.class,
            started_unix_millis: unix_millis(),
            started: Instant::now(),
            sent_bytes: AtomicU64::new(0),
            ending: AtomicU8::new(0),
        }
    }

    /// Bytes handed to its socket so far.
    pub fn sent_bytes(&self) -> u64 {
        self.sent_bytes.load(Ordering::Relaxed)
    }

    /// Counts bytes that its socket took; the mount's counter is the caller's.
    pub fn add_sent(&self, bytes: u64) {
        self.sent_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// How long it has lasted.
    pub fn duration(&self) -> Duration {
        self.started.elapsed()
    }

    /// An operator asks for its end.
    pub fn kick(&self) {
        self.end(EndReason::Kicked);
    }

    /// Asks for its end; the shard that holds it acts on its next sweep. The first reason stays.
    pub fn end(&self, reason: EndReason) {
        let place = ENDINGS.iter().position(|known| *known == reason);
        let code = place.and_then(|at| u8::try_from(at + 1).ok()).unwrap_or(1);
        let _ = self
            .ending
            .compare_exchange(0, code, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Why its end was asked for, if it was.
    pub fn ending(&self) -> Option<EndReason> {
        let code = usize::from(self.ending.load(Ordering::Relaxed));
        ENDINGS.get(code.checked_sub(1)?).copied()
    }
}

fn cut(text: &str) -> Box<str> {
    let mut end = text.len().min(MAX_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or("").into()
}

/// The guard. Whoever holds it holds the listener's place in the count.
pub struct Session {
    record: Arc<SessionRecord>,
    counters: Arc<MountCounters>,
    telemetry: Arc<Telemetry>,
    reason: EndReason,
}

impl Session {
    pub(super) fn new(
        record: Arc<SessionRecord>,
        counters: Arc<MountCounters>,
        telemetry: Arc<Telemetry>,
    ) -> Self {
        Self {
            record,
            counters,
            telemetry,
            reason: EndReason::Left,
        }
    }

    /// The record.
    pub fn record(&self) -> &Arc<SessionRecord> {
        &self.record
    }

    /// The mount's counters.
    pub fn counters(&self) -> &MountCounters {
        &self.counters
    }

    /// Counts bytes that the socket took in one send.
    pub fn sent(&self, bytes: u64) {
        self.record.add_sent(bytes);
        self.counters.add_sent(bytes);
        self.counters.add_sends(1);
    }

    /// Ends the session for `reason`; merely dropping it means the client left.
    pub fn finish(mut self, reason: EndReason) {
        self.reason = reason;
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.record.class == Class::Listener {
            self.counters.leave();
        }
        self.telemetry.close(&self.record, self.reason);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    fn opening(class: Class) -> Opening {
        Opening {
            mount: MountId::new("/live.mp3").unwrap(),
            address: IpAddr::from([127, 0, 0, 1]),
            user_agent: "é".repeat(200),
            referer: String::new(),
            request: "GET /live.mp3 HTTP/1.1".into(),
            class,
        }
    }

    #[test]
    fn a_session_is_closed_exactly_once_however_it_ends() {
        let seen: Arc<Mutex<Vec<EndReason>>> = Arc::default();
        let log = Arc::clone(&seen);
        let sink = move |_: &SessionRecord, reason| log.lock().unwrap().push(reason);
        let telemetry = Telemetry::new(Box::new(sink));
        let one = telemetry.open(opening(Class::Listener));
        let two = telemetry.open(opening(Class::Listener));
        let relay = telemetry.open(opening(Class::Relay));
        one.sent(10);
        assert_eq!((telemetry.listeners(), telemetry.sessions().len()), (2, 2));
        assert_eq!(one.record().user_agent.len(), 256);
        one.finish(EndReason::Slow);
        drop(two);
        drop(relay);
        assert_eq!(telemetry.listeners(), 0);
        assert_eq!(
            *seen.lock().unwrap(),
            [EndReason::Slow, EndReason::Left, EndReason::Left]
        );
        let counters = telemetry.mount(&MountId::new("/live.mp3").unwrap());
        assert_eq!(
            (counters.peak(), counters.sessions(), counters.sent_bytes()),
            (2, 2, 10)
        );
    }
}
