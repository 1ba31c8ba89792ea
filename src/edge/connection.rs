//! One connection, from its first byte to the one who takes it over.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

use super::front::MAX_REQUESTS;
use super::gate::{HEAD_TIMEOUT, Place, State};
use super::paced::time_for;
use super::route::Route;
use super::stream::Stream;
use super::upgrade::Link;
use super::{Edge, carry};
use crate::base::wall::unix_millis;
use crate::telemetry::panics;
use crate::telemetry::refuse;
use crate::throttle::Remote;
use crate::wire::forwarded::{ClientOrigin, Forwarded, client_origin};
use crate::wire::head::{self, HeadError, MAX_HEAD, Request, Version};
use crate::wire::proxy_protocol;
use crate::wire::response::{Answer, GUARDS};
use crate::wire::sniff::{self, Sniff};

/// Bytes that are still read of a client which was answered for good.
const MOST_DRAINED: usize = 256 * 1024;

/// What a port is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Everything.
    Data,
    /// Shoutcast v1 sources first of all (`portbase` + 1).
    Shoutcast,
}

/// A connection and what has been read of it.
pub(super) struct Conn {
    pub stream: Stream,
    /// Read and not yet used.
    pub buffer: BytesMut,
    /// Who connected, by the socket.
    pub peer: SocketAddr,
    /// Who connected, by the PROXY protocol of a trusted peer.
    pub client: SocketAddr,
    /// When it was accepted, or given back to wait for its next request.
    pub accepted: Instant,
    /// Requests that were answered on it.
    pub answered: u32,
    /// Place among the connections that are neither listeners nor sources; none once it is one of these.
    pub place: Option<Place>,
}

/// What came first.
enum First {
    Request(Box<Request>),
    Password(String),
    /// A TLS hello, still unread.
    Tls,
    /// Nothing, or no more than a health check's connect and close.
    Nothing,
}

impl Conn {
    /// True where `request`, which is answered, may be followed by another one.
    pub fn may_ask_again(&self, request: &Request) -> bool {
        request.keep_alive() && !request.has_body() && self.answered < MAX_REQUESTS
    }

    /// Reads more; false at the end of the stream.
    pub async fn fill(&mut self) -> io::Result<bool> {
        self.buffer.reserve(4096);
        Ok(self.stream.read_buf(&mut self.buffer).await? > 0)
    }

    /// Writes bytes that others follow; they leave at once. A client that takes none of them for 10 s is given up.
    ///
    /// # Errors
    /// Where the client has gone, or takes nothing.
    pub async fn say(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// Writes a whole answer that others may follow; it has a deadline.
    ///
    /// # Errors
    /// Where the client has gone, or takes the answer too slowly.
    pub async fn reply(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.is_at(State::Answer);
        if let Some(place) = &self.place {
            place.answer_within(Some(time_for(bytes.len())));
        }
        self.say(bytes).await
    }

    /// Writes a whole answer and closes.
    pub async fn answer(mut self, bytes: &[u8]) {
        if self.reply(bytes).await.is_ok() && self.stream.shutdown().await.is_ok() {
            self.is_at(State::Closing);
            drain(&mut self.stream, &mut self.buffer).await;
        }
    }

    /// Notes what the connection is at, as long as it has a place.
    pub fn is_at(&self, state: State) {
        if let Some(place) = &self.place {
            place.set_state(state);
        }
    }

    /// The connection is a listener or a source from now on, and gives its place back. What is still written to it must
    /// make progress as before.
    pub fn is_admitted(&mut self) {
        self.place = None;
    }

    /// How its requests come.
    pub fn link(&self) -> Link {
        Link {
            peer: self.peer.ip(),
            client: self.client.ip(),
            tls: self.stream.is_tls(),
        }
    }

    /// The client, as far as trusted proxies tell.
    pub fn origin(&self, request: &Request, edge: &Edge) -> ClientOrigin {
        edge.origin(request, self.client.ip(), self.stream.is_tls())
    }
}

/// Reads what a client still sends, for a moment: closing over unread bytes would reset the connection and take the
/// answer with it.
pub(super) async fn drain(stream: &mut (impl AsyncRead + Unpin), buffer: &mut BytesMut) {
    let until = tokio::time::Instant::now() + std::time::Duration::from_secs(1);
    let mut read = 0;
    while read < MOST_DRAINED {
        // Into the buffer rather than an array: what stands in a future is paid by every connection.
        buffer.clear();
        buffer.reserve(4096);
        match tokio::time::timeout_at(until, stream.read_buf(buffer)).await {
            Ok(Ok(1..)) => read += buffer.len(),
            _ => return,
        }
    }
}

impl Edge {
    /// The client behind `client` (who spoke TLS to us: `tls`), as far as trusted proxies tell.
    pub(super) fn origin(&self, request: &Request, client: IpAddr, tls: bool) -> ClientOrigin {
        let config = self.config.load();
        client_origin(&request.headers, client, tls, &config.trusted_proxies)
    }

    /// Origin of the guesses that `request` may be one of.
    pub(super) fn remote(&self, request: &Request, client: IpAddr) -> Remote {
        let forwarded = Forwarded::of(&request.headers, client, self.is_trusted(client));
        Remote {
            address: self.origin(request, client, false).address,
            claimed: forwarded.claimed,
        }
    }

    /// Carries a connection to its end, or to where nothing is left but to wait for another request: then the
    /// front takes it back.
    pub(super) async fn connection(self: Arc<Self>, mut conn: Conn, kind: Kind) {
        loop {
            let first = match self.first(&mut conn).await {
                Ok(first) => first,
                Err(error) => return self.refuse_head(conn, error).await,
            };
            match first {
                First::Nothing => return,
                First::Tls => match self.secured(conn).await {
                    Some(secured) => conn = secured,
                    None => return,
                },
                // Boxed, as all that is rare: the future of a connection that waits is as large as its largest branch.
                First::Password(line) => {
                    return Box::pin(self.shoutcast(conn, &line)).await;
                }
                First::Request(request) => {
                    let Some(again) = self.dispatch(conn, *request).await else {
                        return;
                    };
                    conn = again;
                    conn.accepted = Instant::now();
                    // Who sends many requests in one piece has them answered in turn with everybody else's.
                    tokio::task::yield_now().await;
                    if kind == Kind::Data
                        && conn.buffer.is_empty()
                        // The front reads no TLS: there it stays with its task.
                        && !conn.stream.is_tls()
                        && let Some(bell) = self.bell.get()
                    {
                        return bell.give_back(conn);
                    }
                }
            }
        }
    }

    /// Hands a request to its owner; the connection comes back where another request may follow.
    async fn dispatch(self: &Arc<Self>, mut conn: Conn, request: Request) -> Option<Conn> {
        panics::drill(&request.target);
        self.note_carried_client(&mut conn, &request);
        let route = self.route(&request);
        // Icecast counts sources apart.
        if !matches!(route, Route::Source(_)) && !carry::is_line(&request) {
            self.control.telemetry.connections.add_request();
        }
        if self.takes_upgrade(&request, &route, conn.link()) {
            return Box::pin(self.upgrade(conn, &route)).await;
        }
        if let Some(bytes) = self.at_once(&request, &route, conn.link(), false) {
            conn.answer(&bytes).await;
            return None;
        }
        self.name_client(&conn, &request);
        if carry::is_line(&request) {
            Box::pin(self.line(conn, request)).await;
            return None;
        }
        match route {
            Route::Source(mount) => Box::pin(self.source(conn, request, mount)).await,
            Route::Listen(mount) => Box::pin(self.listen(conn, request, mount)).await,
            _ => Box::pin(self.api(conn, request)).await,
        }
    }

    /// Tells the gate whom a trusted proxy speaks for.
    fn name_client(&self, conn: &Conn, request: &Request) {
        let client = conn.origin(request, self).address;
        if client != conn.peer.ip()
            && let Some(place) = &conn.place
        {
            place.set_client(Some(client));
        }
    }

    /// Reads until it is clear what the connection is.
    async fn first(&self, conn: &mut Conn) -> Result<First, FirstError> {
        // What is there already is looked at before it counts as unfinished: a storm of whole requests from
        // one address is no attack.
        if !conn.buffer.is_empty()
            && let Some(first) = self.look(conn)?
        {
            return Ok(first);
        }
        let deadline = tokio::time::Instant::from_std(conn.accepted) + HEAD_TIMEOUT;
        loop {
            let idle = conn.answered > 0 && conn.buffer.is_empty();
            conn.is_at(if idle { State::Idle } else { State::Head });
            let more = tokio::select! {
                () = self.shutdown.cancelled() => return Ok(First::Nothing),
                () = tokio::time::sleep_until(deadline) => {
                    // Kept alive, and nothing more was asked.
                    return if idle { Ok(First::Nothing) } else { Err(FirstError::Slow) };
                }
                more = conn.fill() => more,
            };
            match more {
                Ok(true) => {}
                // A check may close by a reset, too.
                Ok(false) | Err(_) if conn.buffer.is_empty() => return Ok(First::Nothing),
                Ok(false) | Err(_) => {
                    refuse("half_head");
                    return Ok(First::Nothing);
                }
            }
            if let Some(first) = self.look(conn)? {
                return Ok(first);
            }
        }
    }

    fn look(&self, conn: &mut Conn) -> Result<Option<First>, FirstError> {
        loop {
            match sniff::sniff(&conn.buffer) {
                Sniff::More => {
                    let full = conn.buffer.len() >= MAX_HEAD;
                    return if full {
                        Err(FirstError::Garbage)
                    } else {
                        Ok(None)
                    };
                }
                // A hello within TLS is none.
                Sniff::Tls if conn.stream.is_tls() => return Err(FirstError::Garbage),
                Sniff::Tls if self.tls.load().is_none() => return Err(FirstError::Tls),
                Sniff::Tls => return Ok(Some(First::Tls)),
                Sniff::Garbage => return Err(FirstError::Garbage),
                Sniff::ProxyV1 | Sniff::ProxyV2 => {
                    if !self.take_proxy_header(conn)? {
                        return Ok(None);
                    }
                }
                Sniff::Password => {
                    let Some((line, used)) = sniff::password_line(&conn.buffer) else {
                        return Ok(None);
                    };
                    let _ = conn.buffer.split_to(used);
                    return Ok(Some(First::Password(line)));
                }
                Sniff::Http => {
                    let parsed = head::parse(&conn.buffer).map_err(FirstError::Head)?;
                    let Some((request, used)) = parsed else {
                        return Ok(None);
                    };
                    let _ = conn.buffer.split_to(used);
                    return Ok(Some(First::Request(Box::new(request))));
                }
            }
        }
    }

    /// Takes a PROXY header from a trusted peer; false if it is not whole yet.
    fn take_proxy_header(&self, conn: &mut Conn) -> Result<bool, FirstError> {
        if !self.is_trusted(conn.peer.ip()) {
            return Err(FirstError::Untrusted);
        }
        match proxy_protocol::parse(&conn.buffer) {
            Ok(None) => Ok(false),
            Ok(Some((info, used))) => {
                let _ = conn.buffer.split_to(used);
                if let Some(info) = info {
                    let client = info.source.ip().to_canonical();
                    conn.client = SocketAddr::new(client, info.source.port());
                    if let Some(place) = &conn.place {
                        place.set_client(Some(client));
                    }
                }
                Ok(true)
            }
            Err(_) => Err(FirstError::Garbage),
        }
    }

    /// True for an address of `trusted_proxies`.
    pub(super) fn is_trusted(&self, address: IpAddr) -> bool {
        self.config
            .load()
            .trusted_proxies
            .iter()
            .any(|net| net.contains(&address))
    }

    async fn refuse_head(&self, conn: Conn, error: FirstError) {
        refuse(error.reason());
        if let Some((status, text)) = error.answer() {
            conn.answer(&plain(Version::Http10, status, &text)).await;
        }
    }
}

/// Why the first bytes lead nowhere.
enum FirstError {
    Head(HeadError),
    Garbage,
    Tls,
    Untrusted,
    Slow,
}

impl FirstError {
    fn reason(&self) -> &'static str {
        match self {
            Self::Head(_) => "bad_head",
            Self::Garbage => "garbage",
            Self::Tls => "tls",
            Self::Untrusted => "proxy_untrusted",
            Self::Slow => "slow_head",
        }
    }

    fn answer(&self) -> Option<(u16, String)> {
        match self {
            Self::Head(error) => Some((error.status(), error.to_string())),
            Self::Garbage => Some((400, "this is no HTTP request".into())),
            Self::Slow => Some((408, "the request's head took longer than 10 s".into())),
            Self::Untrusted => Some((
                400,
                "a PROXY header from an address that is not in `trusted_proxies`".into(),
            )),
            // There is no plain text that a TLS client would read.
            Self::Tls => None,
        }
    }
}

/// A short answer in words.
pub(super) fn plain(version: Version, status: u16, text: &str) -> Vec<u8> {
    Answer::new(version, status)
        .at(unix_millis())
        .header("Cache-Control", "no-store")
        .header("Access-Control-Allow-Origin", "*")
        .lines(GUARDS)
        .body("text/plain; charset=utf-8", format!("{text}\n"))
}
