//! What comes down: mounts, the table, keys, as JSON lines on a connection that stays.

use std::time::Duration;

use bytes::BytesMut;

use super::client::AskError;
use super::{Agent, Ended, PACE};
use crate::base::retry::Backoff;
use crate::wire::message::FeedLine;

/// Longest line, in bytes: a table of thousands of nodes fits.
const MAX_LINE: usize = 16 << 20;

/// Without any line for this long (a ping comes every second) the connection is dead.
const SILENCE: Duration = Duration::from_secs(5);

impl Agent {
    /// Follows the feed for as long as the credential is good.
    pub(super) async fn follow(&self) -> Ended {
        let mut pace = Backoff::new(PACE.0, PACE.1);
        loop {
            match self.read_feed(&mut pace).await {
                Err(error) if matches!(error.status(), Some(401 | 403)) => return Ended::Rejoin,
                Err(error) => tracing::debug!(%error, "the feed is not to be had"),
                Ok(()) => tracing::debug!("the feed ended"),
            }
            tokio::select! {
                // The beat sees the shutdown too, and ends the membership in its own time.
                () = self.shutdown.cancelled() => std::future::pending().await,
                () = tokio::time::sleep(pace.next_wait()) => {}
            }
        }
    }

    async fn read_feed(&self, pace: &mut Backoff) -> Result<(), AskError> {
        let mut answer = self.client.feed().await?;
        let mut buffer = BytesMut::new();
        loop {
            let Ok(Ok(Some(chunk))) = tokio::time::timeout(SILENCE, answer.chunk()).await else {
                return Ok(());
            };
            pace.reset();
            buffer.extend_from_slice(&chunk);
            while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
                let line = buffer.split_to(end + 1);
                match serde_json::from_slice::<FeedLine>(&line) {
                    Ok(line) => self.control.heard(line),
                    Err(error) => {
                        tracing::warn!(%error, "the primary's feed says something unknown")
                    }
                }
            }
            if buffer.len() > MAX_LINE {
                return Ok(());
            }
        }
    }
}
