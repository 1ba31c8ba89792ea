//! One connection to a name: every address is tried, a slow one does not hold up the next.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::resolver::Resolver;
use super::trust::Trust;

/// How long one address may take; a TLS handshake has as long again.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// After this the next address is tried beside the one before (RFC 8305, section 5).
const HEAD_START: Duration = Duration::from_millis(250);

/// Makes connections. Cheap to clone; clones share what they trust, also after it has changed.
#[derive(Clone)]
pub struct Connector {
    resolver: Resolver,
    checks: Arc<ArcSwap<Checks>>,
}

/// By what the certificates of servers are judged.
#[derive(Default)]
struct Checks {
    trust: Trust,
    tls: OnceLock<Arc<ClientConfig>>,
}

impl Checks {
    fn of(trust: Trust) -> Self {
        Self {
            trust,
            tls: OnceLock::new(),
        }
    }
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector").finish_non_exhaustive()
    }
}

impl Connector {
    /// Certificates are checked as the system does it.
    pub fn new(resolver: Resolver) -> Self {
        Self::trusting(resolver, Trust::default())
    }

    /// Certificates are checked as `trust` says.
    pub fn trusting(resolver: Resolver, trust: Trust) -> Self {
        Self {
            resolver,
            checks: Arc::new(ArcSwap::from_pointee(Checks::of(trust))),
        }
    }

    /// Judges the certificates of later connections by `trust`; those that are open stay.
    pub fn trust(&self, trust: Trust) {
        if !self.trusts(&trust) {
            self.checks.store(Arc::new(Checks::of(trust)));
        }
    }

    /// True where certificates are judged by `trust` now.
    pub fn trusts(&self, trust: &Trust) -> bool {
        self.checks.load().trust == *trust
    }

    /// The resolver.
    pub fn resolver(&self) -> &Resolver {
        &self.resolver
    }

    /// Connects to `host`, at any of its addresses.
    ///
    /// # Errors
    /// Where none could be reached: the last attempt's error, with the address that it was about.
    pub async fn connect(&self, host: &str, port: u16, tls: bool) -> io::Result<Stream> {
        let addresses = self.resolver.addresses(host, port).await;
        let socket = race(&addresses.map_err(io::Error::other)?).await?;
        socket.set_nodelay(true)?;
        if !tls {
            return Ok(Stream::Plain(socket));
        }
        let bare = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        let name = ServerName::try_from(bare).map_err(io::Error::other)?;
        let handshake = TlsConnector::from(self.tls_config()?).connect(name, socket);
        let stream = timeout(CONNECT_TIMEOUT, handshake).await.map_err(|_| {
            let text = format!("`{host}` did not finish its TLS handshake in 3 s");
            io::Error::new(io::ErrorKind::TimedOut, text)
        })??;
        Ok(Stream::Tls(Box::new(stream)))
    }

    /// How TLS servers are checked; made at the first call.
    ///
    /// # Errors
    /// Where the provider of ciphers has none for any version of TLS.
    pub fn tls_config(&self) -> io::Result<Arc<ClientConfig>> {
        let checks = self.checks.load();
        if let Some(config) = checks.tls.get() {
            return Ok(Arc::clone(config));
        }
        let config = Arc::new(checks.trust.client_config().map_err(io::Error::other)?);
        Ok(Arc::clone(checks.tls.get_or_init(|| config)))
    }
}

/// The first socket that connects.
async fn race(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut waiting = addresses.iter().copied();
    let mut trying = FuturesUnordered::new();
    trying.extend(waiting.next().map(attempt));
    let mut last = None;
    loop {
        let head_start = sleep(HEAD_START);
        tokio::select! {
            biased;
            done = trying.next() => match done {
                Some(Ok(socket)) => return Ok(socket),
                Some(Err(error)) => {
                    last = Some(error);
                    trying.extend(waiting.next().map(attempt));
                }
                None => {
                    let nowhere = || io::Error::new(io::ErrorKind::NotFound, "no address");
                    return Err(last.unwrap_or_else(nowhere));
                }
            },
            () = head_start, if waiting.len() > 0 => {
                trying.extend(waiting.next().map(attempt));
            }
        }
    }
}

async fn attempt(address: SocketAddr) -> io::Result<TcpStream> {
    match timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
        Ok(Ok(socket)) => Ok(socket),
        Ok(Err(error)) => Err(io::Error::new(error.kind(), format!("{address}: {error}"))),
        Err(_) => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("{address}: no answer in 3 s"),
        )),
    }
}

/// A connection, in clear or not.
#[derive(Debug)]
pub enum Stream {
    /// In clear.
    Plain(TcpStream),
    /// In TLS.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// The other end.
    ///
    /// # Errors
    /// As the system says.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Plain(socket) => socket.peer_addr(),
            Self::Tls(stream) => stream.get_ref().0.peer_addr(),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
