//! Silence by the rate of bytes: an encoder of variable rate spends next to nothing on it. Pure.

use super::watch::Heard;

/// Rounds before the history says anything.
const ROUNDS: u32 = 30;

/// What the loudest rate of before keeps at each round: half of it after twenty minutes.
const FADE: f64 = 0.9994;

/// Below this share of the loudest rate it is silence: Opus at 96 kbit/s spends 12 kB a second on sound and,
/// page headers and all, less than a tenth of that on none.
const SHARE: f64 = 0.2;

/// The rates of one mount.
#[derive(Debug, Default)]
pub(super) struct History {
    loudest: f64,
    rounds: u32,
}

impl History {
    /// Takes the bytes a second of this round. A constant rate never falls, so it is never called silence.
    pub fn judge(&mut self, rate: u64) -> Heard {
        #[allow(clippy::cast_precision_loss)]
        let rate = rate as f64;
        self.loudest = (self.loudest * FADE).max(rate);
        self.rounds = self.rounds.saturating_add(1);
        if self.rounds < ROUNDS {
            Heard::Nothing
        } else if rate < self.loudest * SHARE {
            Heard::Silence
        } else {
            Heard::Sound
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_a_fraction_of_the_mounts_own_rate() {
        let mut history = History::default();
        for _ in 1..ROUNDS {
            assert_eq!(history.judge(12_000), Heard::Nothing);
        }
        assert_eq!(history.judge(11_000), Heard::Sound);
        assert_eq!(history.judge(900), Heard::Silence);
        assert_eq!(history.judge(6_000), Heard::Sound);
        // What was loud is forgotten: a mount that goes on with less is no silent one for ever.
        for _ in 0..3_000 {
            history.judge(2_000);
        }
        assert_eq!(history.judge(2_000), Heard::Sound);
    }
}
