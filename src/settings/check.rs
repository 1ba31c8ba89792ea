//! What `relayctl check` shows: every key, its value, who said so, and who was overruled.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use super::keys::{self, PARTS, Preset};
use super::layer::{Merged, Origin};
use super::table::{KEYS, OLD};
use super::types::Settings;
use super::values;

/// One line of the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    /// Dotted path.
    pub key: &'static str,
    /// Name in the environment.
    pub variable: String,
    /// Value that holds; `***` for a secret, empty if nothing was set and the default is no value, see `default`.
    pub value: String,
    /// Behaviour of a node where there is no value; empty where there is one.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub default: &'static str,
    /// Who said so.
    pub origin: String,
    /// Who said something else and was overruled, the lowest first.
    pub overruled: Vec<String>,
}

/// Everything that was read, without any secret.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Report {
    /// One for each key, in the order of the documents.
    pub rows: Vec<Row>,
    /// Variables that Kubernetes injected for a Service called `relayctl…`.
    pub ignored: Vec<String>,
    /// What is worth knowing.
    pub notes: Vec<String>,
    /// Warnings about settings that hold and should be changed.
    pub warnings: Vec<String>,
    /// Files that were read, and are to be watched: settings and secrets.
    pub files: Vec<PathBuf>,
}

/// The report of `merged`, which became `settings`.
pub(super) fn report(merged: &Merged, settings: &Settings) -> Report {
    let mut report = Report::default();
    for key in KEYS {
        let mut origins = Vec::new();
        let mut overruled = Vec::new();
        let parts = PARTS.iter().filter(|(_, whole)| *whole == key.path);
        for path in std::iter::once(key.path).chain(parts.map(|(part, _)| *part)) {
            match merged.origin(path) {
                Origin::Default => {}
                origin => origins.push(origin.to_string()),
            }
            let below = merged.shadowed.get(path).into_iter().flatten();
            overruled.extend(below.map(ToString::to_string));
        }
        let origin = if origins.is_empty() {
            "default".into()
        } else {
            // Parts change a whole: `bind` of a file and `portbase`.
            origins.join(" + ")
        };
        let value = value(merged, settings, key);
        let default = match key.default {
            Preset::Unset(words) if value.is_empty() => words,
            _ => "",
        };
        report.rows.push(Row {
            key: key.path,
            variable: keys::environment_name(key.path),
            value,
            default,
            origin,
            overruled,
        });
    }
    report
}

/// The effective value for people.
fn value(merged: &Merged, settings: &Settings, key: &keys::Key) -> String {
    match key.path {
        "bind" => settings.bind.to_string(),
        "primary" => settings
            .primary
            .as_ref()
            .map(|primary| primary.url.to_string())
            .unwrap_or_default(),
        "public_url" => {
            let urls = settings.public.urls(settings.bind.port);
            let urls: Vec<String> = urls.iter().map(ToString::to_string).collect();
            urls.join(",")
        }
        "shoutcast.port" => settings.shoutcast.port.unwrap_or(0).to_string(),
        path => match (merged.effective.get(path), key.default) {
            (Some(entry), _) => values::show(key.kind, &entry.value),
            (None, Preset::Is(text)) => text.into(),
            (None, Preset::Unset(_)) => String::new(),
        },
    }
}

impl Row {
    /// The value for people: what its absence means in brackets.
    fn shown(&self) -> String {
        match self.default {
            "" => self.value.clone(),
            default => format!("({default})"),
        }
    }
}

impl Report {
    /// Shows `value` as the default of `key`, where nothing was set and only the machine knows it.
    pub fn set_default(&mut self, key: &str, value: String) {
        let mut rows = self.rows.iter_mut();
        if let Some(row) = rows.find(|row| row.key == key && row.value.is_empty()) {
            row.value = value;
            row.default = "";
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wide = |column: fn(&Row) -> usize, least: usize| {
            self.rows.iter().map(column).fold(least, usize::max).min(40)
        };
        let key = wide(|row| row.key.len(), 3);
        let value = wide(|row| row.shown().chars().count(), 5);
        writeln!(f, "{:key$}  {:value$}  FROM", "KEY", "VALUE")?;
        for row in &self.rows {
            write!(
                f,
                "{:key$}  {:value$}  {}",
                row.key,
                row.shown(),
                row.origin
            )?;
            if !row.overruled.is_empty() {
                write!(f, " (overrules {})", row.overruled.join(", "))?;
            }
            writeln!(f)?;
        }
        for warning in &self.warnings {
            writeln!(f, "warning: {warning}")?;
        }
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        if !self.ignored.is_empty() {
            writeln!(
                f,
                "ignored, since Kubernetes injects them for a Service: {}",
                self.ignored.join(", ")
            )?;
        }
        Ok(())
    }
}

/// The page of every setting: the table as Markdown.
pub fn markdown() -> String {
    super::document::page(KEYS, OLD)
}
