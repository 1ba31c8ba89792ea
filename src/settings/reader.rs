//! Takes values out of the merged layers by path, and collects what is wrong instead of stopping.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use super::choices::Word;
use super::keys::{self, Key, Kind, Preset};
use super::layer::{Merged, Origin};
use super::problem::Problem;
use super::values::{self, Read};
use crate::base::secret::Secret;
use crate::base::units::{Rate, Size};

/// One pass over the settings.
pub(super) struct Reader<'a> {
    merged: &'a Merged,
    /// What was wrong so far.
    pub(super) problems: Vec<Problem>,
    /// What was asked for so far: a test compares it with the table.
    pub(super) asked: BTreeSet<&'static str>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(merged: &'a Merged) -> Self {
        Self {
            merged,
            problems: Vec::new(),
            asked: BTreeSet::new(),
        }
    }

    /// Where `path` was set.
    pub(super) fn origin(&self, path: &str) -> Origin {
        self.merged.origin(path)
    }

    /// Adds a problem of `path`, where it was set.
    pub(super) fn problem(&mut self, path: &str, what: impl Into<String>, hint: impl Into<String>) {
        let problem = Problem::new(path, &self.origin(path), what, hint);
        self.problems.push(problem);
    }

    /// The value as written, or the default.
    pub(super) fn value(&mut self, path: &'static str) -> Option<Value> {
        self.asked.insert(path);
        if let Some(entry) = self.merged.effective.get(path) {
            return Some(entry.value.clone());
        }
        match keys::find(path).map(|key| key.default) {
            Some(Preset::Is(text)) => Some(Value::String(text.into())),
            _ => None,
        }
    }

    /// The value through `read`; a wrong one is a problem and falls back to the default.
    pub(super) fn get<T>(
        &mut self,
        path: &'static str,
        read: impl Fn(&Value) -> Read<T>,
    ) -> Option<T> {
        let value = self.value(path)?;
        match read(&value) {
            Ok(value) => Some(value),
            Err(what) => {
                self.problem(path, what, "");
                match keys::find(path).map(|key| key.default) {
                    Some(Preset::Is(text)) => read(&Value::String(text.into())).ok(),
                    _ => None,
                }
            }
        }
    }

    /// An optional text; an empty one is none.
    pub(super) fn text(&mut self, path: &'static str) -> Option<String> {
        self.get(path, values::text).filter(|text| !text.is_empty())
    }

    pub(super) fn secret(&mut self, path: &'static str) -> Option<Secret> {
        self.get(path, values::secret)
    }

    pub(super) fn boolean(&mut self, path: &'static str) -> bool {
        self.get(path, values::boolean).unwrap_or_default()
    }

    pub(super) fn duration(&mut self, path: &'static str) -> Duration {
        self.get(path, values::duration).unwrap_or_default()
    }

    pub(super) fn rate(&mut self, path: &'static str) -> Rate {
        self.get(path, values::rate).unwrap_or_default()
    }

    pub(super) fn size(&mut self, path: &'static str) -> Size {
        self.get(path, values::size).unwrap_or_default()
    }

    pub(super) fn list(&mut self, path: &'static str) -> Vec<String> {
        self.get(path, values::list).unwrap_or_default()
    }

    /// A whole number within the bounds of its key; none where nothing was given or preset.
    pub(super) fn number(&mut self, path: &'static str) -> Option<u32> {
        let Some(Key {
            kind: Kind::Integer { min, max },
            ..
        }) = keys::find(path)
        else {
            return None;
        };
        self.get(path, |value| values::integer(value, *min, *max))
            .and_then(|number| u32::try_from(number).ok())
    }

    /// A list of words of a few; one that is none of them is a problem.
    pub(super) fn words<T: Word>(&mut self, path: &'static str) -> Vec<T> {
        self.get(path, |value| {
            let items = values::list(value)?;
            items.iter().map(|item| one_of(item)).collect()
        })
        .unwrap_or_default()
    }

    /// One word of a few. A word that is not built yet is refused with its reason.
    pub(super) fn word<T: Word>(&mut self, path: &'static str, otherwise: T) -> T {
        self.get(path, |value| {
            let text = values::text(value)?;
            match keys::not_yet(path, Some(&text)) {
                Some(reason) => Err(format!("`{text}`: {reason}")),
                None => one_of(&text),
            }
        })
        .unwrap_or(otherwise)
    }
}

/// The value that `text` names, or what could have stood there.
fn one_of<T: Word>(text: &str) -> Read<T> {
    T::of(text).ok_or_else(|| {
        let near = keys::nearest(text, T::NAMES.iter().copied())
            .map(|near| format!("; did you mean `{near}`?"))
            .unwrap_or_default();
        format!("`{text}` is none of {}{near}", T::NAMES.join(", "))
    })
}
