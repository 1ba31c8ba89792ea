//! A source's password, judged before its body, and what is answered without it.

use super::Edge;
use super::connection::Conn;
use super::upgrade::offered_if;
use crate::base::ids::MountId;
use crate::base::wall::unix_millis;
use crate::control::Denied;
use crate::telemetry::refuse;
use crate::throttle::Door;
use crate::wire::basic::{Basic, Credentials};
use crate::wire::head::Request;
use crate::wire::response::{Answer, GUARDS};

/// Why a source is refused, and what to do.
pub(super) const WRONG_PASSWORD: &str =
    "wrong password: `relayctl token show source` on the primary prints the right one";
/// See [`WRONG_PASSWORD`].
const WRONG_USER: &str = "wrong user: sources log in as `source`";
/// See [`WRONG_PASSWORD`].
pub(super) const TOO_MANY: &str = "too many wrong passwords came from there, so this one is not looked at: correct the \
     encoder's password and wait a minute";

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
        let judged = self.judge_source(conn, request, mount, &basic);
        if let Err(denied) = judged {
            // A user other than `source` may be a password in the wrong field, so it is not told.
            let why = match denied {
                Denied::Missing => WRONG_USER,
                Denied::Wrong => WRONG_PASSWORD,
                Denied::Delayed(_) => TOO_MANY,
            };
            let remote = self.remote(request, conn.client.ip());
            self.control.source_refused(mount, remote.address, why);
        }
        judged
    }

    fn judge_source(
        &self,
        conn: &Conn,
        request: &Request,
        mount: &MountId,
        basic: &Basic,
    ) -> Result<(), Denied> {
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
        let answer = offered_if(self.offers_tls(request, conn.link()), answer);
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
