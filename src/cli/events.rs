//! `relayctl get events`: what happened, and with `--watch` what happens.

use std::io::Write as _;

use serde_json::Value;

use super::args::{Form, GetFlags};
use super::client::{Client, Verb};
use super::following::follow;
use super::{Exit, Failure, Outcome, print, table};

/// Where they are.
const PATH: &str = "/api/v1/events";

/// Prints them, the oldest first; with `--watch` goes on with each new one as the node pushes it, on a line of
/// its own.
pub(super) fn get(flags: &GetFlags) -> Outcome {
    let client = Client::new(&flags.target)?;
    if !flags.watch {
        let answer = client.ask(Verb::Get, PATH, None)?;
        return match flags.output {
            Form::Json => print::json(&answer),
            _ => {
                say_whose(&client);
                print::text(&listed(&answer))
            }
        };
    }
    if flags.output != Form::Json {
        say_whose(&client);
    }
    follow(&client, PATH, |pushed| {
        let event: Value = serde_json::from_str(&pushed.data).map_err(|error| {
            let text = format!("the node sent an event that is no JSON: {error}");
            Failure::said(Exit::Failed, text)
        })?;
        written(&match flags.output {
            Form::Json => format!("{event}\n"),
            _ => line(&event),
        })
    })?;
    Ok(Exit::Fine)
}

/// A relay knows what happened on itself: whoever asks it is told where the whole cluster's list is. What cannot be
/// found out is not said.
fn say_whose(client: &Client) {
    let ask = |path| client.ask(Verb::Get, path, None).ok();
    let Some(status) = ask("/api/v1/status") else {
        return;
    };
    let nodes = match status.get("role").and_then(Value::as_str) {
        Some("relay") => ask("/api/v1/nodes").unwrap_or_default(),
        _ => return,
    };
    eprintln!("relayctl: {}", whose(&status, &nodes));
}

fn whose(status: &Value, nodes: &Value) -> String {
    let name = status.get("name").and_then(Value::as_str);
    let name = table::clean(name.unwrap_or("-"));
    let rows = nodes.get("nodes").and_then(Value::as_array);
    let mut rows = rows.into_iter().flatten();
    let primary = rows.find(|row| row.get("role").is_some_and(|role| role == "primary"));
    let url = primary.and_then(|row| row.get("public_url")?.as_str());
    let there = match url.filter(|url| !url.is_empty()) {
        Some(url) => format!("`relayctl get events --addr {}`", table::clean(url)),
        None => "`relayctl get events` there".to_owned(),
    };
    format!(
        "what happened on the relay `{name}` alone; its primary has what happened in the cluster: {there}"
    )
}

fn events(answer: &Value) -> impl Iterator<Item = &Value> {
    let list = answer.get("events").and_then(Value::as_array);
    list.into_iter().flatten()
}

/// False where nobody reads any more.
fn written(text: &str) -> Result<bool, Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        other => Ok(other.map(|()| true)?),
    }
}

fn listed(answer: &Value) -> String {
    let lines: String = events(answer).map(line).collect();
    if lines.is_empty() {
        "no events\n".to_owned()
    } else {
        lines
    }
}

/// Time, node, kind, and the fields of the kind.
fn line(event: &Value) -> String {
    let field = |name: &str| {
        let text = event.get(name).and_then(Value::as_str);
        table::clean(text.unwrap_or("-"))
    };
    let common = ["id", "time", "node", "kind"];
    let own = event.as_object().into_iter().flatten();
    let own = own.filter(|(name, value)| !common.contains(&name.as_str()) && !value.is_null());
    let details: String = own
        .map(|(name, value)| {
            let text = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            format!(" {}={}", table::clean(name), table::clean(&text))
        })
        .collect();
    format!(
        "{}  {}  {}{details}\n",
        field("time"),
        field("node"),
        field("kind")
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_relay_says_whose_events_these_are() {
        let status = json!({"name": "edge-1", "role": "relay"});
        let head = json!({"name": "head", "role": "primary", "public_url": "http://h:8000"});
        assert_eq!(
            whose(&status, &json!({"nodes": [status, head]})),
            "what happened on the relay `edge-1` alone; its primary has what happened in the cluster: \
             `relayctl get events --addr http://h:8000`"
        );
        let unknown = whose(&status, &json!({"nodes": []}));
        assert!(
            unknown.ends_with("cluster: `relayctl get events` there"),
            "{unknown}"
        );
    }

    #[test]
    fn a_line_for_each() {
        let answer = json!({"events": [
            {"id": "1-1", "time": "T", "node": "head", "kind": "failover", "from": "a", "to": "b\u{1b}", "millis": 120,
             "why": null},
        ]});
        assert_eq!(
            listed(&answer),
            "T  head  failover from=a to=b\u{fffd} millis=120\n"
        );
        assert_eq!(listed(&json!({"events": []})), "no events\n");
    }
}
