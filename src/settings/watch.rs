//! News of changed files: the settings file and the files of secrets.
//!
//! The directories are watched, not the files, since editors and Kubernetes replace a file rather than
//! write it; and the content is compared, since a ConfigMap's link moves without any file being written.
//! A look every half minute makes up for file systems that tell nobody. A file that cannot be read any more is
//! news as well, once it has stayed so for a moment: then the reload says so.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use notify::Watcher as _;
use tokio::sync::{mpsc, watch};
use xxhash_rust::xxh3::Xxh3;

/// How often and how patiently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Quiet time after an event before the files are read.
    pub debounce: Duration,
    /// Between two looks without any event.
    pub poll: Duration,
}

impl Pace {
    /// Half a change is no news: a file may be away for so long.
    fn patience(self) -> Duration {
        self.debounce.saturating_mul(8)
    }
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            debounce: Duration::from_millis(250),
            poll: Duration::from_secs(30),
        }
    }
}

/// A running watch; ends when it is dropped.
#[derive(Debug)]
pub struct FileWatch {
    changed: watch::Receiver<u64>,
    blind: Option<String>,
    files: Vec<PathBuf>,
    pace: Pace,
    task: tokio::task::JoinHandle<()>,
}

impl FileWatch {
    /// Waits until the content of a file has changed since the last call.
    pub async fn changed(&mut self) {
        if self.changed.changed().await.is_err() {
            // The task lives as long as this value; without it there is never any news.
            std::future::pending::<()>().await;
        }
    }

    /// Watches `files` instead, where they are others. What changed in them before is no news.
    pub fn follow(&mut self, files: Vec<PathBuf>) {
        if files != self.files {
            *self = watch(files, self.pace);
        }
    }

    /// Why the system tells nothing and only the poll is left, if so.
    pub fn blind(&self) -> Option<&str> {
        self.blind.as_deref()
    }
}

impl Drop for FileWatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Starts watching `files`; must be called within a tokio runtime.
pub fn watch(files: Vec<PathBuf>, pace: Pace) -> FileWatch {
    let (news, mut events) = mpsc::channel::<()>(1);
    let (watcher, blind) = match watcher(&files, news.clone()) {
        Ok(watcher) => (Some(watcher), None),
        Err(error) => (None, Some(error.to_string())),
    };
    let (sender, changed) = watch::channel(0_u64);
    let mut seen = fingerprint(&files);
    let watched = files.clone();
    let task = tokio::spawn(async move {
        // Both live as long as the task: the channel must not close, the watcher must not stop.
        let _held = (watcher, news);
        let mut away: Option<Instant> = None;
        loop {
            let wait = away.map_or(pace.poll, |_| pace.patience().min(pace.poll));
            let told = tokio::time::timeout(wait, events.recv()).await;
            if told.is_ok() {
                settle(&mut events, pace.debounce).await;
            }
            let now = fingerprint(&files);
            let is_gone = now.is_none() && seen.is_some();
            away = is_gone.then(|| away.unwrap_or_else(Instant::now));
            let stays_away = away.is_some_and(|since| since.elapsed() >= pace.patience());
            if now != seen && (now.is_some() || stays_away) {
                away = None;
                seen = now;
                sender.send_modify(|generation| *generation += 1);
            }
        }
    });
    FileWatch {
        changed,
        blind,
        files: watched,
        pace,
        task,
    }
}

/// Waits until no event came for `quiet`, and at most forty times that.
async fn settle(events: &mut mpsc::Receiver<()>, quiet: Duration) {
    for _ in 0..40 {
        if tokio::time::timeout(quiet, events.recv()).await.is_err() {
            return;
        }
    }
}

fn watcher(
    files: &[PathBuf],
    news: mpsc::Sender<()>,
) -> notify::Result<notify::RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Reading a file is an event too, and our own reading must not wake us for ever.
        let read = event.is_ok_and(|event| event.kind.is_access());
        if !read {
            // A full channel holds the news already.
            let _ = news.try_send(());
        }
    })?;
    let directories: BTreeSet<PathBuf> = files
        .iter()
        .filter_map(|file| file.parent())
        .map(|parent| {
            if parent.as_os_str().is_empty() {
                ".".into()
            } else {
                parent.to_path_buf()
            }
        })
        .collect();
    for directory in directories {
        watcher.watch(&directory, notify::RecursiveMode::NonRecursive)?;
    }
    Ok(watcher)
}

/// One number for the content of all files, or none while one cannot be read.
fn fingerprint(files: &[PathBuf]) -> Option<u64> {
    let mut hash = Xxh3::new();
    for file in files {
        let content = std::fs::read(file).ok()?;
        hash.update(&content.len().to_le_bytes());
        hash.update(&content);
    }
    Some(hash.digest())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    const SLOW: Duration = Duration::from_secs(3600);
    const DEADLINE: Duration = Duration::from_secs(20);

    #[test]
    fn the_content_counts_and_nothing_else() {
        let scene = tempfile::tempdir().unwrap();
        let files = vec![scene.path().join("a"), scene.path().join("b")];
        assert_eq!(fingerprint(&files), None);
        fs::write(&files[0], "xy").unwrap();
        fs::write(&files[1], "").unwrap();
        let first = fingerprint(&files);
        fs::write(&files[0], "xy").unwrap();
        assert_eq!(fingerprint(&files), first);
        fs::write(&files[0], "x").unwrap();
        fs::write(&files[1], "y").unwrap();
        assert_ne!(fingerprint(&files), first);
    }

    #[tokio::test]
    async fn events_tell_of_each_kind_of_change() {
        let debounce = Duration::from_millis(5);
        let pace = Pace {
            debounce,
            poll: SLOW,
        };
        let scene = tempfile::tempdir().unwrap();
        // As the kubelet lays out a ConfigMap: `file` leads through `..data` to a directory.
        for generation in ["one", "two"] {
            let directory = scene.path().join(generation);
            fs::create_dir(&directory).unwrap();
            fs::write(directory.join("file"), generation).unwrap();
        }
        let data = scene.path().join("..data");
        symlink("one", &data).unwrap();
        let file = scene.path().join("file");
        symlink("..data/file", &file).unwrap();
        let mut watch = watch(vec![file.clone()], pace);
        assert_eq!(watch.blind(), None);
        symlink("two", scene.path().join("..new")).unwrap();
        fs::rename(scene.path().join("..new"), &data).unwrap();
        let news = tokio::time::timeout(DEADLINE, watch.changed()).await;
        assert!(news.is_ok(), "the link of a ConfigMap moved");
        fs::write(scene.path().join("new"), "three").unwrap();
        fs::rename(scene.path().join("new"), &file).unwrap();
        let news = tokio::time::timeout(DEADLINE, watch.changed()).await;
        assert!(news.is_ok(), "an editor replaced the file");
        fs::write(&file, "four").unwrap();
        let news = tokio::time::timeout(DEADLINE, watch.changed()).await;
        assert!(news.is_ok(), "the file was written in place");
    }

    #[tokio::test]
    async fn a_file_that_stays_away_is_news_and_so_is_its_return() {
        let debounce = Duration::from_millis(5);
        let pace = Pace {
            debounce,
            poll: SLOW,
        };
        let scene = tempfile::tempdir().unwrap();
        let file = scene.path().join("file");
        fs::write(&file, "one").unwrap();
        let mut watch = watch(vec![file.clone()], pace);
        fs::remove_file(&file).unwrap();
        let news = tokio::time::timeout(DEADLINE, watch.changed()).await;
        assert!(news.is_ok(), "the file is gone");
        fs::write(&file, "one").unwrap();
        let news = tokio::time::timeout(DEADLINE, watch.changed()).await;
        assert!(news.is_ok(), "the file is back");
    }

    #[tokio::test]
    async fn files_that_are_named_later_are_watched_too() {
        let pace = Pace {
            debounce: Duration::from_millis(5),
            poll: SLOW,
        };
        let scene = tempfile::tempdir().unwrap();
        let (first, later) = (scene.path().join("first"), scene.path().join("later"));
        fs::write(&first, "one").unwrap();
        fs::write(&later, "one").unwrap();
        let mut watch = watch(vec![first.clone()], pace);
        watch.follow(vec![first, later.clone()]);
        fs::write(&later, "two").unwrap();
        let news = tokio::time::timeout(DEADLINE, watch.changed()).await;
        assert!(news.is_ok(), "the file that was named later changed");
    }

    #[tokio::test]
    async fn the_poll_sees_what_no_event_told() {
        let debounce = SLOW;
        // With such a debounce an event alone would never be acted on in time.
        let poll = Duration::from_millis(5);
        let scene = tempfile::tempdir().unwrap();
        let file = scene.path().join("gone/file");
        let mut watch = watch(vec![file.clone()], Pace { debounce, poll });
        assert!(
            watch.blind().is_some(),
            "a directory that is missing cannot be watched"
        );
        fs::create_dir(scene.path().join("gone")).unwrap();
        fs::write(&file, "one").unwrap();
        let news = tokio::time::timeout(DEADLINE, watch.changed()).await;
        assert!(news.is_ok());
    }
}
