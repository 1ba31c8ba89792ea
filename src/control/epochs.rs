//! No epoch is stamped twice, whatever becomes of the process and the clock: the data directory holds a ceiling that is
//! written before an epoch comes near it, so that no source waits for the disk.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Control;
use crate::base::wall::unix_millis;

/// File of the data directory with a number that no epoch of this process has reached; the next process begins above it.
pub const EPOCH_FILE: &str = "epoch";

/// How far a ceiling is above the clock, in milliseconds: one hour. It is renewed when half of that is used up, so a
/// disk may hang for half an hour before the promise rests on the clock alone.
const LEAD: u64 = 3_600_000;

/// How far it is above the newest epoch at least: sources that begin between two looks, where epochs are ahead of the
/// clock. Small, since every restart may add it.
const ROOM: u64 = 1_000;

/// The ceiling that was asked to be written last.
#[derive(Debug, Default)]
pub(super) struct Ceiling(AtomicU64);

/// The next ceiling, where the one of now is too low.
fn due(ceiling: u64, newest: u64, unix_millis: u64) -> Option<u64> {
    let above = |lead: u64, room: u64| {
        let by_clock = unix_millis.saturating_add(lead);
        by_clock.max(newest.saturating_add(room))
    };
    (ceiling < above(LEAD / 2, ROOM / 2)).then(|| above(LEAD, ROOM))
}

impl Control {
    /// Has the first ceiling written and waits for it; to be called before there are sources.
    ///
    /// # Errors
    /// Where it cannot be written. Epochs are told apart by the clock then.
    pub async fn begin_epochs(&self) -> Result<(), super::SaveError> {
        self.keep_epochs();
        self.disk.newest(EPOCH_FILE).on_disk().await
    }

    /// To be called a few times a second. Waits for nothing.
    pub(super) fn keep_epochs(&self) {
        let newest = self.engine.epochs().last().0;
        let asked = self.epochs.0.load(Ordering::Relaxed);
        if let Some(ceiling) = due(asked, newest, unix_millis()) {
            self.epochs.0.store(ceiling, Ordering::Relaxed);
            let text = ceiling.to_string();
            self.disk.save_bytes(EPOCH_FILE, text.into_bytes()).later();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ceiling_is_ahead_of_every_epoch_and_rises_only_with_the_clock() {
        let start = 1_800_000_000_000;
        assert_eq!(due(0, 0, start), Some(start + LEAD));
        let ceiling = start + LEAD;
        assert_eq!(due(ceiling, start, start + LEAD / 2), None);
        let later = start + LEAD / 2 + 1;
        assert_eq!(due(ceiling, start, later), Some(later + LEAD));
        assert_eq!(due(ceiling, ceiling, start), Some(ceiling + ROOM));
    }

    #[test]
    fn a_thousand_restarts_in_a_row_never_reach_the_ceiling_of_the_one_before() {
        let start = 1_800_000_000_000;
        let mut kept = 0;
        for restart in 0..1_000 {
            // Two a second, and a clock that stands still half of the time.
            let now = start + restart / 2 * 1_000;
            let newest = now.max(kept + 1);
            let ceiling = due(0, newest, now).unwrap();
            assert!(ceiling > newest && newest > kept, "{restart}");
            kept = ceiling;
        }
        // An hour, and no more for each restart than the room.
        assert!(kept <= start + LEAD + 1_000 * (ROOM + 1), "{kept}");
    }

    #[test]
    fn a_clock_that_goes_back_and_the_last_number_do_no_harm() {
        assert_eq!(due(500 + LEAD, 500, 1), None);
        assert_eq!(due(0, u64::MAX, 1), Some(u64::MAX));
        assert_eq!(due(u64::MAX, u64::MAX, 1), None);
    }
}
