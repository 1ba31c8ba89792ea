//! What comes down to one relay: mounts, the table, keys and removals, as JSON lines on a connection that stays.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt as _, stream};
use tokio::time::Instant;

use crate::base::wall::unix_millis;
use crate::control::Control;
use crate::wire::message::FeedLine;

/// The table's changes are gathered for this long, so that a hundred beats make one line.
const GATHER: Duration = Duration::from_millis(300);

/// A line at least this often, so that a dead connection is found out.
const PING: Duration = Duration::from_secs(1);

/// The feed of one relay: what it was told, and when.
struct Feed {
    control: Arc<Control>,
    mounts: tokio::sync::watch::Receiver<u64>,
    table: tokio::sync::watch::Receiver<u64>,
    members: tokio::sync::watch::Receiver<u64>,
    told: u64,
    last_mounts: Option<FeedLine>,
    last_table: Option<Instant>,
}

pub(super) async fn feed(State(control): State<Arc<Control>>, headers: HeaderMap) -> Response {
    // Watched from before the check: a node that is removed between the two hears nothing.
    let members = control.watch_members();
    let (id, removed) = match control.member(bearer(&headers)) {
        Ok(id) => (id.clone(), control.removed(&id)),
        Err(error) => return error.into_response(),
    };
    let feed = Feed {
        members,
        mounts: control.engine.watch(),
        table: control.watch_table(),
        told: 0,
        last_mounts: None,
        last_table: None,
        control,
    };
    let lines = stream::unfold(feed, |mut feed| async move {
        let stopping = feed.control.stopping();
        tokio::select! {
            () = stopping.cancelled() => None,
            lines = feed.next() => Some((Ok::<_, Infallible>(lines), feed)),
        }
    });
    tracing::debug!(node = %id, "the feed begins");
    let lines = lines.take_until(removed);
    (
        [
            (header::CONTENT_TYPE, "application/jsonl"),
            (header::CACHE_CONTROL, "no-store"),
        ],
        Body::from_stream(lines),
    )
        .into_response()
}

impl Feed {
    /// The next lines: mounts at once, the table gathered, a ping if there is nothing else.
    async fn next(&mut self) -> Bytes {
        let ping_at = Instant::now() + PING;
        loop {
            let mut lines = self.changed_members();
            lines.extend(self.changed_mounts());
            let due = self.last_table.is_none_or(|last| last.elapsed() >= GATHER);
            if due && (self.told == 0 || self.table.has_changed().unwrap_or(false)) {
                self.table.borrow_and_update();
                let (told, table) = self.control.table_lines(self.told);
                self.told = told;
                self.last_table = Some(Instant::now());
                lines.extend(table);
            }
            if lines.is_empty() && Instant::now() >= ping_at {
                lines.push(FeedLine::Ping {
                    unix_millis: unix_millis(),
                });
            }
            if !lines.is_empty() {
                return encode(&lines);
            }
            let gathered = self
                .last_table
                .map_or(ping_at, |last| last + GATHER)
                .min(ping_at);
            let wake = if due { ping_at } else { gathered };
            tokio::select! {
                _ = self.mounts.changed() => {}
                _ = self.members.changed() => self.members.mark_changed(),
                _ = self.table.changed(), if due => self.table.mark_changed(),
                () = tokio::time::sleep_until(wake) => {}
            }
        }
    }

    /// The keys and the removals, first and whenever they change.
    fn changed_members(&mut self) -> Vec<FeedLine> {
        let first = self.last_mounts.is_none();
        if !first && !self.members.has_changed().unwrap_or(false) {
            return Vec::new();
        }
        self.members.mark_unchanged();
        vec![self.control.removal_line(), self.control.key_line()]
    }

    fn changed_mounts(&mut self) -> Vec<FeedLine> {
        self.mounts.borrow_and_update();
        let line = self.control.mount_line();
        if self.last_mounts.as_ref() == Some(&line) {
            return Vec::new();
        }
        self.last_mounts = Some(line.clone());
        vec![line]
    }
}

fn encode(lines: &[FeedLine]) -> Bytes {
    let mut text = Vec::new();
    for line in lines {
        // Lines are plain data of ours; one that cannot be written is left out rather than torn.
        if let Ok(json) = serde_json::to_vec(line) {
            text.extend(json);
            text.push(b'\n');
        }
    }
    text.into()
}

/// Text behind `Bearer` in the request; empty where there is none.
pub(super) fn bearer(headers: &HeaderMap) -> &str {
    let value = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    value
        .and_then(|value| value.strip_prefix("Bearer "))
        .unwrap_or("")
        .trim()
}
