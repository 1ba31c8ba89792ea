//! Accepting: sockets in, connections out; what happens when the descriptors run out.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use super::Edge;
use super::connection::{Conn, Kind};

/// Connections that the kernel holds ready: storms are thousands in a second.
const BACKLOG: i32 = 4096;

/// Pause after an accept that failed for want of descriptors.
const EMFILE_PAUSE: Duration = Duration::from_millis(100);

/// Opens a listening socket. `[::]` takes both families; where the system has no IPv6 it is `0.0.0.0`.
///
/// # Errors
/// Where the address is not to be had; the message names it.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let named = |error: io::Error| {
        io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"))
    };
    match bind_one(address) {
        Err(_) if address.is_ipv6() && address.ip().is_unspecified() => {
            bind_one(SocketAddr::from(([0, 0, 0, 0], address.port()))).map_err(named)
        }
        other => other.map_err(named),
    }
}

fn bind_one(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

impl Edge {
    /// Accepts until the shutdown. `kind` says what an unannounced connection is.
    pub async fn accept(self: Arc<Self>, listener: TcpListener, kind: Kind) {
        let mut spare = spare_descriptor();
        loop {
            let accepted = tokio::select! {
                () = self.shutdown.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => self.take(stream, peer, kind),
                Err(error) if is_exhausted(&error) => {
                    tracing::error!(%error, "no descriptor left for a connection: raise the limit (`ulimit -n`) or lower `max_listeners`");
                    crate::telemetry::refuse("descriptors");
                    drop(spare.take());
                    if let Ok(Ok((stream, _))) =
                        tokio::time::timeout(EMFILE_PAUSE, listener.accept()).await
                    {
                        answer_exhausted(stream).await;
                    }
                    spare = spare_descriptor();
                    tokio::time::sleep(EMFILE_PAUSE).await;
                }
                // The client went between its SYN and our accept.
                Err(error) => tracing::debug!(%error, "accept"),
            }
        }
    }

    fn take(self: &Arc<Self>, stream: TcpStream, peer: SocketAddr, kind: Kind) {
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let edge = Arc::clone(self);
        self.tasks
            .spawn(async move { edge.connection(Conn::new(stream, peer), kind).await });
    }
}

fn is_exhausted(error: &io::Error) -> bool {
    use rustix::io::Errno;
    [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// A descriptor kept back, so that one connection can still be told that there is none.
fn spare_descriptor() -> Option<std::fs::File> {
    std::fs::File::open("/dev/null").ok()
}

/// The node lives, so a health check is answered as one; a listener sees that it must try elsewhere.
async fn answer_exhausted(mut stream: TcpStream) {
    let mut first = [0_u8; 64];
    let _ = tokio::time::timeout(EMFILE_PAUSE, stream.readable()).await;
    let got = stream.try_read(&mut first).unwrap_or(0);
    let is_health = first
        .get(..got)
        .is_some_and(|text| text.windows(8).any(|w| w == b" /health"));
    let answer: &[u8] = if is_health {
        b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\nContent-Length: 15\r\nConnection: close\r\n\r\n{\"status\":\"ok\"}"
    } else {
        b"HTTP/1.0 503 Service Unavailable\r\nRetry-After: 10\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    };
    let _ = stream.write_all(answer).await;
}
