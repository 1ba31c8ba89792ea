//! `relayctl status`: one screen of what a node and its cluster do.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::args::{Form, StatusFlags};
use super::client::{Client, Verb};
use super::{Failure, Outcome, list, table};

/// Prints it.
pub(super) fn run(flags: &StatusFlags) -> Outcome {
    let client = Client::new(&flags.target)?;
    list::watched(flags.watch, || {
        let state = look(&client)?;
        Ok(match flags.output {
            Form::Json if flags.watch => format!("{state}\n"),
            Form::Json => format!("{state:#}\n"),
            form => screen(&state, form == Form::Wide),
        })
    })
}

fn look(client: &Client) -> Result<Value, Failure> {
    let own = client.ask(Verb::Get, "/api/v1/status", None)?;
    let mut state = json!({ "status": own });
    for what in ["nodes", "mounts"] {
        let answer = client.ask(Verb::Get, &format!("/api/v1/{what}"), None)?;
        let rows = answer.get(what).cloned().unwrap_or_default();
        if let Some(state) = state.as_object_mut() {
            state.insert(what.into(), rows);
        }
    }
    Ok(state)
}

fn screen(state: &Value, wide: bool) -> String {
    let rows = |what: &str| {
        let rows = state.get(what).and_then(Value::as_array);
        rows.map_or(&[] as &[Value], Vec::as_slice)
    };
    let is = |row: &&Value, field: &str, word: &str| {
        row.get(field).and_then(Value::as_str) == Some(word)
    };
    let nodes = rows("nodes");
    let mounts = rows("mounts");
    let ready = nodes.iter().filter(|n| is(n, "state", "ready")).count();
    let live = mounts.iter().filter(|m| is(m, "state", "live")).count();
    let listeners: u64 = nodes
        .iter()
        .filter(|node| !is(node, "state", "dead"))
        .filter_map(|node| node.get("listeners")?.as_u64())
        .sum();
    let own = |field: &str| {
        let status = state.get("status");
        let text = status.and_then(|status| status.get(field)?.as_str());
        table::clean(text.unwrap_or("-"))
    };
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{} ({}) is {}, source {}",
        own("name"),
        own("role"),
        own("state"),
        own("source")
    );
    let _ = writeln!(
        text,
        "{ready} of {} nodes ready, {live} of {} mounts live, {listeners} {}\n",
        nodes.len(),
        mounts.len(),
        if listeners == 1 {
            "listener"
        } else {
            "listeners"
        }
    );
    text.push_str(&table::listing("nodes", state, wide));
    text.push('\n');
    text.push_str(&table::listing("mounts", state, wide));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_counts() {
        let state = json!({
            "status": {"name": "a", "role": "primary", "state": "up", "source": "live"},
            "nodes": [
                {"name": "a", "role": "primary", "state": "ready", "listeners": 1},
                {"name": "b", "role": "relay", "state": "suspect", "listeners": 3},
                {"name": "c", "role": "relay", "state": "dead", "listeners": 9},
            ],
            "mounts": [{"name": "/live.mp3", "state": "live"}, {"name": "/x", "state": "held"}],
        });
        let text = screen(&state, false);
        assert!(
            text.starts_with(
                "a (primary) is up, source live\n\
                 1 of 3 nodes ready, 1 of 2 mounts live, 4 listeners\n\nNAME"
            ),
            "{text}"
        );
        assert!(screen(&json!({}), false).contains("\n0 of 0 nodes ready, "));
    }
}
