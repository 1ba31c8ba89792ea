//! What a key is, how its names are written, and which known name is nearest to an unknown one.

use super::table::{KEYS, NOT_YET, OLD};

/// One setting. The table in [`super::table`] is the single source for YAML, environment, flags, `check`
/// and the documents.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Dotted path in the YAML, `fanout.max_delay`.
    pub path: &'static str,
    /// What may stand there.
    pub kind: Kind,
    /// What holds if nobody says anything.
    pub default: Preset,
    /// The flag without its dashes, where there is one.
    pub flag: Option<&'static str>,
    /// One sentence for people: meaning, unit, what zero means.
    pub doc: &'static str,
}

/// What may stand under a key.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// Any text without control characters.
    Text,
    /// `true`, `yes`, `on` and their opposites.
    Bool,
    /// A whole number within both bounds.
    Integer { min: u64, max: u64 },
    /// `ADDR:PORT`, `[V6]:PORT`, `:PORT` or `PORT`.
    Address,
    /// `45s`, `250ms`, `1m 30s`; a bare number is seconds.
    Duration,
    /// `100Mbit`, `12MB` (a second).
    Rate,
    /// `64KiB`, `32MB`.
    Size,
    /// A YAML list, or texts separated by commas.
    List,
    /// A text that is never shown; `<path>_file` and `…_FILE` name a file that holds it.
    Secret,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A list of mappings with these fields; a bare text stands for the first field.
    Tree(&'static [Field]),
}

/// A field of an entry of a [`Kind::Tree`].
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// Its name within the entry.
    pub name: &'static str,
    /// What may stand there; never a tree.
    pub kind: Kind,
    /// One sentence for people.
    pub doc: &'static str,
}

/// A default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// This value, written as in the environment.
    Is(&'static str),
    /// Nothing; the text says what happens then.
    Unset(&'static str),
}

/// A name of a system that relayctl replaces. It works in the environment and at the top of the YAML.
#[derive(Debug, Clone, Copy)]
pub struct Old {
    /// The name, written exactly so.
    pub name: &'static str,
    /// The key, or the part of a key, that it sets.
    pub sets: &'static str,
    /// True for the `OPENSHIFT_*` names, which stand one level below the others.
    pub platform: bool,
    /// One sentence for people.
    pub doc: &'static str,
}

/// A setting of the design that is not built yet: known, and refused with its reason.
#[derive(Debug, Clone, Copy)]
pub struct NotYet {
    /// Dotted path, or an old name.
    pub path: &'static str,
    /// The value that is not built, or none if the whole key is not.
    pub value: Option<&'static str>,
    /// Why, and what to do instead.
    pub reason: &'static str,
}

/// Prefix of every environment name of ours.
pub const PREFIX: &str = "RELAYCTL_";

/// Names of ours in the environment that are no settings of a node.
pub const NO_SETTINGS: [&str; 3] = ["RELAYCTL_ADDR", "RELAYCTL_API_TOKEN", "RELAYCTL_CONFIG"];

/// Parts of keys that only old names set, each with the key that overrules it.
pub(super) const PARTS: [(&str, &str); 5] = [
    ("bind.port", "bind"),
    ("bind.address", "bind"),
    ("public_url.host", "public_url"),
    ("primary.host", "primary"),
    ("primary.port", "primary"),
];

/// Other spellings of a path. `ring` is both a duration and the beginning of `ring.max_bytes`.
pub(super) const SPELLINGS: [(&str, &str); 1] = [("ring.seconds", "ring")];

/// The environment name of a dotted path: `fanout.max_delay` is `RELAYCTL_FANOUT__MAX_DELAY`.
pub fn environment_name(path: &str) -> String {
    format!("{PREFIX}{}", path.to_ascii_uppercase().replace('.', "__"))
}

/// The dotted path of an environment name, known or not.
pub(super) fn path_of(name: &str) -> Option<String> {
    let rest = name.strip_prefix(PREFIX)?;
    Some(rest.replace("__", ".").to_ascii_lowercase())
}

/// The key at `path`, other spellings included.
pub fn find(path: &str) -> Option<&'static Key> {
    let path = SPELLINGS
        .iter()
        .find(|(other, _)| *other == path)
        .map_or(path, |(_, path)| path);
    KEYS.iter().find(|key| key.path == path)
}

/// True if some key begins with `path` and a dot.
pub(super) fn is_prefix(path: &str) -> bool {
    let begins = |known: &str| {
        known
            .strip_prefix(path)
            .is_some_and(|rest| rest.starts_with('.'))
    };
    KEYS.iter().any(|key| begins(key.path)) || NOT_YET.iter().any(|entry| begins(entry.path))
}

/// The old name, if `name` is one.
pub(super) fn find_old(name: &str) -> Option<&'static Old> {
    OLD.iter().find(|old| old.name == name)
}

/// Why `path` (or `value` there) is refused although the design names it.
pub(super) fn not_yet(path: &str, value: Option<&str>) -> Option<&'static str> {
    NOT_YET
        .iter()
        .find(|entry| entry.path == path && entry.value == value)
        .map(|entry| entry.reason)
}

/// The known name nearest to `name`, or none if nothing is near.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// The sentence that sends a reader from an unknown path to the nearest known one.
pub(super) fn nearest_path(path: &str) -> String {
    let known = KEYS.iter().map(|key| key.path);
    // The last word decides when the branch in front of it was forgotten: `max_delay`.
    let leaf = |full: &'static str| full.rsplit('.').next().unwrap_or(full);
    if let Some(key) = KEYS.iter().find(|key| leaf(key.path) == path) {
        return format!("did you mean `{}`?", key.path);
    }
    match nearest(path, known) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "`relayctl check` lists every key".into(),
    }
}

/// The sentence that sends a reader from an unknown variable to the nearest known one.
pub(super) fn nearest_variable(name: &str) -> String {
    let mut known: Vec<String> = NO_SETTINGS.iter().map(|name| (*name).into()).collect();
    for key in KEYS {
        let name = environment_name(key.path);
        if matches!(key.kind, Kind::Secret) {
            known.push(format!("{name}_FILE"));
        }
        known.push(name);
    }
    // The common prefix would make everything look alike.
    let bare = |name: &str| name.strip_prefix(PREFIX).unwrap_or(name).to_owned();
    let wanted = bare(name).to_ascii_uppercase();
    let stripped: Vec<String> = known.iter().map(|name| bare(name)).collect();
    match nearest(&wanted, stripped.iter().map(String::as_str)) {
        Some(near) => format!("did you mean `{PREFIX}{near}`?"),
        None => "`relayctl check` lists every variable".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_both_ways_for_every_key() {
        assert_eq!(
            environment_name("fanout.max_delay"),
            "RELAYCTL_FANOUT__MAX_DELAY"
        );
        let mut seen = 0;
        for key in KEYS {
            seen += 1;
            assert_eq!(
                path_of(&environment_name(key.path)).as_deref(),
                Some(key.path)
            );
            assert!(find(key.path).is_some());
            assert!(
                key.doc.ends_with('.') && key.doc.len() > 15,
                "{}: {}",
                key.path,
                key.doc
            );
            assert_eq!(
                KEYS.iter().filter(|other| other.path == key.path).count(),
                1
            );
        }
        assert!(seen > 50, "{seen}");
    }

    #[test]
    fn old_names_and_parts_point_at_something() {
        assert!(OLD.len() >= 11);
        for old in OLD {
            let part = PARTS.iter().any(|(part, _)| *part == old.sets);
            assert!(part || find(old.sets).is_some(), "{}", old.name);
        }
        for (_, whole) in PARTS {
            assert!(find(whole).is_some());
        }
        for entry in NOT_YET {
            assert_eq!(
                find(entry.path).is_some(),
                entry.value.is_some(),
                "{}",
                entry.path
            );
        }
    }

    #[test]
    fn the_nearest_name() {
        assert_eq!(
            nearest_path("fanout.max_dely"),
            "did you mean `fanout.max_delay`?"
        );
        assert_eq!(
            nearest_path("max_delay"),
            "did you mean `fanout.max_delay`?"
        );
        assert_eq!(
            nearest_variable("RELAYCTL_MAX_LISTENER"),
            "did you mean `RELAYCTL_MAX_LISTENERS`?"
        );
        assert_eq!(
            nearest_variable("RELAYCTL_TOKEN_FIL"),
            "did you mean `RELAYCTL_TOKEN_FILE`?"
        );
        assert!(nearest_path("qqqq").contains("check"));
    }
}
