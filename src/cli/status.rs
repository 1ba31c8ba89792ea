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

/// Of an engine that is not our own.
fn engine(state: &Value) -> Option<String> {
    let engine = state.get("status")?.get("engine")?.as_object()?;
    let said = |field: &str| {
        let text = engine
            .get(field)
            .and_then(Value::as_str)
            .unwrap_or_default();
        table::clean(text).to_string()
    };
    let why = said("reason");
    let why = if why.is_empty() {
        why
    } else {
        format!(": {why}")
    };
    Some(format!("engine {} is {}{why}", said("kind"), said("state")))
}

/// Troubles that keep listeners or sources away, one a line.
fn notices(state: &Value) -> String {
    let list = state.get("status").and_then(|status| status.get("notices"));
    let list = list.and_then(Value::as_array);
    let texts = list.into_iter().flatten();
    let texts = texts.filter_map(|notice| notice.get("text")?.as_str());
    texts
        .map(|text| format!("! {}\n", table::clean(text)))
        .collect()
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
        .fold(0, u64::saturating_add);
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
    let lines = notices(state);
    if !lines.is_empty() {
        let _ = writeln!(text, "{lines}");
    }
    if let Some(line) = engine(state) {
        let _ = writeln!(text, "{line}\n");
    }
    if let Some(line) = certificate(state) {
        let _ = writeln!(text, "{line}\n");
    }
    text.push_str(&table::listing("nodes", state, wide));
    text.push('\n');
    text.push_str(&table::listing("mounts", state, wide));
    text
}

/// How long the node's certificate lasts, where it has one.
fn certificate(state: &Value) -> Option<String> {
    let certificate = state.get("status")?.get("certificate")?;
    let name = certificate.get("names")?.get(0).and_then(Value::as_str);
    let name = table::clean(name.unwrap_or("?"));
    let end = certificate.get("not_after")?.as_str()?.get(..10)?;
    let days = certificate.get("days_left")?.as_i64()?;
    let left = match days {
        ..0 => "it has ended: renew it".to_owned(),
        0..14 => format!("{days} days left: renew it"),
        _ => format!("{days} days left"),
    };
    Some(format!("TLS certificate of {name} until {end}, {left}"))
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
        assert!(!text.contains("TLS"), "{text}");
        let until = |days: i64| {
            let certificate = json!({"names": ["radio.example"], "not_after": "2027-01-31T00:00:00.000Z", "days_left": days});
            certificate_line(certificate)
        };
        assert_eq!(
            until(41),
            "TLS certificate of radio.example until 2027-01-31, 41 days left"
        );
        assert!(until(13).ends_with("13 days left: renew it"));
        assert!(until(-1).ends_with("it has ended: renew it"));
        assert!(screen(&json!({}), false).contains("\n0 of 0 nodes ready, "));
    }

    fn certificate_line(certificate: Value) -> String {
        let text = screen(&json!({"status": {"certificate": certificate}}), false);
        text.lines().nth(3).unwrap_or_default().to_owned()
    }
}
