//! A relay's pull of one mount: which parent, when to leave it, and how soon to come back.
//!
//! Between two connections the mount is given back to the engine, so that its listeners are held from the last
//! byte on, and no longer than the mount's hold.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::ask::Ask;
use super::client::{self, Reply};
use super::playing::Playing;
use super::pulls::Pulls;
use super::report::Report;
use crate::base::ids::{Epoch, MountId, NodeId, Position};
use crate::base::retry::Backoff;
use crate::base::secret::Secret;
use crate::discovery::Connector;
use crate::engine::{Engine, MountState};
use crate::wire::frame::FrameDecoder;
use crate::wire::head::{Method, Request, Version};

/// A node that the mount may be pulled from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parent {
    /// `http(s)://host:port`.
    pub url: String,
    /// This node's credential.
    pub credential: Secret,
    /// The parent's node id.
    pub node: String,
}

/// The times of a pull.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pace {
    /// A parent without any frame for this long is left; so is one that is behind us for this long.
    pub silence: Duration,
    /// The first wait after every parent has failed.
    pub floor: Duration,
    /// The longest wait.
    pub ceiling: Duration,
    /// A connection that lived this long was good: the next wait is short again.
    pub settled: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            silence: Duration::from_secs(3),
            floor: Duration::from_millis(100),
            ceiling: Duration::from_secs(5),
            settled: Duration::from_secs(1),
        }
    }
}

/// Why a pull is over for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finished {
    /// It was told to stop.
    Cancelled,
    /// The origin says that the mount has ended; so it has here.
    Ended,
    /// Somebody else feeds the mount now, or an operator ended it.
    Evicted,
}

/// Why a connection to a parent is over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Left {
    #[error("parent `{node}` at {url} {why}")]
    Failed {
        node: String,
        url: String,
        why: String,
    },
    #[error("the parents have changed")]
    Reassigned,
    #[error("the mount goes on under another epoch")]
    EpochChanged,
    #[error("the parent has not got the position any more")]
    Gone,
    #[error("the mount has ended at its origin")]
    Ended,
    #[error("somebody else feeds the mount")]
    Evicted,
}

/// One mount's pull; see [`Pull::run`].
#[derive(Clone)]
pub struct Pull {
    /// Where the bytes go.
    pub engine: Arc<Engine>,
    /// How parents are reached.
    pub connector: Connector,
    /// Where the connection is noted.
    pub pulls: Pulls,
    /// The mount.
    pub mount: MountId,
    /// This node; a parent that gets the mount through it is left.
    pub own: NodeId,
    /// Times.
    pub pace: Pace,
}

/// What is remembered from one connection to the next.
struct Turn {
    index: usize,
    /// Since the last good connection.
    failures: usize,
    /// The next request names no position.
    fresh: bool,
    backoff: Backoff,
    changed_at: Option<Instant>,
}

impl Pull {
    /// Pulls until told to stop, until the mount has ended at its origin, or until somebody else feeds it here.
    /// Parents are tried in order; one that is taken from the list, or passed over by a new first one, is left.
    /// A change of the list is looked at at once.
    pub async fn run(
        self,
        mut parents: watch::Receiver<Vec<Parent>>,
        cancel: CancellationToken,
    ) -> Finished {
        let mut turn = Turn::new(&self.pace);
        let mut report = Report::default();
        loop {
            let list = parents.borrow_and_update().clone();
            let Some(parent) = list.get(turn.index % list.len().max(1)) else {
                tokio::select! {
                    () = cancel.cancelled() => return Finished::Cancelled,
                    () = any_change(&mut parents) => continue,
                }
            };
            let began = Instant::now();
            let ask = self.position().filter(|_| !std::mem::take(&mut turn.fresh));
            let left = tokio::select! {
                biased;
                () = cancel.cancelled() => return Finished::Cancelled,
                () = reassigned(&mut parents, &list, parent) => Left::Reassigned,
                left = self.follow(parent, ask, &mut report) => left,
            };
            match &left {
                Left::Ended => {
                    tracing::info!(mount = %self.mount, "{left}");
                    self.engine.end(&self.mount);
                    return Finished::Ended;
                }
                Left::Evicted => return Finished::Evicted,
                Left::Failed { .. } => {
                    report.trouble(&self.mount, &left);
                }
                _ => tracing::debug!(mount = %self.mount, parent = %parent.node, "{left}"),
            }
            let good = began.elapsed() >= self.pace.settled;
            let Some(wait) = turn.after(&left, good, list.len(), Instant::now()) else {
                continue;
            };
            tokio::select! {
                () = cancel.cancelled() => return Finished::Cancelled,
                () = reassigned(&mut parents, &list, parent) => turn.index = 0,
                () = sleep(wait) => {}
            }
        }
    }

    /// The next byte that is wanted: where our ring ends, if the mount is still there.
    pub(super) fn position(&self) -> Option<Position> {
        let mount = self.engine.mount(&self.mount)?;
        let ring = mount.ring();
        let known = mount.state() != MountState::Ended && ring.epoch() != Epoch(0);
        known.then(|| Position {
            epoch: ring.epoch(),
            offset: ring.end(),
        })
    }

    /// One connection, from the request to its end.
    async fn follow(&self, parent: &Parent, ask: Option<Position>, report: &mut Report) -> Left {
        let failed = |why: String| parent.failed(why);
        let mut reply = match timeout(self.pace.silence, self.ask(parent, ask)).await {
            Ok(Ok(reply)) => reply,
            Ok(Err(why)) => return failed(why),
            Err(_) => return failed(format!("did not answer in {:?}", self.pace.silence)),
        };
        let mut playing = Playing::new(self, parent, reply.peer.map(|peer| peer.ip()));
        let mut decoder = FrameDecoder::new();
        let mut bytes = Vec::new();
        let mut deadline = Instant::now() + self.pace.silence;
        loop {
            loop {
                match decoder.next_frame() {
                    Ok(Some(frame)) => {
                        if let Err(left) = playing.take(frame, report) {
                            return left;
                        }
                        deadline = Instant::now() + self.pace.silence;
                    }
                    Ok(None) => break,
                    Err(error) => return failed(format!("sent what cannot be read: {error}")),
                }
            }
            if playing.is_outrun(Instant::now()) {
                return failed("is behind this node".to_owned());
            }
            bytes.clear();
            let read = tokio::select! {
                biased;
                () = playing.evicted() => return Left::Evicted,
                read = timeout_at(deadline, reply.read(&mut bytes)) => read,
            };
            match read {
                Ok(Ok(true)) => decoder.push(&bytes),
                Ok(Ok(false)) => return failed("closed the connection".to_owned()),
                Ok(Err(error)) => return failed(format!("broke the connection: {error}")),
                Err(_) => return failed(format!("was silent for {:?}", self.pace.silence)),
            }
        }
    }

    async fn ask(&self, parent: &Parent, position: Option<Position>) -> Result<Reply, String> {
        let url = Url::parse(&parent.url).map_err(|error| format!("has no usable URL: {error}"))?;
        let mount = self.mount.clone();
        let target = Ask { mount, position }.target();
        let mut request = Request::new(Method::Get, target, Version::Http11);
        let credential = format!("Bearer {}", parent.credential.reveal());
        let headers = &mut request.headers;
        headers.push("Host", client::host_field(&url));
        headers.push("Authorization", credential);
        headers.push("User-Agent", super::AGENT);
        headers.push("X-Relayctl-Node", self.own.as_str());
        headers.push("Connection", "close");
        let reply = client::send(&self.connector, &url, &request).await;
        let reply = reply.map_err(|error| format!("did not answer: {error}"))?;
        match reply.response.status {
            200 => Ok(reply),
            401 | 403 => Err("refused this node's credential: join again".to_owned()),
            404 => Err("does not have the mount".to_owned()),
            status => Err(format!("answered {status} {}", reply.response.reason)),
        }
    }
}

impl Parent {
    pub(super) fn failed(&self, why: String) -> Left {
        Left::Failed {
            node: self.node.clone(),
            url: self.url.clone(),
            why,
        }
    }
}

impl Turn {
    fn new(pace: &Pace) -> Self {
        Self {
            index: 0,
            failures: 0,
            fresh: false,
            backoff: Backoff::new(pace.floor, pace.ceiling),
            changed_at: None,
        }
    }

    /// What comes after a connection: whom to ask next is noted, how long to wait before is returned.
    /// The next parent is asked at once; only when all have failed there is a wait.
    fn after(&mut self, left: &Left, good: bool, parents: usize, now: Instant) -> Option<Duration> {
        if good {
            self.failures = 0;
            self.backoff.reset();
        }
        match left {
            Left::Reassigned => {
                self.index = 0;
                self.failures = 0;
                return None;
            }
            Left::EpochChanged => {
                let last = self.changed_at.replace(now);
                let floor = Duration::from_millis(100);
                if last.is_none_or(|last| now.saturating_duration_since(last) >= floor) {
                    return None;
                }
            }
            Left::Gone => self.fresh = true,
            _ => self.index = self.index.wrapping_add(1) % parents.max(1),
        }
        self.failures += 1;
        self.failures
            .is_multiple_of(parents.max(1))
            .then(|| self.backoff.next_wait())
    }
}

async fn any_change(parents: &mut watch::Receiver<Vec<Parent>>) {
    if parents.changed().await.is_err() {
        std::future::pending().await
    }
}

/// Completes when the list changes so that `current` is not the right one any more.
async fn reassigned(
    parents: &mut watch::Receiver<Vec<Parent>>,
    before: &[Parent],
    current: &Parent,
) {
    let mut first = before.first().cloned();
    loop {
        any_change(parents).await;
        let list = parents.borrow_and_update();
        let passed_over = list.first() != first.as_ref() && list.first() != Some(current);
        if passed_over || !list.contains(current) {
            return;
        }
        first = list.first().cloned();
    }
}

#[cfg(test)]
mod tests;
