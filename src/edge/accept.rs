//! Ports: opening one, and the thread that accepts behind it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

use super::Edge;
use super::connection::Kind;
use super::front::Front;
use crate::telemetry::panics::{self, Vital};

/// Connections that the kernel holds ready: storms are thousands in a second.
const BACKLOG: i32 = 4096;

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
    /// Accepts until the shutdown, by a thread of its own. `kind` says what an unannounced connection is.
    pub async fn accept(self: Arc<Self>, listener: TcpListener, kind: Kind) {
        let begun = listener
            .into_std()
            .and_then(|listener| Front::new(Arc::clone(&self), listener, kind))
            .and_then(|(front, bell)| {
                let thread = panics::thread(Vital::Front, "front", move || front.run())?;
                Ok((thread, bell))
            });
        let (thread, bell) = match begun {
            Ok(begun) => begun,
            // A node that accepts nobody is none.
            Err(error) => return panics::end(Vital::Front, &error.to_string()),
        };
        if kind == Kind::Data {
            let _ = self.bell.set(bell.clone());
            self.opened.notify_waiters();
        }
        self.shutdown.cancelled().await;
        bell.ring();
        // It looks up at once.
        let _ = tokio::task::spawn_blocking(move || thread.join()).await;
    }
}
