//! TLS on a connection that began in clear, for encoders that ask for it (RFC 2817): libshout does unless it is told
//! otherwise, and sends its password in clear where nobody offers it.
//!
//! Offered where this node has a certificate and nobody stands in between: a proxy that forwards the fields would take
//! the handshake for a body. Only `OPTIONS *` and sources are upgraded. In TLS a new head is read: neither the request
//! that asked nor anything else of the clear connection counts there, since whoever sat on the line may have written it.
//! `OPTIONS *` alone gets its answer there first, which is the same for everybody: libshout waits for it (RFC 2817, 3.3).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Edge;
use super::connection::{Conn, plain};
use super::health::options;
use super::route::Route;
use crate::base::address::block_of;
use crate::base::wall::unix_millis;
use crate::telemetry::refuse;
use crate::wire::forwarded::shows_proxy;
use crate::wire::head::{Method, Request, Version};
use crate::wire::response::{Answer, GUARDS};
use crate::wire::upgrade::{OFFERED, SWITCHED, asks_for_tls};

/// Time in which one client's requests for TLS are counted where it gets none.
const WINDOW: Duration = Duration::from_secs(10);

/// Requests in a window that are answered in earnest: encoders ask once a connection.
const MOST_IN_VAIN: u32 = 20;

/// Clients that are counted in a window.
const MAX_CLIENTS: usize = 1024;

/// How a connection's requests come.
#[derive(Debug, Clone, Copy)]
pub(super) struct Link {
    /// Address of the peer, by the socket.
    pub peer: IpAddr,
    /// Address of the client, by the PROXY protocol or by a node that carries the request.
    pub client: IpAddr,
    /// In TLS already.
    pub tls: bool,
}

/// Clients that ask for TLS where they get none: libshout's mode `rfc2817` asks again at once, for ever, over new
/// connections as well, until it is answered with an error.
#[derive(Default)]
pub(super) struct InVain(Mutex<Option<Window>>);

struct Window {
    since: Instant,
    asked: HashMap<IpAddr, u32>,
}

impl InVain {
    /// Counts a request of `client`; true where there were too many.
    fn is_too_much(&self, client: IpAddr, now: Instant) -> bool {
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = |since: Instant| now.saturating_duration_since(since) >= WINDOW;
        if window.as_ref().is_some_and(|window| is_over(window.since)) {
            *window = None;
        }
        let window = window.get_or_insert_with(|| Window {
            since: now,
            asked: HashMap::new(),
        });
        let client = block_of(client);
        if window.asked.len() >= MAX_CLIENTS && !window.asked.contains_key(&client) {
            return false;
        }
        let asked = window.asked.entry(client).or_default();
        *asked = asked.saturating_add(1);
        *asked > MOST_IN_VAIN
    }
}

impl Edge {
    /// True where the client of `request` may ask for TLS on this connection.
    pub(super) fn offers_tls(&self, request: &Request, link: Link) -> bool {
        !link.tls
            && link.client == link.peer
            && self.tls.load().is_some()
            && !self.is_trusted(link.peer)
            && !shows_proxy(&request.headers)
    }

    /// True where `request` asks for TLS and gets it, by [`Edge::upgrade`].
    pub(super) fn takes_upgrade(&self, request: &Request, route: &Route, link: Link) -> bool {
        let is_upgraded = match route {
            Route::Options => request.target == "*",
            Route::Source(_) => true,
            _ => false,
        };
        is_upgraded && asks_for_tls(request) && self.offers_tls(request, link)
    }

    /// Answers 101 to a request for `route` and speaks TLS; the connection comes back as a fresh one, or not at all.
    pub(super) async fn upgrade(&self, mut conn: Conn, route: &Route) -> Option<Conn> {
        if !conn.buffer.is_empty() {
            refuse("upgrade_clear");
            let text = "bytes in clear came behind a request that asks for TLS: wait for the answer 101 and begin \
                        the handshake, or connect by TLS at once";
            conn.answer(&plain(Version::Http11, 400, text)).await;
            return None;
        }
        let switch = Answer::new(Version::Http11, 101)
            .at(unix_millis())
            .upgrade(SWITCHED)
            .empty();
        conn.reply(&switch).await.ok()?;
        conn.accepted = Instant::now();
        conn.answered = 0;
        let mut conn = self.secured(conn).await?;
        if *route == Route::Options {
            let answer = options(Version::Http11, true, false);
            conn.reply(&answer).await.ok()?;
        }
        Some(conn)
    }

    /// The answer to OPTIONS that is no upgrade.
    pub(super) fn options(&self, request: &Request, link: Link, keep: bool) -> Vec<u8> {
        let is_in_vain = !link.tls && asks_for_tls(request);
        if is_in_vain && self.in_vain.is_too_much(link.client, Instant::now()) {
            refuse("upgrade_in_vain");
            return no_tls(request.version);
        }
        options(request.version, keep, self.offers_tls(request, link))
    }
}

/// 429 for who does not stop asking.
fn no_tls(version: Version) -> Vec<u8> {
    let text = "TLS was asked for again and again, and is not spoken on this connection: set the encoder to TLS from \
                the first byte (`rfc2818`) where the node has a certificate, else to none\n";
    Answer::new(version, 429)
        .at(unix_millis())
        .header("Retry-After", WINDOW.as_secs().to_string())
        .lines(GUARDS)
        .body("text/plain; charset=utf-8", text)
}

/// True where the connection ends with the answer, whatever the client would ask next: libshout asks the same thousands
/// of times a second on one that stays open.
pub(super) fn ends_with_answer(request: &Request) -> bool {
    request.method == Method::Options && asks_for_tls(request)
}

/// Says in an answer that TLS may be asked for, where it is offered.
pub(super) fn offered_if(offered: bool, answer: Answer) -> Answer {
    if offered {
        answer.upgrade(OFFERED)
    } else {
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_in_vain_is_counted_for_a_while() {
        let (in_vain, begin) = (InVain::default(), Instant::now());
        let client = |text: &str| text.parse::<IpAddr>().unwrap();
        let one = client("2001:db8::1");
        for _ in 0..MOST_IN_VAIN {
            assert!(!in_vain.is_too_much(one, begin));
        }
        assert!(in_vain.is_too_much(client("2001:db8::2"), begin));
        assert!(!in_vain.is_too_much(client("2001:db8:1::1"), begin));
        for n in 0..4096_u32 {
            in_vain.is_too_much(IpAddr::V4(n.into()), begin);
        }
        let counted = |in_vain: &InVain| in_vain.0.lock().unwrap().as_ref().unwrap().asked.len();
        assert_eq!(counted(&in_vain), MAX_CLIENTS);
        assert!(in_vain.is_too_much(one, begin + WINDOW / 2));
        assert!(!in_vain.is_too_much(one, begin + WINDOW));
        assert_eq!(counted(&in_vain), 1);
    }
}
