//! Lines about parents: the mounts that meet the same parent's trouble, or its return, within a moment share one.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::base::ids::MountId;

/// A line waits this long for other mounts.
const GATHER: Duration = Duration::from_secs(1);

/// A line is said of a parent at most once in this time: one that restarts fails in several ways, one after the other.
const PAUSE: Duration = Duration::from_secs(30);

/// Lines that are gathered at once; what is beyond is said by itself.
const MAX_LINES: usize = 256;

/// Kind of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// A parent fails.
    Trouble,
    /// A parent feeds.
    Fine,
    /// A mount is over at its origin.
    Ended,
    /// Another parent took the place of one.
    Failover,
}

/// One line, for so many mounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    news: News,
    parent: String,
    /// In the words of the first mount.
    text: String,
    mounts: BTreeSet<MountId>,
    since: Instant,
    told: bool,
}

impl Line {
    fn say(&self) {
        let first = self.mounts.first().map(MountId::to_string);
        let (text, count) = (&self.text, self.mounts.len());
        let mount = first.filter(|_| count == 1);
        let mounts = (count > 1).then_some(count);
        match self.news {
            News::Trouble => tracing::warn!(mount, mounts, "{text}"),
            News::Fine | News::Ended | News::Failover => tracing::info!(mount, mounts, "{text}"),
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Gathered(Mutex<Vec<Line>>);

impl Gathered {
    fn lock(&self) -> MutexGuard<'_, Vec<Line>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something is to be said of `mount` and `parent`.
    pub fn add(&self, news: News, parent: &str, mount: &MountId, text: &str, now: Instant) {
        let mut lines = self.lock();
        let mut known = lines.iter_mut();
        if let Some(line) = known.find(|line| line.news == news && line.parent == parent) {
            if !line.told {
                line.mounts.insert(mount.clone());
            }
            return;
        }
        let line = Line {
            news,
            parent: parent.to_owned(),
            text: text.to_owned(),
            mounts: BTreeSet::from([mount.clone()]),
            since: now,
            told: false,
        };
        match lines.len() < MAX_LINES {
            true => lines.push(line),
            false => line.say(),
        }
    }

    /// Says what has waited long enough. To be called a few times a second.
    pub fn flush(&self, now: Instant) {
        for line in self.take_due(now) {
            line.say();
        }
    }

    fn take_due(&self, now: Instant) -> Vec<Line> {
        let mut lines = self.lock();
        let mut due = Vec::new();
        for line in lines.iter_mut() {
            let age = now.saturating_duration_since(line.since);
            if !line.told && age >= GATHER {
                due.push(line.clone());
                line.told = true;
                line.mounts.clear();
            }
        }
        lines.retain(|line| now.saturating_duration_since(line.since) < PAUSE);
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(number: u32) -> MountId {
        format!("/m{number}.mp3").parse().unwrap()
    }

    #[test]
    fn a_parent_of_many_mounts_that_restarts_is_one_line() {
        let (start, gathered) = (Instant::now(), Gathered::default());
        let add = |why: &str, at: Instant| {
            for number in 0..300 {
                gathered.add(News::Trouble, "p", &mount(number), why, at);
            }
        };
        add("was reset", start);
        add("was refused", start + GATHER / 2);
        assert_eq!(gathered.take_due(start + GATHER / 2), []);
        let said = gathered.take_due(start + GATHER);
        assert_eq!(said.len(), 1);
        assert_eq!(
            (said[0].mounts.len(), said[0].text.as_str()),
            (300, "was reset")
        );
        // Its second way to fail is no second line, and another parent's trouble is one.
        add("did not answer", start + GATHER * 3);
        gathered.add(News::Trouble, "q", &mount(1), "x", start + GATHER * 3);
        let said = gathered.take_due(start + GATHER * 5);
        assert_eq!(said.len(), 1);
        assert_eq!(said[0].parent, "q");
        // Later it is news again.
        gathered.take_due(start + PAUSE);
        add("was reset", start + PAUSE);
        assert_eq!(gathered.take_due(start + PAUSE + GATHER).len(), 1);
    }

    #[test]
    fn lines_are_bounded() {
        let (start, gathered) = (Instant::now(), Gathered::default());
        for number in 0..2 * MAX_LINES {
            gathered.add(News::Fine, &number.to_string(), &mount(1), "x", start);
        }
        assert_eq!(gathered.take_due(start + GATHER).len(), MAX_LINES);
    }
}
