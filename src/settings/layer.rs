//! What one place says, and several places laid over each other.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde_json::Value;

use super::keys::PARTS;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody said anything.
    Default,
    /// The settings file, with the line where it is known.
    File { path: PathBuf, line: Option<u64> },
    /// A variable of the environment.
    Environment(String),
    /// A flag, without its dashes.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line: None } => write!(f, "{}", path.display()),
            Self::File {
                path,
                line: Some(line),
            } => write!(f, "{}:{line}", path.display()),
            Self::Environment(name) => write!(f, "${name}"),
            Self::Flag(name) => write!(f, "--{name}"),
        }
    }
}

/// A value as written, and where.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub(super) value: Value,
    pub(super) origin: Origin,
}

/// What one place says: at most one entry for each key or part of a key.
#[derive(Debug, Clone, Default)]
pub(super) struct Layer {
    entries: BTreeMap<&'static str, Entry>,
}

impl Layer {
    /// Adds an entry; false if this place has one already.
    pub(super) fn add(&mut self, path: &'static str, value: Value, origin: Origin) -> bool {
        if self.entries.contains_key(path) {
            return false;
        }
        self.entries.insert(path, Entry { value, origin });
        true
    }

    /// Where this place sets `path`, if it does.
    pub(super) fn origin(&self, path: &str) -> Option<&Origin> {
        self.entries.get(path).map(|entry| &entry.origin)
    }
}

/// All layers, the later above the earlier.
#[derive(Debug, Clone, Default)]
pub(super) struct Merged {
    /// What holds.
    pub(super) effective: BTreeMap<&'static str, Entry>,
    /// Who was overruled, under the same names, the lowest first.
    pub(super) shadowed: BTreeMap<&'static str, Vec<Origin>>,
}

impl Merged {
    /// Lays `layers` over each other, the lowest first.
    pub(super) fn of(layers: Vec<Layer>) -> Self {
        let mut merged = Self::default();
        for layer in layers {
            // A whole key overrules the parts that lower layers set; parts of this layer or a higher
            // one stay and change the whole.
            for (part, whole) in PARTS {
                if layer.entries.contains_key(whole)
                    && let Some(entry) = merged.effective.remove(part)
                {
                    merged.shadow(part, entry.origin);
                }
            }
            for (path, entry) in layer.entries {
                if let Some(below) = merged.effective.insert(path, entry) {
                    merged.shadow(path, below.origin);
                }
            }
        }
        merged
    }

    fn shadow(&mut self, path: &'static str, origin: Origin) {
        self.shadowed.entry(path).or_default().push(origin);
    }

    /// Where the effective value of `path` came from.
    pub(super) fn origin(&self, path: &str) -> Origin {
        self.effective
            .get(path)
            .map_or(Origin::Default, |entry| entry.origin.clone())
    }
}
