//! What redirects cost, as a table, as JSON and as Markdown.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{Figures, Measured};
use crate::cli::bench::args::BenchForm;
use crate::cli::bench::report::{Shown, cell, machine, median};

/// Key in the JSON, words for people, form.
const ROWS: [(&str, &str, Shown); 12] = [
    ("redirects", "redirects", Shown::Whole),
    ("other_answers", "other answers", Shown::Whole),
    ("errors", "failed connections", Shown::Whole),
    ("not_kept", "connections not kept", Shown::Whole),
    ("late", "due and not asked", Shown::Whole),
    ("places", "relays they led to", Shown::Whole),
    ("cpu_micros", "processor, µs an answer", Shown::Hundredths),
    (
        "answers_per_core_second",
        "answers a second of a core",
        Shown::Whole,
    ),
    (
        "idle_cpu_seconds",
        "processor while nobody asks, s",
        Shown::Thousandths,
    ),
    ("wait_p50_ms", "wait p50, ms", Shown::Thousandths),
    ("wait_p99_ms", "wait p99, ms", Shown::Thousandths),
    ("seconds", "window, s", Shown::Tenths),
];

/// All of it in one form.
pub(super) fn text(form: BenchForm, command: &str, servers: &[Measured]) -> String {
    let columns: Vec<(String, Value)> = servers
        .iter()
        .flat_map(|measured| {
            let one = |way: &str, runs: &[Figures]| {
                (
                    format!("{} {way}", measured.name),
                    Value::Object(median(runs)),
                )
            };
            [
                one("keep-alive", &measured.kept),
                one("one each", &measured.single),
            ]
        })
        .collect();
    match form {
        BenchForm::Json => format!("{:#}\n", as_json(command, servers)),
        BenchForm::Table => {
            lines(&columns, |words, cells| {
                let cells: Vec<String> = cells.iter().map(|cell| format!("{cell:>22}")).collect();
                format!("{words:32}{}", cells.concat())
            }) + &sentences(servers)
        }
        BenchForm::Markdown => {
            let rule = format!("|---|{}\n", "---:|".repeat(columns.len()));
            let text = lines(&columns, |words, cells| {
                format!("| {words} | {} |", cells.join(" | "))
            });
            let (head, rest) = text.split_once('\n').unwrap_or((&text, ""));
            format!(
                "`{command}`\n\n{head}\n{rule}{rest}{}\n",
                sentences(servers)
            )
        }
    }
}

fn lines(columns: &[(String, Value)], line: impl Fn(&str, &[String]) -> String) -> String {
    let names: Vec<String> = columns.iter().map(|(name, _)| name.clone()).collect();
    let mut text = line("", &names) + "\n";
    for (key, words, shown) in ROWS {
        let cells = columns
            .iter()
            .map(|(_, figures)| cell(figures.get(key), shown));
        let cells: Vec<String> = cells.collect();
        if cells.iter().any(|cell| cell != "-") {
            let _ = writeln!(text, "{}", line(words, &cells));
        }
    }
    text
}

/// Our rate to another's, both ways.
fn rates(ours: &Measured, theirs: &Measured) -> Option<(f64, f64)> {
    let rate = |runs: &[Figures]| median(runs).get("answers_per_core_second")?.as_f64();
    Some((
        rate(&ours.kept)? / rate(&theirs.kept)?,
        rate(&ours.single)? / rate(&theirs.single)?,
    ))
}

fn sentences(servers: &[Measured]) -> String {
    let mut text = String::new();
    let Some((ours, others)) = servers.split_first() else {
        return text;
    };
    for theirs in others {
        if let Some((kept, single)) = rates(ours, theirs) {
            let _ = writeln!(
                text,
                "\nanswers a second of a core, ours to {}: {kept:.2} keep-alive, {single:.2} one connection each",
                theirs.name
            );
        }
    }
    text
}

fn as_json(command: &str, servers: &[Measured]) -> Value {
    let both = |measured: &Measured| {
        json!({
            "server": measured.name,
            "keep_alive": {"median": median(&measured.kept), "runs": measured.kept},
            "one_each": {"median": median(&measured.single), "runs": measured.single},
        })
    };
    let ratios = servers.split_first().map(|(ours, others)| {
        let ratio = |theirs: &Measured| {
            let (kept, single) = rates(ours, theirs)?;
            Some(json!({"against": theirs.name, "keep_alive": kept, "one_each": single}))
        };
        others.iter().filter_map(ratio).collect::<Vec<_>>()
    });
    json!({
        "command": command,
        "version": env!("CARGO_PKG_VERSION"),
        "machine": machine(),
        "servers": servers.iter().map(both).collect::<Vec<_>>(),
        "rates_ours_to_theirs": ratios,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(name: &'static str, kept: f64, single: f64) -> Measured {
        let figures = |rate| Figures {
            answers_per_core_second: Some(rate),
            ..Figures::default()
        };
        Measured {
            name,
            kept: vec![figures(kept)],
            single: vec![figures(single)],
        }
    }

    #[test]
    fn rates_are_ours_to_theirs() {
        let servers = [
            measured("relayctl", 200.0, 90.0),
            measured("haproxy", 100.0, 45.0),
        ];
        let text = text(BenchForm::Table, "", &servers);
        assert!(
            text.contains("ours to haproxy: 2.00 keep-alive, 2.00 one"),
            "{text}"
        );
        let markdown = super::text(BenchForm::Markdown, "relayctl bench", &servers);
        assert!(
            markdown.contains("\n|---|---:|---:|---:|---:|\n"),
            "{markdown}"
        );
        assert_eq!(
            as_json("", &servers)["rates_ours_to_theirs"][0]["one_each"],
            2.0
        );
    }
}
