//! `relayctl get` and `relayctl kick`.

use std::cell::RefCell;
use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use serde_json::Value;

use super::args::{Form, GetFlags, KickFlags, Listing};
use super::client::{Client, Verb, segment};
use super::{Exit, Failure, Outcome, effects, print, table};

/// Between two looks of `--watch`.
const LOOK: Duration = Duration::from_secs(1);

/// `relayctl get`.
pub(super) fn get(flags: &GetFlags) -> Outcome {
    if flags.what == Listing::Events {
        return super::events::get(flags);
    }
    let client = Client::new(&flags.target)?;
    let missing = RefCell::new(Vec::new());
    let outcome = watched(flags.watch, || {
        let list = all(&client, flags.what)?;
        let silent = silent(&list);
        if *missing.borrow() != silent && !silent.is_empty() {
            eprintln!("relayctl: {}", incomplete(&silent));
        }
        missing.replace(silent);
        Ok(match flags.output {
            Form::Json if flags.watch => format!("{list}\n"),
            Form::Json => format!("{list:#}\n"),
            _ if is_empty(&list, flags.what) && !missing.borrow().is_empty() => {
                format!("no {} on the nodes that answered\n", flags.what.word())
            }
            form => table::listing(flags.what.word(), &list, form == Form::Wide),
        })
    })?;
    Ok(match missing.borrow().is_empty() {
        true => outcome,
        false => Exit::Failed,
    })
}

/// The nodes whose part of a list is missing, since they did not answer.
fn silent(list: &Value) -> Vec<String> {
    let names = list.get("silent").and_then(Value::as_array);
    let names = names.into_iter().flatten().filter_map(Value::as_str);
    let mut names: Vec<String> = names.map(table::clean).collect();
    names.sort();
    names.dedup();
    names
}

fn is_empty(list: &Value, what: Listing) -> bool {
    let rows = list.get(what.word()).and_then(Value::as_array);
    rows.is_none_or(Vec::is_empty)
}

fn incomplete(silent: &[String]) -> String {
    format!(
        "the list is incomplete: {} did not answer, so what is there is missing; `relayctl get nodes` shows why",
        silent.join(", ")
    )
}

/// `relayctl kick`.
pub(super) fn kick(flags: &KickFlags) -> Outcome {
    let path = match flags.listener.rsplit_once('/') {
        Some((node, id)) => format!(
            "/api/v1/listeners/{}/kick?node={}",
            segment(id),
            segment(node)
        ),
        None => format!("/api/v1/listeners/{}/kick", segment(&flags.listener)),
    };
    let client = Client::new(&flags.target)?;
    let answer = client.ask(Verb::Post, &path, None)?;
    let node = answer.get("node").and_then(Value::as_str);
    let number = answer.get("kicked").and_then(Value::as_u64);
    if let (Some(node), Some(number)) = (node, number) {
        effects::wait_gone(&client, node, number)?;
    }
    print::text(&format!(
        "listener {} ended\n",
        table::clean(&flags.listener)
    ))
}

/// The whole list, page after page.
fn all(client: &Client, what: Listing) -> Result<Value, Failure> {
    let (mut answer, mut next) = client.page(&format!("/api/v1/{}", what.word()))?;
    while let Some(path) = next {
        let (page, after) = client.page(&path)?;
        if !append(&mut answer, page, what.word()) {
            break;
        }
        next = after;
    }
    Ok(answer)
}

/// False where the page brought nothing.
fn append(answer: &mut Value, mut page: Value, what: &str) -> bool {
    let Some(Value::Array(more)) = page.get_mut(what).map(Value::take) else {
        return false;
    };
    let silent = page.get_mut("silent").map(Value::take);
    if let (Some(Value::Array(silent)), Some(list)) = (silent, answer.as_object_mut()) {
        let known = list
            .entry("silent")
            .or_insert_with(|| Value::Array(Vec::new()));
        known
            .as_array_mut()
            .into_iter()
            .for_each(|known| known.extend(silent.clone()));
    }
    let brought = !more.is_empty();
    if let Some(list) = answer.get_mut(what).and_then(Value::as_array_mut) {
        list.extend(more);
    }
    brought
}

/// Prints once, or again whenever it changes until the process ends.
pub(super) fn watched(watch: bool, look: impl Fn() -> Result<String, Failure>) -> Outcome {
    let mut last = look()?;
    if !watch {
        return print::text(&last);
    }
    let terminal = std::io::stdout().is_terminal();
    show(&last, terminal)?;
    loop {
        std::thread::sleep(LOOK);
        let now = look()?;
        if now != last {
            show(&now, terminal)?;
            last = now;
        }
    }
}

/// On a terminal the new text takes the place of the old one.
fn show(text: &str, terminal: bool) -> Result<(), Failure> {
    let clear = if terminal { "\u{1b}[H\u{1b}[2J" } else { "" };
    let mut out = std::io::stdout().lock();
    let written = out
        .write_all(format!("{clear}{text}").as_bytes())
        .and_then(|()| out.flush());
    match written {
        // Whoever read it went away: there is nobody to watch for.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {
            std::process::exit(i32::from(Exit::Fine as u8))
        }
        other => Ok(other?),
    }
}
