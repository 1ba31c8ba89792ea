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
            _ => print::text(&listed(&answer)),
        };
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
