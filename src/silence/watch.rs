//! When silence is news. Pure.

use std::time::{Duration, Instant};

/// What one round heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// Sound.
    Sound,
    /// Bytes without sound.
    Silence,
    /// No bytes, or none that tell: nothing changes.
    Nothing,
}

/// One mount.
#[derive(Debug, Default)]
pub(super) struct Watch {
    quiet_since: Option<Instant>,
    silent: bool,
}

impl Watch {
    /// True where the mount has been silent for `after` by now, false where it sounds again, none where nothing
    /// is new.
    pub fn observe(&mut self, heard: Heard, now: Instant, after: Duration) -> Option<bool> {
        match heard {
            Heard::Nothing => None,
            Heard::Sound => {
                self.quiet_since = None;
                std::mem::take(&mut self.silent).then_some(false)
            }
            Heard::Silence => {
                let since = *self.quiet_since.get_or_insert(now);
                let is_due = now.saturating_duration_since(since) >= after;
                if !is_due || self.silent {
                    return None;
                }
                self.silent = true;
                Some(true)
            }
        }
    }

    pub fn is_silent(&self) -> bool {
        self.silent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn told_once_after_its_time_and_once_at_its_end() {
        let start = Instant::now();
        let mut watch = Watch::default();
        let mut at = |seconds, heard| {
            let now = start + Duration::from_secs(seconds);
            watch.observe(heard, now, Duration::from_secs(30))
        };
        assert_eq!(at(0, Heard::Sound), None);
        assert_eq!(at(1, Heard::Silence), None);
        // A moment of sound begins it anew; a moment without bytes does not.
        assert_eq!(at(20, Heard::Sound), None);
        assert_eq!(at(21, Heard::Silence), None);
        assert_eq!(at(40, Heard::Nothing), None);
        assert_eq!(at(50, Heard::Silence), None);
        assert_eq!(at(51, Heard::Silence), Some(true));
        assert_eq!(at(52, Heard::Silence), None);
        assert_eq!(at(53, Heard::Nothing), None);
        assert_eq!(at(54, Heard::Sound), Some(false));
        assert_eq!(at(55, Heard::Sound), None);
    }
}
