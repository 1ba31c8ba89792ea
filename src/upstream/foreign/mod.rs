//! A plain Icecast or Shoutcast server as upstream: its stream becomes a source of this node.
//!
//! Must never: hold the mount while it cannot be fed, or evict another source. The neighbours in here: `open`
//! (request, redirects, what is accepted), `feed` (its bytes into the engine).

mod feed;
mod open;

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::client::shown;
use super::report::Report;
use crate::base::charset::Charset;
use crate::base::ids::MountId;
use crate::base::retry::Backoff;
use crate::base::secret::Secret;
use crate::discovery::Connector;
use crate::engine::Engine;

/// One foreign stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignConfig {
    /// Where it is, the preferred one first. Credentials in a URL hold for it alone, in place of `login`.
    pub urls: Vec<Url>,
    /// What it is called here.
    pub mount: MountId,
    /// Pull only while somebody wants it.
    pub on_demand: bool,
    /// User and password.
    pub login: Option<(String, Secret)>,
    /// Ask for titles.
    pub metadata: bool,
    /// Character set of its titles.
    pub charset: Option<Charset>,
}

/// The times of a relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pace {
    /// An upstream has this long for its answer's head, each redirect anew.
    pub answer: Duration,
    /// One that sends nothing for this long is left for the next URL.
    pub stall: Duration,
    /// One that nobody wants is let go after this long.
    pub linger: Duration,
    /// The first wait after every URL has failed.
    pub floor: Duration,
    /// The longest wait.
    pub ceiling: Duration,
    /// After this much audio the next wait is short again, and begins at the first URL.
    pub settled: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            answer: Duration::from_secs(10),
            stall: Duration::from_secs(10),
            linger: Duration::from_secs(30),
            floor: Duration::from_millis(100),
            ceiling: Duration::from_secs(5),
            settled: Duration::from_secs(10),
        }
    }
}

/// Why an upstream was left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Left {
    /// It did not answer as it should, closed, or broke: what, and what to do.
    Failed(String),
    /// Nothing came for too long.
    Stalled,
    /// Another source has the mount.
    InUse(String),
    /// It lost the mount.
    Evicted,
}

/// One foreign relay; see [`Foreign::run`].
#[derive(Clone)]
pub struct Foreign {
    /// Where the bytes go.
    pub engine: Arc<Engine>,
    /// How the servers are reached.
    pub connector: Connector,
    /// What is relayed.
    pub config: ForeignConfig,
    /// Times.
    pub pace: Pace,
}

impl Foreign {
    /// Relays until `cancel`. With `on_demand` only while `wanted`; else that is not looked at. While another
    /// source has the mount it waits.
    pub async fn run(self, wanted: watch::Receiver<bool>, cancel: CancellationToken) {
        let mut demand = Demand {
            wanted,
            on_demand: self.config.on_demand,
            linger: self.pace.linger,
            unwanted_since: None,
        };
        let mut report = Report::default();
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                () = demand.begins() => {}
            }
            tokio::select! {
                () = cancel.cancelled() => return,
                () = demand.ends() => {
                    tracing::info!(mount = %self.config.mount, "nobody listens: upstream let go");
                }
                () = self.carry(&mut report) => {}
            }
        }
    }

    /// One upstream after the other, for ever.
    async fn carry(&self, report: &mut Report) {
        let mount = &self.config.mount;
        let mut turn = Turn::new(&self.pace);
        loop {
            let urls = &self.config.urls;
            let Some(url) = urls.get(turn.index % urls.len().max(1)) else {
                report.trouble(mount, "no upstream: set `relay[].url`");
                return pending().await;
            };
            self.until_free(report).await;
            let mut audio_since = None;
            let left = self.feed(url, &mut audio_since, report).await;
            let place = shown(url);
            match &left {
                Left::Failed(why) => report.trouble(mount, format!("upstream {place}: {why}")),
                Left::Stalled => {
                    let stall = self.pace.stall;
                    report.trouble(mount, format!("upstream {place}: no byte for {stall:?}"))
                }
                Left::InUse(why) => report.trouble(mount, why),
                Left::Evicted => report.trouble(mount, "another source took the mount over"),
            };
            let good = audio_since.is_some_and(|at: Instant| at.elapsed() >= self.pace.settled);
            if let Some(wait) = turn.after(&left, good, urls.len()) {
                sleep(wait).await;
            }
        }
    }

    /// Waits while somebody else feeds the mount.
    async fn until_free(&self, report: &mut Report) {
        let mut changed = self.engine.watch();
        loop {
            changed.borrow_and_update();
            if self.engine.is_free(&self.config.mount) {
                return;
            }
            let text = "another source has the mount: the upstream waits until it goes";
            report.trouble(&self.config.mount, text);
            if changed.changed().await.is_err() {
                pending::<()>().await;
            }
        }
    }
}

/// Which URL comes next, and when.
struct Turn {
    index: usize,
    backoff: Backoff,
}

impl Turn {
    fn new(pace: &Pace) -> Self {
        Self {
            index: 0,
            backoff: Backoff::new(pace.floor, pace.ceiling),
        }
    }

    /// A backup is tried at once; the first one, again, after a wait.
    fn after(&mut self, left: &Left, good: bool, urls: usize) -> Option<Duration> {
        if good {
            self.backoff.reset();
        }
        match left {
            Left::InUse(_) | Left::Evicted => return Some(self.backoff.next_wait()),
            Left::Failed(_) if good => self.index = 0,
            Left::Failed(_) | Left::Stalled => self.index = (self.index + 1) % urls.max(1),
        }
        (self.index == 0).then(|| self.backoff.next_wait())
    }
}

/// Whether somebody wants the stream.
struct Demand {
    wanted: watch::Receiver<bool>,
    on_demand: bool,
    linger: Duration,
    unwanted_since: Option<Instant>,
}

impl Demand {
    async fn begins(&mut self) {
        self.unwanted_since = None;
        if self.on_demand && self.wanted.wait_for(|wanted| *wanted).await.is_err() {
            // Nobody is left who could want it.
            pending().await
        }
    }

    /// Completes when nobody has wanted it for long enough.
    async fn ends(&mut self) {
        if !self.on_demand {
            return pending().await;
        }
        loop {
            if *self.wanted.borrow_and_update() {
                self.unwanted_since = None;
                if self.wanted.changed().await.is_err() {
                    return pending().await;
                }
                continue;
            }
            let since = *self.unwanted_since.get_or_insert_with(Instant::now);
            let over = sleep_until(since + self.linger);
            tokio::select! {
                () = over => return,
                changed = self.wanted.changed() => if changed.is_err() {
                    return sleep_until(since + self.linger).await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
