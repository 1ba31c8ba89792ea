//! What the child says: its lines in our log, bounded, without its secrets, and the last ones kept for people.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::Kind;
use super::child::Hidden;
use crate::base::secret::Secret;

/// Longest line in bytes; what is beyond is left out.
const LONGEST: usize = 1024;

/// Lines kept for a sentence about an end.
const KEPT: usize = 12;

/// Lines a second that reach the log; more are counted.
const MOST: u32 = 50;

/// The last lines of a child.
#[derive(Debug, Clone, Default)]
pub(super) struct Last(Arc<Mutex<VecDeque<String>>>);

impl Last {
    fn push(&self, line: String) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() >= KEPT {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    /// The last few that say something is wrong, else simply the last, as one sentence.
    pub fn words(&self) -> String {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let wrong: Vec<&str> = lines
            .iter()
            .map(String::as_str)
            .filter(|line| {
                let line = line.to_ascii_lowercase();
                [
                    "err",
                    "warn",
                    "fatal",
                    "fail",
                    "invalid",
                    "cannot",
                    "could not",
                ]
                .iter()
                .any(|word| line.contains(word))
            })
            .collect();
        let chosen = match wrong.is_empty() {
            true => lines.iter().map(String::as_str).collect(),
            false => wrong,
        };
        let from = chosen.len().saturating_sub(3);
        chosen.get(from..).unwrap_or_default().join("; ")
    }
}

/// How loud a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loudness {
    Error,
    Warn,
    Info,
    Debug,
}

/// Carries every line of `from` to the log, until it ends.
pub(super) async fn carry(
    mut from: impl AsyncRead + Unpin,
    kind: Kind,
    secrets: Hidden,
    last: Last,
) {
    let (mut buffer, mut line) = (vec![0; 4096], Vec::new());
    let mut budget = Budget::default();
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        for byte in buffer.get(..count).unwrap_or_default() {
            match byte {
                b'\n' => {
                    say(kind, &line, &secrets(), &last, &mut budget);
                    line.clear();
                }
                _ if line.len() < LONGEST => line.push(*byte),
                _ => {}
            }
        }
    }
    say(kind, &line, &secrets(), &last, &mut budget);
}

fn say(kind: Kind, line: &[u8], secrets: &[Secret], last: &Last, budget: &mut Budget) {
    let text = clean(line, secrets);
    if text.is_empty() {
        return;
    }
    let (loudness, text) = read(kind, &text);
    if loudness != Loudness::Debug {
        last.push(text.to_owned());
    }
    if !budget.has_room(Instant::now()) {
        metrics::counter!("relayctl_engine_log_dropped_total").increment(1);
        return;
    }
    let engine = kind.program();
    match loudness {
        Loudness::Error => tracing::error!(target: "relayctl::engine", engine, "{text}"),
        Loudness::Warn => tracing::warn!(target: "relayctl::engine", engine, "{text}"),
        Loudness::Info => tracing::info!(target: "relayctl::engine", engine, "{text}"),
        Loudness::Debug => tracing::debug!(target: "relayctl::engine", engine, "{text}"),
    }
}

/// Without control characters, secrets as `***`.
fn clean(line: &[u8], secrets: &[Secret]) -> String {
    let text = String::from_utf8_lossy(line);
    let mut text: String = text
        .trim()
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
        text = text.replace(secret.reveal(), "***");
    }
    text
}

/// `[2026-11-21  11:12:13] INFO main/main text` of Icecast and `2026-11-21 11:12:13 INFO [MAIN] text` of Shoutcast:
/// the time is ours already. A line of Icecast's access log is no news: every listener came by this node.
fn read(kind: Kind, text: &str) -> (Loudness, &str) {
    let behind = match kind {
        Kind::Icecast => text
            .strip_prefix('[')
            .and_then(|text| text.split_once("] ")),
        Kind::Shoutcast => text.match_indices(' ').nth(1).map(|(at, _)| {
            (
                text.get(..at).unwrap_or_default(),
                text.get(at + 1..).unwrap_or_default(),
            )
        }),
    };
    let dated = behind.filter(|(time, _)| time.starts_with("20") && time.contains(':'));
    let Some((_, behind)) = dated else {
        let access = text.contains("] \"GET ") || text.contains("] \"SOURCE ");
        return (
            if access {
                Loudness::Debug
            } else {
                Loudness::Info
            },
            text,
        );
    };
    let words = [
        ("EROR ", Loudness::Error),
        ("ERROR ", Loudness::Error),
        ("WARN ", Loudness::Warn),
        ("INFO ", Loudness::Info),
        ("DBUG ", Loudness::Debug),
        ("DEBUG ", Loudness::Debug),
    ];
    let known = words
        .iter()
        .find_map(|(word, loudness)| Some((*loudness, behind.strip_prefix(word)?.trim_start())));
    known.unwrap_or((Loudness::Info, behind))
}

/// So many lines in each second.
#[derive(Default)]
struct Budget {
    since: Option<Instant>,
    said: u32,
}

impl Budget {
    fn has_room(&mut self, now: Instant) -> bool {
        let over = |since| now.saturating_duration_since(since) >= Duration::from_secs(1);
        if self.since.is_none_or(over) {
            (self.since, self.said) = (Some(now), 0);
        }
        self.said += 1;
        self.said <= MOST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_go_and_levels_are_read() {
        let of = |kind, text| read(kind, text);
        let icecast =
            "[2026-11-21  11:12:13] WARN CONFIG/_parse_root Warning, <hostname> not configured";
        assert_eq!(
            of(Kind::Icecast, icecast),
            (
                Loudness::Warn,
                "CONFIG/_parse_root Warning, <hostname> not configured"
            )
        );
        let shoutcast = "2026-11-21 11:12:13 ERROR [MAIN] no password";
        assert_eq!(
            of(Kind::Shoutcast, shoutcast),
            (Loudness::Error, "[MAIN] no password")
        );
        let access = "127.0.0.1 - - [21/Nov/2026:11:12:13 +0000] \"GET /live.mp3 HTTP/1.0\" 200 1 \"-\" \"-\" 1";
        assert_eq!(of(Kind::Icecast, access).0, Loudness::Debug);
        assert_eq!(of(Kind::Icecast, "FATAL: x"), (Loudness::Info, "FATAL: x"));
    }

    #[tokio::test]
    async fn lines_are_cut_and_secrets_hidden() {
        let long = "x".repeat(5000);
        let text = format!("one hackme\r\n{long}\nFATAL: could not parse\nlast");
        let last = Last::default();
        let secrets = vec![Secret::new("hackme"), Secret::default()];
        carry(
            text.as_bytes(),
            Kind::Icecast,
            Arc::new(move || secrets.clone()),
            last.clone(),
        )
        .await;
        let lines: Vec<String> = last.0.lock().unwrap().iter().cloned().collect();
        assert_eq!(lines[0], "one ***");
        assert_eq!(lines[1].len(), LONGEST);
        assert_eq!(lines[3], "last");
        assert_eq!(last.words(), "FATAL: could not parse");
    }

    #[test]
    fn no_more_than_so_many_a_second() {
        let (mut budget, now) = (Budget::default(), Instant::now());
        let said = (0..200).filter(|_| budget.has_room(now)).count();
        assert_eq!(said, MOST as usize);
        assert!(budget.has_room(now + Duration::from_secs(1)));
    }
}
