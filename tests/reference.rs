//! The pages under `docs/reference`, made from the program: commands from clap, the API from its OpenAPI
//! description, metrics from their help. `UPDATE_DOCS=1 cargo test --test reference` writes them anew.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fmt::Write as _;
use std::path::Path;

use clap::{Arg, Command};
use relayctl::app::surface::{ENTRIES, Entry, Kind};
use serde_json::Value;

const HEAD: &str = "<!-- Made from the program: UPDATE_DOCS=1 cargo test --test reference -->\n";

fn holds(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("docs/reference")
        .join(name);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        there == text,
        "docs/reference/{name} differs: run UPDATE_DOCS=1 cargo test --test reference"
    );
}

#[test]
fn commands() {
    let mut text = format!("# Commands\n\n{HEAD}\n");
    let mut root = relayctl::cli::command();
    root.build();
    describe(&mut text, &root, "relayctl");
    assert!(text.matches("\n## ").count() > 12, "{text}");
    holds("commands.md", &text);
}

/// A section for each command that does something, and the flags of each.
fn describe(text: &mut String, command: &Command, path: &str) {
    for inner in command.get_subcommands() {
        if inner.is_hide_set() || inner.get_name() == "help" {
            continue;
        }
        let path = format!("{path} {}", inner.get_name());
        if inner.has_subcommands() {
            describe(text, inner, &path);
            continue;
        }
        let about = inner
            .get_about()
            .map(ToString::to_string)
            .unwrap_or_default();
        let usage = inner.clone().render_usage().to_string();
        let usage = usage.trim_start_matches("Usage: ");
        write!(text, "## {path}\n\n{about}.\n\n```text\n{usage}\n```\n\n").unwrap();
        let arguments: Vec<&Arg> = inner
            .get_arguments()
            .filter(|argument| !argument.is_hide_set() && argument.get_id() != "help")
            .collect();
        if arguments.is_empty() {
            continue;
        }
        text.push_str("| argument | what |\n|---|---|\n");
        for argument in arguments {
            let help = argument.get_help().map(ToString::to_string);
            let help = help
                .unwrap_or_default()
                .replace('|', "\\|")
                .replace('\n', " ");
            writeln!(text, "| `{}` | {help} |", spelled(argument)).unwrap();
        }
        text.push('\n');
    }
}

fn spelled(argument: &Arg) -> String {
    let values: Vec<String> = argument
        .get_value_names()
        .unwrap_or_default()
        .iter()
        .map(ToString::to_string)
        .collect();
    let takes = argument.get_action().takes_values();
    match (argument.get_long(), takes) {
        (Some(long), true) => format!("--{long} {}", values.join(" ")),
        (Some(long), false) => format!("--{long}"),
        (None, _) => values.join(" "),
    }
}

#[test]
fn api() {
    let document = serde_json::to_value(relayctl::admin::api_description()).unwrap();
    let mut text = format!(
        "# API\n\n{HEAD}\n{}\n\nThe whole description, with every field, is at `/api/v1/openapi.json` of any node.\n\n",
        document["info"]["description"].as_str().unwrap()
    );
    text.push_str("| request | what | answers |\n|---|---|---|\n");
    let mut seen = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let what = ["summary", "description"]
                .iter()
                .filter_map(|key| operation[key].as_str())
                .collect::<Vec<_>>()
                .join(" ");
            let what = what.replace('\n', " ");
            let method = method.to_uppercase();
            writeln!(
                text,
                "| `{method} {path}` | {what} | {} |",
                answers(operation)
            )
            .unwrap();
            seen += 1;
        }
    }
    assert!(seen > 8, "{seen}");
    holds("api.md", &text);
}

fn answers(operation: &Value) -> String {
    let answers = operation["responses"].as_object().unwrap();
    let said = |(status, answer): (&String, &Value)| match answer["description"]
        .as_str()
        .unwrap_or_default()
    {
        "" => status.clone(),
        what => format!("{status} ({what})"),
    };
    answers.iter().map(said).collect::<Vec<_>>().join(", ")
}

#[test]
fn metrics() {
    let mut text = format!(
        "# Metrics\n\n{HEAD}\nAt `/metrics` of every node, in Prometheus' text format; `process_*` besides. Labels are mount, \
         node, role, reason, mode and the like, never a listener or an address.\n\n\
         | name | kind | what |\n|---|---|---|\n"
    );
    let series = relayctl::telemetry::export::series();
    assert!(series.len() > 25, "{}", series.len());
    for (name, kind, help) in series {
        writeln!(text, "| `{name}` | {kind} | {help} |").unwrap();
    }
    holds("metrics.md", &text);
}

#[test]
fn surface() {
    let mut text = format!(
        "# Every route, connection and message\n\n{HEAD}\n\
         What somebody else can send to a node: [who may do what](../security.md) says it in words. A body is in bytes; `-` has no\n\
         end by nature.\n"
    );
    for (kind, title) in [
        (Kind::Route, "Routes"),
        (Kind::Connection, "Connections"),
        (Kind::Message, "Messages between nodes"),
    ] {
        write!(
            text,
            "\n## {title}\n\n| what | credential | body | deadline | bound |\n|---|---|---|---|---|\n"
        )
        .unwrap();
        for entry in ENTRIES.iter().filter(|entry| entry.kind == kind) {
            let body = entry.body.map_or("-".to_owned(), |bytes| bytes.to_string());
            let Entry {
                name,
                credential,
                deadline,
                limit,
                ..
            } = entry;
            writeln!(
                text,
                "| `{name}` | {credential} | {body} | {deadline} | {limit} |"
            )
            .unwrap();
        }
    }
    holds("surface.md", &text);
}

/// A route that somebody adds has an entry, or this fails; so has an entry whose route is gone.
#[test]
fn every_route_has_an_entry() {
    let mut routes = relayctl::admin::paths();
    let mut entries: Vec<&str> = names(Kind::Route);
    routes.sort_unstable();
    entries.sort_unstable();
    assert!(routes.len() > 40, "{routes:?}");
    assert_eq!(routes, entries);
}

/// Every type that is read from another node's JSON is an entry, or a part of one.
#[test]
fn every_message_has_an_entry() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/wire/message");
    let mut text = String::new();
    for file in std::fs::read_dir(folder).unwrap() {
        text += &std::fs::read_to_string(file.unwrap().path()).unwrap();
    }
    let mut read: Vec<&str> = text
        .split("Deserialize")
        .skip(1)
        .filter_map(|part| {
            let line = part.lines().find(|line| line.starts_with("pub "))?;
            let mut words = line.split([' ', '{', '(', '<']);
            let kind = words.nth(1)?;
            ["struct", "enum"].contains(&kind).then(|| words.next())?
        })
        .collect();
    read.sort_unstable();
    read.dedup();
    assert!(read.len() > 15, "{read:?}");
    let entries = names(Kind::Message);
    let of = |name: &str| {
        let uses = |owner: &&str| {
            let body = text.split(&format!("pub struct {owner} ")).nth(1);
            let body = body.or_else(|| text.split(&format!("pub enum {owner} ")).nth(1));
            let body = body
                .and_then(|body| body.split("\n}\n").next())
                .unwrap_or_default();
            body.split(|c: char| !c.is_alphanumeric())
                .any(|word| word == name)
        };
        read.iter().any(|owner| *owner != name && uses(owner))
    };
    for name in &read {
        assert!(
            entries.contains(name) || of(name),
            "`{name}` is read from other nodes: give it an entry in `app::surface`"
        );
    }
    for name in entries.iter().filter(|name| **name != "Frame") {
        assert!(read.contains(name), "no message `{name}` any more");
    }
}

fn names(kind: Kind) -> Vec<&'static str> {
    let own = ENTRIES.iter().filter(|entry| entry.kind == kind);
    own.map(|entry| entry.name).collect()
}
