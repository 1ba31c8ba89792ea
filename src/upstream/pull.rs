//! A relay's pull of one mount: which parent, when to leave it, and how soon to come back.
//!
//! Between two connections the mount is given back to the engine, so that its listeners are held from the last
//! byte on, and no longer than the mount's hold.

mod memory;
mod parent;
mod trial;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::ask::Ask;
use super::client::{self, Reply};
use super::gathered::News;
use super::playing::Playing;
use super::pulls::Pulls;
use crate::base::ids::{Epoch, MountId, NodeId, Position};
use crate::discovery::Connector;
use crate::engine::{Engine, MountState};
use crate::wire::head::{Method, Request, Version};
pub(super) use memory::Memory;
pub use parent::{Parent, Parents};
use parent::{Turn, any_change, dropped, grown};
use trial::Trials;
pub(super) use trial::{Doubt, MAX_OPENING_BYTES, Opened, Ours, is_worth};

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
    /// A parent is kept at least this long before a nearer one is tried.
    pub improve: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            silence: Duration::from_secs(3),
            floor: Duration::from_millis(100),
            ceiling: Duration::from_secs(5),
            settled: Duration::from_secs(1),
            improve: Duration::from_secs(20),
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
    #[error("parent `{node}` takes no child now: {why}")]
    Refused { node: String, why: String },
    #[error("the parent is in the list no more")]
    Dropped,
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
    /// Makes the mark that opens a node which knows the cluster's key and not this node's credential.
    pub mark: Mark,
    /// The highest epoch that a parent may claim now.
    pub latest: Latest,
}

/// See [`Pull::mark`].
pub type Mark = Arc<dyn Fn() -> String + Send + Sync>;

/// See [`Pull::latest`].
pub type Latest = Arc<dyn Fn() -> Epoch + Send + Sync>;

/// How a connection went on or ended.
enum Outcome {
    Left(Left),
    /// Another parent is worth more, and answers already.
    Moved(Doubt, Box<Opened>),
}

impl Pull {
    /// Pulls until told to stop, until the mount has ended at its origin, or until somebody else feeds it here.
    /// Parents are tried in order; one that is taken from the list is left. Another one is tried beside a parent that
    /// falls behind, and the pull moves there if it is ahead. One that the operator has named is tried in the same way
    /// until it takes this node.
    pub async fn run(
        self,
        mut parents: watch::Receiver<Parents>,
        cancel: CancellationToken,
    ) -> Finished {
        let running = self.pulls.begin(&self.mount);
        let mut turn = Turn::new(&self.pace);
        let mut memory = Memory::new(Instant::now());
        let mut handed: Option<Box<Opened>> = None;
        loop {
            let list = parents.borrow_and_update().list.clone();
            let opened = handed.take();
            let given = opened.as_ref().map(|opened| &opened.parent);
            let Some(parent) = given.or_else(|| turn.next(&list)).cloned() else {
                tokio::select! {
                    () = cancel.cancelled() => return Finished::Cancelled,
                    () = any_change(&mut parents) => continue,
                }
            };
            let ask = self.position().filter(|_| !std::mem::take(&mut turn.fresh));
            let known = parents.clone();
            let outcome = tokio::select! {
                biased;
                () = cancel.cancelled() => return Finished::Cancelled,
                () = dropped(&mut parents, &parent) => Outcome::Left(Left::Dropped),
                outcome = self.follow(&parent, opened, ask, &known, &mut memory) => outcome,
            };
            let left = match outcome {
                Outcome::Moved(doubt, opened) => {
                    memory.lost(doubt.reason());
                    memory.opened = None;
                    handed = Some(opened);
                    continue;
                }
                Outcome::Left(left) => left,
            };
            if let Some(finished) = self.note(&left, &parent, &mut memory) {
                if finished == Finished::Ended {
                    running.over();
                    self.engine.end(&self.mount);
                }
                return finished;
            }
            let lived = |since: Instant| since.elapsed() >= self.pace.settled;
            let good = memory.opened.take().is_some_and(lived);
            let Some(wait) = turn.after(&left, &parent, good, &list, Instant::now()) else {
                continue;
            };
            tokio::select! {
                () = cancel.cancelled() => return Finished::Cancelled,
                () = grown(&mut parents, &list) => {}
                () = sleep(wait) => {}
            }
        }
    }

    /// Says why a parent was left; where the pull is over for good, how.
    fn note(&self, left: &Left, parent: &Parent, memory: &mut Memory) -> Option<Finished> {
        match left {
            Left::Ended => {
                self.pulls
                    .say(News::Ended, &parent.node, &self.mount, &left.to_string());
                return Some(Finished::Ended);
            }
            Left::Evicted => return Some(Finished::Evicted),
            Left::Failed { why, .. } => {
                memory.lost(why);
                let text = left.to_string();
                if memory.report.is_news(&text) {
                    self.pulls
                        .say(News::Trouble, &parent.node, &self.mount, &text);
                }
            }
            _ => {
                memory.lost(&left.to_string());
                tracing::debug!(mount = %self.mount, parent = %parent.node, "{left}");
            }
        }
        None
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
    async fn follow(
        &self,
        parent: &Parent,
        opened: Option<Box<Opened>>,
        ask: Option<Position>,
        parents: &watch::Receiver<Parents>,
        memory: &mut Memory,
    ) -> Outcome {
        let opened = match opened {
            Some(opened) => Ok(opened),
            None => self.open_in_time(parent, ask).await.map(Box::new),
        };
        match opened {
            Ok(opened) => self.play(*opened, parents, memory).await,
            Err(left) => Outcome::Left(left),
        }
    }

    async fn open_in_time(&self, parent: &Parent, ask: Option<Position>) -> Result<Opened, Left> {
        match timeout(self.pace.silence, self.open(parent, ask)).await {
            Ok(opened) => opened,
            Err(_) => Err(parent.failed(format!("did not answer in {:?}", self.pace.silence))),
        }
    }

    /// Takes what an answered parent sends, until it is left.
    async fn play(
        &self,
        opened: Opened,
        parents: &watch::Receiver<Parents>,
        memory: &mut Memory,
    ) -> Outcome {
        let Opened {
            parent,
            mut reply,
            mut decoder,
            frames,
            ..
        } = opened;
        let failed = |why: String| Outcome::Left(parent.failed(why));
        let mut playing = Playing::new(self, &parent, reply.peer.map(|peer| peer.ip()));
        let mut trials = Trials::new(self);
        let mut bytes = Vec::new();
        let mut deadline = Instant::now() + self.pace.silence;
        memory.opened.get_or_insert(Instant::now());
        for frame in frames {
            if let Err(left) = playing.take(frame, memory) {
                return Outcome::Left(left);
            }
        }
        loop {
            match playing.take_all(&mut decoder, memory) {
                Ok(true) => deadline = Instant::now() + self.pace.silence,
                Ok(false) => {}
                Err(left) => return Outcome::Left(left),
            }
            let now = Instant::now();
            if playing.is_outrun(now) {
                return failed("is behind this node".to_owned());
            }
            let doubt = playing.doubt(&parents.borrow(), memory, now);
            trials.consider(doubt, &parent, &parents.borrow(), &mut memory.wish, now);
            bytes.clear();
            let read = tokio::select! {
                biased;
                () = playing.evicted() => return Outcome::Left(Left::Evicted),
                tried = trials.outcome() => {
                    match tried.filter(|(doubt, other)| playing.is_left_for(other, *doubt, &parents.borrow())) {
                        Some((doubt, other)) => return Outcome::Moved(doubt, Box::new(other)),
                        None => continue,
                    }
                }
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

    async fn ask(&self, parent: &Parent, position: Option<Position>) -> Result<Reply, Left> {
        let failed = |why: String| parent.failed(why);
        let url = Url::parse(&parent.url);
        let url = url.map_err(|error| failed(format!("has no usable URL: {error}")))?;
        let mount = self.mount.clone();
        let target = Ask { mount, position }.target();
        let mut request = Request::new(Method::Get, target, Version::Http11);
        let credential = match &parent.credential {
            Some(credential) => format!("Bearer {}", credential.reveal()),
            None => format!("Bearer {}", (self.mark)()),
        };
        let headers = &mut request.headers;
        headers.push("Host", client::host_field(&url));
        headers.push("Authorization", credential);
        headers.push("User-Agent", super::AGENT);
        headers.push("X-Relayctl-Node", self.own.as_str());
        headers.push("Connection", "close");
        let reply = client::send(&self.connector, &url, &request).await;
        let reply = reply.map_err(|error| failed(format!("did not answer: {error}")))?;
        let refused = |why: &str| Left::Refused {
            node: parent.node.clone(),
            why: why.to_owned(),
        };
        match reply.response.status {
            200 => Ok(reply),
            401 | 403 => Err(failed(
                "refused this node's credential: join again".to_owned(),
            )),
            404 => Err(refused("it does not have the mount")),
            409 => Err(refused("it has the mount through this very node")),
            503 => Err(refused(
                "it feeds as many as it may, or has no parent itself",
            )),
            status => Err(failed(format!(
                "answered {status} {}",
                reply.response.reason
            ))),
        }
    }
}

impl Doubt {
    fn reason(self) -> &'static str {
        match self {
            Self::Starved => "was starved while another was ahead",
            Self::Late => "was behind another",
            Self::Better => "was farther from the origin than another",
            Self::Ordered => "was left by the operator's word",
        }
    }
}

#[cfg(test)]
mod tests;
