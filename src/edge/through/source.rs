//! A source of an engine that is not ours. Whatever way it came by (`PUT`, chunked or not, `SOURCE`, Shoutcast v1), it
//! is logged in there in the way that the engine takes, and answered here when the engine has taken it.
//!
//! Backpressure is the sockets' own: what the engine does not take is not read from the encoder.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::base::ids::MountId;
use crate::edge::Edge;
use crate::edge::connection::Conn;
use crate::edge::pump::{SILENT_START, SourceEnd, no_byte_yet};
use crate::outside::{Hold, Offer, Outside, Refused};
use crate::telemetry::refuse;
use crate::wire::body::BodyDecoder;

/// How long a source waits for an engine that starts.
const PATIENCE: Duration = Duration::from_secs(5);

/// Read from an encoder at once.
const READ: usize = 16 * 1024;

/// Times that a source which replaced another one asks again, while the engine still lets go of that one.
const TRIES: u32 = 20;

/// Between two of them.
const AGAIN: Duration = Duration::from_millis(100);

/// A source that the engine has taken.
pub(in crate::edge) struct Taken<'a> {
    mount: MountId,
    hold: Hold<'a>,
    stream: crate::discovery::Stream,
}

impl Edge {
    /// Logs a source in at the engine.
    ///
    /// # Errors
    /// Status and text for the client.
    pub(in crate::edge) async fn take<'a>(
        &self,
        outside: &'a Arc<Outside>,
        offer: &Offer,
    ) -> Result<Taken<'a>, Refused> {
        let mount = &offer.mount;
        let hold = outside.sources().take(mount, self.stale()).await;
        let hold = hold.map_err(|error| {
            refuse("source_in_use");
            Refused {
                status: 403,
                text: error.to_string(),
            }
        })?;
        let place = outside.place_within(PATIENCE).await;
        let place = place.ok_or_else(|| Refused {
            status: 503,
            text: format!("the audio engine is down: {}", outside.status().why),
        })?;
        let mut tries = 0;
        let stream = loop {
            match outside.log_in(&place, offer).await {
                Err(refused) if refused.status == 403 && hold.took_over && tries < TRIES => {
                    tries += 1;
                    tokio::time::sleep(AGAIN).await;
                }
                Err(refused) => {
                    refuse("engine");
                    return Err(refused);
                }
                Ok(stream) => break stream,
            }
        };
        outside.look_soon();
        Ok(Taken {
            mount: mount.clone(),
            hold,
            stream,
        })
    }

    /// Body to engine until one of both ends.
    pub(in crate::edge) async fn give(
        &self,
        outside: &Outside,
        conn: &mut Conn,
        mut decoder: BodyDecoder,
        mut taken: Taken<'_>,
    ) -> SourceEnd {
        let mount = taken.mount.clone();
        tracing::info!(%mount, peer = %conn.client, "source connected");
        self.control.telemetry.connections.add_source();
        let mut received = false;
        let end = loop {
            // A body without a byte is over at its head.
            if decoder.is_done() {
                break SourceEnd::Done;
            }
            if !conn.buffer.is_empty() {
                received = true;
                taken.hold.touch();
                if let Err(end) = self.forward(conn, &mut decoder, &mut taken).await {
                    break end;
                }
                if decoder.is_done() {
                    break SourceEnd::Done;
                }
            }
            match self.more_for(conn, received, &mut taken).await {
                Ok(true) => {}
                Ok(false) => break SourceEnd::Done,
                Err(end) => break end,
            }
        };
        let _ = tokio::time::timeout(Duration::from_secs(1), taken.stream.shutdown()).await;
        metrics::counter!("relayctl_source_ends_total", "reason" => end.reason()).increment(1);
        tracing::info!(%mount, peer = %conn.client, reason = end.reason(), "source ended");
        outside.look_soon();
        end
    }

    /// What was read, decoded, to the engine.
    async fn forward(
        &self,
        conn: &mut Conn,
        decoder: &mut BodyDecoder,
        taken: &mut Taken<'_>,
    ) -> Result<(), SourceEnd> {
        let mut body = Vec::with_capacity(conn.buffer.len());
        let used = decoder
            .push(&conn.buffer, &mut body)
            .map_err(|_| SourceEnd::Malformed)?;
        let _ = conn.buffer.split_to(used.min(conn.buffer.len()));
        let evicted = taken.hold.evicted().clone();
        let patience = self.config.load().source_timeout;
        let stream = &mut taken.stream;
        let writing = async {
            stream.write_all(&body).await?;
            stream.flush().await
        };
        tokio::select! {
            () = self.shutdown.cancelled() => Err(SourceEnd::Shutdown),
            () = evicted.cancelled() => Err(SourceEnd::Evicted),
            written = tokio::time::timeout(patience, writing) => match written {
                Ok(Ok(())) => Ok(()),
                _ => Err(SourceEnd::Engine),
            },
        }
    }

    /// Waits for more of the body; `Ok(false)` at its end.
    async fn more_for(
        &self,
        conn: &mut Conn,
        begun: bool,
        taken: &mut Taken<'_>,
    ) -> Result<bool, SourceEnd> {
        let patience = self.config.load().source_timeout;
        let patience = match begun {
            true => patience,
            false => patience.max(self.control.engine.hold()),
        };
        let evicted = taken.hold.evicted().clone();
        let now = tokio::time::Instant::now();
        let (deadline, hint) = (now + patience, now + SILENT_START);
        let mut is_told = begun;
        let mut said = [0_u8; 256];
        loop {
            conn.buffer.reserve(READ);
            tokio::select! {
                () = self.shutdown.cancelled() => return Err(SourceEnd::Shutdown),
                () = evicted.cancelled() => return Err(SourceEnd::Evicted),
                () = tokio::time::sleep_until(deadline) => {
                    return Err(if begun { SourceEnd::Stalled } else { SourceEnd::Silent });
                }
                () = tokio::time::sleep_until(hint), if !is_told => {
                    is_told = true;
                    no_byte_yet(&taken.mount, conn);
                }
                more = conn.fill() => return Ok(more.unwrap_or(false)),
                // The engine has nothing more to say to a source; when it closes, it is over.
                read = taken.stream.read(&mut said) => match read {
                    Ok(1..) => {}
                    Ok(0) | Err(_) => return Err(SourceEnd::Engine),
                },
            }
        }
    }
}
