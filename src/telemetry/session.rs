//! A listener's session as a guard: opened once, closed exactly once, however it ends.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use super::{MountCounters, Telemetry};
use crate::base::ids::{ListenerId, MountId};

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

/// The protocol that a listener's request named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// `HTTP/1.0`.
    Http10,
    /// `HTTP/1.1`.
    Http11,
    /// `ICE/1.0`.
    Ice10,
}

impl Protocol {
    /// As in a request line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
            Self::Ice10 => "ICE/1.0",
        }
    }
}

/// What is known of a session when it opens.
#[derive(Debug, Clone, Copy)]
pub struct Opening<'a> {
    /// What it listens to.
    pub mount: &'a MountId,
    /// The client's address (behind trusted proxies: the one they name).
    pub address: IpAddr,
    /// `User-Agent`.
    pub user_agent: &'a str,
    /// `Referer`.
    pub referer: &'a str,
    /// Path and query as sent, without our token.
    pub target: &'a str,
    /// The protocol of the request, which is a `GET`.
    pub protocol: Protocol,
    /// Who it is.
    pub class: Class,
}

/// A session's record: apart from the hot entry, shared with `get listeners`. There is one for every listener,
/// so what can be worked out is not kept.
pub struct SessionRecord {
    /// Its number on this node.
    pub id: ListenerId,
    /// What it listens to.
    pub mount: MountId,
    /// `User-Agent`, cut at 256 bytes.
    pub user_agent: Arc<str>,
    /// `Referer`, cut at 256 bytes.
    pub referer: Arc<str>,
    /// The request's target where it is not simply the mount's path.
    target: Option<Arc<str>>,
    counters: Arc<MountCounters>,
    telemetry: Arc<Telemetry>,
    /// Milliseconds after the start of the process at which it began.
    pub(super) started_millis: u64,
    sent_bytes: AtomicU64,
    /// The client's address.
    pub address: IpAddr,
    /// Who it is.
    pub class: Class,
    protocol: Protocol,
    /// What somebody asked its end for: 0 is nobody, else the place in [`ENDINGS`] and one.
    ending: AtomicU8,
}

impl SessionRecord {
    pub(super) fn new(
        id: ListenerId,
        opening: &Opening<'_>,
        counters: Arc<MountCounters>,
        telemetry: Arc<Telemetry>,
    ) -> Self {
        let texts = &telemetry.texts;
        let is_the_path = opening.target == opening.mount.path();
        Self {
            id,
            mount: opening.mount.clone(),
            user_agent: texts.share(opening.user_agent),
            referer: texts.share(opening.referer),
            target: (!is_the_path).then(|| texts.share(opening.target)),
            counters,
            started_millis: telemetry.uptime_millis(),
            telemetry,
            sent_bytes: AtomicU64::new(0),
            address: opening.address,
            class: opening.class,
            protocol: opening.protocol,
            ending: AtomicU8::new(0),
        }
    }

    /// The request line, `GET /live.mp3 HTTP/1.1`; its target is cut at 256 bytes.
    pub fn request(&self) -> String {
        let target = self.target.as_deref().unwrap_or(self.mount.path());
        format!("GET {target} {}", self.protocol.as_str())
    }

    /// When it began, in milliseconds since 1970.
    pub fn started_unix_millis(&self) -> u64 {
        self.telemetry.started_unix_millis + self.started_millis
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
        let now = self.telemetry.uptime_millis();
        Duration::from_millis(now.saturating_sub(self.started_millis))
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

    /// The texts that it shares with others.
    pub(super) fn texts(&self) -> impl Iterator<Item = &Arc<str>> {
        [&self.user_agent, &self.referer]
            .into_iter()
            .chain(&self.target)
    }
}

impl std::fmt::Debug for SessionRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionRecord")
            .field("id", &self.id)
            .field("mount", &self.mount)
            .field("class", &self.class)
            .finish_non_exhaustive()
    }
}

/// The guard. Whoever holds it holds the listener's place in the count.
pub struct Session {
    record: Arc<SessionRecord>,
    reason: EndReason,
}

impl Session {
    pub(super) fn new(record: Arc<SessionRecord>) -> Self {
        Self {
            record,
            reason: EndReason::Left,
        }
    }

    /// The record.
    pub fn record(&self) -> &Arc<SessionRecord> {
        &self.record
    }

    /// The mount's counters.
    pub fn counters(&self) -> &MountCounters {
        &self.record.counters
    }

    /// Counts bytes that the socket took in one send.
    pub fn sent(&self, bytes: u64) {
        self.record.add_sent(bytes);
        self.record.counters.add_sent(bytes);
        self.record.counters.add_sends(1);
    }

    /// Ends the session for `reason`; merely dropping it means the client left.
    pub fn finish(mut self, reason: EndReason) {
        self.reason = reason;
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.record.class == Class::Listener {
            self.record.counters.leave(self.record.started_millis);
        }
        self.record.telemetry.close(&self.record, self.reason);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    fn open(telemetry: &Arc<Telemetry>, class: Class, target: &str) -> Session {
        telemetry.open(&Opening {
            mount: &MountId::new("/live.mp3").unwrap(),
            address: IpAddr::from([127, 0, 0, 1]),
            user_agent: &"é".repeat(200),
            referer: "",
            target,
            protocol: Protocol::Http11,
            class,
        })
    }

    #[test]
    fn a_record_is_small() {
        // With the two counts of its `Arc` and the allocator's word: 144 bytes.
        assert!(size_of::<SessionRecord>() <= 120);
        assert_eq!(size_of::<Session>(), 16);
    }

    #[test]
    fn a_session_is_closed_exactly_once_however_it_ends() {
        let seen: Arc<Mutex<Vec<EndReason>>> = Arc::default();
        let log = Arc::clone(&seen);
        let sink = move |_: &SessionRecord, reason| log.lock().unwrap().push(reason);
        let telemetry = Telemetry::new(Box::new(sink));
        let one = open(&telemetry, Class::Listener, "/live.mp3");
        let two = open(&telemetry, Class::Listener, "/live.mp3?x=1");
        let relay = open(&telemetry, Class::Relay, "/live.mp3");
        one.sent(10);
        assert_eq!((telemetry.listeners(), telemetry.sessions().len()), (2, 2));
        assert_eq!(one.record().user_agent.len(), 256);
        assert_eq!(one.record().request(), "GET /live.mp3 HTTP/1.1");
        assert_eq!(two.record().request(), "GET /live.mp3?x=1 HTTP/1.1");
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
