//! An upstream's bytes into the engine: titles taken out, frames left to the intake.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use tokio::time::{Instant, timeout};
use url::Url;

use super::open::Opened;
use super::{Foreign, Left};
use crate::base::charset::Charset;
use crate::base::wall::unix_millis;
use crate::engine::{Intake, Offer, OpenError, PushError};
use crate::upstream::client::shown;
use crate::upstream::report::Report;
use crate::wire::icy::Stripper;
use crate::wire::title::Title;

/// A source that has the mount is never taken over by a relay, however silent it is.
const NEVER_STALE: Duration = Duration::MAX;

impl Foreign {
    /// One upstream, from the request until it is left. `audio_since` is set at its first whole frame.
    pub(super) async fn feed(
        &self,
        url: &Url,
        audio_since: &mut Option<Instant>,
        report: &mut Report,
    ) -> Left {
        let mut opened = match self.open(url).await {
            Ok(opened) => opened,
            Err(why) => return Left::Failed(why),
        };
        let intake = match self.engine.open_source(&self.config.mount, offer(&opened)) {
            Ok(intake) => {
                self.engine.count_pull();
                intake
            }
            Err(error @ OpenError::InUse { .. }) => return Left::InUse(error.to_string()),
            Err(error) => return Left::Failed(error.to_string()),
        };
        let evicted = intake.evicted().clone();
        let mut titled = Titled {
            intake,
            stripper: Stripper::new(opened.metaint)
                .with_charset(self.config.charset.unwrap_or(Charset::UTF_8)),
            last: Title::default(),
            audio: Vec::new(),
            titles: Vec::new(),
        };
        let mut bytes = Vec::new();
        loop {
            bytes.clear();
            let read = tokio::select! {
                biased;
                () = evicted.cancelled() => return Left::Evicted,
                read = timeout(self.pace.stall, opened.reply.read(&mut bytes)) => read,
            };
            match read {
                Ok(Ok(true)) => {}
                Ok(Ok(false)) => return Left::Failed("it closed the connection".to_owned()),
                Ok(Err(error)) => return Left::Failed(format!("the connection broke: {error}")),
                Err(_) => return Left::Stalled,
            }
            match titled.push(&bytes) {
                Ok(()) => {}
                Err(PushError::Evicted) => return Left::Evicted,
                Err(error) => return Left::Failed(error.to_string()),
            }
            if audio_since.is_none() && titled.intake.has_media() {
                *audio_since = Some(Instant::now());
                report.fine(&self.config.mount, format!("relaying {}", shown(url)));
            }
        }
    }
}

fn offer(opened: &Opened) -> Offer {
    let peer = opened.reply.peer.map(|peer| peer.ip());
    Offer {
        content_type: opened.content_type.clone(),
        headers: opened.headers.clone(),
        address: peer.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        agent: opened.server.clone(),
        stale: NEVER_STALE,
    }
}

/// An intake for bytes with titles in them.
struct Titled {
    intake: Intake,
    stripper: Stripper,
    last: Title,
    audio: Vec<u8>,
    titles: Vec<(u64, Title)>,
}

impl Titled {
    fn push(&mut self, bytes: &[u8]) -> Result<(), PushError> {
        self.audio.clear();
        let base = self.stripper.audio_bytes();
        self.stripper.push(bytes, &mut self.audio, &mut self.titles);
        let now = std::time::Instant::now();
        let wall_millis = unix_millis();
        let mut rest = self.audio.as_slice();
        let mut at = base;
        for (offset, title) in self.titles.drain(..) {
            let ahead = usize::try_from(offset.saturating_sub(at)).unwrap_or(usize::MAX);
            let (part, after) = rest.split_at_checked(ahead).unwrap_or((rest, &[]));
            self.intake.push(part, now, wall_millis)?;
            at += part.len() as u64;
            rest = after;
            // Many servers say the same title again and again.
            if title != self.last {
                self.intake.title(title.clone());
                self.last = title;
            }
        }
        self.intake.push(rest, now, wall_millis)
    }
}
