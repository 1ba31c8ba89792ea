//! A source's password, judged before its body, and what is answered without it.

use super::Edge;
use super::connection::Conn;
use crate::base::ids::MountId;
use crate::base::wall::unix_millis;
use crate::control::Denied;
use crate::telemetry::refuse;
use crate::throttle::Door;
use crate::wire::basic::Credentials;
use crate::wire::head::Request;
use crate::wire::response::{Answer, GUARDS};

impl Edge {
    /// Judges the password of a source.
    ///
    /// # Errors
    /// See [`Denied`]; another user than `source` shows none.
    pub(super) fn knows_source(
        &self,
        conn: &Conn,
        request: &Request,
        mount: &MountId,
    ) -> Result<(), Denied> {
        let Credentials::Basic(basic) = Credentials::of(&request.headers) else {
            return Err(Denied::Missing);
        };
        if basic.user != "source" && !basic.user.is_empty() {
            return Err(Denied::Missing);
        }
        let remote = self.remote(request, conn.client.ip());
        let password = basic.password.reveal();
        let (control, subject) = (&self.control, mount.to_string());
        let permit = control.knock(Door::Source, remote, &subject, password)?;
        let right = control.may_feed(&permit, mount, password);
        permit.judge(right.then_some(()))
    }

    /// 401, or 429 for a client that failed too often.
    pub(super) async fn deny(&self, conn: Conn, request: &Request, denied: Denied) -> Option<Conn> {
        let Denied::Delayed(seconds) = denied else {
            return self.challenge(conn, request).await;
        };
        conn.answer(&too_many(request, seconds)).await;
        None
    }

    /// 401. A client that only asks what is needed (libshout: `Content-Length: 0`) keeps its connection.
    async fn challenge(&self, mut conn: Conn, request: &Request) -> Option<Conn> {
        refuse("source_password");
        let again = request.keep_alive() && request.headers.get("content-length") == Some("0");
        let answer = Answer::new(request.version, 401)
            .at(unix_millis())
            .header("WWW-Authenticate", "Basic realm=\"relayctl source\"")
            .header("Allow", "GET, HEAD, OPTIONS, PUT, SOURCE")
            .lines(GUARDS);
        let text = "wrong user or password: the user is `source`, the password is shown by \
                    `relayctl token show source`\n";
        if !again {
            conn.answer(&answer.body("text/plain; charset=utf-8", text))
                .await;
            return None;
        }
        let answer = answer.keep_alive().body("text/plain; charset=utf-8", text);
        conn.reply(&answer).await.is_ok().then_some(conn)
    }
}

/// 429: wrong passwords came too often.
pub(super) fn too_many(request: &Request, seconds: u64) -> Vec<u8> {
    let text =
        format!("too many wrong passwords came from this address: try again in {seconds} s\n");
    Answer::new(request.version, 429)
        .at(unix_millis())
        .header("Cache-Control", "no-store")
        .header("Retry-After", seconds.to_string())
        .lines(GUARDS)
        .body("text/plain; charset=utf-8", text)
}
