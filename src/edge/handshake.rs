//! From a TLS hello to a connection whose bytes are in clear for the rest of the edge.
//!
//! Handshakes are made here, never in a shard: bounded in number and by address like all strangers
//! (`gate`), in time by [`HEAD_TIMEOUT`]. One that fails is counted and costs its own connection alone.

use std::io;

use rustls::server::Acceptor;
use rustls::{Error, HandshakeKind, PeerIncompatible, PeerMisbehaved, ProtocolVersion};
use tokio::net::TcpStream;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::Edge;
use super::connection::Conn;
use super::gate::{HEAD_TIMEOUT, State};
use super::paced::Paced;
use super::stream::{Rewound, Stream};
use crate::telemetry::refuse;
use crate::wire::tls::Server;

impl Edge {
    /// Speaks TLS with a connection that began with a hello; `None` where it came to nothing.
    pub(super) async fn secured(&self, conn: Conn) -> Option<Conn> {
        conn.is_at(State::Tls);
        let Conn {
            stream,
            buffer,
            peer,
            client,
            accepted,
            answered,
            place,
        } = conn;
        let (Some(server), Stream::Plain(socket)) = (self.tls.load_full(), stream) else {
            refuse("tls");
            return None;
        };
        let rewound = Rewound {
            head: buffer.freeze(),
            stream: socket,
        };
        let deadline = tokio::time::Instant::from_std(accepted) + HEAD_TIMEOUT;
        let shaken = tokio::select! {
            () = self.shutdown.cancelled() => return None,
            () = tokio::time::sleep_until(deadline) => {
                refuse("tls_slow");
                return None;
            }
            shaken = shake(&server, rewound) => shaken,
        };
        match shaken {
            Ok(stream) => {
                count(&stream);
                Some(Conn {
                    stream: Stream::Tls(Box::new(stream)),
                    buffer: bytes::BytesMut::new(),
                    peer,
                    client,
                    accepted,
                    answered,
                    place,
                })
            }
            Err(error) => {
                refuse(reason(&error));
                tracing::debug!(%peer, %error, "TLS handshake failed");
                None
            }
        }
    }
}

async fn shake(
    server: &Server,
    rewound: Rewound<Paced<TcpStream>>,
) -> io::Result<TlsStream<Rewound<Paced<TcpStream>>>> {
    let begun = LazyConfigAcceptor::new(Acceptor::default(), rewound).await?;
    let config = server.for_client(begun.client_hello().cipher_suites());
    begun.into_stream(config).await
}

fn count(stream: &TlsStream<Rewound<Paced<TcpStream>>>) {
    let session = stream.get_ref().1;
    let protocol = match session.protocol_version() {
        Some(ProtocolVersion::TLSv1_2) => "tls1.2",
        _ => "tls1.3",
    };
    let mode = match session.handshake_kind() {
        Some(HandshakeKind::Resumed) => "resumed",
        _ => "full",
    };
    metrics::counter!("relayctl_tls_handshakes_total", "protocol" => protocol, "mode" => mode)
        .increment(1);
}

/// Why a handshake failed, as the label of its counter.
fn reason(error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return "tls_left";
    }
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    match inner {
        Some(Error::PeerIncompatible(
            PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
            | PeerIncompatible::SupportedVersionsExtensionRequired
            // Older than 1.2, which brought the extension and in which every client has it.
            | PeerIncompatible::SignatureAlgorithmsExtensionRequired,
        )) => "tls_version",
        Some(Error::PeerIncompatible(_)) => "tls_ciphers",
        // The client does not believe our certificate, or gave up for another reason of its own.
        Some(Error::AlertReceived(_)) => "tls_alert",
        Some(
            Error::InvalidMessage(_)
            | Error::InappropriateMessage { .. }
            | Error::InappropriateHandshakeMessage { .. }
            | Error::DecryptError
            | Error::PeerSentOversizedRecord,
        ) => "tls_garbage",
        Some(Error::PeerMisbehaved(PeerMisbehaved::TooManyEmptyFragments)) => "tls_garbage",
        Some(_) => "tls_handshake",
        None => "tls_left",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_has_its_reason() {
        let of = |error: Error| reason(&io::Error::new(io::ErrorKind::InvalidData, error));
        assert_eq!(of(PeerIncompatible::Tls12NotOffered.into()), "tls_version");
        assert_eq!(
            of(PeerIncompatible::NoCipherSuitesInCommon.into()),
            "tls_ciphers"
        );
        let alert = rustls::AlertDescription::UnknownCA;
        assert_eq!(of(Error::AlertReceived(alert)), "tls_alert");
        assert_eq!(
            of(rustls::InvalidMessage::InvalidContentType.into()),
            "tls_garbage"
        );
        assert_eq!(of(Error::HandshakeNotComplete), "tls_handshake");
        assert_eq!(reason(&io::ErrorKind::UnexpectedEof.into()), "tls_left");
        assert_eq!(reason(&io::ErrorKind::ConnectionReset.into()), "tls_left");
    }
}
