//! The rate limiter of log lines that a peer without a credential can cause.
//!
//! For each cause an address block gets one line a [`WINDOW`], and at most [`MOST_LINES`] blocks get one. Further lines are
//! left out, counted as `relayctl_log_lines_suppressed_total{cause}`, and told in one line when the window is over.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::base::address::block_of;

/// An address block is heard of once in this long for each cause.
const WINDOW: Duration = Duration::from_secs(60);

/// Lines of one cause in a window, from all address blocks together.
const MOST_LINES: usize = 20;

/// The address of causes that are no single client's, such as a lack of descriptors.
pub const NOBODY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

static LIMIT: LazyLock<Mutex<LogLimit>> = LazyLock::new(Mutex::default);

/// True where a line about `cause` that `address` brought about may be written now. `cause` is a fixed text, since
/// causes are counted apart and kept for as long as the process runs.
pub fn permits(cause: &'static str, address: IpAddr) -> bool {
    let mut limit = LIMIT.lock().unwrap_or_else(PoisonError::into_inner);
    let permitted = limit.permits(cause, block_of(address), Instant::now());
    drop(limit);
    if !permitted {
        metrics::counter!("relayctl_log_lines_suppressed_total", "cause" => cause).increment(1);
    }
    permitted
}

/// Logs, within the limit, that the system refused a call on an accepted connection, which then ends.
pub fn unusable(error: &io::Error) {
    if permits("unusable connection", NOBODY) {
        tracing::warn!(%error, "a connection is unusable");
    }
}

/// Says how many lines the windows that are over have left out. To be called a few times a second.
pub(super) fn report(now: Instant) {
    let mut limit = LIMIT.lock().unwrap_or_else(PoisonError::into_inner);
    let over = limit.take_over(now);
    drop(limit);
    for Suppressed { cause, lines } in over {
        tracing::warn!(cause, lines, "like lines were left out of the log");
    }
}

/// Lines of one cause that a window left out.
#[derive(Debug, PartialEq, Eq)]
struct Suppressed {
    cause: &'static str,
    lines: u64,
}

/// The rule: time comes in as an argument.
#[derive(Debug, Default)]
struct LogLimit(HashMap<&'static str, Window>);

/// Count of a cause since the first line of its window.
#[derive(Debug)]
struct Window {
    since: Instant,
    /// Blocks that had their line; at most [`MOST_LINES`].
    written: Vec<IpAddr>,
    suppressed: u64,
}

impl LogLimit {
    fn permits(&mut self, cause: &'static str, block: IpAddr, now: Instant) -> bool {
        let window = self.0.entry(cause).or_insert_with(|| Window::new(now));
        // What an ended window left out stays counted until it is told.
        if window.is_over(now) && window.suppressed == 0 {
            *window = Window::new(now);
        }
        let heard = window.written.contains(&block) || window.written.len() >= MOST_LINES;
        if heard {
            window.suppressed = window.suppressed.saturating_add(1);
        } else {
            window.written.push(block);
        }
        !heard
    }

    /// Ends the windows that are over, and gives what they left out.
    fn take_over(&mut self, now: Instant) -> Vec<Suppressed> {
        let mut over = Vec::new();
        self.0.retain(|cause, window| {
            let ended = window.is_over(now);
            if ended && window.suppressed > 0 {
                over.push(Suppressed {
                    cause,
                    lines: window.suppressed,
                });
            }
            !ended
        });
        over
    }
}

impl Window {
    fn new(now: Instant) -> Self {
        Self {
            since: now,
            written: Vec::new(),
            suppressed: 0,
        }
    }

    fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= WINDOW
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    fn block(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn a_block_has_one_line_a_minute_and_the_rest_is_counted() {
        let (start, mut limit) = (Instant::now(), LogLimit::default());
        let written = |limit: &mut LogLimit, at| {
            let permits = |_: &i32| limit.permits("join refused", block(1), at);
            (0..3_000).filter(permits).count()
        };
        assert_eq!(written(&mut limit, start), 1);
        // Another cause and another block are heard.
        assert!(limit.permits("source refused", block(1), start));
        assert!(limit.permits("join refused", block(2), start));
        assert_eq!(limit.take_over(start + WINDOW / 2), []);
        let told = limit.take_over(start + WINDOW);
        let lines = 2_999;
        let cause = "join refused";
        assert_eq!(told, [Suppressed { cause, lines }]);
        assert!(limit.0.is_empty());
        assert_eq!(written(&mut limit, start + WINDOW), 1);
    }

    #[test]
    fn many_blocks_have_a_bound_together() {
        let (start, mut limit) = (Instant::now(), LogLimit::default());
        let written = (0..=255).filter(|last| limit.permits("join refused", block(*last), start));
        assert_eq!(written.count(), MOST_LINES);
        let told = limit.take_over(start + WINDOW);
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].lines, 256 - MOST_LINES as u64);
    }

    #[test]
    fn without_a_report_nothing_is_lost() {
        let (start, mut limit) = (Instant::now(), LogLimit::default());
        assert!(limit.permits("join refused", block(1), start));
        assert!(!limit.permits("join refused", block(1), start));
        // Late, and what was left out is not told yet.
        assert!(!limit.permits("join refused", block(1), start + WINDOW * 2));
        assert_eq!(limit.take_over(start + WINDOW * 2)[0].lines, 2);
        // A window that left nothing out simply begins anew.
        assert!(limit.permits("join refused", block(1), start + WINDOW * 2));
        assert!(limit.permits("join refused", block(1), start + WINDOW * 3));
    }

    /// Lines above `info` and `info` itself in the rooms that strangers reach, each with why it needs no limit.
    const UNLIMITED: [(&str, &str); 15] = [
        ("source connected", "after the source's password"),
        ("source ended", "after the source's password"),
        ("the source sent no byte", "after the source's password"),
        ("cannot accept connections", "ends the thread"),
        ("the data port is closed", "ends the thread"),
        ("the thread that accepts panicked", "ends the thread"),
        ("cannot wake the thread that accepts", "the system's fault"),
        ("lost its readiness queue", "ends the thread"),
        (
            "there are descriptors for connections again",
            "once an episode of 10 s",
        ),
        (
            "no descriptor left for a connection",
            "once an episode of 10 s",
        ),
        (
            "the operator has chosen a parent",
            "after the operator's credential",
        ),
        ("token made", "after the admin's credential"),
        ("token revoked", "after the admin's credential"),
        ("the status page cannot be written", "the system's fault"),
        (
            "the page of confirmation cannot be written",
            "the system's fault",
        ),
    ];

    #[test]
    fn every_line_that_a_stranger_can_cause_is_limited() {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let (mut folders, mut limited) = (vec![source.join("edge"), source.join("admin")], 0);
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).unwrap().flatten() {
                let path = entry.path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let text = fs::read_to_string(&path).unwrap();
                let loud = ["tracing::error!", "tracing::warn!", "tracing::info!"];
                let starts = loud.iter().flat_map(|word| text.match_indices(word));
                for (at, _) in starts {
                    let line = text[at..].split(");").next().unwrap();
                    if UNLIMITED.iter().any(|(known, _)| line.contains(known)) {
                        continue;
                    }
                    let before: Vec<&str> = text[..at].lines().rev().take(4).collect();
                    let asked = before
                        .iter()
                        .any(|line| line.contains("log_limit::permits"));
                    assert!(asked, "{}: {line}", path.display());
                    limited += 1;
                }
            }
        }
        assert!(limited >= 1, "none was seen");
    }
}
