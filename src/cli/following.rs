//! A node's events as it pushes them (server-sent events), and the way back to where a connection broke.

use std::time::Duration;

use super::client::{Client, block_on};
use super::{Exit, Failure};
use crate::base::retry::Backoff;

/// A node says something every fifteen seconds; after three times that its connection is dead.
const SILENCE: Duration = Duration::from_secs(45);

/// Waits between two connections.
const PACE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// The longest event that is taken.
const MAX_EVENT: usize = 1 << 20;

/// An event: its id and its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pushed {
    pub id: Option<String>,
    pub data: String,
}

/// Gives every event of the stream at `path` to `take`, from its beginning on, until that says false. A connection
/// that breaks is made again, from the last event on; the first one has to succeed.
///
/// # Errors
/// What the node says, and what `take` says.
pub(super) fn follow(
    client: &Client,
    path: &str,
    mut take: impl FnMut(&Pushed) -> Result<bool, Failure>,
) -> Result<(), Failure> {
    block_on(async {
        let mut last: Option<String> = None;
        let mut pace = Backoff::new(PACE.0, PACE.1);
        let mut met = false;
        loop {
            match client.stream(path, last.as_deref()).await {
                Ok(mut answer) => {
                    met = true;
                    pace.reset();
                    let mut events = Events::default();
                    while let Some(bytes) = chunk(&mut answer).await {
                        for event in events.push(&bytes)? {
                            if event.id.is_some() {
                                last.clone_from(&event.id);
                            }
                            if !take(&event)? {
                                return Ok(());
                            }
                        }
                    }
                }
                // A node that is restarted meanwhile is asked again, and tells all that the new process knows.
                Err(failure) if met && failure.exit == Exit::Unreachable => {}
                Err(failure) => return Err(failure),
            }
            tokio::time::sleep(pace.next_wait()).await;
        }
    })?
}

/// The next bytes; `None` once the connection is of no use any more.
async fn chunk(answer: &mut reqwest::Response) -> Option<Vec<u8>> {
    let read = tokio::time::timeout(SILENCE, answer.chunk()).await;
    Some(read.ok()?.ok()??.to_vec())
}

/// Takes a stream apart (HTML living standard, 9.2.6): fields to the end of a line, events to an empty one.
#[derive(Debug, Default)]
struct Events {
    line: Vec<u8>,
    id: Option<String>,
    data: String,
}

impl Events {
    fn push(&mut self, bytes: &[u8]) -> Result<Vec<Pushed>, Failure> {
        let mut whole = Vec::new();
        for &byte in bytes {
            if byte != b'\n' {
                self.line.push(byte);
                if self.line.len() + self.data.len() > MAX_EVENT {
                    let text = format!("the node sent an event of more than {MAX_EVENT} bytes");
                    return Err(Failure::said(Exit::Failed, text));
                }
                continue;
            }
            let line = std::mem::take(&mut self.line);
            whole.extend(self.take(String::from_utf8_lossy(&line).trim_end_matches('\r')));
        }
        Ok(whole)
    }

    fn take(&mut self, line: &str) -> Option<Pushed> {
        if line.is_empty() {
            let (id, data) = (self.id.take(), std::mem::take(&mut self.data));
            return (!data.is_empty()).then_some(Pushed { id, data });
        }
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "id" => self.id = Some(value.to_owned()),
            "data" if self.data.is_empty() => value.clone_into(&mut self.data),
            "data" => {
                self.data.push('\n');
                self.data.push_str(value);
            }
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STREAM: &str = ": alive\n\nid: 7-1\nevent: joined\ndata: {\"a\":1}\n\n:\n\ndata: one\r\ndata:two\r\n\r\nid: 7-3\ndata: x\n\nid: 7-4\ndata: cut";

    fn pushed(id: Option<&str>, data: &str) -> Pushed {
        Pushed {
            id: id.map(str::to_owned),
            data: data.to_owned(),
        }
    }

    proptest! {
        #[test]
        fn however_a_stream_is_cut_its_events_are_the_same(cuts in proptest::collection::vec(1_usize..20, 0..40)) {
            let mut events = Events::default();
            let (mut rest, mut found) = (STREAM.as_bytes(), Vec::new());
            for cut in cuts {
                let (part, after) = rest.split_at(cut.min(rest.len()));
                found.extend(events.push(part).unwrap());
                rest = after;
            }
            found.extend(events.push(rest).unwrap());
            let whole = [pushed(Some("7-1"), "{\"a\":1}"), pushed(None, "one\ntwo"), pushed(Some("7-3"), "x")];
            prop_assert_eq!(found, whole);
        }
    }

    #[test]
    fn what_never_ends_is_refused() {
        let mut events = Events::default();
        assert!(events.push(&vec![b'x'; MAX_EVENT]).is_ok());
        assert!(events.push(b"x").is_err());
    }
}
