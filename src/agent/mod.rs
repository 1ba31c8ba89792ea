//! A relay's side of the cluster: it joins, beats, follows the feed and keeps a pull for each mount. And the
//! primary's probes of its relays' URLs.
//!
//! Must never: decide where a listener goes, or take a mount away because the primary is silent. Neighbours:
//! `control` (what was heard), `upstream` (the pulls).

mod beats;
mod client;
mod feed;
mod joining;
mod probes;
mod pulls;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use globset::GlobSet;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::base::secret::Secret;
use crate::control::Control;
use crate::discovery::{Connector, Resolver};
use crate::telemetry::panics::{Vital, vital};
use client::Client;
pub use feed::MAX_LINE as MAX_FEED_LINE;
pub use probes::probe;

/// The agent's settings. The primary stays the one of the start; all else may change.
#[derive(Debug, Clone)]
pub struct Config {
    /// The primary.
    pub primary: Url,
    /// The URL's port was not written: SRV records may name others.
    pub any_port: bool,
    /// The URL's port 80 was assumed from a bare `RelayServer`.
    pub assumed_port: bool,
    /// What it joins with.
    pub token: Secret,
    /// Send the token in clear beyond loopback and private networks.
    pub insecure_join: bool,
    /// Globs of the mounts that it carries.
    pub patterns: Vec<String>,
    /// The same, ready to match.
    pub mounts: GlobSet,
    /// Pull a mount only while somebody listens.
    pub on_demand: bool,
}

/// Everything but the compiled globs, which follow from the patterns.
impl PartialEq for Config {
    fn eq(&self, other: &Self) -> bool {
        self.primary == other.primary
            && self.any_port == other.any_port
            && self.assumed_port == other.assumed_port
            && self.token == other.token
            && self.insecure_join == other.insecure_join
            && self.patterns == other.patterns
            && self.on_demand == other.on_demand
    }
}

impl Config {
    /// Refuses to join with nothing.
    ///
    /// # Errors
    /// Where the token is missing.
    pub fn check(&self) -> anyhow::Result<()> {
        anyhow::ensure!(
            !self.token.is_empty(),
            "no join token: `relayctl join --primary {} --token @FILE`; `relayctl token show join` on the \
             primary prints what stands in FILE",
            self.primary
        );
        Ok(())
    }
}

/// Shortest and longest wait between two tries to reach the primary.
const PACE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// A relay as a member.
pub struct Agent {
    config: ArcSwap<Config>,
    /// Moves with every change of it.
    reconfigured: watch::Sender<u64>,
    control: Arc<Control>,
    client: Client,
    resolver: Resolver,
    connector: Connector,
    shutdown: CancellationToken,
}

/// Why a membership ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// The primary knows the credential no more: join again.
    Rejoin,
    /// The node goes down.
    Shutdown,
}

impl Agent {
    /// A relay that has not joined yet; `connector` leads to its primary.
    ///
    /// # Errors
    /// Where the primary's URL names no host, or the token is missing.
    pub fn new(
        config: Config,
        control: Arc<Control>,
        connector: Connector,
        shutdown: CancellationToken,
    ) -> anyhow::Result<Self> {
        config.check()?;
        let client = Client::new(&config, &connector)?;
        let resolver = connector.resolver().clone();
        let primary = config.primary.clone();
        let agent = Self {
            config: ArcSwap::from_pointee(config),
            reconfigured: watch::Sender::new(0),
            control,
            client,
            resolver,
            connector,
            shutdown,
        };
        agent.turn_to(primary);
        Ok(agent)
    }

    /// Takes other settings: the token and the permission to send it in clear count at the next join, the mounts at
    /// once. The connector's trust is the caller's to change, beforehand.
    pub fn reconfigure(&self, config: Config) {
        if config.on_demand && !self.config.load().on_demand {
            // Who listens already wants the mount, and was never asked.
            for (mount, counters) in self.control.telemetry.mounts() {
                if counters.listeners() > 0 {
                    self.control.demand(&mount);
                }
            }
        }
        self.config.store(Arc::new(config));
        self.reconfigured.send_modify(|turn| *turn += 1);
        if let Err(error) = self.client.renew(&self.connector) {
            tracing::error!(%error, "the primary's certificate is judged as before");
        }
    }

    /// Takes one of the primary's addresses for the primary.
    fn turn_to(&self, primary: Url) {
        self.control.set_origin(primary.clone());
        self.client.turn_to(primary);
    }

    /// Joins, and stays a member until the shutdown; what it pulls goes on whatever the primary's control
    /// plane does.
    pub async fn run(self: Arc<Self>) {
        let agent = self;
        let pulls = pulls::keep(Arc::clone(&agent));
        let pulls = tokio::spawn(vital(Vital::Pulls, pulls));
        loop {
            let Some(credential) = agent.join().await else {
                break;
            };
            agent.client.set_credential(credential);
            // The feed is let go after the goodbye: it may stream by the connection that the last beat came by, whose
            // end would be taken for this node's.
            let mut feed = std::pin::pin!(agent.follow());
            let ended = tokio::select! {
                ended = agent.beat() => ended,
                never = &mut feed => never,
            };
            if ended == Ended::Shutdown {
                agent.say_goodbye().await;
                break;
            }
            tracing::warn!("the primary knows this node no more: joining again");
        }
        let _ = pulls.await;
    }
}
