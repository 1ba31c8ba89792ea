//! When silence is news. Pure.

use std::time::Instant;

use super::Config;

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
    /// While it is silent: since when it is not.
    sound_since: Option<Instant>,
    silent: bool,
}

impl Watch {
    /// True where the mount has been silent for long enough by now, false where it has sounded for long enough
    /// again, none where nothing is new.
    pub fn observe(&mut self, heard: Heard, now: Instant, config: &Config) -> Option<bool> {
        match heard {
            Heard::Nothing => None,
            Heard::Sound => {
                self.quiet_since = None;
                if !self.silent {
                    return None;
                }
                let since = *self.sound_since.get_or_insert(now);
                if now.saturating_duration_since(since) < config.back {
                    return None;
                }
                self.silent = false;
                Some(false)
            }
            Heard::Silence => {
                self.sound_since = None;
                let since = *self.quiet_since.get_or_insert(now);
                let is_due = now.saturating_duration_since(since) >= config.after;
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
    use std::time::Duration;

    use super::*;

    #[test]
    fn told_once_after_its_time_and_once_at_its_end() {
        let start = Instant::now();
        let mut watch = Watch::default();
        let config = config(0);
        let mut at = |seconds, heard| {
            let now = start + Duration::from_secs(seconds);
            watch.observe(heard, now, &config)
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

    #[test]
    fn a_click_in_the_silence_is_not_its_end() {
        let start = Instant::now();
        let mut watch = Watch::default();
        let config = config(3);
        let mut at = |seconds, heard| {
            let now = start + Duration::from_secs(seconds);
            watch.observe(heard, now, &config)
        };
        assert_eq!(at(0, Heard::Silence), None);
        assert_eq!(at(30, Heard::Silence), Some(true));
        assert_eq!(at(31, Heard::Sound), None);
        assert_eq!(at(33, Heard::Sound), None);
        // One second short of it: it counts from the beginning.
        assert_eq!(at(34, Heard::Silence), None);
        assert_eq!(at(35, Heard::Sound), None);
        assert_eq!(at(37, Heard::Sound), None);
        assert_eq!(at(38, Heard::Sound), Some(false));
        assert_eq!(at(39, Heard::Sound), None);
        // And the next silence has its whole time again.
        assert_eq!(at(40, Heard::Silence), None);
        assert_eq!(at(69, Heard::Silence), None);
        assert_eq!(at(70, Heard::Silence), Some(true));
        assert_eq!(at(71, Heard::Sound), None);
    }

    fn config(back: u64) -> Config {
        Config {
            after: Duration::from_secs(30),
            below: 60,
            back: Duration::from_secs(back),
        }
    }
}
