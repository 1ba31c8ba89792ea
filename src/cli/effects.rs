//! The end of an order: when the table of nodes shows its effect, or says that the node is not there to follow it.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::client::{Client, Verb};
use super::{Exit, Failure, print, table};

/// Longest wait for a node to follow an order: an order goes down and its effect comes up by beats, one a second.
const DEADLINE: Duration = Duration::from_secs(10);

/// Between two looks.
const LOOK: Duration = Duration::from_millis(200);

/// A node that was not heard for this many seconds is silent: three beats are missing.
const SILENT: f64 = 3.6;

/// Outcome of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// The node follows it.
    Followed,
    /// The node is dead or silent, which was said; the order is kept for its return.
    Kept,
}

/// The row of a node, by its name or id; of several the one that lives.
pub(super) fn row(client: &Client, node: &str) -> Result<Option<Value>, Failure> {
    let answer = client.ask(Verb::Get, "/api/v1/nodes", None)?;
    let nodes = answer.get("nodes").and_then(Value::as_array);
    let rows = nodes.into_iter().flatten();
    let mut rows: Vec<&Value> = rows
        .filter(|row| is(row, "name", node) || is(row, "id", node))
        .collect();
    rows.sort_by_key(|row| (!is(row, "id", node), is(row, "state", "dead")));
    Ok(rows.first().map(|row| (*row).clone()))
}

/// True if a field is this text.
pub(super) fn is(row: &Value, field: &str, text: &str) -> bool {
    row.get(field).and_then(Value::as_str) == Some(text)
}

/// The table's sentence on a node that is dead or silent; none on one that is heard.
pub(super) fn silence(row: &Value) -> Option<String> {
    let age = row.get("heartbeat_age_seconds").and_then(Value::as_f64);
    let age = age.unwrap_or(0.0);
    let trouble = row.get("trouble").and_then(Value::as_str);
    match is(row, "state", "dead") {
        true => Some(table::clean(trouble.unwrap_or("dead"))),
        false if age > SILENT => Some(format!("silent, last heard {age:.0} s ago")),
        false => None,
    }
}

/// Waits until the row of `node` shows that an order is followed: `done`, and nothing pending.
///
/// # Errors
/// Where it does not within ten seconds: what is missing.
pub(super) fn wait(
    client: &Client,
    node: &str,
    order: &str,
    done: impl Fn(&Value) -> bool,
) -> Result<Effect, Failure> {
    let (began, shown) = (Instant::now(), table::clean(node));
    loop {
        let row = row(client, node)?;
        let row = row.unwrap_or_default();
        if let Some(silence) = silence(&row) {
            print::text(&format!(
                "{shown} is not there to follow ({silence}); `{order}` is kept for its return\n"
            ))?;
            return Ok(Effect::Kept);
        }
        let pending = row.get("pending").and_then(Value::as_bool) == Some(true);
        if done(&row) && !pending {
            return Ok(Effect::Followed);
        }
        if began.elapsed() >= DEADLINE {
            let state = row.get("state").and_then(Value::as_str).unwrap_or("gone");
            return Err(Failure::said(
                Exit::Failed,
                format!(
                    "{shown} has not followed `{order}` within {} s: the table still shows it {}{}; the order is kept, \
                     `relayctl describe node {shown}` shows the rest",
                    DEADLINE.as_secs(),
                    table::clean(state),
                    if pending {
                        ", its last order pending"
                    } else {
                        ""
                    }
                ),
            ));
        }
        std::thread::sleep(LOOK);
    }
}

/// Waits until a listener is in no list any more.
///
/// # Errors
/// Where it still is after ten seconds.
pub(super) fn wait_gone(client: &Client, node: &str, number: u64) -> Result<(), Failure> {
    let began = Instant::now();
    let path = format!(
        "/api/v1/listeners?limit=100&after={}",
        number.saturating_sub(1)
    );
    loop {
        let answer = client.ask(Verb::Get, &path, None)?;
        let list = answer.get("listeners").and_then(Value::as_array);
        let there = list.into_iter().flatten().any(|row| {
            row.get("id").and_then(Value::as_u64) == Some(number) && is(row, "node", node)
        });
        if !there {
            return Ok(());
        }
        if began.elapsed() >= DEADLINE {
            return Err(Failure::said(
                Exit::Failed,
                format!(
                    "{} was told to end listener {number}, and still lists it after {} s: `relayctl get listeners` shows it",
                    table::clean(node),
                    DEADLINE.as_secs()
                ),
            ));
        }
        std::thread::sleep(LOOK);
    }
}
