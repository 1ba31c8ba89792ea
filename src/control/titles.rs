//! Titles over a restart: encoders say a title once, and nobody would repeat it to the next process.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Control;
use crate::base::ids::MountId;
use crate::base::wall::unix_millis;
use crate::engine;

/// File of the data directory with the titles of the sources.
pub(super) const TITLES_FILE: &str = "titles.json";

/// Titles of a node that was away for longer are not taken up again.
const LASTS: Duration = Duration::from_secs(600);

/// The file is written anew after this long, so that its time says when the node was last there.
const RENEWED: Duration = Duration::from_secs(60);

/// Titles as they are kept.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct KeptTitles {
    /// When they were written, in milliseconds since 1970.
    unix_millis: u64,
    titles: HashMap<MountId, engine::RememberedTitle>,
}

impl KeptTitles {
    /// The titles, if they are of a process that was there a moment ago.
    pub(super) fn fresh(self, unix_millis: u64) -> HashMap<MountId, engine::RememberedTitle> {
        let age = unix_millis.saturating_sub(self.unix_millis);
        let lasts = u64::try_from(LASTS.as_millis()).unwrap_or(u64::MAX);
        if age > lasts {
            HashMap::new()
        } else {
            self.titles
        }
    }
}

/// State of the file: the count of changes when it was written, and the time.
#[derive(Debug, Default)]
pub(super) struct Written {
    change: AtomicU64,
    unix_millis: AtomicU64,
}

impl Control {
    /// Has the titles written where they have changed, or the file is old. To be called every second; waits for nothing.
    pub(super) fn keep_titles(&self) {
        let titles = self.engine.titles();
        let (change, now) = (titles.changes(), unix_millis());
        let written = &self.titles_written;
        let age = now.saturating_sub(written.unix_millis.load(Ordering::Relaxed));
        let is_old = u128::from(age) >= RENEWED.as_millis();
        let has_changed = written.change.swap(change, Ordering::Relaxed) != change;
        if !has_changed && !is_old {
            return;
        }
        written.unix_millis.store(now, Ordering::Relaxed);
        let kept = KeptTitles {
            unix_millis: now,
            titles: titles.all(),
        };
        if has_changed || !kept.titles.is_empty() {
            self.disk.save(TITLES_FILE, &kept).later();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_old_or_damaged_is_no_title() {
        let file = r#"{"unix_millis":1000000,"titles":{"/live.mp3":{
            "encoder":{"address":"127.0.0.1","agent":"a","name":"n"},"title":{"text":"A - B","artist":"A"}}}}"#;
        let kept = || serde_json::from_str::<KeptTitles>(file).unwrap();
        assert_eq!(kept().fresh(1_600_000).len(), 1);
        assert_eq!(kept().fresh(1_600_001).len(), 0);
        // A clock that went back.
        assert_eq!(kept().fresh(5).len(), 1);
        assert!(serde_json::from_str::<KeptTitles>(r#"{"titles":[]}"#).is_err());
    }
}
