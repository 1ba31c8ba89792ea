//! `relayctl drain`, `resume`, `reflect` and `forget`: orders to nodes, and following a drain to its end.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::args::{DrainFlags, ForgetFlags, ReflectFlags, ReflectWord, ResumeFlags};
use super::client::{Client, Verb, segment};
use super::effects::{self, Effect, is};
use super::{Exit, Failure, Outcome, print, table};
use crate::base::units::parse_duration;

/// Between two looks at a drain.
const LOOK: Duration = Duration::from_secs(1);

/// A node that is not heard of for this long has ended, if it was being emptied.
const GONE: Duration = Duration::from_secs(15);

/// `relayctl drain`.
pub(super) fn drain(flags: &DrainFlags) -> Outcome {
    let spread = duration("--spread", flags.spread.as_deref())?;
    let wait = duration("--wait", flags.wait.as_deref())?;
    let body = spread.map(|spread| json!({ "spread_seconds": spread.as_secs_f64() }));
    let body = body.unwrap_or_else(|| json!({}));
    match &flags.node {
        None => {
            let client = Client::here(&flags.target)?;
            let answer = client.ask(Verb::Post, "/api/v1/drain", Some(&body))?;
            print::text(&line(
                "this node",
                answer.get("drain").unwrap_or(&Value::Null),
            ))?;
            match wait {
                Some(wait) => follow("this node", Some(wait), || own(&client)),
                None => Ok(Exit::Fine),
            }
        }
        Some(node) => {
            let client = Client::new(&flags.target)?;
            let path = format!("/api/v1/nodes/{}/drain", segment(node));
            let answer = client.ask(Verb::Post, &path, Some(&body))?;
            let order = format!("relayctl drain {}", table::clean(node));
            let drains = |row: &Value| is(row, "state", "draining");
            if effects::wait(&client, node, &order, drains)? == Effect::Kept {
                return print::text(unkept(&answer));
            }
            let shown = table::clean(node);
            print::text(&line(&shown, answer.get("drain").unwrap_or(&Value::Null)))?;
            print::text(unkept(&answer))?;
            if flags.detach {
                return Ok(Exit::Fine);
            }
            follow(&shown, wait, || of(&client, node))
        }
    }
}

/// `relayctl resume`.
pub(super) fn resume(flags: &ResumeFlags) -> Outcome {
    let (client, path, named) = match &flags.node {
        None => (
            Client::here(&flags.target)?,
            "/api/v1/resume".to_owned(),
            "this node".to_owned(),
        ),
        Some(node) => (
            Client::new(&flags.target)?,
            format!("/api/v1/nodes/{}/resume", segment(node)),
            table::clean(node),
        ),
    };
    let answer = client.ask(Verb::Post, &path, None)?;
    let was = answer.get("resumed").and_then(Value::as_bool) == Some(true);
    if let Some(node) = &flags.node {
        let order = format!("relayctl resume {named}");
        let takes = |row: &Value| !is(row, "state", "draining");
        if effects::wait(&client, node, &order, takes)? == Effect::Kept {
            return print::text(unkept(&answer));
        }
    }
    print::text(&match was {
        true => format!("{named} takes newcomers again\n"),
        false => format!("{named} was not drained\n"),
    })?;
    print::text(unkept(&answer))
}

/// Outcome of an order that this node carries out and cannot keep.
fn unkept(answer: &Value) -> &'static str {
    match answer.get("kept").and_then(Value::as_bool) {
        Some(false) => "only until the node asked restarts: its data directory is read-only\n",
        _ => "",
    }
}

/// `relayctl reflect`.
pub(super) fn reflect(flags: &ReflectFlags) -> Outcome {
    let path = format!("/api/v1/nodes/{}/reflect", segment(&flags.node));
    let body = json!({ "reflect": flags.word.word() });
    let client = Client::new(&flags.target)?;
    client.ask(Verb::Post, &path, Some(&body))?;
    let node = table::clean(&flags.node);
    let word = flags.word.word();
    let order = format!("relayctl reflect {node} {word}");
    let reflects = |row: &Value| is(row, "reflect", word);
    if effects::wait(&client, &flags.node, &order, reflects)? == Effect::Kept {
        return Ok(Exit::Fine);
    }
    print::text(&match flags.word {
        ReflectWord::On => format!("{node} sends newcomers on\n"),
        ReflectWord::Off => format!("{node} takes newcomers until it has all it may have\n"),
        ReflectWord::Auto => format!("{node} sends newcomers on while it is over a limit\n"),
    })
}

/// `relayctl forget`.
pub(super) fn forget(flags: &ForgetFlags) -> Outcome {
    let client = Client::new(&flags.target)?;
    let Some(node) = &flags.node else {
        return print::text(&barred(&client.ask(Verb::Get, "/api/v1/barred", None)?));
    };
    let (segment, shown) = (segment(node), table::clean(node));
    if flags.unbar {
        let path = format!("/api/v1/nodes/{segment}/unbar");
        let answer = client.ask(Verb::Post, &path, None)?;
        let was = answer.get("unbarred").and_then(Value::as_bool) == Some(true);
        return print::text(&match was {
            true => format!("{shown} may join again, with a valid join token\n"),
            false => format!("{shown} was not barred\n"),
        });
    }
    let body = json!({ "bar": flags.bar });
    let path = format!("/api/v1/nodes/{segment}/forget");
    client.ask(Verb::Post, &path, Some(&body))?;
    print::text(&match flags.bar {
        true => format!(
            "{shown} is removed and barred: `relayctl forget {shown} --unbar` lets it join again\n"
        ),
        false => format!("{shown} is removed: it may join anew with a valid join token\n"),
    })
}

/// The barred nodes, one a line.
fn barred(answer: &Value) -> String {
    let nodes = answer.get("barred").and_then(Value::as_array);
    let text = |node: &Value, field: &str| {
        table::clean(node.get(field).and_then(Value::as_str).unwrap_or_default())
    };
    let lines = nodes.into_iter().flatten().map(|node| {
        format!(
            "{} {} since {}\n",
            text(node, "id"),
            text(node, "name"),
            text(node, "since")
        )
    });
    let lines: String = lines.collect();
    match lines.is_empty() {
        true => "no node is barred\n".to_owned(),
        false => lines,
    }
}

fn duration(flag: &str, text: Option<&str>) -> Result<Option<Duration>, Failure> {
    let read = |text: &str| {
        parse_duration(text).map_err(|error| Failure::said(Exit::Usage, format!("{flag}: {error}")))
    };
    text.map(read).transpose()
}

/// What a look at a drain shows.
enum Look {
    /// It goes on.
    Drains(Value),
    /// It was taken back.
    Resumed,
    /// The node is no more.
    Gone,
}

fn own(client: &Client) -> Result<Look, Failure> {
    let status = client.ask(Verb::Get, "/api/v1/drain", None)?;
    Ok(look(status.get("drain")))
}

fn of(client: &Client, node: &str) -> Result<Look, Failure> {
    Ok(match effects::row(client, node)? {
        None => Look::Gone,
        Some(row) if is(&row, "state", "dead") => Look::Gone,
        Some(row) => look(row.get("drain")),
    })
}

fn look(drain: Option<&Value>) -> Look {
    match drain {
        None | Some(Value::Null) => Look::Resumed,
        Some(drain) => Look::Drains(drain.clone()),
    }
}

/// Prints how far a drain is whenever that changes, until it is done, taken back, or `longest` has passed.
fn follow(
    node: &str,
    longest: Option<Duration>,
    look: impl Fn() -> Result<Look, Failure>,
) -> Outcome {
    let began = Instant::now();
    let (mut last, mut heard) = (None, Instant::now());
    loop {
        match look() {
            Ok(Look::Gone) => return print::text(&format!("{node} is gone\n")),
            Ok(Look::Resumed) => {
                return Err(Failure::said(
                    Exit::Failed,
                    format!("the drain of {node} was taken back"),
                ));
            }
            Ok(Look::Drains(drain)) => {
                heard = Instant::now();
                let left = drain.get("listeners_left").and_then(Value::as_u64);
                if left == Some(0) {
                    return print::text(&format!("{node} is empty\n"));
                }
                if last != left {
                    print::text(&line(node, &drain))?;
                    last = left;
                }
            }
            // A primary that is restarted meanwhile is asked again.
            Err(failure) if failure.exit == Exit::Unreachable && heard.elapsed() < GONE => {}
            Err(failure) => return Err(failure),
        }
        if longest.is_some_and(|longest| began.elapsed() >= longest) {
            let left = last.map_or_else(|| "some".to_owned(), |left| left.to_string());
            return Err(Failure::said(
                Exit::Failed,
                format!("{node} still has {left} listeners; it stays drained"),
            ));
        }
        let left = longest.map_or(LOOK, |longest| longest.saturating_sub(began.elapsed()));
        std::thread::sleep(left.min(LOOK));
    }
}

/// One line for people.
fn line(node: &str, drain: &Value) -> String {
    let count = |field: &str| drain.get(field).and_then(Value::as_u64).unwrap_or(0);
    let seconds = drain.get("estimated_seconds").and_then(Value::as_f64);
    let (left, all) = (count("listeners_left"), count("listeners_at_start"));
    let estimate = match seconds {
        // Whole seconds are what a person reads.
        Some(seconds) if left > 0 => {
            let time = Duration::from_secs(seconds.ceil() as u64);
            format!(", empty in about {}", humantime::format_duration(time))
        }
        _ => String::new(),
    };
    format!("{node} takes nobody new: {left} of {all} listeners left{estimate}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_many_are_left_and_how_long() {
        let mut drain =
            json!({"listeners_left": 75, "listeners_at_start": 100, "estimated_seconds": 89.2});
        assert_eq!(
            line("relay-1", &drain),
            "relay-1 takes nobody new: 75 of 100 listeners left, empty in about 1m 30s\n"
        );
        drain["estimated_seconds"] = Value::Null;
        assert_eq!(
            line("relay-1", &drain),
            "relay-1 takes nobody new: 75 of 100 listeners left\n"
        );
    }
}
