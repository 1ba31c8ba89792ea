//! The pulse of the thread that accepts: proof that it goes round, for a watchdog.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

/// Questions that were asked, and the last one that the thread has answered.
pub(super) struct Pulse {
    asked: AtomicU64,
    answered: watch::Sender<u64>,
}

impl Default for Pulse {
    fn default() -> Self {
        Self {
            asked: AtomicU64::new(0),
            answered: watch::Sender::new(0),
        }
    }
}

impl Pulse {
    /// Asks; the number of the question.
    pub fn ask(&self) -> u64 {
        self.asked.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// Answers all that was asked so far. Costs two loads where nothing was.
    pub fn beat(&self) {
        let asked = self.asked.load(Ordering::Acquire);
        if *self.answered.borrow() != asked {
            self.answered.send_replace(asked);
        }
    }

    /// Waits for the answer to a question.
    pub async fn answered(&self, question: u64) {
        let mut answers = self.answered.subscribe();
        // The sender lives as long as `self`.
        let _ = answers.wait_for(|last| *last >= question).await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_question_is_answered_by_the_next_round_alone() {
        let pulse = Pulse::default();
        let first = pulse.ask();
        pulse.beat();
        pulse.answered(first).await;
        let second = pulse.ask();
        let early = tokio::time::timeout(Duration::from_secs(60), pulse.answered(second)).await;
        assert!(early.is_err());
        pulse.beat();
        pulse.answered(second).await;
    }
}
