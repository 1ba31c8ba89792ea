//! What comes down: mounts, the table, keys, as JSON lines on a connection that stays.

use std::time::Duration;

use bytes::BytesMut;
use tokio::time::Instant;

use super::client::AskError;
use super::{Agent, Ended, PACE};
use crate::base::retry::Backoff;
use crate::wire::message::FeedLine;

/// Longest line, in bytes: a table of thousands of nodes fits.
pub const MAX_LINE: usize = 16 << 20;

/// Without any byte for this long (a ping comes every second) the connection is dead.
const SILENCE: Duration = Duration::from_secs(5);

/// Longest time that one line may take.
const LINE: Duration = Duration::from_secs(60);

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
        let mut lines = Lines::default();
        // One that drips for ever is no feed.
        let mut late_at = Instant::now() + LINE;
        loop {
            let deadline = late_at.min(Instant::now() + SILENCE);
            let chunk = tokio::time::timeout_at(deadline, answer.chunk()).await;
            let Ok(Ok(Some(chunk))) = chunk else {
                return Ok(());
            };
            if !lines.push(&chunk) {
                tracing::warn!("the primary's feed has a line of more than {MAX_LINE} bytes");
                return Ok(());
            }
            while let Some(line) = lines.next_line() {
                pace.reset();
                late_at = Instant::now() + LINE;
                match serde_json::from_slice::<FeedLine>(&line) {
                    Ok(line) => self.control.heard(line),
                    Err(error) => {
                        tracing::warn!(%error, "the primary's feed says something unknown")
                    }
                }
            }
        }
    }
}

/// Takes a stream apart into lines.
#[derive(Debug, Default)]
struct Lines {
    buffer: BytesMut,
    /// So much of it has no line's end.
    looked: usize,
}

impl Lines {
    /// Takes the next bytes; false where the line that they belong to is too long.
    fn push(&mut self, bytes: &[u8]) -> bool {
        if self.buffer.len().saturating_add(bytes.len()) > MAX_LINE {
            return false;
        }
        self.buffer.extend_from_slice(bytes);
        true
    }

    /// The next whole line, with its end. Each byte is looked at once.
    fn next_line(&mut self) -> Option<BytesMut> {
        let unseen = self.buffer.get(self.looked..).unwrap_or_default();
        let Some(at) = unseen.iter().position(|byte| *byte == b'\n') else {
            self.looked = self.buffer.len();
            return None;
        };
        let line = self.buffer.split_to(self.looked + at + 1);
        self.looked = 0;
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_whole_in_any_split_and_have_a_bound() {
        let mut lines = Lines::default();
        let mut found = Vec::new();
        for part in [&b"on"[..], b"e\ntwo\nth", b"", b"ree\n"] {
            assert!(lines.push(part));
            found.extend(std::iter::from_fn(|| lines.next_line()));
        }
        assert_eq!(found, [&b"one\n"[..], b"two\n", b"three\n"]);
        assert!(lines.push(&vec![b'x'; MAX_LINE]));
        assert_eq!(lines.next_line(), None);
        assert!(!lines.push(b"x"));
    }
}
