//! `relayctl get` and `relayctl kick`.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use serde_json::Value;

use super::args::{Form, GetFlags, KickFlags, Listing};
use super::client::{Client, Verb, segment};
use super::{Exit, Failure, Outcome, print, table};

/// Between two looks of `--watch`.
const LOOK: Duration = Duration::from_secs(1);

/// `relayctl get`.
pub(super) fn get(flags: &GetFlags) -> Outcome {
    if flags.what == Listing::Events {
        return super::events::get(flags);
    }
    let client = Client::new(&flags.target)?;
    watched(flags.watch, || {
        let list = all(&client, flags.what)?;
        Ok(match flags.output {
            Form::Json if flags.watch => format!("{list}\n"),
            Form::Json => format!("{list:#}\n"),
            form => table::listing(flags.what.word(), &list, form == Form::Wide),
        })
    })
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
    Client::new(&flags.target)?.ask(Verb::Post, &path, None)?;
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
