//! A Shoutcast v1 source: a password line, `icy-*` fields, then audio.

use std::sync::Arc;

use super::Edge;
use super::connection::Conn;
use super::described::{carried_headers, content_type};
use super::gate::HEAD_TIMEOUT;
use super::login::{TOO_MANY, WRONG_PASSWORD};
use super::source::open_error;
use crate::base::ids::MountId;
use crate::base::secret::Secret;
use crate::control::{Denied, Permit, Role};
use crate::engine::Offer;
use crate::outside;
use crate::telemetry::refuse;
use crate::throttle::{Door, Remote};
use crate::wire::body::{BodyDecoder, Framing};
use crate::wire::head::{Headers, MAX_HEAD, parse_fields};

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
    pub(super) async fn shoutcast(self: Arc<Self>, mut conn: Conn, line: &str) {
        // libshout asks first what the server is; it expects to be cut off.
        if line.starts_with("!POKE") {
            return;
        }
        if self.control.identity.role == Role::Relay {
            self.carry_line(conn, line).await;
            return;
        }
        let default = self.config.load().shoutcast_mount.clone();
        let named = read_line(line.trim_end(), &default);
        let known = match named {
            Some((mount, password)) => match self.knows_line(&conn, &mount, password) {
                Ok(permit) => Ok((mount, password, permit)),
                Err(Denied::Delayed(_)) => Err((mount, TOO_MANY)),
                Err(Denied::Wrong | Denied::Missing) => Err((mount, WRONG_PASSWORD)),
            },
            None => Err((default, "it names a path that takes no source")),
        };
        let (mount, password, permit) = match known {
            Ok(known) => known,
            Err((mount, why)) => {
                refuse("source_password");
                self.control.source_refused(&mount, conn.client.ip(), why);
                conn.answer(b"invalid password\r\n").await;
                return;
            }
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
                self.play_outside(outside, conn, &offer, permit).await;
            }
            None => self.play(conn, mount, &fields).await,
        }
    }

    /// Judges a password line; where an attached server judges, gives the leave to have it judged.
    fn knows_line(
        &self,
        conn: &Conn,
        mount: &MountId,
        password: &str,
    ) -> Result<Option<Permit<'_>>, Denied> {
        let control = &self.control;
        let remote = Remote::direct(conn.client.ip());
        let permit = control.knock(Door::Shoutcast, remote, &mount.to_string(), password)?;
        if control
            .outside
            .as_ref()
            .is_some_and(|outside| outside.is_attached())
        {
            return Ok(Some(permit));
        }
        let right = control.may_feed(&permit, mount, password);
        permit.judge(right.then_some(None))
    }

    /// The client has had its `OK2`: a refusal comes as a line.
    async fn play_outside(
        &self,
        outside: &Arc<outside::Outside>,
        mut conn: Conn,
        offer: &outside::Offer,
        permit: Option<Permit<'_>>,
    ) {
        let decoder = BodyDecoder::new(Framing::UntilClose);
        match self.take(outside, offer).await {
            Ok(taken) => {
                conn.is_admitted();
                permit.into_iter().for_each(Permit::right);
                self.give(outside, &mut conn, decoder, taken).await;
            }
            Err(refused) => {
                let why = match refused.status {
                    401 => WRONG_PASSWORD,
                    _ => &refused.text,
                };
                self.control
                    .source_refused(&offer.mount, conn.client.ip(), why);
                if refused.status == 401 {
                    permit.into_iter().for_each(Permit::wrong);
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
                self.control
                    .source_refused(&mount, conn.client.ip(), &error.to_string());
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
}
