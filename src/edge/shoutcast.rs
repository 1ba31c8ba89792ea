//! A Shoutcast v1 source: a password line, `icy-*` fields, then audio.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Edge;
use super::connection::{Conn, Kind};
use super::described::{carried_headers, content_type};
use super::gate::HEAD_TIMEOUT;
use super::source::open_error;
use crate::base::ids::MountId;
use crate::base::secret::Secret;
use crate::control::Role;
use crate::engine::Offer;
use crate::outside;
use crate::telemetry::{log_limit, refuse};
use crate::wire::body::{BodyDecoder, Framing};
use crate::wire::head::{Headers, MAX_HEAD, parse_fields};

/// Wrong passwords from one address within [`MEMORY`] before it is refused unheard.
const MAX_WRONG: u32 = 10;

/// How long a wrong password is remembered.
const MEMORY: Duration = Duration::from_secs(60);

/// Addresses remembered at most.
const MAX_ADDRESSES: usize = 4096;

/// Who guessed wrong lately.
#[derive(Default)]
pub(super) struct Guesses(Mutex<HashMap<IpAddr, (u32, Instant)>>);

impl Guesses {
    /// False for an address that has guessed too often.
    fn may_try(&self, address: IpAddr, now: Instant) -> bool {
        let guesses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        guesses
            .get(&address)
            .is_none_or(|(count, since)| *count < MAX_WRONG || now - *since >= MEMORY)
    }

    fn wrong(&self, address: IpAddr, now: Instant) {
        let mut guesses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        guesses.retain(|_, (_, since)| now - *since < MEMORY);
        if guesses.len() < MAX_ADDRESSES {
            guesses.entry(address).or_insert((0, now)).0 += 1;
        }
    }
}

/// What a password line names: `pass`, `pass:#1`, or `/mount:pass` (as icecast-kh takes it).
fn read_line<'a>(line: &'a str, default: &MountId) -> Option<(MountId, &'a str)> {
    if line.starts_with('/') {
        let (mount, password) = line.split_once(':')?;
        let mount = MountId::new(mount)
            .ok()
            .filter(|mount| !mount.is_reserved())?;
        return Some((mount, password));
    }
    let password = match line.rsplit_once(":#") {
        Some((password, stream)) if stream.bytes().all(|b| b.is_ascii_digit()) => password,
        _ => line,
    };
    Some((default.clone(), password))
}

impl Edge {
    pub(super) async fn shoutcast(self: Arc<Self>, mut conn: Conn, line: &str, kind: Kind) {
        // libshout asks first what the server is; it expects to be cut off.
        if line.starts_with("!POKE") {
            return;
        }
        if self.control.identity.role == Role::Relay {
            self.carry_line(conn, line).await;
            return;
        }
        let (address, now) = (conn.client.ip(), Instant::now());
        let default = self.config.load().shoutcast_mount.clone();
        let named = read_line(line.trim_end(), &default);
        let judged_there = self.control.outside.as_ref();
        let judged_there = judged_there.is_some_and(|outside| outside.is_attached());
        let known = named.filter(|(mount, password)| {
            self.guesses.may_try(address, now)
                && (judged_there || self.control.may_feed(mount, password))
        });
        let Some((mount, password)) = known else {
            self.guesses.wrong(address, now);
            refuse("source_password");
            if log_limit::permits("source_password", address) {
                tracing::warn!(peer = %conn.client, ?kind, "Shoutcast v1 source refused: wrong password");
            }
            conn.answer(b"invalid password\r\n").await;
            return;
        };
        let password = Secret::new(password);
        if conn.say(b"OK2\r\nicy-caps:11\r\n\r\n").await.is_err() {
            return;
        }
        let Some(fields) = read_fields(&mut conn).await else {
            refuse("half_head");
            return;
        };
        match &self.control.outside {
            Some(outside) => {
                let offer = outside::Offer {
                    content_type: content_type(fields.get("content-type"), &mount),
                    headers: carried_headers(&fields),
                    agent: crate::admin::SHOUTCAST_AGENT.into(),
                    password,
                    metaint: None,
                    mount,
                };
                self.play_outside(outside, conn, &offer).await;
            }
            None => self.play(conn, mount, &fields).await,
        }
    }

    /// The client has had its `OK2`: a refusal comes as a line.
    async fn play_outside(
        &self,
        outside: &Arc<outside::Outside>,
        mut conn: Conn,
        offer: &outside::Offer,
    ) {
        let decoder = BodyDecoder::new(Framing::UntilClose);
        match self.take(outside, offer).await {
            Ok(taken) => {
                conn.is_admitted();
                self.give(outside, &mut conn, decoder, taken).await;
            }
            Err(refused) => {
                if log_limit::permits("source refused by the engine", conn.client.ip()) {
                    tracing::warn!(mount = %offer.mount, peer = %conn.client, why = refused.text, "Shoutcast v1 source refused");
                }
                if refused.status == 401 {
                    self.guesses.wrong(conn.client.ip(), Instant::now());
                }
                conn.answer(format!("{}\r\n", refused.text).as_bytes())
                    .await;
            }
        }
    }

    async fn play(&self, mut conn: Conn, mount: MountId, fields: &Headers) {
        let offer = Offer {
            content_type: content_type(fields.get("content-type"), &mount),
            headers: carried_headers(fields),
            address: conn.client.ip(),
            agent: crate::admin::SHOUTCAST_AGENT.into(),
            stale: self.stale(),
        };
        match self.control.engine.open_source(&mount, offer) {
            Ok(intake) => {
                conn.is_admitted();
                self.pump(
                    &mut conn,
                    BodyDecoder::new(Framing::UntilClose),
                    None,
                    intake,
                )
                .await;
            }
            Err(error) => {
                let reason = open_error(&error).1;
                refuse(reason);
                if log_limit::permits(reason, conn.client.ip()) {
                    tracing::warn!(%mount, peer = %conn.client, %error, "Shoutcast v1 source refused");
                }
                conn.answer(format!("{error}\r\n").as_bytes()).await;
            }
        }
    }
}

async fn read_fields(conn: &mut Conn) -> Option<Headers> {
    let deadline = tokio::time::Instant::now() + HEAD_TIMEOUT;
    loop {
        if let Some((fields, used)) = parse_fields(&conn.buffer).ok()? {
            let _ = conn.buffer.split_to(used);
            return Some(fields);
        }
        if conn.buffer.len() > MAX_HEAD {
            return None;
        }
        let more = tokio::time::timeout_at(deadline, conn.fill()).await.ok()?;
        if !more.ok()? {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_of_a_password_line() {
        let default = MountId::new("/stream").unwrap();
        let of = |line| {
            read_line(line, &default).map(|(mount, pass)| (mount.to_string(), pass.to_owned()))
        };
        let pair = |mount: &str, pass: &str| Some((mount.to_owned(), pass.to_owned()));
        assert_eq!(of("secret"), pair("/stream", "secret"));
        assert_eq!(of("secret:#1"), pair("/stream", "secret"));
        assert_eq!(of("dj:secret"), pair("/stream", "dj:secret"));
        assert_eq!(of("/live.mp3:secret"), pair("/live.mp3", "secret"));
        assert_eq!(of("/health:secret"), None);
    }

    #[test]
    fn guessing_is_slowed_down() {
        let (guesses, now) = (Guesses::default(), Instant::now());
        let address = IpAddr::from([127, 0, 0, 1]);
        for _ in 0..MAX_WRONG {
            assert!(guesses.may_try(address, now));
            guesses.wrong(address, now);
        }
        assert!(!guesses.may_try(address, now));
        assert!(guesses.may_try(address, now + MEMORY));
    }
}
