//! The looks at what the engine says of itself: every second, and out of turn when somebody waits for one.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::statistics::{icecast_json, icecast_xml, shoutcast_json};
use super::{Kind, Outside, Place, State, Statistics};

/// Between two looks.
const PACE: Duration = Duration::from_secs(1);

/// The same as long as it was not heard of.
const EAGER: Duration = Duration::from_millis(100);

/// Looks out of turn come no faster than this.
const SHORTEST: Duration = Duration::from_millis(100);

/// So many looks in vain make it down: a storm of listeners delays an answer.
const IN_VAIN: u32 = 3;

impl Outside {
    /// Looks until the shutdown.
    pub async fn watch_it(self: Arc<Self>, shutdown: CancellationToken) {
        let mut vain = 0;
        loop {
            let place = tokio::select! {
                () = shutdown.cancelled() => return,
                place = self.place_within(Duration::MAX) => place,
            };
            let Some(place) = place else { return };
            let looked = tokio::select! {
                () = shutdown.cancelled() => return,
                looked = self.look(&place) => looked,
            };
            vain = self.judge(&place, looked, vain);
            let pace = match self.status.borrow().state {
                State::Up => PACE,
                _ if self.is_attached() => PACE,
                _ => EAGER,
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(pace) => {}
                () = self.wanted.notified() => tokio::time::sleep(SHORTEST).await,
            }
        }
    }

    fn judge(&self, place: &Place, looked: Result<(Kind, Statistics), String>, vain: u32) -> u32 {
        match looked {
            Ok((kind, statistics)) => {
                if self.status.borrow().state != State::Up {
                    tracing::info!(engine = kind.as_str(), %place, server = statistics.server, "the engine is up");
                }
                self.tell(|status| {
                    // A child may have ended meanwhile, and another one may have another place.
                    if status.place.as_ref() == Some(place) {
                        status.state = State::Up;
                        status.why.clear();
                        status.kind = Some(kind);
                    }
                });
                self.statistics.send_replace(Arc::new(statistics));
                0
            }
            Err(why) => {
                self.hangs_after(|liveness, _| liveness.in_vain());
                let vain = vain.saturating_add(1);
                let enough = vain >= IN_VAIN || self.is_attached();
                self.tell(|status| {
                    if status.place.as_ref() != Some(place) || !enough {
                        return;
                    }
                    if status.state != State::Starting || self.is_attached() {
                        if status.state != State::Down {
                            tracing::warn!(%place, why, "the engine does not answer");
                        }
                        status.state = State::Down;
                    }
                    status.why = why;
                });
                vain
            }
        }
    }

    async fn look(&self, place: &Place) -> Result<(Kind, Statistics), String> {
        // What was found out holds only as long as it answers so.
        let known = self.config.kind.or_else(|| {
            let status = self.status.borrow();
            status.kind.filter(|_| status.state == State::Up)
        });
        match known {
            Some(Kind::Icecast) => self.icecast(place).await,
            Some(Kind::Shoutcast) => self.shoutcast(place).await,
            None => match self.icecast(place).await {
                Ok(found) => Ok(found),
                Err(icecast) => self.shoutcast(place).await.map_err(|shoutcast| {
                    format!(
                        "it answers neither as Icecast ({icecast}) nor as Shoutcast ({shoutcast})"
                    )
                }),
            },
        }
    }

    async fn icecast(&self, place: &Place) -> Result<(Kind, Statistics), String> {
        if self.config.admin.is_some() {
            let text = self.text(place, "/admin/stats").await?;
            return Ok((Kind::Icecast, icecast_xml(&text)?));
        }
        let text = self.text(place, "/status-json.xsl").await?;
        Ok((Kind::Icecast, icecast_json(&text)?))
    }

    async fn shoutcast(&self, place: &Place) -> Result<(Kind, Statistics), String> {
        let text = self.text(place, "/statistics?json=1").await?;
        Ok((Kind::Shoutcast, shoutcast_json(&text)?))
    }

    async fn text(&self, place: &Place, target: &str) -> Result<String, String> {
        let (status, body) = self.get(place, target, None).await?;
        match status {
            200 => Ok(String::from_utf8_lossy(&body).into_owned()),
            401 | 403 => Err(format!(
                "{place}{target}: {status}: user and password of its administrator are wrong, or missing (`external_password`)"
            )),
            404 => Err(format!(
                "{place}{target}: 404: icecast-kh has no such page; give the password of its administrator \
                 (`external_password`)"
            )),
            _ => Err(format!("{place}{target}: {status}")),
        }
    }
}
