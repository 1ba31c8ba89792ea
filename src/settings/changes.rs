//! The keys in which two readings of the settings differ.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use super::keys::PARTS;
use super::layer::Merged;
use super::table::KEYS;

/// The values of one reading as they were written, secrets among them; it shows none of them.
#[derive(Clone, Default, PartialEq)]
pub struct Values(BTreeMap<&'static str, Value>);

impl fmt::Debug for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Values {
    pub(super) fn of(merged: &Merged) -> Self {
        let entries = merged.effective.iter();
        Self(
            entries
                .map(|(path, entry)| (*path, entry.value.clone()))
                .collect(),
        )
    }

    /// The keys that `new` has other values for, in the order of the documents. An old name that sets a part of a key
    /// (`portbase`) counts for the key. A secret that stands in a file of its own is compared by the file's content,
    /// but for those in `mounts` and `relay`.
    pub fn changed(&self, new: &Self) -> Vec<&'static str> {
        let differs = |path: &str| self.0.get(path) != new.0.get(path);
        let is_changed = |key: &str| {
            let mut parts = PARTS.iter().filter(|(_, whole)| *whole == key);
            differs(key) || parts.any(|(part, _)| differs(part))
        };
        let keys = KEYS.iter().map(|key| key.path);
        keys.filter(|key| is_changed(key)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Sources, load};
    use super::*;

    fn values(pairs: &[(&str, &str)]) -> Values {
        let pairs = pairs.iter();
        let sources = Sources {
            environment: pairs
                .map(|(name, value)| ((*name).into(), (*value).into()))
                .collect(),
            ..Sources::default()
        };
        load(&sources).unwrap().values
    }

    #[test]
    fn keys_that_differ_are_named_and_no_value_is_shown() {
        let old = values(&[("RELAYCTL_HOLD", "45s"), ("RELAYCTL_ADMIN_PASSWORD", "one")]);
        let new = values(&[
            ("RELAYCTL_ADMIN_PASSWORD", "two"),
            ("RELAYCTL_PULL__ON_DEMAND", "yes"),
            ("portbase", "9000"),
        ]);
        let changed = ["bind", "admin_password", "pull.on_demand", "hold"];
        assert_eq!(old.changed(&new), changed);
        assert_eq!(new.changed(&old), changed);
        assert!(new.changed(&new).is_empty());
        assert_eq!(format!("{new:?}"), "***");
    }

    #[test]
    fn a_secret_in_a_file_is_its_content() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("admin");
        let read = |text: &str| {
            std::fs::write(&file, text).unwrap();
            values(&[("RELAYCTL_ADMIN_PASSWORD_FILE", file.to_str().unwrap())])
        };
        let (old, new) = (read("one\n"), read("two\n"));
        assert_eq!(old.changed(&new), ["admin_password"]);
    }
}
