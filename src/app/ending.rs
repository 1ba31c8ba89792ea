//! The end of a node: after its listeners, or at once where it has lost a part that it cannot live without.

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::Node;
use crate::control::{Refusal, Standing};

/// How long connections have to end after the listeners have gone.
const GRACE: Duration = Duration::from_secs(5);

/// How long a node that has lost a part has for what is to be written.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Between two looks at whether the last listener has gone.
const LOOK: Duration = Duration::from_millis(50);

/// Why this process cannot go on.
pub(super) async fn broken(fatal: &mut watch::Receiver<Option<String>>) -> String {
    let why = fatal.wait_for(Option::is_some).await;
    why.ok().and_then(|why| why.clone()).unwrap_or_default()
}

/// The end of a relay that its primary never took in, and would not if it were asked again.
#[derive(Debug, thiserror::Error)]
#[error("not joined: {why}")]
pub struct Refused {
    /// Why, and the next thing to do.
    pub why: String,
    /// Kind of the refusal.
    pub refusal: Refusal,
}

impl Refused {
    /// Where somebody sits at a terminal, who can change what a service could only repeat. A node that was a member
    /// plays on for its listeners.
    pub(super) fn on_terminal(standing: &Standing, was_member: bool) -> Option<Self> {
        let Standing::Waiting(waiting) = standing else {
            return None;
        };
        let refusal = waiting.refusal.filter(|_| !was_member)?;
        let watched = std::io::stderr().is_terminal() || std::io::stdin().is_terminal();
        watched.then(|| Self {
            why: waiting.reason.clone(),
            refusal,
        })
    }
}

impl Node {
    /// The end of a node that has lost a part: what is written down is written, and the connections end with the process.
    pub(super) async fn give_up(&self, why: String) -> anyhow::Result<()> {
        self.shutdown.cancel();
        let log = Arc::clone(&self.access_log);
        let closing = tokio::task::spawn_blocking(move || log.close());
        let ending = async {
            self.control.settle_disk().await;
            let _ = closing.await;
        };
        let _ = tokio::time::timeout(LAST_WORDS, ending).await;
        Err(anyhow::anyhow!(why))
    }

    /// Takes nobody new and lets go of its listeners, evenly over what is left of `grace`.
    pub(super) async fn empty(&self, grace: Duration) {
        let left = self.control.drain_to_end(grace);
        let deadline = tokio::time::Instant::now() + left;
        let mut looks = tokio::time::interval(LOOK);
        while self.control.telemetry.listeners() > 0 && tokio::time::Instant::now() < deadline {
            looks.tick().await;
        }
    }

    /// Stops: no newcomers, a last word to the cluster, listeners and connections closed.
    pub async fn stop(&self) {
        tracing::info!("stopping");
        self.shutdown.cancel();
        self.edge.tasks().close();
        self.tasks.close();
        let all = async {
            self.tasks.wait().await;
            let engine = Arc::clone(&self.control.engine);
            // Joining the shards blocks for a moment.
            let _ = tokio::task::spawn_blocking(move || engine.stop()).await;
            self.edge.tasks().wait().await;
        };
        if tokio::time::timeout(GRACE, all).await.is_err() {
            tracing::warn!("connections were still open after {GRACE:?}");
        }
        self.control.settle_disk().await;
        let log = Arc::clone(&self.access_log);
        // Writing the last lines blocks for a moment.
        let _ = tokio::task::spawn_blocking(move || log.close()).await;
    }
}
