//! The report every second, and the last one.

use std::time::{Duration, Instant};

use super::{Agent, Ended, PACE};
use crate::base::retry::Backoff;
use crate::control::BEAT_MILLIS;
use crate::telemetry::panics::drill;
use crate::wire::message::{BeatAnswer, NodeState};

/// Changes that come together are reported together.
const GATHER: Duration = Duration::from_millis(20);

/// A last word waits no longer than this.
const GOODBYE: Duration = Duration::from_secs(2);

/// A beat that is under way at the shutdown waits no longer than this.
const LAST_BEAT: Duration = Duration::from_secs(1);

/// A mount that has come or gone is reported at once: until then nobody is sent here for it.
async fn news(mounts: &mut tokio::sync::watch::Receiver<u64>) {
    if mounts.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
    tokio::time::sleep(GATHER).await;
}

impl Agent {
    /// Reports until the membership ends. A primary that does not answer is asked again, faster at first:
    /// the sooner it hears, the sooner its table is whole.
    pub(super) async fn beat(&self) -> Ended {
        let mut pace = Backoff::new(PACE.0, Duration::from_millis(BEAT_MILLIS));
        let mut lost = false;
        let mut mounts = self.control.engine.watch();
        let mut nudges = self.control.watch_nudges();
        loop {
            drill("member");
            mounts.mark_unchanged();
            nudges.mark_unchanged();
            // One that is under way is not cut at the shutdown: its connection would break before the goodbye, and
            // the primary would suspect this node in between.
            let reported = tokio::select! {
                () = self.long_after_shutdown() => return Ended::Shutdown,
                reported = self.report(NodeState::Ready) => reported,
            };
            let wait = match reported {
                Ok(answer) if answer.rejoin => return Ended::Rejoin,
                Ok(answer) => {
                    if std::mem::take(&mut lost) {
                        tracing::info!("the primary answers again");
                        self.control.primary_answers(self.client.primary().as_str());
                    }
                    self.control.obey(&answer);
                    self.control.set_clock(answer.unix_millis);
                    if let Some(word) = &answer.parent {
                        self.control.set_assigned(word);
                    }
                    pace.reset();
                    Duration::from_millis(BEAT_MILLIS).mul_f64(0.8 + 0.4 * rand::random::<f64>())
                }
                Err(error) if matches!(error.status(), Some(401 | 403)) => return Ended::Rejoin,
                Err(error) => {
                    if !std::mem::replace(&mut lost, true) {
                        let primary = self.client.primary();
                        let is_refusal = error.status().is_some();
                        self.control.primary_fails(
                            primary.as_str(),
                            &error.to_string(),
                            is_refusal,
                        );
                    }
                    self.try_elsewhere().await;
                    pace.next_wait()
                }
            };
            tokio::select! {
                () = self.shutdown.cancelled() => return Ended::Shutdown,
                () = tokio::time::sleep(wait) => {}
                () = news(&mut mounts), if !lost => {}
                () = news(&mut nudges), if !lost => {}
            }
        }
    }

    async fn long_after_shutdown(&self) {
        self.shutdown.cancelled().await;
        tokio::time::sleep(LAST_BEAT).await;
    }

    async fn report(&self, state: NodeState) -> Result<BeatAnswer, super::client::AskError> {
        let (seq, confirmed) = self.control.next_report();
        let mut beat = self
            .control
            .own_beat(seq, state, confirmed.clone(), Instant::now());
        beat.events = self.control.unreported();
        let told = beat.events.last().map(|event| event.seq);
        let answer = self
            .client
            .post("/cluster/v1/beat", &self.client.credential(), &beat)
            .await;
        let answer = answer.and_then(|answer: BeatAnswer| {
            let checked = answer.check();
            checked.map_err(|error| self.client.strange(&error.to_string()))?;
            Ok(answer)
        });
        if answer.is_ok() {
            self.control.acknowledged(&confirmed);
            if let Some(told) = told {
                self.control.reported(told);
            }
        }
        answer
    }

    /// The last beat: the row leaves the table at once.
    pub(super) async fn say_goodbye(&self) {
        let last = tokio::time::timeout(GOODBYE, self.report(NodeState::Gone)).await;
        if !matches!(last, Ok(Ok(_))) {
            tracing::warn!("the primary did not hear the goodbye; it will find out within 10 s");
        }
    }
}
