//! A source's body into the engine, until one of both ends.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use super::Edge;
use super::connection::Conn;
use crate::base::ids::MountId;
use crate::base::wall::unix_millis;
use crate::engine::{Intake, PushError};
use crate::telemetry::log_limit;
use crate::wire::body::BodyDecoder;
use crate::wire::icy;

/// A source that was accepted and sends nothing for this long may sit behind a proxy that drops bodies.
pub(super) const SILENT_START: Duration = Duration::from_secs(5);

/// Read at once from a source.
const READ: usize = 16 * 1024;

/// Hint for a source of which no byte comes.
const NO_BYTE: &str = "no byte came after the source was accepted; an HTTP proxy in front drops bodies without \
                       a length: send a chunked PUT, or use the TCP source port";

/// How a source's body ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SourceEnd {
    Done,
    Silent,
    Stalled,
    Evicted,
    /// The engine takes no more of it.
    Refused(PushError),
    Malformed,
    /// An engine that is not ours closed it.
    Engine,
    Shutdown,
}

impl SourceEnd {
    pub fn reason(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Silent => "silent",
            Self::Stalled => "stalled",
            Self::Evicted | Self::Refused(PushError::Evicted) => "evicted",
            Self::Refused(PushError::Garbage(_)) => "garbage",
            Self::Refused(PushError::Unplayable(_) | PushError::NoMedia) => "unplayable",
            Self::Malformed => "malformed",
            Self::Engine => "engine",
            Self::Shutdown => "shutdown",
        }
    }

    /// The final answer where one is still due.
    pub fn answer(self) -> (u16, Cow<'static, str>) {
        let (status, text) = match self {
            Self::Done => (200, "the source has ended"),
            Self::Silent => (408, NO_BYTE),
            Self::Stalled => (
                408,
                "no byte of audio came within the source timeout (`source.timeout`): connect again",
            ),
            Self::Evicted | Self::Refused(PushError::Evicted) => {
                (409, "another source took this mount over")
            }
            Self::Refused(why) => {
                let text =
                    format!("{why}: set the encoder's format and Content-Type to each other");
                return (415, text.into());
            }
            Self::Malformed => (400, "the body's chunks are malformed"),
            Self::Engine => (503, "the audio engine ended this source: connect again"),
            Self::Shutdown => (503, "the node goes down: connect again"),
        };
        (status, text.into())
    }
}

/// State of a source's body on its way to the engine.
pub(super) struct Body {
    decoder: BodyDecoder,
    stripper: Option<icy::Stripper>,
    intake: Intake,
    /// True once a byte of it has come.
    has_begun: bool,
    /// Since when the first byte is waited for.
    since: Instant,
    /// True once the operator was told that none comes.
    is_told: bool,
}

impl Edge {
    /// Body to engine until it ends; `metaint` is the audio between two titles inside. Listeners of the mount are held then.
    pub(super) async fn pump(
        &self,
        conn: &mut Conn,
        decoder: BodyDecoder,
        metaint: Option<u32>,
        intake: Intake,
    ) -> SourceEnd {
        let mount = intake.id().clone();
        tracing::info!(%mount, peer = %conn.client, "source connected");
        self.control.telemetry.connections.add_source();
        let charset = self.control.engine.charset(&mount);
        let stripper = |metaint: u32| icy::Stripper::new(metaint).with_charset(charset);
        let mut body = Body {
            decoder,
            stripper: metaint.filter(|n| *n > 0).map(stripper),
            intake,
            has_begun: false,
            since: Instant::now(),
            is_told: false,
        };
        let end = loop {
            // A body without a byte is over at its head.
            if body.decoder.is_done() {
                break SourceEnd::Done;
            }
            if !conn.buffer.is_empty() {
                body.has_begun = true;
                match body.take(conn) {
                    Ok(true) => break SourceEnd::Done,
                    Ok(false) => {}
                    Err(end) => break end,
                }
            }
            match self.more(conn, &mut body).await {
                Ok(true) => {}
                Ok(false) => break SourceEnd::Done,
                Err(end) => break end,
            }
        };
        self.has_ended(conn, &body, end);
        end
    }

    /// Counts and logs how a source ended.
    fn has_ended(&self, conn: &Conn, body: &Body, end: SourceEnd) {
        let (mount, peer, reason) = (body.intake.id(), &conn.client, end.reason());
        metrics::counter!("relayctl_source_ends_total", "reason" => reason).increment(1);
        tracing::info!(%mount, %peer, reason, "source ended");
        let ip = conn.client.ip();
        if let SourceEnd::Refused(why) = end
            && why != PushError::Evicted
            && log_limit::permits("source unplayable", ip)
        {
            tracing::warn!(%mount, %peer, %why, "source refused: its format and its Content-Type do not fit, or nobody could play it");
        }
        let is_empty = matches!(end, SourceEnd::Done | SourceEnd::Silent) && !body.has_begun;
        if is_empty && !body.is_told && log_limit::permits("source without a byte", ip) {
            tracing::warn!(%mount, %peer, "the source sent no byte: {NO_BYTE}");
        }
    }

    /// Waits for more of the body; `Ok(false)` at its end.
    async fn more(&self, conn: &mut Conn, body: &mut Body) -> Result<bool, SourceEnd> {
        let evicted = body.intake.evicted().clone();
        loop {
            let now = Instant::now();
            let until = self.deadline(body, now);
            if until <= now {
                let stalled = body.has_begun;
                return Err(if stalled {
                    SourceEnd::Stalled
                } else {
                    SourceEnd::Silent
                });
            }
            let hint = body.since + SILENT_START;
            let waits_for_hint = !body.has_begun && !body.is_told && hint < until;
            let wake = if waits_for_hint { hint } else { until };
            conn.buffer.reserve(READ);
            tokio::select! {
                () = self.shutdown.cancelled() => return Err(SourceEnd::Shutdown),
                () = evicted.cancelled() => return Err(SourceEnd::Evicted),
                () = tokio::time::sleep_until(wake.into()) => {}
                more = conn.fill() => return Ok(more.unwrap_or(false)),
            }
            if waits_for_hint {
                body.is_told = true;
                no_byte_yet(body.intake.id(), conn);
            }
        }
    }

    /// Until when a source may be silent: before its first byte as long as listeners would be held for it, later for
    /// `source.timeout` after the last byte of its format.
    fn deadline(&self, body: &Body, now: Instant) -> Instant {
        let timeout = self.config.load().source_timeout;
        if !body.has_begun {
            return body.since + timeout.max(self.control.engine.hold());
        }
        now + timeout.saturating_sub(body.intake.idle(now))
    }
}

/// Tells the operator that the first byte of a source is waited for.
pub(super) fn no_byte_yet(mount: &MountId, conn: &Conn) {
    if log_limit::permits("source without a byte", conn.client.ip()) {
        tracing::warn!(%mount, peer = %conn.client, "a source is connected and sends nothing yet: {NO_BYTE}");
    }
}

impl Body {
    /// Decodes what has been read; true at the end of the body.
    fn take(&mut self, conn: &mut Conn) -> Result<bool, SourceEnd> {
        let mut bytes = Vec::with_capacity(conn.buffer.len());
        let used = self
            .decoder
            .push(&conn.buffer, &mut bytes)
            .map_err(|_| SourceEnd::Malformed)?;
        let _ = conn.buffer.split_to(used.min(conn.buffer.len()));
        self.push(&bytes).map_err(SourceEnd::Refused)?;
        Ok(self.decoder.is_done())
    }

    /// Into the engine, inline metadata taken out where the source sends it.
    fn push(&mut self, body: &[u8]) -> Result<(), PushError> {
        if body.is_empty() {
            return Ok(());
        }
        let Some(stripper) = &mut self.stripper else {
            return self.intake.push(body, Instant::now(), unix_millis());
        };
        let (mut audio, mut titles) = (Vec::with_capacity(body.len()), Vec::new());
        let before = stripper.audio_bytes();
        stripper.push(body, &mut audio, &mut titles);
        let (now, wall) = (Instant::now(), unix_millis());
        let mut done = 0;
        for (at, title) in titles {
            let upto = usize::try_from(at.saturating_sub(before))
                .unwrap_or(usize::MAX)
                .min(audio.len());
            self.intake
                .push(audio.get(done..upto).unwrap_or(&[]), now, wall)?;
            self.intake.title(title);
            done = upto;
        }
        self.intake
            .push(audio.get(done..).unwrap_or(&[]), now, wall)
    }
}
