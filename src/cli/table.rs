//! Tables for people, from the API's own objects.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::Value;

use crate::base::text;
use crate::base::units::Size;

/// How a value is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown {
    /// As it is.
    Plain,
    /// A limit: 0 and none are no limit.
    Limit,
    /// A duration in seconds.
    Seconds,
    /// A size in bytes.
    Bytes,
    /// Bits a second; 0 is unknown.
    Rate,
    /// Of one.
    Share,
    /// Seconds ago, to a tenth.
    Age,
}

struct Column {
    head: &'static str,
    field: &'static str,
    shown: Shown,
    wide: bool,
}

const fn column(head: &'static str, field: &'static str, shown: Shown) -> Column {
    Column {
        head,
        field,
        shown,
        wide: false,
    }
}

const fn wide(head: &'static str, field: &'static str, shown: Shown) -> Column {
    Column {
        head,
        field,
        shown,
        wide: true,
    }
}

const NODES: &[Column] = &[
    column("NAME", "name", Shown::Plain),
    column("ROLE", "role", Shown::Plain),
    column("STATE", "state", Shown::Plain),
    column("LISTENERS", "listeners", Shown::Plain),
    column("MAX", "max_listeners", Shown::Limit),
    wide("WEIGHT", "weight", Shown::Plain),
    wide("BANDWIDTH", "bandwidth", Shown::Rate),
    wide("CPU", "cpu_ratio", Shown::Share),
    wide("HEARD", "heartbeat_age_seconds", Shown::Age),
    wide("PARENT", "parent", Shown::Plain),
    wide("DEPTH", "depth", Shown::Plain),
    wide("CHILDREN", "children", Shown::Plain),
    wide("REGION", "region", Shown::Plain),
    wide("LAG", "lag_bytes", Shown::Bytes),
    wide("LAG MS", "lag_millis", Shown::Plain),
    column("VERSION", "version", Shown::Plain),
    wide("ID", "id", Shown::Plain),
    column("URL", "public_url", Shown::Plain),
];

const MOUNTS: &[Column] = &[
    column("NAME", "name", Shown::Plain),
    column("STATE", "state", Shown::Plain),
    column("TYPE", "content_type", Shown::Plain),
    column("LISTENERS", "listeners", Shown::Plain),
    wide("BITRATE", "bitrate", Shown::Rate),
    wide("EPOCH", "epoch", Shown::Plain),
    wide("OFFSET", "offset", Shown::Plain),
    wide("SILENT", "silent", Shown::Plain),
    wide("HEARS", "hears", Shown::Plain),
    column("TITLE", "title", Shown::Plain),
];

const LISTENERS: &[Column] = &[
    column("ID", "id", Shown::Plain),
    column("MOUNT", "mount", Shown::Plain),
    column("NODE", "node", Shown::Plain),
    column("ADDRESS", "address", Shown::Plain),
    column("CONNECTED", "connected_seconds", Shown::Seconds),
    column("SENT", "sent_bytes", Shown::Bytes),
    column("AGENT", "user_agent", Shown::Plain),
];

const PICKS: &[Column] = &[
    column("TIME", "time", Shown::Plain),
    column("MOUNT", "mount", Shown::Plain),
    column("NODE", "node", Shown::Plain),
    column("MODE", "mode", Shown::Plain),
    column("REASON", "reason", Shown::Plain),
];

const TOKENS: &[Column] = &[
    column("ID", "id", Shown::Plain),
    column("SCOPE", "scope", Shown::Plain),
    column("CREATED", "created", Shown::Plain),
    column("USED BY", "used_by", Shown::Plain),
];

/// Widest cell of a table that is not wide, in characters.
const WIDEST: usize = 60;

/// The array `what` of `answer` as a table; one line says so where it is empty.
pub(super) fn listing(what: &str, answer: &Value, all_columns: bool) -> String {
    let columns = match what {
        "nodes" => NODES,
        "mounts" => MOUNTS,
        "listeners" => LISTENERS,
        "picks" => PICKS,
        _ => TOKENS,
    };
    let rows = answer.get(what).and_then(Value::as_array);
    let mut rows: Vec<&Value> = rows.into_iter().flatten().collect();
    if what == "nodes" {
        // By id is an order for programs; for people the head comes first.
        let text = |row: &Value, name| row.get(name).and_then(Value::as_str).map(str::to_owned);
        rows.sort_by_cached_key(|row| {
            let relay = text(row, "role").as_deref() != Some("primary");
            (relay, text(row, "name"))
        });
    }
    if rows.is_empty() {
        return format!("no {what}\n");
    }
    let columns: Vec<&Column> = columns.iter().filter(|c| all_columns || !c.wide).collect();
    let mut lines = vec![
        columns
            .iter()
            .map(|c| c.head.to_owned())
            .collect::<Vec<_>>(),
    ];
    for row in &rows {
        let cell = |column: &&Column| {
            let text = cell(row.get(column.field), column.shown);
            if all_columns { text } else { cut(&text) }
        };
        lines.push(columns.iter().map(cell).collect());
    }
    let mut text = aligned(&lines);
    for row in &rows {
        let field = |name| row.get(name).and_then(Value::as_str);
        let trouble = field("trouble").or_else(|| field("warning"));
        if let (Some(name), Some(trouble)) = (field("name"), trouble) {
            let _ = writeln!(text, "{}: {}", clean(name), clean(trouble));
        }
    }
    text
}

/// Columns as wide as their widest cell, the last one ragged.
fn aligned(lines: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = Vec::new();
    for line in lines {
        for (index, cell) in line.iter().enumerate() {
            let length = cell.chars().count();
            match widths.get_mut(index) {
                Some(width) => *width = length.max(*width),
                None => widths.push(length),
            }
        }
    }
    let mut text = String::new();
    for line in lines {
        let mut row = String::new();
        for (cell, width) in line.iter().zip(&widths) {
            let _ = write!(row, "{cell:width$}  ");
        }
        text.push_str(row.trim_end());
        text.push('\n');
    }
    text
}

fn cell(value: Option<&Value>, shown: Shown) -> String {
    let number = value.and_then(Value::as_f64);
    let text = match (shown, value, number) {
        (Shown::Limit, None | Some(Value::Null), _) => "-".to_owned(),
        (Shown::Limit, _, Some(0.0)) => "-".to_owned(),
        (Shown::Seconds, _, Some(seconds)) if seconds >= 0.0 => {
            // Whole seconds are what a person reads.
            humantime::format_duration(Duration::from_secs(seconds as u64)).to_string()
        }
        (Shown::Bytes, Some(value), _) if value.is_u64() => bytes(value.as_u64().unwrap_or(0)),
        (Shown::Rate, _, Some(bits)) if bits > 0.0 => format!("{:.0}kbit/s", bits / 1000.0),
        (Shown::Rate, ..) => String::new(),
        (Shown::Share, _, Some(share)) => format!("{:.0}%", share * 100.0),
        (Shown::Age, _, Some(seconds)) => format!("{seconds:.1}s"),
        (_, Some(Value::String(text)), _) => clean(text),
        (_, None | Some(Value::Null), _) => String::new(),
        (_, Some(other), _) => clean(&other.to_string()),
    };
    if text.is_empty() {
        "-".to_owned()
    } else {
        text
    }
}

/// Rounded to what a person reads.
fn bytes(count: u64) -> String {
    if count < 10 * 1024 {
        return Size(count).to_string();
    }
    bytesize::ByteSize(count).display().iec().to_string()
}

/// A value in a line: fields with their names, all else as it is.
pub(super) fn words(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) if text.is_empty() => "-".to_owned(),
        Value::String(text) => clean(text),
        Value::Object(fields) => {
            let known = fields.iter().filter(|(_, value)| !value.is_null());
            let pairs =
                known.map(|(name, value)| format!("{} {}", name.replace('_', " "), words(value)));
            pairs.collect::<Vec<_>>().join(", ")
        }
        other => clean(&other.to_string()),
    }
}

/// A text from outside without what would move a terminal's cursor or turn its writing around.
pub(super) fn clean(text: &str) -> String {
    text::replaced(text).into_owned()
}

fn cut(text: &str) -> String {
    if text.chars().count() <= WIDEST {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(WIDEST - 1).collect();
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_are_aligned_and_outsiders_cannot_move_the_cursor() {
        let answer = json!({"listeners": [
            {"id": "1", "mount": "/live.mp3", "node": "relay-1", "address": "192.0.2.7",
             "connected_seconds": 61, "sent_bytes": 3 << 20, "user_agent": "a\u{1b}[2Jb"},
            {"id": "22", "mount": "/x", "node": null},
        ]});
        let text = listing("listeners", &answer, false);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(
            lines[0].starts_with("ID  MOUNT      NODE     ADDRESS"),
            "{text}"
        );
        assert!(
            lines[1].contains("1m 1s") && lines[1].contains("3.0 MiB"),
            "{text}"
        );
        assert!(lines[1].ends_with("a\u{fffd}[2Jb"), "{text}");
        assert!(lines[2].starts_with("22  /x         -        -"), "{text}");
    }

    #[test]
    fn an_empty_list_says_so_and_wide_shows_more() {
        assert_eq!(listing("nodes", &json!({"nodes": []}), false), "no nodes\n");
        let answer = json!({"nodes": [{"name": "a", "weight": 100, "max_listeners": 0}]});
        assert!(!listing("nodes", &answer, false).contains("WEIGHT"));
        assert!(listing("nodes", &answer, true).contains("WEIGHT"));
        let answer = json!({"nodes": [{"name": "a", "trouble": "http://x: refused"}]});
        assert!(listing("nodes", &answer, false).ends_with("\na: http://x: refused\n"));
    }

    #[test]
    fn long_cells_are_cut_unless_wide() {
        let title = "x".repeat(200);
        let answer = json!({"mounts": [{"name": "/a", "title": title}]});
        assert!(!listing("mounts", &answer, false).contains(&title));
        assert!(listing("mounts", &answer, true).contains(&title));
    }
}
