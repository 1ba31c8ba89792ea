//! The TLS sessions of a shard's listeners, in a slab beside the entries: an entry without one pays four bytes.
//!
//! One record per send: what waits for a listener is sealed straight from the ring into one record of at most
//! 16 KiB and written; only when the socket took all of it is more sealed. So a session holds at most one sealed
//! record, and what is sealed counts as sent: there is no way back for it.
//!
//! Must never: make a handshake (that is done before a listener comes here), wait, or hold audio in clear.

use std::io::{ErrorKind, IoSlice, Read as _, Write as _};
use std::num::NonZeroU32;

use mio::net::TcpStream;
use rustls::ServerConnection;
use slab::Slab;

use super::Input;
use crate::wire::tls::MAX_RECORD;

/// Reads of one visit: who sends more is no listener.
const READS: usize = 64;

/// Where a listener's session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place(NonZeroU32);

impl Place {
    fn new(key: usize) -> Self {
        // Descriptors end long before: a slab never grows to four billion.
        let number = u32::try_from(key).unwrap_or(u32::MAX - 1) + 1;
        Self(NonZeroU32::new(number).unwrap_or(NonZeroU32::MAX))
    }

    fn key(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// How it went with the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    /// It took everything.
    Clear,
    /// It is full and will tell when it is not; part of a record waits. `moved`: it took something before.
    Full { moved: bool },
    /// It is gone.
    Gone,
}

/// See the module.
#[derive(Default)]
pub(super) struct Sessions {
    all: Slab<Box<ServerConnection>>,
}

impl Sessions {
    /// Takes a session in, its handshake done.
    pub fn add(&mut self, mut session: Box<ServerConnection>) -> Place {
        // With it and the order of things in `send` one record waits at most.
        session.set_buffer_limit(Some(MAX_RECORD));
        Place::new(self.all.insert(session))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Writes what is sealed already.
    pub fn flush(&mut self, place: Place, socket: &TcpStream) -> Flow {
        match self.all.get_mut(place.key()) {
            Some(session) => flush(session, socket),
            None => Flow::Gone,
        }
    }

    /// Seals and writes a record at a time until the slices end or the socket is full; gives the bytes of
    /// `slices` that need not be sent again.
    pub fn send(
        &mut self,
        place: Place,
        socket: &TcpStream,
        mut slices: &mut [IoSlice<'_>],
    ) -> (usize, Flow) {
        let Some(session) = self.all.get_mut(place.key()) else {
            return (0, Flow::Gone);
        };
        // What waits goes first; the buffer's limit would leave no room for another record anyway.
        let mut flow = flush(session, socket);
        let mut taken = 0;
        while flow == Flow::Clear && !slices.is_empty() {
            match session.writer().write_vectored(slices) {
                // Nothing is left but empty slices.
                Ok(0) => break,
                Ok(sealed) => {
                    taken += sealed;
                    IoSlice::advance_slices(&mut slices, sealed);
                    flow = flush(session, socket);
                }
                Err(_) => flow = Flow::Gone,
            }
        }
        (taken, flow)
    }

    /// Throws away what a listener sends, and answers what the protocol wants answered. Its writing side is closed by
    /// `close_notify`, or by the socket's end alone.
    pub fn discard_input(&mut self, place: Place, socket: &TcpStream) -> Input {
        let Some(session) = self.all.get_mut(place.key()) else {
            return Input::Gone;
        };
        let mut input = socket;
        for _ in 0..READS {
            match session.read_tls(&mut input) {
                Ok(0) => return Input::Closed,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Input::Open,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return Input::Gone,
            }
            let state = session.process_new_packets();
            // An alert, or the answer to an update of keys.
            let flow = flush(session, socket);
            match state {
                Ok(_) if flow == Flow::Gone => return Input::Gone,
                Ok(state) if state.peer_has_closed() => return Input::Closed,
                Ok(state) => discard(session, state.plaintext_bytes_to_read()),
                Err(_) => return Input::Gone,
            }
        }
        Input::Gone
    }

    /// Ends a session: says so to the client as far as its socket takes it now, and forgets it.
    pub fn close(&mut self, place: Place, socket: &TcpStream) {
        if let Some(mut session) = self.all.try_remove(place.key()) {
            session.send_close_notify();
            // The socket is closed next, whatever it took.
            let _ = flush(&mut session, socket);
        }
    }
}

fn flush(session: &mut ServerConnection, mut socket: &TcpStream) -> Flow {
    let mut moved = false;
    while session.wants_write() {
        match session.write_tls(&mut socket) {
            Ok(0) => return Flow::Gone,
            Ok(_) => moved = true,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Flow::Full { moved },
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return Flow::Gone,
        }
    }
    Flow::Clear
}

fn discard(session: &mut ServerConnection, mut waiting: usize) {
    let mut sink = [0_u8; 1024];
    while waiting > 0 {
        match session.reader().read(&mut sink) {
            Ok(count) if count > 0 => waiting = waiting.saturating_sub(count),
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream as StdStream};
    use std::sync::Arc;

    use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
    use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

    use super::*;
    use crate::wire::tls::{Pair, Server, Tickets, testing};

    type Client = StreamOwned<ClientConnection, StdStream>;

    /// A session in a slab, its socket, and the client at the other end, both done with the handshake.
    fn scene(sessions: &mut Sessions) -> (Place, TcpStream, Client) {
        let (cert, key) = testing::pair(&["localhost"]);
        let pair = Pair::read(cert.as_bytes(), key.as_bytes()).unwrap();
        let server = Server::new(&pair, &Tickets::new().unwrap()).unwrap();
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(cert.as_bytes()).unwrap())
            .unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let client = std::thread::spawn(move || {
            let name = ServerName::try_from("localhost").unwrap();
            let session = ClientConnection::new(Arc::new(config), name).unwrap();
            let mut client = StreamOwned::new(session, StdStream::connect(address).unwrap());
            client.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
            client
        });
        let (mut socket, _) = listener.accept().unwrap();
        let mut session = ServerConnection::new(server.for_client(&[])).unwrap();
        while session.is_handshaking() || session.wants_write() {
            session.complete_io(&mut socket).unwrap();
        }
        let client = client.join().unwrap();
        socket.set_nonblocking(true).unwrap();
        let place = sessions.add(Box::new(session));
        (place, TcpStream::from_std(socket), client)
    }

    fn send(
        sessions: &mut Sessions,
        place: Place,
        socket: &TcpStream,
        parts: &[&[u8]],
    ) -> (usize, Flow) {
        let mut slices: Vec<IoSlice> = parts.iter().map(|part| IoSlice::new(part)).collect();
        sessions.send(place, socket, &mut slices)
    }

    #[test]
    fn bytes_arrive_in_order_whatever_their_pieces() {
        let mut sessions = Sessions::default();
        let (place, socket, mut client) = scene(&mut sessions);
        let audio: Vec<u8> = (0..40_000_u32).map(|at| (at % 251) as u8).collect();
        let (one, two) = audio.split_at(16_384 + 5);
        let sent = send(&mut sessions, place, &socket, &[b"head", b"", one, two]);
        assert_eq!(sent, (40_004, Flow::Clear));
        let mut got = vec![0; 40_004];
        client.read_exact(&mut got).unwrap();
        assert!(got.starts_with(b"head") && got[4..] == audio);
        sessions.close(place, &socket);
        // A clean end is told from a cut: by close_notify.
        assert_eq!(client.read(&mut got).unwrap(), 0);
        assert!(sessions.all.is_empty());
    }

    #[test]
    fn a_full_socket_keeps_one_record_and_goes_on_where_it_was() {
        let mut sessions = Sessions::default();
        let (place, socket, mut client) = scene(&mut sessions);
        let audio: Vec<u8> = (0..50_000_000_u32).map(|at| (at % 251) as u8).collect();
        let (mut done, flow) = send(&mut sessions, place, &socket, &[&audio]);
        assert!(
            matches!(flow, Flow::Full { .. }) && done < audio.len(),
            "{done}"
        );
        assert_eq!(sessions.flush(place, &socket), Flow::Full { moved: false });
        // Nothing more is sealed while a record waits.
        assert_eq!(
            send(&mut sessions, place, &socket, &[&audio[done..]]),
            (0, Flow::Full { moved: false })
        );
        let total = audio.len();
        let reader = std::thread::spawn(move || {
            let mut got = vec![0; total];
            client.read_exact(&mut got).unwrap();
            got
        });
        while done < audio.len() {
            let (taken, flow) = send(&mut sessions, place, &socket, &[&audio[done..]]);
            assert_ne!(flow, Flow::Gone);
            done += taken;
            std::thread::yield_now();
        }
        while sessions.flush(place, &socket) != Flow::Clear {
            std::thread::yield_now();
        }
        assert!(reader.join().unwrap() == audio);
    }

    #[test]
    fn what_a_client_says_is_thrown_away_until_it_leaves() {
        let mut sessions = Sessions::default();
        let (place, socket, mut client) = scene(&mut sessions);
        client.write_all(&[7; 20_000]).unwrap();
        client.conn.refresh_traffic_keys().unwrap();
        client.write_all(b"after").unwrap();
        assert_eq!(sessions.discard_input(place, &socket), Input::Open);
        // Its keys were updated, and it may still listen.
        assert_eq!(
            send(&mut sessions, place, &socket, &[b"x"]),
            (1, Flow::Clear)
        );
        let mut got = [0; 1];
        client.read_exact(&mut got).unwrap();
        client.conn.send_close_notify();
        client.flush().unwrap();
        assert_eq!(end_of_input(&mut sessions, place, &socket), Input::Closed);
        // It has said all, and hears on.
        assert_eq!(
            send(&mut sessions, place, &socket, &[b"y"]),
            (1, Flow::Clear)
        );
        client.read_exact(&mut got).unwrap();
        assert_eq!(got, *b"y");
        client.sock.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(sessions.discard_input(place, &socket), Input::Closed);
    }

    fn end_of_input(sessions: &mut Sessions, place: Place, socket: &TcpStream) -> Input {
        loop {
            match sessions.discard_input(place, socket) {
                Input::Open => std::thread::yield_now(),
                end => return end,
            }
        }
    }

    #[test]
    fn a_socket_that_ends_without_a_word_hears_on() {
        let mut sessions = Sessions::default();
        let (place, socket, mut client) = scene(&mut sessions);
        client.sock.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(end_of_input(&mut sessions, place, &socket), Input::Closed);
        assert_eq!(
            send(&mut sessions, place, &socket, &[b"x"]),
            (1, Flow::Clear)
        );
        let mut got = [0; 1];
        client.read_exact(&mut got).unwrap();
    }

    #[test]
    fn what_is_no_record_ends_the_session() {
        let mut sessions = Sessions::default();
        let (place, socket, mut client) = scene(&mut sessions);
        client.sock.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
        assert_eq!(end_of_input(&mut sessions, place, &socket), Input::Gone);
        let gone = Place::new(7);
        assert_eq!(sessions.flush(gone, &socket), Flow::Gone);
        assert_eq!(send(&mut sessions, gone, &socket, &[b"x"]), (0, Flow::Gone));
        assert_eq!(sessions.discard_input(gone, &socket), Input::Gone);
        println!(
            "a session's own size: {} bytes",
            size_of::<ServerConnection>()
        );
        assert!(size_of::<Option<Place>>() == 4);
    }
}
