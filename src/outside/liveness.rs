//! Whether a child that runs still answers, and how often the same failure is logged. Pure: time comes in.

use std::time::{Duration, Instant};

/// A child that answered nothing for this long hangs, and is killed.
pub(super) const HANGS: Duration = Duration::from_secs(15);

/// Looks that must have failed as well: after a pause of this node itself the time alone says nothing.
const LOOKS: u32 = 3;

/// Shortest time between two warnings of the same failure.
const REPEAT: Duration = Duration::from_secs(60);

/// The last answer of an engine, and the looks since then that got none.
#[derive(Debug, Clone, Copy)]
pub(super) struct Liveness {
    answered: Instant,
    in_vain: u32,
}

impl Liveness {
    /// One that begins with the benefit of the doubt.
    pub fn new(now: Instant) -> Self {
        Self {
            answered: now,
            in_vain: 0,
        }
    }

    /// Any answer counts, a refusal too.
    pub fn answered(&mut self, now: Instant) {
        *self = Self::new(now);
    }

    /// A look that got no answer.
    pub fn in_vain(&mut self) {
        self.in_vain = self.in_vain.saturating_add(1);
    }

    /// True where it has answered nothing for [`HANGS`] although it was asked.
    pub fn hangs(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.answered) >= HANGS && self.in_vain >= LOOKS
    }
}

/// How loudly a failure is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loudness {
    /// A failure of another cause than the last one.
    New,
    /// Repeated failure, with its count since the last log line.
    Again(u32),
    /// Repeated failure, logged less than a minute ago.
    Quiet,
}

/// The failure that was logged last.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    cause: String,
    logged: Option<Instant>,
    since: u32,
}

impl Repeats {
    /// The loudness of a failure of `cause` now.
    pub fn judge(&mut self, cause: &str, now: Instant) -> Loudness {
        let logged = self.logged.filter(|_| self.cause == cause);
        let Some(logged) = logged else {
            *self = Self {
                cause: cause.to_owned(),
                logged: Some(now),
                since: 0,
            };
            return Loudness::New;
        };
        self.since = self.since.saturating_add(1);
        if now.saturating_duration_since(logged) < REPEAT {
            return Loudness::Quiet;
        }
        self.logged = Some(now);
        Loudness::Again(std::mem::take(&mut self.since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_and_questions_make_a_hang() {
        let begin = Instant::now();
        let mut child = Liveness::new(begin);
        assert!(!child.hangs(begin + HANGS));
        for _ in 0..LOOKS {
            assert!(!child.hangs(begin + HANGS));
            child.in_vain();
        }
        assert!(!child.hangs(begin + HANGS - Duration::from_millis(1)));
        assert!(child.hangs(begin + HANGS));
        child.answered(begin + HANGS);
        assert!(!child.hangs(begin + HANGS * 9));
    }

    #[test]
    fn the_same_cause_is_loud_once_a_minute() {
        let (begin, mut repeats) = (Instant::now(), Repeats::default());
        assert_eq!(repeats.judge("a", begin), Loudness::New);
        for second in [10, 20, 59] {
            let now = begin + Duration::from_secs(second);
            assert_eq!(repeats.judge("a", now), Loudness::Quiet);
        }
        assert_eq!(repeats.judge("a", begin + REPEAT), Loudness::Again(4));
        assert_eq!(repeats.judge("b", begin + REPEAT), Loudness::New);
        assert_eq!(repeats.judge("b", begin + REPEAT), Loudness::Quiet);
        assert_eq!(repeats.judge("a", begin + REPEAT), Loudness::New);
    }
}
