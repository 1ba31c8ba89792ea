//! What was measured, as a table, as JSON and as Markdown; medians where it was measured more than once.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::args::BenchForm;
use super::measure::Figures;

/// One server's runs.
#[derive(Debug, Clone, Default)]
pub(super) struct Measured {
    /// Its name.
    pub name: &'static str,
    /// In the order in which they were made.
    pub runs: Vec<Figures>,
}

/// How a figure is written.
#[derive(Clone, Copy)]
pub(super) enum Shown {
    Whole,
    Tenths,
    Hundredths,
    Thousandths,
}

/// Key in the JSON, words for people, form.
const ROWS: [(&str, &str, Shown); 30] = [
    ("listeners", "listeners", Shown::Whole),
    ("checked", "checked byte by byte", Shown::Whole),
    ("waiting", "still without a byte", Shown::Whole),
    ("failed", "failed to join", Shown::Whole),
    ("lost", "closed by the server", Shown::Whole),
    ("stalls", "stalls (nothing for 2 s)", Shown::Whole),
    ("gaps", "gaps", Shown::Whole),
    (
        "corrupt_bytes",
        "bytes that are not the source's",
        Shown::Whole,
    ),
    (
        "share",
        "share of the stream that arrived",
        Shown::Thousandths,
    ),
    ("cpu_percent", "processor, % of a core", Shown::Tenths),
    (
        "cpu_micros_per_listener_second",
        "processor, µs a listener-second",
        Shown::Tenths,
    ),
    (
        "cpu_seconds_per_gigabyte",
        "processor, s a GB",
        Shown::Thousandths,
    ),
    ("io_uring", "threads that send by io_uring", Shown::Whole),
    ("bytes_per_send", "bytes a send", Shown::Whole),
    (
        "memory_per_listener",
        "memory, bytes a listener",
        Shown::Whole,
    ),
    (
        "first_byte_p50_ms",
        "first byte p50, ms",
        Shown::Thousandths,
    ),
    (
        "first_byte_p99_ms",
        "first byte p99, ms",
        Shown::Thousandths,
    ),
    ("delay_p50_ms", "delivery delay p50, ms", Shown::Tenths),
    ("delay_p99_ms", "delivery delay p99, ms", Shown::Tenths),
    (
        "join_to_first_byte_ms",
        "relay: join to first byte, ms",
        Shown::Whole,
    ),
    ("never_read", "never read", Shown::Whole),
    (
        "socket_memory_p50",
        "their sockets, bytes, p50",
        Shown::Whole,
    ),
    (
        "socket_memory_max",
        "their sockets, bytes, most",
        Shown::Whole,
    ),
    ("stopped", "stopped reading", Shown::Whole),
    (
        "stopped_not_closed",
        "of them not closed in 2 min",
        Shown::Whole,
    ),
    (
        "stopped_closed_after_s",
        "the last of them closed after, s",
        Shown::Tenths,
    ),
    (
        "delay_p99_beside_stopped_ms",
        "delay p99 of the others, ms",
        Shown::Tenths,
    ),
    (
        "memory_growth_while_stopped",
        "memory more meanwhile, bytes",
        Shown::Whole,
    ),
    (
        "memory_growth_after_stopped",
        "memory more after, bytes",
        Shown::Whole,
    ),
    ("seconds", "window, s", Shown::Tenths),
];

/// What the ratio is taken of.
const COST: &str = "cpu_seconds_per_gigabyte";

/// All of it in one form.
pub(super) fn text(form: BenchForm, command: &str, servers: &[Measured]) -> String {
    match form {
        BenchForm::Json => format!("{:#}\n", json(command, servers)),
        BenchForm::Table => table(servers),
        BenchForm::Markdown => markdown(command, servers),
    }
}

fn json(command: &str, servers: &[Measured]) -> Value {
    let each = servers.iter().map(|measured| {
        json!({"server": measured.name, "median": Value::Object(median(&measured.runs)), "runs": measured.runs})
    });
    json!({
        "command": command,
        "version": env!("CARGO_PKG_VERSION"),
        "machine": machine(),
        "servers": each.collect::<Vec<_>>(),
        "ratios": ratios(servers).into_iter().map(|ratio| json!({
            "against": ratio.against,
            "cpu_ours_to_theirs": ratio.median,
            "lowest": ratio.lowest,
            "highest": ratio.highest,
        })).collect::<Vec<_>>(),
    })
}

fn table(servers: &[Measured]) -> String {
    let mut text = String::new();
    let columns: Vec<Map<String, Value>> = servers.iter().map(|m| median(&m.runs)).collect();
    let _ = write!(text, "{:36}", "");
    for measured in servers {
        let _ = write!(text, "{:>12}", measured.name);
    }
    text.push('\n');
    for (key, words, shown) in ROWS {
        let cells: Vec<String> = columns
            .iter()
            .map(|column| cell(column.get(key), shown))
            .collect();
        if cells.iter().all(|cell| cell == "-") {
            continue;
        }
        let _ = write!(text, "{words:36}");
        for cell in cells {
            let _ = write!(text, "{cell:>12}");
        }
        text.push('\n');
    }
    for ratio in ratios(servers) {
        let _ = writeln!(text, "\n{}", ratio.sentence());
    }
    text
}

fn markdown(command: &str, servers: &[Measured]) -> String {
    let mut text = format!("`{command}`\n\n| |");
    for measured in servers {
        let _ = write!(text, " {} |", measured.name);
    }
    let _ = write!(text, "\n|---|{}\n", "---:|".repeat(servers.len()));
    let columns: Vec<Map<String, Value>> = servers.iter().map(|m| median(&m.runs)).collect();
    for (key, words, shown) in ROWS {
        let cells: Vec<String> = columns
            .iter()
            .map(|column| cell(column.get(key), shown))
            .collect();
        if cells.iter().any(|cell| cell != "-") {
            let _ = writeln!(text, "| {words} | {} |", cells.join(" | "));
        }
    }
    text.push('\n');
    for ratio in ratios(servers) {
        let _ = writeln!(text, "{}\n", ratio.sentence());
    }
    text
}

/// A figure as text; `-` where there is none.
pub(super) fn cell(value: Option<&Value>, shown: Shown) -> String {
    match (value.and_then(Value::as_f64), shown) {
        (None, _) => "-".into(),
        (Some(value), Shown::Whole) => format!("{value:.0}"),
        (Some(value), Shown::Tenths) => format!("{value:.1}"),
        (Some(value), Shown::Hundredths) => format!("{value:.2}"),
        (Some(value), Shown::Thousandths) => format!("{value:.3}"),
    }
}

/// Our cost as a share of another's.
struct Ratio {
    against: &'static str,
    median: f64,
    lowest: f64,
    highest: f64,
}

impl Ratio {
    fn sentence(&self) -> String {
        format!(
            "processor time a GB, ours to {}: {:.3} (medians; run by run {:.3} to {:.3})",
            self.against, self.median, self.lowest, self.highest
        )
    }
}

fn ratios(servers: &[Measured]) -> Vec<Ratio> {
    let Some((ours, others)) = servers.split_first() else {
        return Vec::new();
    };
    let cost = |runs: &[Figures]| median(runs).get(COST).and_then(Value::as_f64);
    let ratio = |theirs: &Measured| {
        let pairs = ours.runs.iter().zip(&theirs.runs);
        let pairs = pairs.filter_map(|(ours, theirs)| {
            Some(ours.cpu_seconds_per_gigabyte? / theirs.cpu_seconds_per_gigabyte?)
        });
        let pairs: Vec<f64> = pairs.collect();
        Some(Ratio {
            against: theirs.name,
            median: cost(&ours.runs)? / cost(&theirs.runs)?,
            lowest: pairs.iter().copied().fold(f64::INFINITY, f64::min),
            highest: pairs.iter().copied().fold(0.0, f64::max),
        })
    };
    others.iter().filter_map(ratio).collect()
}

/// Every figure's median over the runs that have it.
pub(super) fn median(runs: &[impl Serialize]) -> Map<String, Value> {
    let objects: Vec<Map<String, Value>> = runs
        .iter()
        .filter_map(|figures| match serde_json::to_value(figures) {
            Ok(Value::Object(object)) => Some(object),
            _ => None,
        })
        .collect();
    let keys = objects
        .first()
        .map(|object| object.keys().cloned().collect());
    let keys: Vec<String> = keys.unwrap_or_default();
    let median = |key: &String| {
        let mut values: Vec<f64> = objects
            .iter()
            .filter_map(|object| object.get(key)?.as_f64())
            .collect();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let upper = *values.get(middle)?;
        // The mean of the two in the middle where their number is even.
        let lower = *values.get(middle.checked_sub((values.len() + 1) % 2)?)?;
        Some(f64::midpoint(lower, upper))
    };
    let value = |key: &String| median(key).map_or(Value::Null, |value| json!(value));
    keys.iter().map(|key| (key.clone(), value(key))).collect()
}

/// What it was measured on.
pub(super) fn machine() -> Value {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let processors = read("/proc/cpuinfo");
    let model = processors
        .lines()
        .find(|line| line.starts_with("model name"));
    let model = model
        .and_then(|line| line.split_once(':'))
        .map(|(_, model)| model.trim());
    json!({
        "system": std::env::consts::OS,
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
        "processor": model,
        "cores": std::thread::available_parallelism().map_or(1, usize::from),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(costs: &[f64]) -> Vec<Figures> {
        let figures = |cost: &f64| Figures {
            listeners: 10,
            cpu_seconds_per_gigabyte: Some(*cost),
            ..Figures::default()
        };
        costs.iter().map(figures).collect()
    }

    fn servers() -> Vec<Measured> {
        vec![
            Measured {
                name: "relayctl",
                runs: runs(&[0.5, 0.4, 0.9]),
            },
            Measured {
                name: "icecast2",
                runs: runs(&[4.0, 5.0, 4.5]),
            },
        ]
    }

    #[test]
    fn medians_of_odd_and_even_numbers() {
        let of = |costs: &[f64]| median(&runs(costs)).get(COST).unwrap().as_f64();
        assert_eq!(of(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(of(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(of(&[7.0]), Some(7.0));
        assert!(median(&runs(&[1.0]))["bytes_per_send"].is_null());
        assert!(median(&runs(&[])).is_empty());
    }

    #[test]
    fn ratios_are_of_medians_and_of_each_pair() {
        let json = json("relayctl bench", &servers());
        let ratio = &json["ratios"][0];
        assert_eq!(ratio["against"], "icecast2");
        assert!((ratio["cpu_ours_to_theirs"].as_f64().unwrap() - 0.5 / 4.5).abs() < 1e-9);
        assert!((ratio["lowest"].as_f64().unwrap() - 0.08).abs() < 1e-9);
        assert!((ratio["highest"].as_f64().unwrap() - 0.2).abs() < 1e-9);
        assert_eq!(json["servers"][0]["runs"].as_array().unwrap().len(), 3);
        assert_eq!(json["servers"][0]["median"]["listeners"], 10.0);
    }

    #[test]
    fn tables_leave_out_what_nobody_says() {
        let text = table(&servers());
        assert!(text.contains("relayctl    icecast2"), "{text}");
        assert!(text.contains("ours to icecast2: 0.111"), "{text}");
        assert!(!text.contains("bytes a send"), "{text}");
        let text = markdown("relayctl bench", &servers());
        assert!(
            text.contains("| processor, s a GB | 0.500 | 4.500 |"),
            "{text}"
        );
    }
}
