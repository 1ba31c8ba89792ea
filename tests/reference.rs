//! The pages under `docs/reference`, made from the program: commands from clap, the API from its OpenAPI
//! description, metrics from their help. `UPDATE_DOCS=1 cargo test --test reference` writes them anew.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fmt::Write as _;
use std::path::Path;

use clap::{Arg, Command};
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
